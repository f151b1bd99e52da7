"""Bad input of a training, by the message that lerobot-train ends with: the field, and the mend."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lerobot_lafp.runs import last_checkpoint

from .conftest import SHORT, TINY, Data, Finished


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--policy.horizon=15"], "`horizon` must equal `frame_offset` * `num_latents`"),
        (["--policy.labeled_episodes=[]"], "`labeled_episodes` is empty"),
        (["--policy.labeled_episodes=[0,7]"], "`labeled_episodes` names episode 7"),
        (["--policy.num_latents=6", "--policy.horizon=24"], "`horizon` (24) is longer than the shortest episode"),
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
