"""A task's dataset, read as trainings read it (`lerobot_lafp/frames`)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.datasets.factory import resolve_delta_timestamps
from torch import Tensor

from lerobot_lafp import LAFPConfig
from lerobot_lafp.frames.dataset import StoredDataset
from lerobot_lafp.frames.serving import with_frame_store


@dataclass(frozen=True)
class Data:
    """A dataset on this machine, or on the Hub.

    Attributes:
        repo_id: Its name.
        root: Its folder; None: LeRobot's cache, or the Hub.
    """

    repo_id: str
    root: Path | None = None

    @cached_property
    def meta(self) -> LeRobotDatasetMetadata:
        return LeRobotDatasetMetadata(self.repo_id, root=self.root)

    @property
    def num_episodes(self) -> int:
        return int(self.meta.total_episodes)

    def opened(self, config: Any | None = None) -> StoredDataset:
        """All of it, with the frames of a sample that ``config`` asks for; unset: the present one."""
        deltas = None if config is None else resolve_delta_timestamps(config, self.meta)
        dataset = LeRobotDataset(self.repo_id, root=self.root, delta_timestamps=deltas, return_uint8=True)
        found = stored(dataset)
        assert isinstance(found, StoredDataset)
        return found


def stored(dataset: LeRobotDataset) -> LeRobotDataset:
    """A dataset with batches at once and all of its cameras, for a policy of any type."""
    return with_frame_store(dataset, LAFPConfig(device="cpu", push_to_hub=False), required=True)


def column(dataset: StoredDataset, key: str, frames: Tensor) -> Tensor:
    """A column at ``frames`` (..): (.., *shape), pictures in [0, 1]."""
    index = frames.numpy()
    found = dataset.columns[key].take(index, index)
    assert isinstance(found, Tensor)
    return as_loaded(found)


def as_loaded(x: Tensor) -> Tensor:
    """Pictures as ``lerobot-train`` gives them to a policy, in [0, 1]; anything else as it is."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def episode_of(dataset: StoredDataset) -> Tensor:
    """(N,), each frame's episode."""
    return torch.from_numpy(np.asarray(column(dataset, "episode_index", torch.arange(len(dataset)))))


def usable(dataset: StoredDataset, drop_n_last_frames: int) -> Tensor:
    """Frames that training draws from, as LeRobot's ``EpisodeAwareSampler`` picks them: indices (M,)."""
    about = dataset.meta.episodes
    spans = zip(about["dataset_from_index"], about["dataset_to_index"], strict=True)
    return torch.cat([torch.arange(a, max(a, b - drop_n_last_frames)) for a, b in spans])
