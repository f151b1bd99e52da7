"""The seven traps of training in stages across LeRobot runs, each a test, through LeRobot's factory and commands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.policies import make_policy
from safetensors.torch import load_file

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.runs.trainings import last_checkpoint

from .conftest import SHORT, TINY, Data, Finished


def load(checkpoint: Path, data: Data, *overrides: str) -> LAFPPolicy:
    """A checkpoint as lerobot-train loads it for another dataset."""
    config = PreTrainedConfig.from_pretrained(checkpoint, cli_overrides=list(overrides))
    config.pretrained_path = checkpoint
    policy = make_policy(config, ds_meta=LeRobotDatasetMetadata(data.repo_id, root=data.root))
    assert isinstance(policy, LAFPPolicy)
    return policy


@pytest.fixture(scope="module")
def train_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    from lerobot_lafp.runs.trainings import train

    def call(data: Data, *arguments: str) -> Path:
        output_dir = tmp_path_factory.mktemp("run") / "run"
        train(output_dir, ["--policy.type=lafp", *data.arguments, *TINY, *SHORT, *arguments])
        return last_checkpoint(output_dir)

    return call


@pytest.fixture(scope="module")
def from_video(video: Data, train_once: Callable[..., Path]) -> Path:
    """A stage-1 checkpoint that saw images and no action."""
    return train_once(video, "--policy.stage=latent_action")


def test_1_state_of_a_later_dataset_is_normalised(from_video: Path, two_way: Data) -> None:
    options = ["--stage=action_decoder", "--decoder_observes=tokens", "--labeled_episodes=[0,1]"]
    policy = load(from_video, two_way, *options)
    stats = LeRobotDatasetMetadata(two_way.repo_id, root=two_way.root).stats["observation.state"]
    normalizer = policy.normalizer.vectors["observation__state"]
    torch.testing.assert_close(normalizer.mean, torch.as_tensor(stats["mean"], dtype=torch.float32))
    torch.testing.assert_close(normalizer.std, torch.as_tensor(stats["std"], dtype=torch.float32))
    # It is for the decoder alone: what stages 1 and 2 observe stays what it was.
    assert set(policy.config.decoder_vector_shapes) == {"observation.state"}
    assert policy.config.vector_shapes == {}


def test_2_and_3_decoder_survives_a_dataset_without_actions(stages: Path, video: Data) -> None:
    checkpoint = last_checkpoint(stages / "action_decoder")
    before = load_file(checkpoint / "model.safetensors")
    config = PreTrainedConfig.from_pretrained(checkpoint, cli_overrides=["--stage=latent_policy"])
    config.pretrained_path = checkpoint
    meta = LeRobotDatasetMetadata(video.repo_id, root=video.root)
    meta.info.features["observation.state"] = {"dtype": "float32", "shape": (2,), "names": None}
    policy = make_policy(config, ds_meta=meta)
    decoder = {name: tensor for name, tensor in before.items() if name.startswith("action_decoder.")}
    assert "action_decoder.moments.mean" in decoder
    now = policy.state_dict()
    for name, tensor in decoder.items():
        assert tensor.equal(now[name]), name
    assert policy.config.action_feature.shape == (2,)


def test_4_early_stages_refuse_to_be_evaluated(
    stages: Path, from_video: Path, run: Callable[..., Finished], tmp_path: Path
) -> None:
    environment = ["--env.type=lafp_two_way", "--eval.n_episodes=1", "--eval.batch_size=1"]
    done = run(
        "lerobot-eval",
        f"--policy.path={last_checkpoint(stages / 'latent_policy')}",
        *environment,
        "--env.obs_type=pixels_agent_pos",
        f"--output_dir={tmp_path / 'a'}",
    )
    assert not done.ok
    assert "cannot act" in done.output
    assert "stage action_decoder" in done.output
    done = run("lerobot-eval", f"--policy.path={from_video}", *environment, f"--output_dir={tmp_path / 'b'}")
    assert not done.ok
    assert "Missing: stage latent_policy, then stage action_decoder" in done.output


def test_5_changed_action_width_is_said_in_words(make_vectors: Callable[..., Data], train_once: Any) -> None:
    checkpoint = train_once(make_vectors("narrow"), "--policy.stage=joint")
    with pytest.raises(ValueError, match=r"`action` has width 3 here, but this policy was trained with width 2"):
        load(checkpoint, make_vectors("wide", action_dim=3))


def test_6_resume_with_another_stage_is_refused(stages: Path, run: Callable[..., Finished]) -> None:
    config = last_checkpoint(stages / "latent_action") / "train_config.json"
    done = run("lerobot-train", f"--config_path={config}", "--resume=true", "--policy.stage=latent_policy", "--steps=4")
    assert not done.ok
    assert "--resume=true continues stage latent_action, but --policy.stage=latent_policy was given" in done.output


def test_7_image_statistics_of_the_next_dataset_change_nothing(stages: Path, two_way: Data, tmp_path: Path) -> None:
    checkpoint = last_checkpoint(stages / "action_decoder")
    config = PreTrainedConfig.from_pretrained(checkpoint)
    config.pretrained_path = checkpoint
    meta = LeRobotDatasetMetadata(two_way.repo_id, root=two_way.root)
    images = {"observation.image": torch.rand(2, 3, 32, 32), "observation.state": torch.rand(2, 2)}
    actions = []
    for shift in (0.0, 0.4):
        for key in ("observation.image", "observation.state"):
            meta.stats[key] = {name: value + shift for name, value in meta.stats[key].items()}
        policy = make_policy(config, ds_meta=meta).eval()
        actions.append(policy.select_action(images, noise=torch.zeros(2, 4, 4)))
    assert actions[0].equal(actions[1])
    assert all(mode.value == "IDENTITY" for mode in policy.config.normalization_mapping.values())


def test_labels_null_on_the_command_line_means_all(stages: Path, two_way: Data) -> None:
    """Which this dataset does not have, and says before the first step."""
    checkpoint = last_checkpoint(stages / "latent_policy")
    with pytest.raises(ValueError, match=r"`action` holds NaN or infinite values in episode 2,3,4,5"):
        load(checkpoint, two_way, "--stage=action_decoder", "--labeled_episodes=null")


def test_stage_1_labels_are_saved_for_later_stages(stages: Path) -> None:
    config = json.loads((last_checkpoint(stages / "action_decoder") / "config.json").read_text())
    assert config["labeled_episodes"] == [0, 1]
    assert config["facts"]["labels_repo_id"] == "local/two_way"
