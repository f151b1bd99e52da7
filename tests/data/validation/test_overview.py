"""What ``lafp check`` tells of a dataset beside its faults, and what it makes of odd ones."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot.datasets.utils import INFO_PATH, STATS_PATH
from lerobot.utils.constants import ACTION, OBS_STATE

from lerobot_lafp.cli.main import main
from lerobot_lafp.data.validation.overview import overview
from lerobot_lafp.data.validation.remarks import remarks
from lerobot_lafp.data.validation.units import guess_units, is_still
from lerobot_lafp.training.measuring import Statistics

from ..datasets import Frame, camera, numbers, replace, scene, write

SHARED = Path(__file__).parents[4] / "shared" / "data"
JOINTS = ["pan.pos", "lift.pos", "elbow.pos"]


def arm(names: Any = JOINTS, action_names: Any = JOINTS, action: Callable[..., Any] | None = None) -> tuple[Any, Frame]:
    """Features and frames of an arm in degrees, of which the third joint is held still."""

    def frame(episode: int, t: int, draw: np.random.Generator) -> Mapping[str, Any]:
        state = joints(episode, t) + np.array([0, 0, draw.normal(0, 0.03)])
        commanded = joints(episode, t + 1) + 1 if action is None else action(episode, t)
        return {OBS_STATE: state.astype(np.float32), ACTION: np.asarray(commanded, dtype=np.float32)}

    return {OBS_STATE: numbers(3, names), ACTION: numbers(3, action_names)}, frame


def joints(episode: int, t: float) -> np.ndarray:
    return np.array([70 * np.sin(t / 6 + episode), -90 + 3 * t, 12.0])


def change(episode: int, t: int) -> np.ndarray:
    return joints(episode, t + 1) - joints(episode, t)


def told(root: Path) -> tuple[dict[str, Any], str]:
    facts = overview(root)
    assert not facts["unreadable_parts"]
    json.dumps(facts)
    return facts, "\n".join(remarks(facts, str(root), list(range(3))))


def said_of(root: Path, capsys: pytest.CaptureFixture[str], *options: str, status: int = 0) -> str:
    capsys.readouterr()
    assert main(["check", str(root), *options]) == status
    return capsys.readouterr().out


def test_an_arm_in_a_line_a_subject(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features, frame = arm()
    root = write(tmp_path / "arm", {"observation.images.top": camera(), **features}, _filmed(frame))
    said = said_of(root, capsys)
    assert "3 episodes, all sound" in said
    assert "3 episodes of 20 to 24 frames; 66 frames at 10 Hz" in said
    assert "tasks        1: 'do it'" in said
    assert "3 of 3 episodes have actions" in said
    assert "degrees (up to 90, names end in .pos)" in said
    assert "degrees, held still" in said
    assert "`action` and `observation.state`: the same names in the same order" in said
    assert "positions: near the state at t + 1" in said
    assert "observation.images.top: image, 32 x 48 x 3 (height, width, channels)" in said
    assert "no camera is black, frozen or a copy" in said
    assert "meta/stats.json agrees with the tables" in said
    assert "--policy.relative_actions=true  (actions are places of the joints" in said
    assert "on  the first command starts from where the joints are" in said
    assert "REMARK: Held still in all episodes, but for noise: `observation.state` elbow.pos" in said


def _filmed(frame: Frame) -> Frame:
    return lambda e, t, draw: {**frame(e, t, draw), "observation.images.top": scene(t / 24, draw)}


@pytest.mark.parametrize(
    ("names", "action_names", "relation", "protected"),
    [
        (JOINTS, JOINTS, "same", True),
        ({"motors": JOINTS}, ["main_pan", "main_lift", "main_elbow"], "same", True),
        (JOINTS, [JOINTS[i] for i in (2, 0, 1)], "order", True),
        (JOINTS, ["pan.pos", "lift.pos", "grip"], "some", False),
        (JOINTS, ["x", "y", "z"], "other", False),
        (JOINTS, None, "unnamed", True),  # near their joints in the same order
        (JOINTS, ["motors"], "unnamed", True),
    ],
)
def test_names_side_by_side(tmp_path: Path, names: Any, action_names: Any, relation: str, protected: bool) -> None:
    facts, noted = told(write(tmp_path / "arm", *arm(names, action_names)))
    assert facts["action"]["names"]["relation"] == relation
    on = {each["name"]: each["on"] for each in facts["new_policy"]["protections"]}
    assert on["the first command starts from where the joints are"] is protected
    assert ("The names of `action` are not one for each" in noted) is (action_names == ["motors"])


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (None, "positions"),
        (change, "steps"),
        (lambda e, t: 10 * change(e, t), "velocities"),
        (lambda e, t: 0.02 * change(e, t), "driving"),
        (lambda e, t: 0.01 * joints(e, t + 1), "scaled"),
        (lambda e, t: np.sin([7.0 * t * t, 3.1 * t * t, 5.7 * t * t]), "unclear"),
    ],
)
def test_what_actions_are_to_the_state(tmp_path: Path, action: Callable[..., Any] | None, kind: str) -> None:
    facts, noted = told(write(tmp_path / "arm", *arm(action=action)))
    assert facts["action"]["relation"]["kind"] == kind
    moves = kind in ("steps", "velocities", "driving")
    assert ("not positions: the protections that compare a command with a joint would be wrong" in noted) is moves


def test_actions_that_are_the_state_itself(tmp_path: Path) -> None:
    def frame(episode: int, t: int, draw: np.random.Generator) -> Mapping[str, Any]:
        state = joints(episode, t).astype(np.float32)
        return {OBS_STATE: state, ACTION: state}

    facts, noted = told(write(tmp_path / "arm", arm()[0], frame))
    assert facts["action"]["relation"]["equals_state"] == 1
    assert "action[t] equals the state at t: a policy learns to stay where it is" in noted


def test_states_named_as_velocities_that_are_positions(tmp_path: Path) -> None:
    names = ["pan_vel", "lift_vel", "elbow_vel"]
    _, noted = told(write(tmp_path / "arm", *arm(names, names, action=lambda e, t: 10 * change(e, t))))
    assert "`observation.state` is named as velocities (pan_vel, lift_vel, elbow_vel)" in noted
    assert "it holds positions" in noted


def statistics(low: Sequence[float], high: Sequence[float], **other: Sequence[float]) -> Statistics:
    low_, high_ = np.array(low, dtype=float), np.array(high, dtype=float)
    guessed = {"mean": (low_ + high_) / 2, "std": (high_ - low_) / 4, "noise": 0 * low_, "tick": 0 * low_}
    return {"min": low_, "max": high_, **guessed, **{k: np.array(v, dtype=float) for k, v in other.items()}}


@pytest.mark.parametrize(
    ("names", "low", "high", "tick", "units"),
    [
        (["a.pos", "b.pos"], [-1, -170], [2, 60], [0, 0], ["degrees", "degrees"]),
        (["a", "b"], [-1.2, -0.1], [3.1, 0.2], [0, 0], ["radians", "radians"]),
        (["a", "b"], [-1, -0.7], [1, 0.8], [0, 0], ["-1..1", "-1..1"]),
        (["a", "gripper"], [-100, 0], [99.9, 100], [0, 0], ["-100..100", "0..100 percent"]),
        (["x", "y", "z", "gripper"], [0.2, -0.5, 0, 0], [0.7, 0.6, 0.4, 1], [0] * 4, ["metres"] * 3 + ["0..1"]),
        (["x", "y"], [12, 25], [511, 511], [1, 1], ["pixels or mm", "pixels or mm"]),
        (["x", "y"], [-300, 25], [511, 511], [0, 0], ["millimetres", "millimetres"]),
        (["a", "b"], [0, 900], [4095, 3000], [1, 1], ["encoder ticks", "encoder ticks"]),
        (["a_vel", "wrist.torque"], [-200, 0], [200, 3], [0, 0], ["velocity or step", "force or current"]),
        (["qx", "qy", "qz", "qw"], [-0.3] * 4, [0.9] * 4, [0] * 4, ["quaternion"] * 4),
        (["suction", "idle", "mode"], [0, 3, 0], [1, 3, 4], [1, 0, 1], ["on/off", "constant", "whole numbers"]),
        (["kRightElbow", "kRightHandIndex"], [-0.5, 0.2], [1.2, 1], [0, 0], ["radians", "0..1"]),
        (["a"], [-5e4], [9e6], [0], ["unknown"]),
    ],
)
def test_units_are_guessed_with_a_reason(
    names: list[str], low: list[float], high: list[float], tick: list[float], units: list[str]
) -> None:
    guessed = guess_units(names, statistics(low, high, tick=tick))
    assert [unit.name for unit in guessed] == units
    assert all(unit.reason for unit in guessed)


@pytest.mark.parametrize(
    ("width", "std", "noise", "tick", "still"),
    [
        (0.0, 0.0, 0.0, 0.0, True),
        (0.4, 0.1, 0.0, 0.088, True),  # five ticks of an encoder of 4096
        (0.4, 0.06, 0.05, 0.0, True),  # noise
        (0.4, 0.1, 0.001, 0.0, False),  # little, but smoothly
        (60.0, 20.0, 15.0, 0.0, False),  # random commands
        (60.0, 20.0, 0.0, 30.0, False),  # three positions
    ],
)
def test_a_joint_held_still_is_told_from_one_that_moves(
    width: float, std: float, noise: float, tick: float, still: bool
) -> None:
    stats = statistics([-90, 20], [90, 20 + width], std=[40, std], noise=[0, noise], tick=[0, tick])
    assert is_still(guess_units(["a", "b"], stats)[1], stats, 1) is still


def test_an_angle_that_wraps_around(tmp_path: Path) -> None:
    def frame(episode: int, t: int, draw: np.random.Generator) -> Mapping[str, Any]:
        turned = (0.2 * t + 2 + np.pi) % (2 * np.pi) - np.pi
        return {OBS_STATE: np.array([turned, 0.1 * t], dtype=np.float32)}

    _, noted = told(write(tmp_path / "turns", {OBS_STATE: numbers(2, ["yaw", "pitch"])}, frame))
    assert "`observation.state` yaw: an angle that jumps from one end of its range to the other in all 3" in noted


def test_a_velocity_that_jumps_in_some_episodes_is_no_angle(tmp_path: Path) -> None:
    """Each episode alone covers a turn; the training, which looks at all of them, sees that they cover more."""

    def frame(episode: int, t: int, draw: np.random.Generator) -> Mapping[str, Any]:
        speed = 0.02 * t + (5.8 if t == 20 else 0.0) - episode
        return {OBS_STATE: np.array([speed, 0.1 * t], dtype=np.float32)}

    _, noted = told(write(tmp_path / "jumps", {OBS_STATE: numbers(2, ["speed", "pitch"])}, frame))
    assert "jumps from one end" not in noted


@pytest.mark.parametrize("lost", ["file", "column", "other", "nan"])
def test_statistics_that_are_not_of_these_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str], lost: str) -> None:
    root = write(tmp_path / "arm", *arm())
    file = root / STATS_PATH
    stats = json.loads(file.read_text())
    if lost == "column":
        stats.pop(OBS_STATE)
    elif lost == "other":
        stats[OBS_STATE]["std"][1] *= 2
    elif lost == "nan":
        stats[OBS_STATE]["mean"][0] = float("nan")
    file.write_text(json.dumps(stats))
    if lost == "file":
        file.unlink()
    said = said_of(root, capsys)
    wrong = {
        "file": "meta/stats.json is not there",
        "column": "it lacks `observation.state`",
        "other": "`observation.state` says `std`",
        "nan": "`observation.state` holds NaN in `mean`",
    }
    assert wrong[lost] in said
    assert f"--root={root} --new_root={root} --operation.type=recompute_stats --operation.overwrite=true" in said


@pytest.mark.parametrize("lost", ["file", "camera"])
def test_statistics_of_cameras_are_a_fault_since_training_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    features, frame = arm()
    root = write(tmp_path / "arm", {"observation.images.top": camera(), **features}, _filmed(frame))
    stats = json.loads((root / STATS_PATH).read_text())
    stats.pop("observation.images.top")
    (root / STATS_PATH).write_text(json.dumps(stats))
    if lost == "file":
        (root / STATS_PATH).unlink()
    said = said_of(root, capsys, status=1)
    assert "Add --dataset.use_imagenet_stats=false" in said
    assert "--dataset.episodes" not in said
    found = json.loads(said_of(root, capsys, "--json", status=1))
    assert found["sound"] is False
    assert found["sound_episodes"] == [0, 1, 2]


def test_statistics_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path / "arm", *arm())
    (root / STATS_PATH).write_text("{")
    assert "meta/stats.json cannot be read" in said_of(root, capsys, status=1)


def test_columns_of_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One number, whole numbers, yes or no, tables in tables, text."""
    features, frame = arm(names=None)
    more = {
        "observation.mode": numbers(1, None, "int64"),
        "observation.contact": numbers(1, ["contact"], "bool"),
        "observation.double": numbers(2, [["a", "b"]], "float64"),
        "observation.grid": {"dtype": "float32", "shape": (2, 3), "names": None},
        "note": {"dtype": "string", "shape": (1,), "names": None},
        "next.reward": numbers(1),
    }

    def every(episode: int, t: int, draw: np.random.Generator) -> Mapping[str, Any]:
        return {
            **frame(episode, t, draw),
            "observation.mode": np.array([t % 3]),
            "observation.contact": np.array([t > 5]),
            "observation.double": np.array([0.1 * t, 1.0]),
            "observation.grid": np.full((2, 3), t, dtype=np.float32),
            "note": "hello",
            "next.reward": np.array([0.0], dtype=np.float32),
        }

    root = write(tmp_path / "odd", {**features, **more}, every)
    facts, _ = told(root)
    units = {key: [row["unit"] for row in column["dimensions"]] for key, column in facts["columns"].items()}
    assert units["observation.mode"] == ["whole numbers"]
    assert units["observation.contact"] == ["on/off"]
    assert units["observation.double"] == ["radians", "constant"]
    assert facts["columns"]["observation.double"]["names"] == ["a", "b"]
    assert facts["ignored"] == {"note": "string"}
    assert not facts["columns"]["next.reward"]["read"]
    said = said_of(root, capsys)
    assert "observation.state: 3 float32, no names: numbered" in said
    assert "observation.grid: 2 x 3 float32" in said
    assert "next.reward: 1 float32, no names: numbered, not read by a policy" in said


