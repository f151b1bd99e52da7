"""Filling a store: the episodes that are not there yet, by several processes, within the room that it may take."""

import errno
import os
import shutil
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from .sources import CannotStoreError, Source
from .store import FrameStore, bytes_on_disk, store_root, stores

#: Of the disk that is free, stores may take this share ..
SHARE = 0.2
#: .. and no more than this.
MOST_GB = 100.0
#: Bytes for which other processes are not worth starting.
FEW_BYTES = 32 << 20
#: What says that there is no room.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def room_bytes(gigabytes: float | None) -> int:
    """Bytes that all stores together may take; ``gigabytes`` unset: a fifth of what is free, at most 100 GB."""
    if gigabytes is not None:
        return int(gigabytes * 1e9)
    root = store_root()
    existing = next(folder for folder in (root, *root.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free + bytes_on_disk(root)
    return int(min(MOST_GB * 1e9, SHARE * free))


def fill(source: Source, episodes: Sequence[int], gigabytes: float | None) -> FrameStore:
    """A store that has the frames of ``episodes``.

    Args:
        source: What is stored.
        episodes: Those that are needed.
        gigabytes: What all stores together may take; unset: see ``room_bytes``.

    Raises:
        CannotStoreError: There is no room, or the frames cannot be stored.
        ValueError: The dataset is not whole; the message names the mend.
    """
    store = FrameStore(source.record)
    wanted = {episode: source.signature(episode) for episode in episodes}

    def missing() -> list[int]:
        there = store.signatures()
        return [episode for episode, signature in wanted.items() if int(there[episode]) != signature]

    if not missing():
        return store
    try:
        with store.building():
            if todo := missing():  # another process may have built it meanwhile
                _remove_older(store)
                _check_room(store, todo, gigabytes)
                _fill(store, source, {episode: wanted[episode] for episode in todo})
    except OSError as error:
        if error.errno in _FULL:
            store.remove()
            raise CannotStoreError(f"the disk of {store_root()} is full") from error
        raise CannotStoreError(f"{store.folder} cannot be written ({error.strerror or error})") from error
    return store


def _remove_older(store: FrameStore) -> None:
    """Remove what is of the same column, before episodes were added to its dataset or deleted."""
    own = store.record
    for other in stores():
        same = (other.record.root, other.record.key) == (own.root, own.key)
        if same and other.record.bounds != own.bounds:
            other.remove()


def _check_room(store: FrameStore, episodes: Sequence[int], gigabytes: float | None) -> None:
    need, room = store.bytes_of(episodes), room_bytes(gigabytes)
    used = bytes_on_disk(store_root())
    if used + need > room:
        if not store.signatures().any():
            store.remove()
        raise CannotStoreError(
            f"`{store.record.key}` takes {_gb(need)}, and of {_gb(room)} for frame stores {_gb(used)} are taken. Give "
            f"more (--policy.frame_store={(used + need) * 1.01 / 1e9:.2g}, in GB), or remove what is not needed "
            "(lafp store)"
        )


def _gb(count: int) -> str:
    return f"{count / 1e9:.3g} GB"


class _Episodes(Dataset[tuple[int, BaseException | None]]):
    """Storing an episode, as a sample of a DataLoader: how many frames, or what went wrong."""

    def __init__(self, store: FrameStore, source: Source, signatures: dict[int, int]) -> None:
        self.store, self.source, self.todo = store, source, list(signatures.items())

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, place: int) -> tuple[int, BaseException | None]:
        episode, signature = self.todo[place]
        try:
            frames = self.source.read(episode)
            self.store.write(episode, frames, signature)
        except Exception as error:  # a DataLoader would hand on its text alone
            return 0, error.with_traceback(None)
        return len(frames), None


def _fill(store: FrameStore, source: Source, signatures: dict[int, int]) -> None:
    episodes = list(signatures)
    store.reserve(episodes)
    total = store.bytes_of(episodes)
    several = min(os.cpu_count() or 1, len(episodes)) if total > FEW_BYTES else 1
    loader: DataLoader[Any] = DataLoader(
        _Episodes(store, source, signatures),
        batch_size=None,
        num_workers=several if several > 1 else 0,
        generator=torch.Generator(),  # or it would draw from the one that the policy's weights are drawn from
    )
    frames = total // store.record.frame_bytes
    with tqdm(total=frames, desc=f"frame store: {source.key}", unit="frame") as bar:
        for count, error in loader:
            if error is not None:
                raise error
            bar.update(int(count))
