"""Datasets that are labelled, and what is learnt from them."""

import json
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot.utils.constants import OBS_IMAGE, OBS_STATE
from torch import Tensor
from torch.utils.data import DataLoader

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.cli.main import main
from lerobot_lafp.options.constants import LATENT_ACTION

FEATURES = {
    OBS_IMAGE: PolicyFeature(FeatureType.VISUAL, (3, 32, 32)),
    OBS_STATE: PolicyFeature(FeatureType.STATE, (2,)),
}
NAME = "local/two_way"
PAD = f"{LATENT_ACTION}_is_pad"


def label(checkpoint: Path, root: Path, output: Path, *more: str) -> int:
    fixed = [f"--policy.path={checkpoint}", f"--dataset.repo_id={NAME}", f"--dataset.root={root}"]
    return main(["label", *fixed, f"--output_dir={output}", "--batch_size=16", *more])


def columns(root: Path) -> dict[str, Tensor]:
    dataset = LeRobotDataset(NAME, root=root)
    return {key: torch.stack([dataset[i][key] for i in range(len(dataset))]) for key in (LATENT_ACTION, PAD)}


def stage_2(
    checkpoint: Path, root: Path, stage: str = "latent_policy", **options: Any
) -> tuple[LAFPPolicy, dict[str, Any]]:
    """The policy as ``lerobot-train`` makes it for a stage, and its batch of all frames."""
    overrides = [f"--{name}={json.dumps(value)}" for name, value in options.items()]
    config = PreTrainedConfig.from_pretrained(checkpoint, cli_overrides=[f"--stage={stage}", *overrides])
    config.pretrained_path = checkpoint
    meta = LeRobotDatasetMetadata(NAME, root=root)
    dataset = LeRobotDataset(NAME, root=root, delta_timestamps=resolve_delta_timestamps(config, meta))
    policy = make_policy(config, ds_meta=meta)
    preprocessor, _ = make_pre_post_processors(config, pretrained_path=str(checkpoint))
    batch = next(iter(DataLoader(dataset, batch_size=len(dataset))))
    assert isinstance(policy, LAFPPolicy)
    return policy, preprocessor(batch)


def losses(checkpoint: Path, root: Path, **options: Any) -> Tensor:
    policy, batch = stage_2(checkpoint, root, **options)
    policy.train()
    torch.manual_seed(3)
    return policy.forward(batch, reduction="none")[0].detach()
