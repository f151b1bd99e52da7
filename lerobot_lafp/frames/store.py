"""One column of a dataset as an array on disk: a camera's frames, decoded and of the size that the policy sees.

A folder holds ``record.json``, what it is of; ``frames``, an array (N, ..) that is read through a memory map; and
``episodes``, for each episode the signature of what its frames were made of, written after them. An episode that was
not finished, or whose source changed, has another signature and is made anew: a store may be killed at any moment, and
is never read stale.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from lerobot.utils.constants import HF_LEROBOT_HOME
from numpy.typing import NDArray

#: Changes when frames of the same dataset are stored otherwise; older stores are then not read.
FORMAT = 1
Index = NDArray[np.int64]
Array = NDArray[Any]


def store_root() -> Path:
    """Where all stores lie: beside LeRobot's datasets (``HF_LEROBOT_HOME``)."""
    return HF_LEROBOT_HOME / "frame_store"


@dataclass(frozen=True)
class Record:
    """What a store is of.

    Attributes:
        repo_id: The dataset's name.
        root: Its folder.
        key: The column.
        shape: Of one frame.
        dtype: As numpy names it.
        bounds: First frame of each episode, and one past the last frame of all.
        made_by: What else decides on the numbers, such as the decoder.
        format: ``FORMAT``.
    """

    repo_id: str
    root: str
    key: str
    shape: tuple[int, ...]
    dtype: str
    bounds: tuple[int, ...]
    made_by: str = ""
    format: int = FORMAT

    @property
    def frame_bytes(self) -> int:
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))

    @property
    def folder(self) -> Path:
        """Where it lies: its name says of what, and ends in a digest of all that it is."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        size = "x".join(map(str, self.shape))
        name = f"{self.repo_id.replace('/', '--')}--{self.key}--{size}--{digest}"
        return store_root() / "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


class FrameStore:
    """The store of ``record``, whether or not it is there yet.

    Args:
        record: What it is of.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.folder = record.folder
        self._map: np.memmap[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}  # a worker maps the file anew

    @property
    def episodes(self) -> int:
        return len(self.record.bounds) - 1

    def bytes_of(self, episodes: Sequence[int]) -> int:
        """What the frames of some episodes take."""
        bounds = self.record.bounds
        return sum(bounds[e + 1] - bounds[e] for e in episodes) * self.record.frame_bytes

    def signatures(self) -> NDArray[np.uint64]:
        """For each episode, (episodes,), of what its frames were made; 0: they are not here."""
        try:
            found = np.fromfile(self.folder / "episodes", dtype=np.uint64)
        except OSError:
            return np.zeros(self.episodes, np.uint64)
        return found if len(found) == self.episodes else np.zeros(self.episodes, np.uint64)

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Alone in this folder, which is there now; waits while another process is building it.

        Raises:
            OSError: It cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            if not (self.folder / "record.json").is_file():
                (self.folder / "record.new").write_text(json.dumps(asdict(self.record)))
                os.replace(self.folder / "record.new", self.folder / "record.json")
            sizes = {"frames": self.record.bounds[-1] * self.record.frame_bytes, "episodes": 8 * self.episodes}
            for name, size in sizes.items():
                with (self.folder / name).open("ab") as file:
                    if file.tell() != size:
                        file.truncate(size)
            yield

    def reserve(self, episodes: Sequence[int]) -> None:
        """Take the room on disk that the frames of some episodes need.

        Raises:
            OSError: There is not that much.
        """
        if not hasattr(os, "posix_fallocate"):  # macOS: the disk is full when it is
            return
        file = os.open(self.folder / "frames", os.O_WRONLY)
        try:
            for episode in episodes:
                first, size = self.record.bounds[episode], self.bytes_of([episode])
                if size:
                    os.posix_fallocate(file, first * self.record.frame_bytes, size)
        finally:
            os.close(file)

    def write(self, episode: int, frames: Array, signature: int) -> None:
        """Store the frames of an episode, and then say so.

        Raises:
            OSError: The disk is full.
        """
        data = memoryview(np.ascontiguousarray(frames, dtype=self.record.dtype).reshape(-1)).cast("B")
        assert len(data) == self.bytes_of([episode])
        file = os.open(self.folder / "frames", os.O_WRONLY)
        try:
            _write_at(file, data, self.record.bounds[episode] * self.record.frame_bytes)
            os.fsync(file)  # before the mark, so that a mark is true even after a power cut
        finally:
            os.close(file)
        mark = os.open(self.folder / "episodes", os.O_WRONLY)
        try:
            _write_at(mark, memoryview(np.array([signature], np.uint64)).cast("B"), 8 * episode)
        finally:
            os.close(mark)

    def rows(self, frames: Index) -> Array:
        """The frames of any index (..,), as (.., *shape); a copy."""
        if self._map is None:
            shape = (self.record.bounds[-1], *self.record.shape)
            self._map = np.memmap(self.folder / "frames", self.record.dtype, "r", shape=shape)
        found: Array = np.take(self._map, frames, axis=0)
        return found

    def remove(self) -> None:
        """Delete it; a training that reads it goes on."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _write_at(file: int, data: memoryview, place: int) -> None:
    while data:
        done = os.pwrite(file, data, place)
        data, place = data[done:], place + done


def stores() -> list[FrameStore]:
    """All stores that there are; of other formats none."""
    found = []
    for file in sorted(store_root().glob("*/record.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            saved = json.loads(file.read_text())
            record = Record(**{**saved, "shape": tuple(saved["shape"]), "bounds": tuple(saved["bounds"])})
            if record.format == FORMAT and record.folder == file.parent:
                found.append(FrameStore(record))
    return found


def bytes_on_disk(folder: Path) -> int:
    """What the files below a folder take on disk; what was never written takes nothing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_blocks * 512
    return total
