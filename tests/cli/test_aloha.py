"""gym-aloha's cube transfer: the expert, what it records, and LeRobot's commands on that."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dm_control import mujoco
from lerobot.datasets import LeRobotDataset

from lerobot_lafp.cli.main import main as lafp
from lerobot_lafp.runs.trainings import last_checkpoint
from lerobot_lafp.simulators.aloha.demonstrations import CAMERA, evaluate_expert
from lerobot_lafp.simulators.aloha.expert import SIDES, TransferCubeExpert, waypoints

from .conftest import SHORT, TINY, Finished

CUBE = np.array([0.1, 0.5, 0.05])


@pytest.fixture(scope="module")
def renders() -> None:
    try:
        mujoco.Physics.from_xml_string("<mujoco/>").render(height=8, width=8)
    except Exception as error:  # of whichever OpenGL is looked for
        pytest.skip(f"MuJoCo cannot render here ({error})")


@pytest.fixture(scope="module")
def demonstrations(renders: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("aloha") / "demonstrations"
    assert lafp(["record-aloha", f"--root={root}", "--episodes=1", "--size=24x32", "--plain"]) == 0
    return root


def test_the_expert_hands_over_the_cube() -> None:
    done = evaluate_expert(4, first_seed=50_000)
    assert done.succeeded == done.tried == (50_000, 50_001, 50_002, 50_003)


def test_ways_differ_and_are_those_of_their_seed() -> None:
    ways = [waypoints(CUBE, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert ways[0] == ways[1]
    for side in SIDES:
        one, other = (way[side] for way in ways[1:])
        assert [point.step for point in one] == [point.step for point in other]
        assert any(a.place != b.place for a, b in zip(one, other, strict=True))
    assert ways[1]["right"][1].pitch != ways[2]["right"][1].pitch
    assert ways[1]["left"][1].roll != ways[2]["left"][1].roll


def test_joints_move_smoothly_from_home() -> None:
    actions = TransferCubeExpert().actions(CUBE, np.random.default_rng(0))
    assert actions.shape == (226, 14)
    assert actions.dtype == np.float32
    assert np.allclose(actions[0, :6], [0, -0.96, 1.16, 0, -0.3, 0])
    joints = np.delete(actions, [6, 13], axis=1)
    assert np.abs(np.diff(joints, axis=0)).max() < 0.1
    assert ((actions[:, [6, 13]] >= 0) & (actions[:, [6, 13]] <= 1)).all()


def test_what_is_out_of_reach_is_named() -> None:
    with pytest.raises(ValueError, match="right arm does not reach"):
        TransferCubeExpert().actions(np.array([3.0, 0.5]), np.random.default_rng(0))


def test_demonstrations_are_a_dataset(demonstrations: Path) -> None:
    dataset = LeRobotDataset("local/demonstrations", root=demonstrations)
    assert (dataset.fps, dataset.num_episodes, dataset.num_frames) == (50, 1, 226)
    frame = dataset[100]
    assert frame[CAMERA].shape == (3, 24, 32)
    assert frame[CAMERA].std() > 0.05
    assert frame["observation.state"].shape == frame["action"].shape == (14,)
    behind = (frame["observation.state"] - dataset[99]["action"]).abs()
    assert np.delete(behind.numpy(), [6, 13]).max() < 0.15  # the arms follow; a gripper may hold the cube
    assert dataset.features["action"]["names"][0] == "left_arm_waist"


def test_of_video_alone_there_are_no_actions(renders: None, tmp_path: Path) -> None:
    options = [f"--root={tmp_path / 'film'}", "--episodes=1", "--size=24x32", "--plain", "--video_only"]
    assert lafp(["record-aloha", *options]) == 0
    dataset = LeRobotDataset("local/film", root=tmp_path / "film")
    assert not {"action", "observation.state"} & set(dataset.features)
    assert dataset[0][CAMERA].shape == (3, 24, 32)


def test_lerobot_trains_and_evaluates(demonstrations: Path, tmp_path: Path, run: Callable[..., Finished]) -> None:
    data = ["--dataset.repo_id=local/demonstrations", f"--dataset.root={demonstrations}"]
    output, size = tmp_path / "run", "--policy.resize_shape=[24,32]"
    done = run("lerobot-train", "--policy.type=lafp", *data, *TINY, *SHORT, size, f"--output_dir={output}")
    assert done.ok, done.output[-3000:]
    done = run(
        "lerobot-eval",
        f"--policy.path={last_checkpoint(output)}",
        "--env.type=aloha",
        "--env.task=AlohaTransferCube-v0",
        "--env.episode_length=3",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        "--eval.use_async_envs=false",
        f"--output_dir={tmp_path / 'evaluation'}",
    )
    assert done.ok, done.output[-3000:]
    assert (tmp_path / "evaluation" / "eval_info.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "either --root=FOLDER or --evaluate"),
        (["--root=x", "--evaluate"], "either --root=FOLDER or --evaluate"),
        (["--root=x", "--size=96"], "must be HEIGHTxWIDTH"),
        (["--root=x", "--episodes=0"], "at least 1"),
        (["--root=."], "exists. Name another folder"),
    ],
)
def test_bad_input_is_named(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lafp(["record-aloha", *arguments]) == 1
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
