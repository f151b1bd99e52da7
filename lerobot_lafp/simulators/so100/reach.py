"""The task of the emulated arm: bring the tip to a target. Who draws the target, and who says that it was reached."""

from dataclasses import asdict, dataclass

import numpy as np

from .kinematics import Vector, inverse

#: A target counts as reached when the tip was this near (metres) for this long (seconds).
TOLERANCE, HOLD_S = 0.025, 0.3
#: The arm is at home when every joint is this near (radians) to it, for this long.
AT_HOME, REST_S = 0.1, 0.3
#: Where targets are: to the sides (radians), outwards and up from the table (metres).
PAN, OUT, UP = 0.8, (0.18, 0.29), (0.03, 0.16)


@dataclass
class Rollout:
    """One target: whether it was reached, after how many seconds, and how near the tip came to it (metres)."""

    target: list[float]
    reached: bool = False
    seconds: float | None = None
    closest: float = float("inf")


class ReachTask:
    """A target for the arm; a new one as soon as it is back at home and at rest.

    So it works with what LeRobot does between two episodes of a rollout, which is to bring the arm back to where it was
    at first.

    Args:
        home: Joint angles to start from, (6,) in radians.
        seed: Of the targets.
    """

    def __init__(self, home: Vector, seed: int = 0) -> None:
        self.home = home
        #: Those that are over, in order.
        self.rollouts: list[Rollout] = []
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """Another target, wherever the arm is. ``seed`` begins the sequence anew."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self.current = Rollout([float(x) for x in self._draw()])
        self._left_at: float | None = None  # when the arm left home
        self._near_since: float | None = None
        self._home_since: float | None = None

    def tick(self, now: float, angles: Vector, tip: Vector) -> Rollout | None:
        """Look at the arm at time ``now``; the rollout that is over by this, if one is."""
        at_home = bool(np.abs(angles - self.home)[:4].max() < AT_HOME)
        if self._left_at is None:
            if not at_home:
                self._left_at = now
            return None
        distance = float(np.linalg.norm(tip - np.asarray(self.current.target)))
        self.current.closest = min(self.current.closest, distance)
        if distance > TOLERANCE:
            self._near_since = None
        elif self._near_since is None:
            self._near_since = now
        elif now - self._near_since >= HOLD_S and not self.current.reached:
            self.current.reached, self.current.seconds = True, round(self._near_since - self._left_at, 3)
        if not at_home:
            self._home_since = None
        elif self._home_since is None:
            self._home_since = now
        elif now - self._home_since >= REST_S:
            over = self.current
            self.rollouts.append(over)
            self.reset()
            return over
        return None

    def results(self) -> list[dict[str, object]]:
        """The rollouts that are over, as plain data."""
        return [asdict(rollout) for rollout in self.rollouts]

    def _draw(self) -> Vector:
        while True:
            pan, out, up = self._random.uniform([-PAN, OUT[0], UP[0]], [PAN, OUT[1], UP[1]])
            point = np.array([out * np.cos(pan), out * np.sin(pan), up])
            angles = inverse(point)
            if angles is not None and np.abs(angles).max() < 1.6:
                return point
