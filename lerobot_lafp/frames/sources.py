"""Where a column's frames come from: an episode at a time, in order, to the bit what LeRobot's reader gives."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from lerobot.configs import DEPTH_METER_UNIT
from lerobot.datasets import LeRobotDataset
from lerobot.datasets.depth_utils import MM_PER_METRE, dequantize_depth
from lerobot.datasets.io_utils import pil_to_chw_tensor
from lerobot.datasets.video_utils import VideoDecoderCache, decode_video_frames, decode_video_frames_torchcodec
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from ..options.features import camera_shape, is_depth
from ..training.measuring import numbers
from .store import Array, Record

#: Modes of PIL with eight bits a channel; LeRobot divides these, and no others, by 255.
EIGHT_BITS = {"L", "P", "RGB", "RGBA", "LA", "YCbCr", "CMYK", "HSV"}
#: Bytes of frames that are decoded at a time.
BLOCK_BYTES = 64 << 20


class CannotStoreError(Exception):
    """A column that is left to LeRobot's loader; the message says why."""


class Source(ABC):
    """A column of a dataset, as it is stored.

    Args:
        dataset: Whose it is.
        key: Its name.
        shape: Of a frame as it is stored.
        dtype: As numpy names it.
        made_by: What else decides on the numbers.
    """

    def __init__(
        self, dataset: LeRobotDataset, key: str, shape: tuple[int, ...], dtype: str, made_by: str = ""
    ) -> None:
        self.dataset, self.key = dataset, key
        starts, ends = dataset.meta.episodes["dataset_from_index"], dataset.meta.episodes["dataset_to_index"]
        bounds = [*map(int, starts), int(ends[-1])]
        if bounds[1:] != list(map(int, ends)) or bounds[0] != 0:
            raise CannotStoreError("its episodes do not follow one another without a gap")
        root = str(Path(dataset.meta.root).resolve())
        self.record = Record(dataset.repo_id, root, key, tuple(shape), dtype, tuple(bounds), made_by)

    @abstractmethod
    def signature(self, episode: int) -> int:
        """A number, not 0, that changes when the frames of an episode do."""

    @abstractmethod
    def read(self, episode: int) -> Array:
        """All frames of an episode, (n, *shape).

        Raises:
            ValueError: They are not as the dataset says; the message names the mend.
            CannotStoreError: They cannot be stored as they are.
        """

    def _rows(self, episode: int) -> slice:
        """Where the episode's rows are in the dataset's table."""
        first, end = self.record.bounds[episode], self.record.bounds[episode + 1]
        relative = self.dataset.absolute_to_relative_idx
        if relative is not None:
            first, end = relative[first], relative[end - 1] + 1
        return slice(first, end)

    def _column(self, name: str, episode: int) -> pa.ChunkedArray:
        rows = self._rows(episode)
        return self.dataset.hf_dataset.data.column(name).slice(rows.start, rows.stop - rows.start)


def _digest(*parts: bytes) -> int:
    found = hashlib.sha256(b"\0".join(parts)).digest()
    return int.from_bytes(found[:8], "little") or 1


def _stat(path: Path) -> bytes:
    """What tells a file from the one that it was."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). Download the dataset again.") from error
    return f"{found.st_size} {found.st_mtime_ns}".encode()


class _TableSource(Source):
    """A column of the dataset's own tables."""

    def signature(self, episode: int) -> int:
        meta = self.dataset.meta
        file = meta.get_data_file_path(episode)
        return _digest(str(file).encode(), _stat(Path(meta.root) / file))


class WideSource(_TableSource):
    """Many numbers a frame, such as the features of a ViT."""

    def __init__(self, dataset: LeRobotDataset, key: str) -> None:
        self.feature = dataset.meta.features[key]
        super().__init__(dataset, key, tuple(self.feature["shape"]), kind_of(key, self.feature))

    def read(self, episode: int) -> Array:
        return numbers_of(self.key, self.feature, self._column(self.key, episode))


