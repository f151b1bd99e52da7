"""A LeRobot teleoperator that demonstrates the task (`lerobot/teleoperators/teleoperator.py`).

It goes about it in one of several ways, as people do: turns first and reaches out then, or the other way round, or does
both at once. What averages them does neither.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from lerobot.teleoperators import Teleoperator
from lerobot.utils.errors import DeviceNotConnectedError

from .config_teleoperator import SimArmTeleoperatorConfig
from .control import ControlClient
from .kinematics import JOINTS, Vector, inverse

#: Per cent of its opening that the gripper is held at.
GRIPPER = 10.0
#: Shares of the time in which the base turns, and in which the other joints move.
WAYS = (((0.0, 0.55), (0.45, 1.0)), ((0.45, 1.0), (0.0, 0.55)), ((0.0, 1.0), (0.0, 1.0)))


class Way:
    """From one pose to another: (5,) joint angles in degrees over time, base and other joints each at their time."""

    def __init__(self, start: Vector, goal: Vector, seconds: float, way: int) -> None:
        self.start, self.goal, self.seconds = start, goal, seconds
        base, others = WAYS[way]
        self._begin = np.array([base[0], *[others[0]] * 4])
        self._end = np.array([base[1], *[others[1]] * 4])

    def at(self, seconds: float) -> Vector:
        """The pose after so long; the goal from the end on. Smooth, with no speed at either end."""
        share = (seconds / self.seconds - self._begin) / (self._end - self._begin)
        share = np.clip(share, 0.0, 1.0)
        return self.start + (self.goal - self.start) * share**3 * (10 - 15 * share + 6 * share**2)


class SimArmTeleoperator(Teleoperator):
    """Commands joint positions as `so100_follower` takes them: degrees, and per cent for the gripper.

    Args:
        config: Which arm, and how fast.
        clock: Seconds. Default: the computer's.
    """

    config_class = SimArmTeleoperatorConfig
    name = "sim_arm"

    def __init__(self, config: SimArmTeleoperatorConfig, clock: Callable[[], float] | None = None) -> None:
        super().__init__(config)
        self.config = config
        self.clock = clock or time.perf_counter
        self._random = np.random.default_rng(config.seed)
        self._arm: ControlClient | None = None
        self._target: list[float] | None = None

    @property
    def action_features(self) -> dict[str, type]:
        return {f"{joint}.pos": float for joint in JOINTS}

    @property
    def feedback_features(self) -> dict[str, type]:
        return {}

    @property
    def is_connected(self) -> bool:
        return self._arm is not None

    @property
    def is_calibrated(self) -> bool:
        return True

    def connect(self, calibrate: bool = True) -> None:
        """Find the arm.

        Raises:
            ConnectionError: None runs at the port.
        """
        self._arm = ControlClient(self.config.port)

    def calibrate(self) -> None:
        """Nothing to calibrate."""

    def configure(self) -> None:
        """Nothing to configure."""

    def get_action(self) -> dict[str, float]:
        """Where the joints are to be now.

        Raises:
            DeviceNotConnectedError: ``connect`` was not called.
            ConnectionError: The arm is gone.
        """
        if self._arm is None:
            raise DeviceNotConnectedError(f"{self} is not connected: connect() it first.")
        state = self._arm.ask("state")
        now = self.clock()
        if state["target"] != self._target:
            self._target, self._began = state["target"], now
            pose = np.array(state["degrees"][:5])
            way = int(self._random.integers(len(WAYS)))
            self._way = Way(pose, self._goal(), self._random.uniform(*self.config.seconds), way)
        return {
            f"{joint}.pos": float(x)
            for joint, x in zip(JOINTS, [*self._way.at(now - self._began), GRIPPER], strict=True)
        }

    def _goal(self) -> Vector:
        angles = inverse(np.array(self._target))
        if angles is None:
            raise ValueError(f"the target {self._target} is out of the arm's reach.")
        return np.append(np.degrees(angles), 0.0)

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """Feels nothing."""

    def disconnect(self) -> None:
        if self._arm is not None:
            self._arm.close()
            self._arm = None