@pytest.mark.parametrize(("lengths", "chunk"), [((1,), 4), ((1, 2, 30), 4), ((12, 40, 40), 16), ((40,), 16)])
def test_episodes_of_a_frame_and_of_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lengths: tuple[int, ...], chunk: int
) -> None:
    features, frame = arm()
    root = write(tmp_path / "arm", {"observation.images.top": camera(), **features}, _filmed(frame), lengths)
    said = said_of(root, capsys)
    assert (f"Shorter than a chunk of {chunk} frames" in said) is (min(lengths) < chunk)


def test_without_actions_it_is_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def frame(episode: int, t: int, draw: np.random.Generator) -> Mapping[str, Any]:
        return {"observation.images.top": scene(t / 24, draw)}

    said = said_of(write(tmp_path / "video", {"observation.images.top": camera()}, frame), capsys)
    assert "no `action`: video only" in said
    assert "on a robot" not in said


def test_episodes_without_actions_are_counted_and_named(tmp_path: Path) -> None:
    facts, noted = told(
        write(tmp_path / "arm", *arm(action=lambda e, t: joints(e, t) if e != 1 else np.full(3, np.nan)))
    )
    assert facts["labels"]["unlabelled_episodes"] == [1]
    assert "Without actions: episode 1." in noted
    assert "--policy.labeled_episodes=[0,2]" in noted


