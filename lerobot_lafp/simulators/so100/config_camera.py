"""LeRobot's configuration of the emulated camera: ``{type: sim_arm, port: PORT, view: front}``."""

from dataclasses import dataclass

from lerobot.cameras import CameraConfig

from .picture import VIEWS


@CameraConfig.register_subclass("sim_arm")
@dataclass(kw_only=True)
class SimArmCameraConfig(CameraConfig):
    """A camera at the emulated arm.

    Attributes:
        port: Of the arm, as in ``--robot.port``.
        view: Where it stands, ``front`` or ``side``. What moves towards one is seen well by the other.
        fps: Pictures a second that LeRobot is told of; each is drawn when it is asked for.
        width: In pixels.
        height: In pixels.
    """

    port: str
    view: str = "front"
    fps: int | None = 30
    width: int | None = 96
    height: int | None = 96

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ValueError(f"the emulated arm has no view {self.view!r}: take one of {', '.join(VIEWS)}.")
        if not self.width or not self.height or self.width < 8 or self.height < 8:
            raise ValueError(f"the emulated camera needs 8 pixels a side at least: got {self.width} x {self.height}.")
