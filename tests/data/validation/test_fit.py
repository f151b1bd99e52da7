"""A checkpoint and a robot held against a dataset by ``lafp check``, before a training or a rollout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, OBS_STATE

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.acting.robots import robot_features
from lerobot_lafp.cli.main import main
from lerobot_lafp.errors import UserError

from ...building import lafp
from ...conftest import TINY
from ..checkarm import CheckArm
from ..datasets import Frame, camera, numbers, scene, write

JOINTS = ["pan.pos", "lift.pos", "elbow.pos"]
TOP = "observation.images.top"


def frames(scale: float = 1.0) -> Frame:
    def frame(episode: int, t: int, draw: np.random.Generator) -> Mapping[str, Any]:
        state = scale * np.array([np.sin(t / 5 + episode), t / 10, np.cos(t / 4)], dtype=np.float32)
        return {OBS_STATE: state, ACTION: state + 0.01 * np.float32(scale), TOP: scene(t / 24, draw)}

    return frame


def features(names: Any = JOINTS, size: tuple[int, int] = (32, 48)) -> dict[str, Any]:
    return {TOP: camera("image", size), OBS_STATE: numbers(3, names), ACTION: numbers(3, names)}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A policy of an arm of three joints with a camera, at 10 Hz, which has trained for no step."""
    config = lafp(
        input_features={
            TOP: PolicyFeature(FeatureType.VISUAL, (3, 32, 48)),
            OBS_STATE: PolicyFeature(FeatureType.STATE, (3,)),
        },
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (3,))},
        fps=10.0,
        tasks=["do it"],
        language="words",
        **{**TINY, "stage": "joint"},
    )
    config.set_dataset_feature_metadata({TOP: camera(), OBS_STATE: numbers(3, JOINTS), ACTION: numbers(3, JOINTS)})
    stats = {OBS_STATE: {"mean": torch.zeros(3), "std": torch.ones(3), "min": -torch.ones(3), "max": torch.ones(3)}}
    LAFPPolicy(config, dataset_stats=stats).save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def check(capsys: pytest.CaptureFixture[str], root: Path, *options: str) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert main(["check", str(root), *options]) == 0
    said = capsys.readouterr().out
    assert main(["check", str(root), *options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["overview"], said


def test_a_policy_on_a_dataset_like_its_own(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "arm", features(), frames())
    facts, said = check(capsys, root, f"--policy.path={checkpoint}")
    assert facts["policy"]["trains"], said
    assert f"{checkpoint} on this dataset" in said
    assert "rate         10 Hz, the same" in said
    assert "actions      3 wide, the same" in said
    assert "`observation.state`: the same names in the same order" in said
    assert "states lie where the policy's training had them" in said
    assert "known, all of them" in said
    assert "on  the first command starts from where the joints are" in said
    assert "new_policy" not in facts


@pytest.mark.parametrize(
    ("changed", "scale", "fps", "says"),
    [
        (
            {"names": [JOINTS[i] for i in (1, 2, 0)]},
            1,
            10,
            "`action`: the same in another order; they are put in order",
        ),
        ({"names": ["a", "b", "c"]}, 1, 10, "stage joint is REFUSED: `action` is pan.pos, lift.pos, elbow.pos"),
        ({"names": None}, 1, 10, "`action`: the policy or the dataset has no names"),
        ({"size": (48, 48)}, 1, 10, "stage joint is REFUSED: `observation.images.top` has shape (3, 48, 48)"),
        ({}, 57.3, 10, "here, far from the training's 0 (deviation 1)"),
        ({}, 1, 20, "NOT the same: 20 Hz here"),
    ],
)
def test_what_differs_is_told(
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, Any],
    scale: float,
    fps: int,
    says: str,
) -> None:
    size = changed.get("size", (32, 48))

    def frame(episode: int, t: int, draw: np.random.Generator) -> Mapping[str, Any]:
        return {**frames(scale)(episode, t, draw), TOP: scene(t / 24, draw, size)}

    root = write(tmp_path / "arm", features(**changed), frame, fps=fps)
    _, said = check(capsys, root, f"--policy.path={checkpoint}")
    assert says in said


def test_another_dataset_as_the_labels_of_this_ones_video(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a new policy, and with one that was trained."""
    video, labels = (write(tmp_path / name, features(), frames()) for name in ("arm", "play"))
    for options in ([], [f"--policy.path={checkpoint}"]):
        facts, said = check(capsys, video, f"--labels={labels}", *options)
        assert f"{labels} as the labels of this dataset's video (lafp train --labels.repo_id)" in said
        assert "3 episodes; 66 frames" in said
        assert "actions      3: pan.pos, lift.pos, elbow.pos; of this dataset's own none are read" in said
        assert "both can be trained on together" in said
        assert facts["labels_dataset"]["refused"] is None


@pytest.mark.parametrize(
    ("changed", "fps", "says"),
    [
        (
            {"names": ["a", "b", "c"]},
            10,
            "training     REFUSED: `observation.state` is pan.pos, lift.pos, elbow.pos in",
        ),
        ({}, 20, "training     REFUSED: play has 20 frames per second and arm 10"),
    ],
)
def test_labels_that_do_not_go_with_a_video_are_a_fault(
    changed: dict[str, Any], fps: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write(tmp_path / "arm", features(), frames())
    labels = write(tmp_path / "play", features(**changed), frames(), fps=fps)
    assert main(["check", str(video), f"--labels={labels}"]) == 1
    assert says in capsys.readouterr().out


def test_a_dataset_without_the_camera_and_with_another_task(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def frame(episode: int, t: int, draw: np.random.Generator) -> Mapping[str, Any]:
        row = dict(frames()(episode, t, draw))
        row["observation.extra"] = row.pop(TOP)[0, :2, 0].astype(np.float32)
        return row

    shapes = {**features(), "observation.extra": numbers(2)}
    shapes.pop(TOP)
    root = write(tmp_path / "arm", shapes, frame, task="something else")
    facts, said = check(capsys, root, f"--policy.path={checkpoint}")
    assert facts["policy"]["missing"] == [TOP]
    assert "REFUSED: The dataset has no `observation.images.top`" in said
    assert "1 are new to it: 'something else'" in said
    assert "not read     observation.extra" in said


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path / "arm", features(), frames())
    assert main(["check", str(root), f"--policy.path={root}"]) == 1
    assert "holds no checkpoint" in capsys.readouterr().err


# --- Robots -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "`action`: the same names in the same order"),
        (["--robot.order=elbow pan lift"], "`action`: the same in another order; they are put in order by name"),
        (["--robot.order=a b c"], "`action`: REFUSED."),
    ],
)
def test_a_robot_by_its_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    root = write(tmp_path / "arm", features(), frames())
    facts, said = check(capsys, root, "--robot.type=check_arm", *options)
    assert "check_arm, as lerobot-rollout would use it" in said
    assert says in said
    assert "left out     pan.torque: a rollout uses what ends in .pos or .vel" in said
    assert facts["robot"]["cameras"] == [TOP]
    assert "which the robot has not" not in said


def test_a_robot_against_a_policy(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path / "arm", features(), frames())
    options = [f"--policy.path={checkpoint}", "--robot.type=check_arm", "--robot.order=pan lift"]
    _, said = check(capsys, root, *options)
    assert f"`action` is 3 wide in {checkpoint}, and 2 on the robot: REFUSED" in said


def test_an_arm_of_lerobot_without_its_port(no_network: None) -> None:
    pytest.importorskip("scservo_sdk")
    front = "{front: {type: opencv, index_or_path: 0, width: 640, height: 480, fps: 30}}"
    found = robot_features(["--robot.type=so100_follower", f"--robot.cameras={front}"])
    assert found["features"][ACTION]["names"][0] == "shoulder_pan.pos"
    assert found["features"]["observation.images.front"]["shape"] == (480, 640, 3)
    assert not found["left_out"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--robot.type=nobody"], "--robot.type=nobody is no robot that is known here: "),
        (["--robot.port=x"], "--robot.type= is no robot"),
        (["--robot.type=check_arm", "--robot.wheels=4"], "cannot be read .*--robot.wheels"),
    ],
)
def test_robots_that_cannot_be_had(options: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        robot_features(options)


def test_a_robot_that_needs_its_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(self: Any, config: Any) -> None:
        raise ImportError("its driver is not installed")

    monkeypatch.setattr(CheckArm, "__init__", no_driver)
    with pytest.raises(UserError, match=r"check_arm cannot be built here.*its driver is not installed"):
        robot_features(["--robot.type=check_arm"])
