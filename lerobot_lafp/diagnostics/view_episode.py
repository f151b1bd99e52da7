"""One episode of a LeRobotDataset, opened for a checkpoint and read some frames at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from lerobot.datasets import LeRobotDataset
from lerobot.utils.constants import ACTION
from torch import Tensor

from ..configuration_lafp import LAFPConfig
from ..data.opening import load_dataset
from ..errors import UserError
from ..options.names import dimension_names, listed, numbered

#: Frames that are read at a time, so that a video is decoded forwards.
BLOCK = 32


@dataclass(frozen=True)
class Block:
    """Consecutive frames of an episode, as they are recorded, on the CPU.

    Attributes:
        frames: Observations of the policy that the dataset has, and ``action``: each (n, ..).
        tasks: The task of each frame, in words.
    """

    frames: dict[str, Tensor]
    tasks: list[str]


@dataclass(frozen=True)
class Episode:
    """An episode of N frames.

    Attributes:
        dataset: Whole, with ``BLOCK`` frames in a sample.
        number: The episode's.
        vectors: States and ``action`` that are read -> shape of one frame.
        cameras: Cameras that are read; each holds images, or features of a ViT.
        action_names: Names of the dimensions of ``action``; none without actions.
    """

    dataset: LeRobotDataset
    number: int
    vectors: Mapping[str, tuple[int, ...]]
    cameras: tuple[str, ...]
    action_names: list[str]

    @property
    def fps(self) -> float:
        """Frames per second."""
        return float(self.dataset.meta.fps)

    @property
    def span(self) -> tuple[int, int]:
        """Its first frame in the dataset, and one past its last."""
        about = self.dataset.meta.episodes
        first, end = (about[f"dataset_{bound}_index"][self.number] for bound in ("from", "to"))
        return int(first), int(end)

    def __len__(self) -> int:
        first, end = self.span
        return end - first

    def blocks(self) -> Iterator[Block]:
        """Its frames in order, at most ``BLOCK`` at a time."""
        first, end = self.span
        names = [str(task) for task in self.dataset.meta.tasks.index]
        task_of = self.dataset.hf_dataset.data.column("task_index").to_numpy()
        for start in range(first, end, BLOCK):
            count = min(BLOCK, end - start)
            sample = self.dataset[start]
            frames = {key: sample[key][:count] for key in self.cameras}
            frames |= {key: sample[key][:count].reshape(count, *shape) for key, shape in self.vectors.items()}
            yield Block(frames, [names[task] for task in task_of[start : start + count]])

    def depth_range(self, camera: str) -> tuple[float, float] | None:
        """Least and largest distance that is drawn of a depth camera; None of others, and where it is not known."""
        stats = (self.dataset.meta.stats or {}).get(camera, {})
        if camera not in self.dataset.meta.depth_keys:
            return None
        low, high = (stats.get(a, stats.get(b)) for a, b in (("q01", "min"), ("q99", "max")))
        return None if low is None or high is None else (float(low.min()), float(high.max()))


def open_episode(
    config: LAFPConfig, observed: Mapping[str, tuple[int, ...]], repo_id: str, root: str | Path | None, number: int
) -> Episode:
    """An episode with all that a checkpoint observes.

    Args:
        config: The checkpoint's. The dataset's order of states and actions is matched to it by their names.
        observed: States -> shape, whether the dataset has to have them or not.
        repo_id: The dataset's name.
        root: Its folder; unset: LeRobot's cache, or the Hub.
        number: The episode's.

    Raises:
        UserError: There is no such episode, or its actions are not those of the policy.
        ValueError: The dataset cannot be read, or lacks an observation of the checkpoint.
    """
    wanted = (*config.camera_shapes, *observed, ACTION)
    dataset = load_dataset(config, repo_id, root, lambda meta: _runs(wanted, meta))
    features, count = dataset.meta.features, dataset.meta.total_episodes
    if not 0 <= number < count:
        raise UserError(f"{repo_id} has no episode {number}: choose --episode from 0 to {count - 1}.")
    config.match_names(features)
    vectors = {key: shape for key, shape in observed.items() if key in features}
    names: list[str] = []
    if ACTION in features:
        width = prod(features[ACTION]["shape"])
        if config.facts.action_dim not in (None, width):
            raise UserError(
                f"`action` has {width} dimensions in {repo_id}, and {config.facts.action_dim} in this policy"
                f"{f' ({listed(config.facts.action_names)})' if config.facts.action_names else ''}. Give the dataset "
                "that the policy was trained on, or one of the same robot."
            )
        vectors[ACTION] = (width,)
        names = config.names_of(ACTION) or dimension_names(features[ACTION]) or numbered("action", width)
    return Episode(dataset, number, vectors, tuple(config.camera_shapes), names)


def _runs(keys: tuple[str, ...], meta: Any) -> dict[str, list[float]]:
    return {key: [i / meta.fps for i in range(BLOCK)] for key in keys if key in meta.features}


def as_bytes(image: Tensor, distances: tuple[float, float] | None = None) -> Tensor:
    """An image (C, H, W) as a dataset holds it -> (H, W, 3) of bytes.

    Args:
        image: Bytes, or fractions of white; of one channel or three.
        distances: Of a depth camera, what is drawn black and what is drawn white.
    """
    if distances is not None:
        low, high = distances
        image = (image.float() - low) / max(high - low, 1e-9)
    if image.dtype != torch.uint8:
        image = (image.float().nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
    return image[:3].expand(3, -1, -1).permute(1, 2, 0).contiguous()
