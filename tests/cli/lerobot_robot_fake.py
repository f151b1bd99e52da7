"""A robot of two joints without hardware, and `lerobot-rollout` on it: ``python lerobot_robot_fake.py <options>``.

The joints move to what is commanded, and every command is printed. No time passes but what LeRobot sleeps.
"""

import time
from dataclasses import dataclass
from typing import Any

from lerobot.robots import Robot, RobotConfig


@RobotConfig.register_subclass("fake")
@dataclass
class FakeConfig(RobotConfig):
    pass


class Fake(Robot):
    config_class = FakeConfig
    name = "fake"
    is_calibrated = True
    is_connected = False

    def __init__(self, config: FakeConfig) -> None:
        super().__init__(config)
        self.joints = {"x.pos": 0.1, "y.pos": -0.2}

    @property
    def observation_features(self) -> dict[str, type]:
        return dict.fromkeys(self.joints, float)

    action_features = observation_features

    def connect(self, calibrate: bool = True) -> None:
        self.is_connected = True

    def calibrate(self) -> None:
        pass

    def configure(self) -> None:
        pass

    def get_observation(self) -> dict[str, Any]:
        return dict(self.joints)

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self.joints = {name: float(action[name]) for name in self.joints}
        print("command", self.joints, flush=True)
        return action

    def disconnect(self) -> None:
        self.is_connected = False


class Clock:
    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


if __name__ == "__main__":
    clock = Clock()
    time.sleep, time.perf_counter = clock.sleep, lambda: clock.now  # type: ignore[assignment]

    from lerobot.scripts.lerobot_rollout import main

    main()
