"""``JoinedDataset``: a dataset of video and one that has the actions (``--policy.labels.*``), mixed in every batch."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import datasets
import numpy as np
import torch
from lerobot.datasets import LeRobotDataset
from lerobot.utils.constants import ACTION, DEFAULT_FEATURES
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from ..options.constants import FROM_LABELS
from ..options.features import camera_shape
from ..training.joined import Fit, JoinedMetadata
from .dataset import Batch, StoredDataset
from .sources import kind_of, resized
from .store import Index


class JoinedDataset(torch.utils.data.Dataset[Any]):
    """The frames of a video dataset and, after them, those of a labels dataset; each is as likely to be drawn.

    A sample of the video has an ``action`` of zeros, all of it marked as padding: whether that dataset has actions of
    its own is never looked at.

    Args:
        video: What the policy learns to do as.
        labels: What has the actions, loaded with the same frames around each sample.
        fit: How they go together.
        size: (height, width) that the policy resizes cameras to; unset: as they are, all of one size.
    """

    def __init__(
        self, video: LeRobotDataset, labels: LeRobotDataset, fit: Fit, size: tuple[int, int] | None = None
    ) -> None:
        self.video, self.labels, self.fit, self.size = video, labels, fit, size
        (first, end), (later, last) = _rows(video), _rows(labels)
        shift = len(video)
        self.meta = JoinedMetadata(video.meta, labels.meta, fit, [*first, *(shift + later)], [*end, *(shift + last)])
        self._keys = [*fit.observations, *DEFAULT_FEATURES]
        # LeRobot's sampler goes by the episodes in ``meta``, all of which are loaded.
        self.episodes = self.absolute_to_relative_idx = None

    def unread(self, of: LeRobotDataset) -> list[str]:
        """Columns of one of the two that nothing reads: actions of the video, and what the other does not have."""
        read = {*self._keys, *([ACTION] if of is self.labels else [])}
        return [key for key in of.meta.features if key not in read]

    @property
    def num_frames(self) -> int:
        return len(self)

    @property
    def num_episodes(self) -> int:
        return len(self.meta.episodes["dataset_from_index"])

    @cached_property
    def hf_dataset(self) -> datasets.Dataset:
        """The one column that LeRobot asks for, where it cuts an evaluation short: the task of each frame."""
        tasks = [each.hf_dataset.data.column("task_index").to_numpy() for each in (self.video, self.labels)]
        tasks[1] = tasks[1] + len(self.video.meta.tasks)
        return datasets.Dataset.from_dict({"task_index": np.concatenate(tasks)})

    def __len__(self) -> int:
        return len(self.video) + len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        of_labels = index >= len(self.video)
        sample = self.labels[index - len(self.video)] if of_labels else self.video[index]
        found = self._in_common(sample, of_labels)
        found[FROM_LABELS] = torch.tensor(of_labels)
        return found

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The batch of samples ``indices``, from memory and frame stores where both datasets have them."""
        if not isinstance(self.video, StoredDataset) or not isinstance(self.labels, StoredDataset):
            return [self[index] for index in indices]
        rows = np.asarray(indices, np.int64)
        of_labels = rows >= len(self.video)
        halves = [
            self._in_common(dataset.batch(rows[mine] - start), bool(start))
            for dataset, mine, start in ((self.video, ~of_labels, 0), (self.labels, of_labels, len(self.video)))
            if mine.any()
        ]
        batch = halves[0] if len(halves) == 1 else _mixed(halves[0], halves[1], of_labels)
        batch[FROM_LABELS] = torch.from_numpy(of_labels)
        return [Batch(batch)]

    def _in_common(self, found: dict[str, Any], of_labels: bool) -> dict[str, Any]:
        """A sample or a batch of one of the two, as the other has them: the same columns, order, size and type."""
        out: dict[str, Any] = {"task": found["task"]}
        for key in self._keys:
            if key in found:
                out[key] = self._alike(key, found[key], of_labels)
            if (pad := f"{key}_is_pad") in found:
                out[pad] = found[pad]
        several = () if isinstance(found["task"], str) else (len(found["task"]),)
        out[ACTION], out[f"{ACTION}_is_pad"] = (
            (found[ACTION], found[f"{ACTION}_is_pad"]) if of_labels else self._no_action(several)
        )
        return out

    def _alike(self, key: str, x: Tensor, of_labels: bool) -> Tensor:
        if of_labels and key in self.fit.order:
            x = x[..., self.fit.order[key]]
        one, other = self.video.meta.features[key], self.labels.meta.features[key]
        if one["dtype"] not in ("image", "video"):
            return x if one["dtype"] == other["dtype"] else x.float()
        if one["dtype"] != other["dtype"] and x.dtype == torch.uint8 and not self._all_bytes:
            x = x / 255
        differ = camera_shape(one) != camera_shape(other)
        return x if self.size is None or not differ else _of_size(x, self.size)

    @property
    def _all_bytes(self) -> bool:
        """Whether pictures are bytes, those of video and those in tables alike."""
        return all(
            isinstance(each, StoredDataset) and each.image_transforms is None for each in (self.video, self.labels)
        )

    def _no_action(self, several: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """An action of zeros that is not there, and the mark that it is not."""
        feature = self.labels.meta.features[ACTION]
        count = len((self.labels._ensure_reader().delta_indices or {})[ACTION])
        shape = () if tuple(feature["shape"]) == (1,) else tuple(feature["shape"])
        nothing = torch.from_numpy(np.zeros((*several, count, *shape), kind_of(ACTION, feature)))
        return nothing, torch.ones(*several, count, dtype=torch.bool)


def without_actions(dataset: LeRobotDataset) -> LeRobotDataset:
    """``dataset``, of whose actions nothing is known any more: their names, width and statistics included."""
    dataset.meta.info.features.pop(ACTION, None)
    dataset.meta.stats = {key: each for key, each in (dataset.meta.stats or {}).items() if key != ACTION}
    return dataset


def _rows(dataset: LeRobotDataset) -> tuple[Index, Index]:
    """First row of each episode that is loaded, in the order of the table, and one past its last."""
    episode = dataset.hf_dataset.data.column("episode_index").to_numpy()
    borders = np.flatnonzero(np.diff(episode)) + 1
    return np.concatenate([[0], borders]).astype(np.int64), np.concatenate([borders, [len(episode)]]).astype(np.int64)


def _mixed(video: dict[str, Any], labels: dict[str, Any], of_labels: np.ndarray) -> dict[str, Any]:
    """Samples of both in the order in which they were drawn; ``of_labels`` (B,) says whose each is."""
    mine = torch.from_numpy(of_labels)
    batch: dict[str, Any] = {}
    for key, x in video.items():
        y = labels[key]
        if isinstance(x, Tensor):
            batch[key] = x.new_empty(len(mine), *x.shape[1:], dtype=torch.promote_types(x.dtype, y.dtype))
            batch[key][~mine], batch[key][mine] = x.to(batch[key].dtype), y.to(batch[key].dtype)
        else:
            draw = {False: iter(x), True: iter(y)}
            batch[key] = [next(draw[bool(each)]) for each in of_labels]
    return batch


def _of_size(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (.., C, H, W) of this size, bytes rounded to bytes."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    frames = x.reshape(-1, *x.shape[-3:])
    frames = resized(frames, size) if x.dtype == torch.uint8 else TF.resize(frames, list(size), antialias=True)
    return frames.reshape(*x.shape[:-2], *size)
