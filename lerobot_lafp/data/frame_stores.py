"""``lafp store``: the frame stores on this machine, listed, built and removed."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..configuration_lafp import LAFPConfig
from ..errors import UserError
from ..frames.building import room_bytes
from ..frames.dataset import StoredDataset
from ..frames.serving import with_frame_store
from ..frames.store import FrameStore, bytes_on_disk, store_root, stores
from ..training.choices import choose
from .opening import load_dataset
from .policies import load_policy


def overview(repo_id: str | None = None, root: Path | None = None) -> Iterator[str]:
    """A line for each store, and what they take together.

    Args:
        repo_id: The dataset's name; unset: of all.
        root: Its folder; unset: any.
    """
    found = _chosen(repo_id, root)
    for store in found:
        yield _line(store)
    if not found:
        yield "No frame stores." if repo_id is None else f"No frame stores of {repo_id}."
    yield f"{_gb(bytes_on_disk(store_root()))} of {_gb(room_bytes(None))} in {store_root()}"


def build(
    repo_id: str | None, root: Path | None, checkpoint: str | None, resize_shape: str | None, room: str
) -> Iterator[str]:
    """Build the stores of a dataset; a line for each.

    Args:
        repo_id: The dataset's name.
        root: Its folder; unset: LeRobot's cache, or the Hub.
        checkpoint: Whose cameras and size; unset: all cameras.
        resize_shape: ``[height,width]``; unset: the checkpoint's, or as they are.
        room: As ``--policy.frame_store``.

    Raises:
        UserError: There is none to build, or no room.
        ValueError: The dataset cannot be read, or an option.
    """
    if repo_id is None:
        raise UserError("lafp store build needs a dataset: add --dataset.repo_id=NAME.")
    if room == "off":
        raise UserError("--policy.frame_store=off makes no store. Leave it out, or say how many GB stores may take.")
    config = LAFPConfig(device="cpu", push_to_hub=False) if checkpoint is None else load_policy(checkpoint).config
    config = config.but(frame_store=room, **({} if resize_shape is None else {"resize_shape": _size(resize_shape)}))
    dataset = load_dataset(config, repo_id, root, lambda meta: None)
    choose(config, dataset.meta)  # the size in which a new policy sees its cameras
    stored = with_frame_store(dataset, config, required=True)
    assert isinstance(stored, StoredDataset)
    if not stored.stores:
        yield f"{repo_id} has no camera: its tables stay in memory, and need no store."
    for store in stored.stores.values():
        yield _line(store)


def remove(repo_id: str | None, root: Path | None, every: bool) -> Iterator[str]:
    """Remove the stores of a dataset; a line for each.

    Args:
        repo_id: The dataset's name; unset: of all, if ``every``.
        root: Its folder; unset: any.
        every: Whether all may go.

    Raises:
        UserError: Neither a dataset is named nor all are meant.
    """
    if repo_id is None and root is None and not every:
        raise UserError("lafp store remove needs to know which: add --dataset.repo_id=NAME, or --all.")
    found = _chosen(repo_id, root)
    if not found:
        yield "No frame stores to remove."
    for store in found:
        line = _line(store)
        store.remove()
        yield f"removed: {line}"


def _chosen(repo_id: str | None, root: Path | None) -> list[FrameStore]:
    place = None if root is None else str(root.resolve())
    return [each for each in stores() if repo_id in (None, each.record.repo_id) and place in (None, each.record.root)]


def _line(store: FrameStore) -> str:
    record = store.record
    there = int(np.count_nonzero(store.signatures()))
    size = "x".join(map(str, record.shape[-2:] if len(record.shape) == 3 else record.shape))
    part = "" if there == store.episodes else f", {there} of {store.episodes} episodes"
    gone = "" if Path(record.root).is_dir() else ", whose dataset is gone"
    return f"{_gb(bytes_on_disk(store.folder)):>8}  {record.repo_id}  {record.key}  {size}{part}{gone}"


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(n) for n in json.loads(text))
    except (ValueError, TypeError) as error:
        raise UserError(f"--policy.resize_shape={text} is not [height,width], such as [96,128].") from error
    return height, width


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