def kind_of(key: str, feature: Mapping[str, Any]) -> str:
    """The type in which LeRobot's reader gives a column of numbers: 32-bit floats, 64-bit integers or booleans.

    Raises:
        CannotStoreError: It holds no numbers.
    """
    dtype = str(feature["dtype"])
    for begins, kind in (("float", "float32"), (("int", "uint"), "int64"), ("bool", "bool")):
        if dtype.startswith(begins):
            return kind
    raise CannotStoreError(f"`{key}` ({dtype}) is of another kind than this reads")


def numbers_of(key: str, feature: Mapping[str, Any], column: pa.ChunkedArray) -> Array:
    """A column of a table as LeRobot's reader gives it, (rows, *shape); of one number, (rows,).

    Raises:
        CannotStoreError: It is not as its feature says.
    """
    kind, shape = kind_of(key, feature), tuple(feature["shape"])
    values = None if column.null_count else numbers(column, len(column))
    if values is None or values.shape[1] != np.prod(shape, dtype=np.int64):
        raise CannotStoreError(f"`{key}` is missing in some frames, or is of another size than the dataset says")
    found: Array = values.astype(kind)
    return found.reshape(len(found), *(() if shape == (1,) else shape))


class ImageSource(_TableSource):
    """Pictures in the dataset's tables.

    Args:
        dataset: Whose they are.
        key: The camera.
        size: (height, width) that they are stored at; unset: as they are.
    """

    def __init__(self, dataset: LeRobotDataset, key: str, size: tuple[int, int] | None) -> None:
        feature = dataset.meta.features[key]
        self.depth, self.size = is_depth(feature), size
        self.units = (feature.get("info") or {}).get("depth_unit"), dataset.depth_output_unit
        made_by = f"depth in {dataset.depth_output_unit}" if self.depth else ""
        super().__init__(dataset, key, _stored_shape(feature, size), "float32" if self.depth else "uint8", made_by)
        self.decoder = datasets.Image()

    def read(self, episode: int) -> Array:
        frames = []
        for cell in self._column(self.key, episode).to_pylist():
            image = self.decoder.decode_example(cell)
            if self.depth:
                frames.append(self._in_unit(pil_to_chw_tensor(image)))
            elif image.mode not in EIGHT_BITS:
                raise CannotStoreError(f"the pictures of `{self.key}` have more than eight bits ({image.mode})")
            else:
                picture = torch.from_numpy(np.array(image, np.uint8))
                frames.append(picture.reshape(*picture.shape[:2], -1).permute(2, 0, 1))
            _check_size(frames[-1], self, episode)
        if self.size is not None:
            frames = [resized(frame.unsqueeze(0), self.size)[0] for frame in frames]
        return torch.stack(frames).numpy()

    def _in_unit(self, x: Tensor) -> Tensor:
        stored, wanted = self.units
        if stored is None or stored == wanted:
            return x
        return x * MM_PER_METRE if stored == DEPTH_METER_UNIT else x / MM_PER_METRE


