"""LeRobot's configuration of the emulated camera: ``{type: sim_arm, port: PORT}``."""

from dataclasses import dataclass

from lerobot.cameras import CameraConfig


@CameraConfig.register_subclass("sim_arm")
@dataclass(kw_only=True)
class SimArmCameraConfig(CameraConfig):
    """A camera before the emulated arm.

    Attributes:
        port: Of the arm, as in ``--robot.port``.
        fps: Pictures a second that LeRobot is told of; each is drawn when it is asked for.
        width: In pixels.
        height: In pixels.
    """

    port: str
    fps: int | None = 30
    width: int | None = 96
    height: int | None = 96

    def __post_init__(self) -> None:
        if not self.width or not self.height or self.width < 8 or self.height < 8:
            raise ValueError(f"the emulated camera needs 8 pixels a side at least: got {self.width} x {self.height}.")