def test_a_rate_that_the_timestamps_do_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path / "arm", *arm())
    info = json.loads((root / INFO_PATH).read_text())
    info["fps"] = 30
    (root / INFO_PATH).write_text(json.dumps(info))
    assert "meta/info.json says 30 frames per second, and the timestamps run at 10" in said_of(root, capsys, status=1)


def test_empty_tasks_are_told(tmp_path: Path) -> None:
    _, noted = told(write(tmp_path / "arm", *arm(), task=" "))
    assert "1 of 1 tasks are empty" in noted


def test_a_column_that_is_nowhere_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path / "arm", *arm())
    replace(root, OBS_STATE, np.full((66, 3), np.nan, dtype=np.float32).tolist())
    said = said_of(root, capsys, status=1)
    assert "cannot be measured: no frame of it is finite" in said


def test_a_part_that_cannot_be_read_does_not_cost_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "arm", *arm())
    info = json.loads((root / INFO_PATH).read_text())
    info["features"]["ghost"] = {"dtype": "float32", "shape": None, "names": 3}
    info["features"]["observation.images.ghost"] = {"dtype": "image", "shape": [4, 4], "names": None}
    (root / INFO_PATH).write_text(json.dumps(info))
    said = said_of(root, capsys, status=1)
    assert "degrees" in said
    assert "The axes of observation.images.ghost are not named" in said