class VideoSource(Source):
    """Frames of videos, decoded by LeRobot's own decoder.

    Args:
        dataset: Whose they are.
        key: The camera.
        size: (height, width) that they are stored at; unset: as they are.
    """

    def __init__(self, dataset: LeRobotDataset, key: str, size: tuple[int, int] | None) -> None:
        feature, reader = dataset.meta.features[key], dataset.reader
        self.depth, self.size = is_depth(feature), size
        self.backend = "pyav" if self.depth or reader._video_backend == "video_reader" else reader._video_backend
        self.tolerance_s, self.unit = reader._tolerance_s, reader._depth_output_unit
        self.encoder = reader._depth_encoder_configs.get(key)
        made_by = f"{self.backend}, depth in {self.unit}" if self.depth else self.backend
        super().__init__(dataset, key, _stored_shape(feature, size), "float32" if self.depth else "uint8", made_by)

    def signature(self, episode: int) -> int:
        file, times = self._file(episode), np.array(self._times(episode))
        return _digest(str(file).encode(), _stat(Path(self.dataset.meta.root) / file), times.tobytes())

    def read(self, episode: int) -> Array:
        file, times = Path(self.dataset.meta.root) / self._file(episode), self._times(episode)
        height, width = camera_shape(self.dataset.meta.features[self.key])[-2:]
        count = max(8, BLOCK_BYTES // (height * width * 3))
        frames = []
        for first in range(0, len(times), count):
            try:
                block = self._decode(file, times[first : first + count])
            except Exception as error:  # of the decoder's own kinds, for which LeRobot has no common base
                raise ValueError(
                    f"The video of `{self.key}` in episode {episode} ({file}) does not have all {len(times)} frames "
                    f"of its table: {_first_line(error)} `lafp check {self.dataset.meta.root}` says where. Record the "
                    "episode again, or train without it (--dataset.episodes)."
                ) from error
            _check_size(block[0], self, episode)
            frames.append(block if self.size is None else resized(block, self.size))
        return torch.cat(frames).numpy()

    def _file(self, episode: int) -> Path:
        return Path(self.dataset.meta.get_video_file_path(episode, self.key))

    def _times(self, episode: int) -> list[float]:
        """Seconds in the video's file, as LeRobot's reader works them out."""
        start = self.dataset.meta.episodes[episode][f"videos/{self.key}/from_timestamp"]
        column = self._column("timestamp", episode).to_numpy()
        return [start + time for time in torch.from_numpy(column.astype(np.float32)).tolist()]

    def _decode(self, file: Path, times: list[float]) -> Tensor:
        if self.backend == "torchcodec":
            return decode_video_frames_torchcodec(
                file, times, self.tolerance_s, decoder_cache=_decoders(), return_uint8=True
            )
        found = decode_video_frames(file, times, self.tolerance_s, self.backend, not self.depth, self.depth)
        if self.encoder is None or not self.depth:
            return found
        code = self.encoder
        return dequantize_depth(
            found,
            depth_min=code.depth_min,
            depth_max=code.depth_max,
            shift=code.shift,
            use_log=code.use_log,
            output_unit=self.unit,
        )


_DECODERS: dict[int, VideoDecoderCache] = {}


def _decoders() -> VideoDecoderCache:
    """Open decoders of this process; one that was forked must not use those of its parent."""
    return _DECODERS.setdefault(os.getpid(), VideoDecoderCache(max_size=2))


def _stored_shape(feature: dict[str, Any], size: tuple[int, int] | None) -> tuple[int, ...]:
    channels, *own = camera_shape(feature)
    return channels, *(own if size is None else size)


def resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames (n, C, H, W) as the policy resizes them (`observation/normalizer.py`), rounded to whole levels."""
    parts = (TF.resize(part / 255, list(size), antialias=True) for part in frames.split(8))
    return torch.cat([part.mul(255).round().clamp(0, 255).to(torch.uint8) for part in parts])


def _check_size(frame: Tensor, source: Source, episode: int) -> None:
    """Refuse frames of another size than the dataset says, which LeRobot cannot put into one batch."""
    expected = camera_shape(source.dataset.meta.features[source.key])
    if tuple(frame.shape) != expected:
        _, height, width = expected
        raise ValueError(
            f"`{source.key}` has frames of {tuple(frame.shape)} (channels, height, width) in episode {episode}, and "
            f"the dataset says {expected}. Encode that episode again at {width}x{height} pixels, or train without it "
            "(--dataset.episodes)."
        )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{text[0] if text else type(error).__name__}".rstrip(".") + "."


def source_of(dataset: LeRobotDataset, key: str, size: tuple[int, int] | None) -> Source:
    """The source of a camera or of another column of many numbers.

    Args:
        dataset: Whose it is.
        key: Its name.
        size: (height, width) that the policy resizes cameras to; unset: as they are.

    Raises:
        CannotStoreError: It cannot be stored.
    """
    feature = dataset.meta.features[key]
    if feature["dtype"] not in ("image", "video"):
        return WideSource(dataset, key)
    _, height, width = camera_shape(feature)
    shrinks = size is not None and not is_depth(feature) and size[0] * size[1] < height * width
    kind = VideoSource if feature["dtype"] == "video" else ImageSource
    return kind(dataset, key, size if shrinks else None)
