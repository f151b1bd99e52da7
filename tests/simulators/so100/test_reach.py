"""The arm's geometry, and who says that a target was reached."""

import numpy as np
import pytest

from lerobot_lafp.simulators.so100.arm import HOME
from lerobot_lafp.simulators.so100.kinematics import FOREARM, HAND, SHOULDER_HEIGHT, UPPER_ARM, forward, inverse
from lerobot_lafp.simulators.so100.reach import HOLD_S, REST_S, ReachTask


def test_zero_is_upright_and_forward() -> None:
    points = forward(np.zeros(6))
    assert points[-1] == pytest.approx([FOREARM + HAND, 0, SHOULDER_HEIGHT + UPPER_ARM])


def test_links_keep_their_lengths() -> None:
    angles = np.random.default_rng(0).uniform(-1.5, 1.5, size=(20, 6))
    for each in angles:
        lengths = np.linalg.norm(np.diff(forward(each), axis=0), axis=1)
        assert lengths == pytest.approx([SHOULDER_HEIGHT, UPPER_ARM, FOREARM, HAND])


def test_inverse_undoes_forward() -> None:
    task = ReachTask(HOME, seed=3)
    for _ in range(50):
        target = np.array(task.current.target)
        angles = inverse(target)
        assert angles is not None
        assert forward(np.append(angles, [0, 0]))[-1] == pytest.approx(target)
        task.reset()


def test_out_of_reach_is_said() -> None:
    assert inverse(np.array([0.6, 0, 0.1])) is None


def test_targets_depend_on_the_seed_alone() -> None:
    first, second = ReachTask(HOME, seed=1), ReachTask(HOME, seed=1)
    assert first.current.target == second.current.target
    assert ReachTask(HOME, seed=2).current.target != first.current.target
    first.reset(), second.reset()
    assert first.current.target == second.current.target


class _Play:
    """Shows the task an arm that is where we say."""

    def __init__(self) -> None:
        self.task = ReachTask(HOME)
        self.now = 0.0

    def hold(self, seconds: float, angles: np.ndarray, tip: np.ndarray) -> int:
        """How many rollouts were over in this time."""
        over = 0
        for _ in range(round(seconds / 0.05)):
            self.now += 0.05
            over += self.task.tick(self.now, angles, tip) is not None
        return over


def test_a_rollout_is_from_home_to_home() -> None:
    play, away = _Play(), HOME + 0.5
    target = np.array(play.task.current.target)
    assert play.hold(2.0, HOME, target + 1) == 0  # it has not begun
    play.hold(1.0, away, target + 0.1)
    play.hold(HOLD_S + 0.1, away, target + 0.01)
    assert play.task.current.reached
    assert play.hold(REST_S + 0.1, HOME, target + 1) == 1
    (done,) = play.task.rollouts
    assert done.reached
    assert done.seconds == pytest.approx(1.0, abs=0.06)
    assert done.closest == pytest.approx(0.01 * 3**0.5)
    assert play.task.current.target != done.target


def test_passing_by_is_not_reaching() -> None:
    play, away = _Play(), HOME + 0.5
    target = np.array(play.task.current.target)
    for _ in range(5):
        play.hold(HOLD_S - 0.1, away, target)
        play.hold(0.1, away, target + 0.05)
    play.hold(REST_S + 0.1, HOME, target + 1)
    (done,) = play.task.rollouts
    assert not done.reached
    assert done.seconds is None