def test_json_holds_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(said_of(write(tmp_path / "arm", *arm()), capsys, "--json"))
    assert {"sound", "sound_episodes", "faults", "overview", "remarks"} == set(said)
    assert said["sound"] is True
    assert {
        "dataset",
        "columns",
        "action",
        "labels",
        "tasks",
        "statistics",
        "cameras",
        "pictures",
        "new_policy",
    } <= set(said["overview"])
    assert said["overview"]["columns"][OBS_STATE]["dimensions"][0]["unit"] == "degrees"


@pytest.mark.parametrize(
    ("name", "kind", "units", "remark"),
    [
        ("g1", "positions", {"radians", "0..1"}, None),
        (
            "droid",
            "positions",
            {"metres", "radians", "0..1"},
            "`observation.state` rx, `action` rx: an angle that jumps",
        ),
        ("cr5_banana", "velocities", {"velocity or step"}, "is named as velocities (joint_0_vel"),
    ],
)
def test_real_recordings(name: str, kind: str, units: set[str], remark: str | None) -> None:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip("the recordings are not beside the checkout (../shared/data)")
    facts, noted = told(root)
    assert facts["action"]["relation"]["kind"] == kind
    assert {row["unit"] for row in facts["columns"][OBS_STATE]["dimensions"]} == units
    assert not facts["pictures"]["findings"]
    assert remark is None or remark in noted
