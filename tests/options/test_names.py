"""Names of dimensions, in the forms that converters write."""

from typing import Any

import pytest

from lerobot_lafp.options.names import dimension_names, is_motion, positions_of


@pytest.mark.parametrize(
    ("names", "shape", "expected"),
    [
        (["a", "b"], (2,), ["a", "b"]),
        ([["a", "b"]], (2,), ["a", "b"]),
        ([["a"], ["b"]], (2,), ["a", "b"]),
        ({"motors": ["a", "b"]}, (2,), ["a", "b"]),
        ({"axes": [["a", "b"]]}, (2,), ["a", "b"]),
        ({"y": 1, "x": 0}, (2,), ["x", "y"]),
        ({"left": ["x", "y"], "right": ["x", "y"]}, (4,), ["left.x", "left.y", "right.x", "right.y"]),
        ({"arm": ["x", "y"], "hand": ["grip"]}, (3,), ["x", "y", "grip"]),
        ("gripper", (1,), ["gripper"]),
        (["gripper"], (1,), ["gripper"]),
        ([1, 2], (2,), ["1", "2"]),
        (["action"], (3,), None),
        (["a", "b", "c"], (2,), None),
        (["a", "a"], (2,), None),
        ([], (2,), None),
        ({}, (2,), None),
        (None, (2,), None),
    ],
)
def test_names_are_read_in_every_form(names: Any, shape: tuple[int, ...], expected: list[str] | None) -> None:
    assert dimension_names({"names": names, "shape": shape}) == expected


def test_a_feature_without_names_has_none() -> None:
    assert dimension_names({"shape": (2,)}) is None


@pytest.mark.parametrize(
    ("own", "theirs", "expected"),
    [
        (["a.pos", "b.pos"], ["a.pos", "b.pos"], [0, 1]),
        (["a.pos", "b.pos"], ["b.pos", "a.pos"], [1, 0]),
        (["a.pos"], ["b.pos", "a.pos"], [1]),
        (["shoulder_pan.pos", "gripper.pos"], ["main_gripper", "main_shoulder_pan"], [1, 0]),
        (["kRightElbow"], ["k_right_elbow.pos"], [0]),
        (["Shoulder-Pan", "gripper"], ["gripper.pos", "shoulder_pan.pos"], [1, 0]),
        (["a.pos", "a.vel"], ["a.vel", "a.pos"], [1, 0]),
        (["a.pos", "a.vel"], ["a.pos", "b.pos"], None),
        (["a", "c"], ["a", "b"], None),
        (["x.pos", "x"], ["x.pos", "y"], None),
    ],
)
def test_positions_go_by_names(own: list[str], theirs: list[str], expected: list[int] | None) -> None:
    assert positions_of(own, theirs) == expected


@pytest.mark.parametrize(
    "name",
    ["x.vel", "joint_0_vel", "delta_x", "vx", "base.linear.velocity", "d_x.speed", "dyaw", "kRightElbowVel", "qd_0"],
)
def test_a_speed_or_a_step_is_known_by_its_name(name: str) -> None:
    assert is_motion(name)


@pytest.mark.parametrize(
    "name", ["shoulder_pan.pos", "gripper", "x", "level", "elbow_flex", "wrist_rotate", "frame_rate", "action 3"]
)
def test_a_place_is_no_motion(name: str) -> None:
    assert not is_motion(name)
