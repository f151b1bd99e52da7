"""`lafp train` on video without actions and another dataset that has them, from the first stage to an evaluation."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.cli.main import main
from lerobot_lafp.errors import UserError
from lerobot_lafp.options.constants import STAGES
from lerobot_lafp.runs.stages import train_stages
from lerobot_lafp.runs.trainings import RunState, last_checkpoint, run_state

from .conftest import SHORT, TINY, Data, Finished, assert_same_weights


def labels(data: Data) -> list[str]:
    """The first two episodes; of the others the actions are NaN."""
    return [f"--labels.repo_id={data.repo_id}", f"--labels.root={data.root}", "--labels.episodes=[0,1]"]


@pytest.fixture(scope="module")
def options(video: Data, two_way: Data) -> list[str]:
    """Of images without actions, and of images, positions and actions."""
    return [*video.arguments, *labels(two_way), *TINY, *SHORT, "--save_freq=1"]


@pytest.fixture(scope="module")
def trained(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    assert main(["train", f"--output_dir={folder}", *options]) == 0
    return folder


def test_it_acts(trained: Path, run: Callable[..., Finished], tmp_path: Path) -> None:
    checkpoint = last_checkpoint(trained / "action_decoder")
    done = run(
        "lerobot-eval",
        f"--policy.path={checkpoint}",
        *("--env.type=lafp_two_way", "--eval.n_episodes=1", "--eval.batch_size=1", "--eval.use_async_envs=false"),
        f"--output_dir={tmp_path}",
    )
    assert done.ok, done.output[-2000:]
    policy = LAFPPolicy.from_pretrained(checkpoint)
    assert policy.stage_steps.tolist() == [2, 2, 2]
    assert list(policy.config.camera_shapes) == ["observation.image"]
    assert policy.config.vector_shapes == {}, "the video has no position"
    assert policy.config.facts.action_names == ["x", "y"]


def test_what_each_stage_was_told(trained: Path, two_way: Data, video: Data) -> None:
    for stage in STAGES:
        said = json.loads((last_checkpoint(trained / stage) / "train_config.json").read_text())
        assert said["dataset"]["repo_id"] == video.repo_id
        assert said["policy"]["labels"] == {"repo_id": two_way.repo_id, "root": str(two_way.root), "episodes": [0, 1]}


def test_the_same_again_and_another(
    trained: Path, options: list[str], two_way: Data, video: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    again = [f"--output_dir={trained}", *options]
    train_stages([*again, "--labels.episodes=[1,0]"])
    assert capsys.readouterr().out.count("already trained, skipped") == 3
    with pytest.raises(UserError, match=r"trained with --policy\.labels\.episodes=\[0, 1\], and this command asks for"):
        train_stages([*again, "--labels.episodes=[0]"])
    with pytest.raises(UserError, match=r"latent_action was trained with .*--policy\.labels\.repo_id=local/two_way"):
        train_stages([f"--output_dir={trained}", *video.arguments, *TINY, *SHORT])


def test_an_interrupted_stage_goes_on(trained: Path, options: list[str], tmp_path: Path) -> None:
    """In the middle of the batches of both datasets, and ends where it would have ended."""
    output = Path(shutil.copytree(trained, tmp_path / "again", symlinks=True))
    for stage in STAGES[1:]:
        shutil.rmtree(output / stage)
    checkpoints = output / "latent_action" / "checkpoints"
    shutil.rmtree(checkpoints / "000002")
    (checkpoints / "last").unlink()
    (checkpoints / "last").symlink_to("000001")
    assert run_state(output / "latent_action") is RunState.INTERRUPTED
    train_stages([f"--output_dir={output}", *options])
    for stage in STAGES:
        assert_same_weights(trained / stage, output / stage)


def test_a_mismatch_is_told_by_lerobot_train_before_anything_is_trained(
    video: Data, make_vectors: Callable[..., Data], run: Callable[..., Finished], tmp_path: Path
) -> None:
    other = make_vectors("no_camera")
    own = [f"--policy.labels.repo_id={other.repo_id}", f"--policy.labels.root={other.root}"]
    words = ["--policy.type=lafp", "--policy.stage=latent_action", *video.arguments, *own, *TINY, *SHORT]
    done = run("lerobot-train", *words, f"--output_dir={tmp_path / 'run'}")
    assert not done.ok
    assert "local/no_camera has no `observation.image`, which the policy reads of local/video" in done.output
    assert not (tmp_path / "run" / "checkpoints").exists()
