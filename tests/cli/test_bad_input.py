"""Bad input of a training, by the message that lerobot-train ends with: the field, and the mend."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset

from lerobot_lafp.runs.trainings import last_checkpoint

from .conftest import SHORT, TINY, Data, Finished


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Three actions, and another camera than the two-way task's."""
    root = tmp_path_factory.mktemp("data") / "wide"
    features = {
        "observation.images.front": {"dtype": "image", "shape": (32, 32, 3), "names": ["height", "width", "channels"]},
        "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
        "action": {"dtype": "float32", "shape": (3,), "names": None},
    }
    dataset = LeRobotDataset.create("local/wide", fps=10, features=features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for _ in range(2):
        for _ in range(20):
            frame = {key: rng.normal(size=of["shape"]).astype(np.float32) for key, of in features.items()}
            picture = rng.integers(0, 255, size=(32, 32, 3), dtype=np.uint8)
            dataset.add_frame({**frame, "observation.images.front": picture, "task": "none"})
        dataset.save_episode()
    dataset.finalize()
    return Data("local/wide", root)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--policy.horizon=15", "--policy.num_latents=4"], "`num_latents` (4) must divide `horizon` (15)"),
        (["--policy.labeled_episodes=[]"], "`labeled_episodes` is empty"),
        (["--policy.labeled_episodes=[0,7]"], "`labeled_episodes` names episode 7"),
        (["--policy.num_latents=6", "--policy.horizon=24"], "`horizon` (24 frames) is longer than every episode"),
        (["--policy.limit_margin=0.2"], "`limit_margin` is an option of an older lerobot_policy_lafp"),
        (["--policy.labeled_episodes=[0,1,2]"], "`action` holds NaN or infinite values in episode 2"),
        (["--policy.relative_actions=true", "--policy.labeled_episodes=[0]"], None),
    ],
)
def test_options_that_do_not_fit_the_dataset(
    make_vectors: Callable[..., Data],
    run: Callable[..., Finished],
    tmp_path: Path,
    options: list[str],
    says: str | None,
) -> None:
    data = make_vectors("short_third", lengths=(20, 20, 20), nan_in=2)
    done = run(
        "lerobot-train", "--policy.type=lafp", *data.arguments, *TINY, *SHORT, "--batch_size=60", *options,
        f"--output_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.ok == (says is None), done.output[-2000:]
    if says is not None:
        assert says in done.output
        assert not (tmp_path / "run" / "checkpoints").exists()


def test_action_free_dataset_in_stage_3(
    stages: Path, video: Data, run: Callable[..., Finished], tmp_path: Path
) -> None:
    done = run(
        "lerobot-train",
        f"--policy.path={last_checkpoint(stages / 'latent_policy')}",
        "--policy.stage=action_decoder",
        *video.arguments,
        *SHORT,
        f"--output_dir={tmp_path / 'run'}",
    )
    assert not done.ok
    # The video set lacks the position too, and that is found first.
    assert "The dataset has no `observation.state`, which this policy was trained with" in done.output


def test_image_of_another_size(stages: Path, run: Callable[..., Finished], tmp_path: Path) -> None:
    done = run(
        "lerobot-eval",
        f"--policy.path={last_checkpoint(stages / 'action_decoder')}",
        "--env.type=lafp_two_way",
        "--env.obs_type=pixels_agent_pos",
        "--env.image_size=48",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        f"--output_dir={tmp_path / 'evaluation'}",
    )
    assert not done.ok
    assert "`observation.image` has shape" in done.output
    assert "(3, 32, 32)" in done.output


def test_unknown_observation_of_the_two_way_task(stages: Path, run: Callable[..., Finished], tmp_path: Path) -> None:
    done = run(
        "lerobot-eval",
        f"--policy.path={last_checkpoint(stages / 'action_decoder')}",
        "--env.type=lafp_two_way",
        "--env.obs_type=sound",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        f"--output_dir={tmp_path / 'evaluation'}",
    )
    assert not done.ok
    assert "`obs_type` must be one of ('pixels', 'pixels_agent_pos'), got 'sound'" in done.output


def evaluated(run: Callable[..., Finished], checkpoint: Path, tmp_path: Path, *environment: str) -> Finished:
    options = [*environment, "--eval.n_episodes=1", "--eval.batch_size=1", "--eval.use_async_envs=false"]
    return run("lerobot-eval", f"--policy.path={checkpoint}", *options, f"--output_dir={tmp_path / 'evaluation'}")


def test_an_environment_without_the_camera(stages: Path, run: Callable[..., Finished], tmp_path: Path) -> None:
    pusht = ["--env.type=pusht", "--env.obs_type=environment_state_agent_pos"]
    done = evaluated(run, last_checkpoint(stages / "action_decoder"), tmp_path, *pusht)
    assert not done.ok
    assert "`observation.image` is missing: the policy was trained with it" in done.output


def test_a_camera_of_another_name(stages: Path, run: Callable[..., Finished], tmp_path: Path, wide: Data) -> None:
    path = f"--policy.path={last_checkpoint(stages / 'action_decoder')}"
    output = f"--output_dir={tmp_path / 'run'}"
    done = run("lerobot-train", path, *wide.arguments, *SHORT, "--policy.push_to_hub=false", output)
    assert not done.ok
    assert "The dataset has no `observation.image`, which this policy was trained with" in done.output


def test_actions_of_another_width(wide: Data, run: Callable[..., Finished], tmp_path: Path) -> None:
    output = f"--output_dir={tmp_path / 'run'}"
    done = run("lerobot-train", "--policy.type=lafp", *wide.arguments, *TINY, *SHORT, output)
    assert done.ok, done.output[-2000:]
    two_way = ["--env.type=lafp_two_way", "--env.obs_type=pixels_agent_pos"]
    done = evaluated(run, last_checkpoint(tmp_path / "run"), tmp_path, *two_way)
    assert not done.ok
    assert "`action` has width 2 here, but this policy was trained with width 3. Use the dataset or" in done.output
