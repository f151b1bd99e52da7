"""LeRobot's configuration of the scripted teleoperator: ``--teleop.type=sim_arm --teleop.port=PORT``."""

from dataclasses import dataclass

from lerobot.teleoperators import TeleoperatorConfig


@TeleoperatorConfig.register_subclass("sim_arm")
@dataclass(kw_only=True)
class SimArmTeleoperatorConfig(TeleoperatorConfig):
    """Someone who brings the emulated arm to its target, one way or another.

    Attributes:
        port: Of the arm, as in ``--robot.port``.
        seed: Of the ways it takes.
        seconds: How long it takes to a target, from and to.
    """

    port: str
    seed: int = 0
    seconds: tuple[float, float] = (1.0, 1.6)

    def __post_init__(self) -> None:
        if not 0 < self.seconds[0] <= self.seconds[1]:
            raise ValueError(f"--teleop.seconds is a range of positive numbers: got {self.seconds}.")
