"""A robot of three joints whose names can be asked for, and which cannot be connected to."""

from dataclasses import dataclass
from typing import Any

from lerobot.robots import Robot, RobotConfig


@RobotConfig.register_subclass("check_arm")
@dataclass
class CheckArmConfig(RobotConfig):
    """``order``: of its joints; there is no default for ``port``."""

    port: str
    order: str = "pan lift elbow"


class CheckArm(Robot):
    """Three joints, a camera, and a torque that no policy gets."""

    config_class = CheckArmConfig
    name = "check_arm"
    is_calibrated = is_connected = False

    def __init__(self, config: CheckArmConfig) -> None:
        super().__init__(config)
        self.joints = [f"{name}.pos" for name in config.order.split()]

    @property
    def observation_features(self) -> dict[str, Any]:
        return {**dict.fromkeys(self.joints, float), "pan.torque": float, "top": (32, 48, 3)}

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(self.joints, float)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nothing connects to a robot to ask for its names")

    connect = calibrate = configure = disconnect = get_observation = send_action = _refuse
