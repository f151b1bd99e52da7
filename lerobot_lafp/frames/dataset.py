"""``StoredDataset``: a LeRobotDataset whose batches are indexed at once, from tables in memory and frames in stores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import torch
from lerobot.datasets import LeRobotDataset
from lerobot.utils.constants import OBS_PREFIX
from torch import Tensor
from torch.utils.data._utils.collate import default_collate_fn_map

from .sources import CannotStoreError, numbers_of
from .store import Array, FrameStore, Index

#: Bytes a frame of which a column is no longer kept in memory.
WIDE = 2048


class Column(Protocol):
    """What a batch takes a feature from."""

    def take(self, frames: Index, rows: Index) -> Tensor | list[str]:
        """Its values at ``frames``, indices of the dataset, which are ``rows`` of its table; of the same shape."""


@dataclass(frozen=True)
class InMemory:
    """A column of the table, (rows, ..)."""

    values: Tensor

    def take(self, frames: Index, rows: Index) -> Tensor:
        return self.values[torch.from_numpy(rows)]


@dataclass(frozen=True)
class InFile:
    """A column of the table, (rows, ..), in a file that only this process and its workers have."""

    values: Array

    def take(self, frames: Index, rows: Index) -> Tensor:
        return torch.from_numpy(np.take(self.values, rows, axis=0))


@dataclass(frozen=True)
class Words:
    """A column of words, one a row."""

    values: Sequence[str]

    def take(self, frames: Index, rows: Index) -> list[str]:
        return [self.values[row] for row in rows]


@dataclass(frozen=True)
class OnDisk:
    """A column of a store.

    Attributes:
        store: The store.
        is_video: Of one frame LeRobot's reader gives a video without an axis of time.
    """

    store: FrameStore
    is_video: bool = False

    def take(self, frames: Index, rows: Index) -> Tensor:
        found = torch.from_numpy(self.store.rows(frames))
        return found.squeeze(1) if self.is_video and frames.ndim == 2 and frames.shape[1] == 1 else found


class Batch(dict[str, Any]):
    """A batch that needs no collating, and goes to a GPU while the next one is read."""

    def to(self, device: Any, non_blocking: bool = False) -> "Batch":
        """On ``device``; what LeRobot's loader has pinned is not waited for (accelerate asks a batch for this)."""
        return Batch(
            {
                key: x.to(device, non_blocking=non_blocking or x.is_pinned()) if isinstance(x, Tensor) else x
                for key, x in self.items()
            }
        )


def _as_it_is(batch: Sequence[Batch], *, collate_fn_map: Any = None) -> Batch:
    return batch[0]


default_collate_fn_map[Batch] = _as_it_is  # PyTorch's own way to teach its loaders a type


