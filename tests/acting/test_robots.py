"""A robot is matched with a policy before it is connected: by the names of its joints, and by its rate."""

from collections.abc import Callable

import pytest
from lerobot.robots.so_follower import SO100FollowerConfig

from lerobot_lafp import LAFPConfig
from lerobot_lafp.acting import robots
from lerobot_lafp.acting.robots import features_of, match_robot, match_rollout

from ..arms import ACTION, JOINTS, STATE, arm, rollout

Configs = Callable[..., LAFPConfig]


def test_the_same_joints_in_another_order_are_put_in_order() -> None:
    own = sorted(JOINTS)
    config = arm(own)
    match_rollout(rollout(config))
    for key in (STATE, ACTION):
        assert [JOINTS[i] for i in config.orders[key]] == own


def test_the_robots_own_order_needs_none() -> None:
    config = arm(JOINTS)
    match_rollout(rollout(config))
    assert config.orders == {}


@pytest.mark.parametrize("names", [[f"joint_{i}" for i in range(6)], [*JOINTS[:5], "thumb.pos"]])
def test_other_joints_are_refused_with_the_option_that_says_they_are_the_same(
    names: list[str],
) -> None:
    config = arm(names)
    with pytest.raises(ValueError, match=r"not the same names.*--policy\.names='\{\"action\": \[\"shoulder_pan\.pos\""):
        match_rollout(rollout(config))
    config.names = {ACTION: JOINTS}
    both = r"--policy\.names='\{\"action\": \[\"shoulder_pan\.pos\".*\"observation\.state\": \[\"shoulder_pan\.pos\""
    with pytest.raises(ValueError, match=both):
        match_rollout(rollout(config))
    config.names = {ACTION: JOINTS, STATE: JOINTS}
    match_rollout(rollout(config))
    assert config.orders == {}


def test_without_names_the_order_is_said(caplog: pytest.LogCaptureFixture) -> None:
    match_rollout(rollout(arm(None)))
    assert caplog.text.count("in this order: shoulder_pan.pos") == 2


def test_another_number_of_joints_is_refused() -> None:
    config = arm(None)
    features = {key: {"names": ["a.pos", "b.pos"], "shape": (2,)} for key in (STATE, ACTION)}
    with pytest.raises(ValueError, match="has 6 dimensions in this policy, and the robot has 2"):
        match_robot(config, features)


def test_a_state_that_is_not_read_is_known_as_the_robots(make_config: Configs) -> None:
    """It is held by, so the joint of each action is looked up in the robot's order."""
    own = sorted(JOINTS)
    config = make_config("observation.images.front", action_dim=6, action_names=own, state_names=own, fps=15.0)
    match_rollout(rollout(config))
    assert list(config.orders) == [ACTION]
    assert config.joint_of_action is not None
    assert [JOINTS[i] for i in config.joint_of_action] == own


def test_pipelines_of_the_callers_own_give_the_names() -> None:
    match_rollout(rollout(arm(["x", "y", "z", "rx", "ry", "rz"])), [object()])


def test_a_robot_is_known_without_being_connected() -> None:
    config = SO100FollowerConfig(port="none", id="sim")
    found, left_out = features_of(config)
    assert found[STATE]["names"] == found[ACTION]["names"] == JOINTS
    assert left_out == []
    assert config.calibration_dir is None, "it stays as it is"


def test_a_robot_that_cannot_be_built_is_not_matched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_driver(config: object) -> None:
        raise ImportError("scservo_sdk is not installed")

    monkeypatch.setattr(robots, "make_robot_from_config", no_driver)
    match_rollout(rollout(arm(["x", "y", "z", "rx", "ry", "rz"])))
    assert "not checked before it is connected" in caplog.text
    assert "scservo_sdk is not installed" in caplog.text


@pytest.mark.parametrize(("fps", "multiplier"), [(30.0, 2), (60.0, 4)])
def test_a_multiple_of_the_rate_is_reached_by_commands_in_between(
    fps: float, multiplier: int, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = rollout(arm(JOINTS), fps)
    match_rollout(cfg)
    assert (cfg.fps, cfg.interpolation_multiplier) == (15.0, multiplier)
    assert "trained at 15 Hz" in caplog.text


@pytest.mark.parametrize(("fps", "multiplier"), [(20.0, 1), (10.0, 1), (30.0, 2)])
def test_another_rate_is_refused(fps: float, multiplier: int) -> None:
    with pytest.raises(ValueError, match=rf"--fps={fps:g}.*--fps=15 .*--interpolation_multiplier"):
        match_rollout(rollout(arm(JOINTS), fps, multiplier))


def test_steps_and_unknown_actions_are_not_repeated() -> None:
    with pytest.raises(ValueError, match="trained at 15 frames per second"):
        match_rollout(rollout(arm(None), 30.0))
