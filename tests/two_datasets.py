"""A dataset of video and one that has the actions, on disk, and a training on them as `lerobot-train` does it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets import EpisodeAwareSampler
from lerobot.datasets import factory as datasets
from lerobot.policies import factory as policies
from torch.utils.data import DataLoader

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.processor_lafp import make_lafp_pre_post_processors

from .building import lafp
from .conftest import TINY
from .metamorphic import ACTION, Data, demonstrations

FRONT = "observation.images.front"
#: Of the episodes: two of video, and two that have the actions.
LENGTHS = (20, 16, 24, 18)
VIDEO, LABELS = (0, 1), (2, 3)


def four_episodes(camera: tuple[int, int] | None = None) -> Data:
    """An arm of three joints and, with its (height, width), a camera whose every frame is noise of its own."""
    made = demonstrations(["moves", "ramp", "ticks"], lengths=LENGTHS)
    if camera is None:
        return made
    draw = np.random.default_rng(1)
    frames = [draw.integers(0, 256, (length, *camera, 3), dtype=np.uint8) for length in LENGTHS]
    return replace(made, columns={FRONT: frames, **made.columns})


def some(data: Data, episodes: Sequence[int]) -> Data:
    return replace(data, columns={key: [each[e] for e in episodes] for key, each in data.columns.items()})


def without(data: Data, key: str = ACTION) -> Data:
    return replace(data, columns={name: each for name, each in data.columns.items() if name != key})


def policy_of(labels: Path | None, **options: Any) -> LAFPConfig:
    """A tiny policy whose actions come from the dataset ``labels``."""
    own = {} if labels is None else {"labels__repo_id": f"local/{labels.name}", "labels__root": str(labels)}
    return lafp(**{**TINY, **own, **options})


def after(checkpoint: Path, **options: Any) -> LAFPConfig:
    """A checkpoint's configuration, as of ``--policy.path``."""
    words = [f"--{k.replace('__', '.')}={v if isinstance(v, str) else json.dumps(v)}" for k, v in options.items()]
    config = LAFPConfig.from_pretrained(checkpoint, cli_overrides=words)
    assert isinstance(config, LAFPConfig)
    config.pretrained_path = checkpoint
    return config


def training(root: Path, policy: LAFPConfig, dataset: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """What ``lerobot-train`` is told, and says to the policy before it opens anything."""
    of = DatasetConfig(f"local/{root.name}", root=str(root), **(dataset or {}))
    cfg = TrainPipelineConfig(dataset=of, policy=policy, output_dir=root / "never", batch_size=16, **options)
    cfg.validate()
    return cfg


def opened(root: Path, policy: LAFPConfig, dataset: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """The dataset that is trained on, and the one that is held out."""
    return datasets.make_train_eval_datasets(training(root, policy, dataset, **options))


def batches(dataset: Any, config: LAFPConfig, **options: Any) -> list[dict[str, Any]]:
    """An epoch, as ``lerobot-train`` goes through it."""
    sampler = EpisodeAwareSampler(
        dataset.meta.episodes["dataset_from_index"],
        dataset.meta.episodes["dataset_to_index"],
        episode_indices_to_use=dataset.episodes,
        drop_n_last_frames=config.drop_n_last_frames,
        shuffle=True,
        seed=3,
        absolute_to_relative_idx=dataset.absolute_to_relative_idx,
    )
    return list(DataLoader(dataset, batch_size=16, sampler=sampler, **options))


def learn(root: Path, policy: LAFPConfig, dataset: Mapping[str, Any] | None = None) -> LAFPPolicy:
    """A policy after one epoch."""
    data, _ = opened(root, policy, dataset)
    torch.manual_seed(0)
    made = policies.make_policy(policy, ds_meta=data.meta)
    assert isinstance(made, LAFPPolicy)
    preprocess, _ = make_lafp_pre_post_processors(made.config)
    optimizer = torch.optim.AdamW(made.get_optim_params(), lr=1e-3)
    for batch in batches(data, made.config):
        made.train()
        loss, _ = made.forward(dict(preprocess(seen(batch))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.update()
    return made


def seen(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What ``lerobot-train`` makes of pictures that are bytes."""
    bytes_of = {key for key, x in batch.items() if isinstance(x, torch.Tensor) and x.dtype == torch.uint8}
    return {key: x.float() / 255 if key in bytes_of else x for key, x in batch.items()}


def saved(policy: LAFPPolicy, folder: Path) -> Path:
    policy.save_pretrained(folder)
    return folder