class StoredDataset(LeRobotDataset):
    """A LeRobotDataset that gives the batches that it always gave, sooner.

    A DataLoader asks for a whole batch (``__getitems__``). A sample that is asked for alone is read by LeRobot.
    Pictures are bytes, also where LeRobot's reader has them as fractions: ``lerobot-train`` divides them by 255 itself,
    after they are on the device.
    """

    columns: dict[str, Column]
    stores: dict[str, FrameStore]

    @classmethod
    def of(cls, dataset: LeRobotDataset, stores: Mapping[str, FrameStore], unread: Sequence[str]) -> Self:
        """``dataset`` with batches at once.

        Args:
            dataset: Loaded, and not changed.
            stores: Column -> its store.
            unread: Columns that are left out of batches, since nothing reads them.

        Raises:
            CannotStoreError: A column cannot be read in this way.
        """
        self = cls.__new__(cls)
        self.__dict__.update(dataset.__dict__)
        table = dataset.hf_dataset.data
        self.columns, self.stores = {}, dict(stores)
        for key, feature in dataset.meta.features.items():
            if key in stores:
                self.columns[key] = OnDisk(stores[key], feature["dtype"] == "video")
            elif key not in unread:
                self.columns[key] = _in_memory(key, feature, table.column(key))
        self._index = table.column("index").to_numpy().astype(np.int64)
        self._episode = table.column("episode_index").to_numpy().astype(np.int64)
        about = dataset.meta.episodes
        self._first, self._end = (np.asarray(about[f"dataset_{b}_index"], np.int64) for b in ("from", "to"))
        self._tasks = [str(task) for task in dataset.meta.tasks.index]
        self._task_of = table.column("task_index").to_numpy()
        return self

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        """The batch of samples ``indices`` of this dataset, which ``default_collate`` leaves as it is."""
        return [Batch(self.batch(np.asarray(indices, np.int64)))]

    def batch(self, rows: Index) -> dict[str, Any]:
        """What LeRobot's loader collates of the samples ``rows`` (B,)."""
        reader = self._ensure_reader()
        frames, places = self._index[rows], _Places(self, rows)
        batch: dict[str, Any] = {}
        for key, column in self.columns.items():
            deltas = (reader.delta_indices or {}).get(key)
            if deltas is None:
                batch[key] = column.take(frames, rows)
            else:
                wanted, where, batch[f"{key}_is_pad"] = places.at(deltas)
                batch[key] = column.take(wanted, where)
        if self.image_transforms is not None:
            self._transform(batch)
        batch["task"] = [self._tasks[task] for task in self._task_of[rows]]
        return batch

    def _transform(self, batch: dict[str, Any]) -> None:
        """Each sample's cameras by a draw of their own, in the order in which LeRobot's reader draws."""
        cameras = [key for key in self.meta.camera_keys if key in batch and key not in self.meta.depth_keys]
        found: dict[str, list[Tensor]] = {key: [] for key in cameras}
        for sample in range(len(batch["index"])):
            for key in cameras:
                x = batch[key][sample]
                x = x if key in self.meta.video_keys else x.float() / 255
                found[key].append(self.image_transforms(x))
        batch.update({key: torch.stack(samples) for key, samples in found.items()})

    def episodes_there(self) -> list[int]:
        """The episodes of this dataset, in the order of its table."""
        return list(dict.fromkeys(self._episode.tolist()))

    def episode_at(self, frame: int) -> int:
        """The episode of a frame of the dataset."""
        return int(np.searchsorted(self._end, frame, side="right"))

    def frames_of(self, episode: int, keys: Sequence[str], count: int) -> Iterator[dict[str, Any]]:
        """An episode's frames in order, ``count`` at a time: each of ``keys`` as (n, ..)."""
        rows = np.flatnonzero(self._episode == episode)
        for first in range(0, len(rows), count):
            some = rows[first : first + count]
            yield {key: self.columns[key].take(self._index[some], some) for key in keys}

    def load_observations(self, deltas: Sequence[int] | None) -> None:
        """Load these frames of each observation from now on, by their offsets; None: the present one."""
        reader = self._ensure_reader()
        others = {k: d for k, d in (reader.delta_indices or {}).items() if not k.startswith(OBS_PREFIX)}
        observed = {} if deltas is None else {k: list(deltas) for k in self.columns if k.startswith(OBS_PREFIX)}
        of_words = {k for k, column in self.columns.items() if isinstance(column, Words)}
        found = {key: each for key, each in {**others, **observed}.items() if key not in of_words}
        reader.delta_indices = found or None
        self.delta_timestamps = {k: [i / self.meta.fps for i in each] for k, each in found.items()} or None


def refuse_disorder(dataset: LeRobotDataset) -> None:
    """Refuse a table that does not hold all frames of each of its episodes, in order.

    Raises:
        CannotStoreError: It does not.
    """
    table, about = dataset.hf_dataset.data, dataset.meta.episodes
    index, episode = (table.column(name).to_numpy().astype(np.int64) for name in ("index", "episode_index"))
    first, end = (np.asarray(about[f"dataset_{bound}_index"], np.int64) for bound in ("from", "to"))
    changes = np.flatnonzero(np.diff(episode)) + 1
    starts, stops = np.concatenate([[0], changes]), np.concatenate([changes, [len(episode)]])
    own = episode[starts]
    lengths = stops - starts
    sound = len(np.unique(own)) == len(own) and own.max() < len(first)
    sound = sound and bool((lengths == (end - first)[own]).all())
    if not (sound and (index == _counted(first[own], lengths)).all()):
        raise CannotStoreError("its tables do not hold the frames of its episodes in order; `lafp check` says where")


def _counted(first: Index, lengths: Index) -> Index:
    """``first[i]``, ``first[i] + 1``, .. ``lengths[i]`` of them, one after the other."""
    return np.arange(lengths.sum()) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)


class _Places:
    """Where the frames around some samples are, worked out once for all columns with the same offsets."""

    def __init__(self, dataset: StoredDataset, rows: Index) -> None:
        self.rows, self.frames = rows, dataset._index[rows]
        episode = dataset._episode[rows]
        self.first, self.last = dataset._first[episode][:, None], dataset._end[episode][:, None] - 1
        self.known: dict[tuple[int, ...], tuple[Index, Index, Tensor]] = {}

    def at(self, deltas: Sequence[int]) -> tuple[Index, Index, Tensor]:
        """Frames and rows (B, T), held at the ends of the episode, and (B, T), true beyond them."""
        key = tuple(deltas)
        if key not in self.known:
            wanted = self.frames[:, None] + np.array(key, np.int64)
            held = np.clip(wanted, self.first, self.last)
            pad = torch.from_numpy(wanted != held)
            self.known[key] = held, self.rows[:, None] + (held - self.frames[:, None]), pad
        frames, rows, pad = self.known[key]
        return frames, rows, pad.clone()


def _in_memory(key: str, feature: Mapping[str, Any], column: pa.ChunkedArray) -> Column:
    """A column as LeRobot's reader gives it: of numbers, or of words."""
    if str(feature["dtype"]) != "string":
        return InMemory(torch.from_numpy(numbers_of(key, feature, column)))
    if column.null_count:
        raise CannotStoreError(f"`{key}` is missing in some frames")
    return Words(column.to_pylist())
