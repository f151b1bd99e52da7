"""Frames of a video file: decoded by PyAV, shown as a player does, at one rate and one size, whatever the file has."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""

#: What a folder is searched for.
SUFFIXES = frozenset(
    {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)

#: A pixel more times as wide as it is high than this, or as high as it is wide, is taken for a mistake in the file.
WIDEST_PIXEL = 10


class UnreadableVideoError(ValueError):
    """A file that is no video, is damaged, or ends before it says it does."""


@dataclass(frozen=True)
class Framing:
    """How frames leave an import.

    Attributes:
        fps: Frames a second.
        height: Pixels.
        width: Pixels.
        fit: What becomes of another aspect: ``pad`` with black, or ``crop`` what is beyond the centre.
    """

    fps: int
    height: int
    width: int
    fit: Literal["pad", "crop"] = "pad"

    def __post_init__(self) -> None:
        if self.fps < 1:
            raise ValueError(f"`fps` must be at least 1, got {self.fps}.")
        for name, value in (("height", self.height), ("width", self.width)):
            if value < 2 or value % 2:
                raise ValueError(f"The {name} must be an even number of pixels, as video codecs want it, got {value}.")


def read_images(file: Path, framing: Framing, start: float = 0.0, end: float | None = None) -> Iterator[Image]:
    """Frames of ``file`` as ``framing`` wants them, in order; turned, flipped and stretched as the file says.

    Args:
        file: Anything that FFmpeg reads.
        framing: Rate and size.
        start: Seconds from the beginning of the file; its first frame comes first.
        end: Seconds; frames from there on are left out. Unset: to the end.

    Raises:
        UnreadableVideoError: As its name says; perhaps only after some frames.
    """
    for picture in at_rate(_decode(file, start, end), framing.fps):
        yield fitted(*_upright(picture), framing)


def at_rate(frames: Iterable[tuple[float, Any]], fps: int) -> Iterator[Any]:
    """Of ``frames`` (seconds, frame) in order of time, the nearest to each of 0, 1/fps, 2/fps .. up to the last one's.

    Seconds count from the first frame. Of a rate that varies, too; a slower one repeats frames.
    """
    count, first, before = 0, 0.0, None
    for seconds, frame in frames:
        if before is None:
            first = seconds
        else:
            middle = (before[0] + seconds - first) / 2
            while count / fps <= middle + 1e-6:
                yield before[1]
                count += 1
        before = (seconds - first, frame)
    if before is not None:
        while count / fps <= before[0] + 1e-6:
            yield before[1]
            count += 1


def fitted(image: Image, pixel_aspect: float, framing: Framing) -> Image:
    """``image`` at the size wanted, its aspect kept: padded with black, or cropped about the centre.

    Args:
        image: As it is stored.
        pixel_aspect: Width / height of its pixels.
        framing: The size wanted.
    """
    height, width = image.shape[0], image.shape[1] * pixel_aspect
    ratios = (framing.height / height, framing.width / width)
    scale = min(ratios) if framing.fit == "pad" else max(ratios)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = _resized(image, size)
    top, left = (framing.height - size[1]) // 2, (framing.width - size[0]) // 2
    if framing.fit == "crop":
        return image[-top or None :, -left or None :][: framing.height, : framing.width]
    if (top, left) == (0, 0) and image.shape[:2] == (framing.height, framing.width):
        return image
    canvas = np.zeros((framing.height, framing.width, 3), dtype=np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = image
    return canvas


def _resized(image: Image, size: tuple[int, int]) -> Image:
    """``image`` at ``size``, (width, height): a side that shrinks is averaged, one that grows is interpolated."""
    height, width = image.shape[:2]
    smaller = (min(width, size[0]), min(height, size[1]))
    for wanted, interpolation in ((smaller, cv2.INTER_AREA), (size, cv2.INTER_CUBIC)):
        if wanted != image.shape[1::-1]:
            image = cv2.resize(image, wanted, interpolation=interpolation)  # type: ignore[assignment]
    return image


class _Picture(NamedTuple):
    """A frame, and width / height of its pixels."""

    frame: av.VideoFrame
    pixel_aspect: float


def _decode(file: Path, start: float, end: float | None) -> Iterator[tuple[float, _Picture]]:
    """Pictures of the first video stream with their seconds from the beginning of the file."""
    try:
        with av.open(str(file), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise UnreadableVideoError("it holds no video")
            stream: VideoStream = container.streams.video[0]
            if stream.codec_context is None:  # decoding would take the whole process down
                raise UnreadableVideoError("its codec is not known")
            promised, packets = stream.frames, 0
            of_container = _aspect_of_container(stream)
            offset = float((stream.start_time or 0) * (stream.time_base or 0))
            if start:
                container.seek(int(start * av.time_base), backward=True)
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in stream.decode(packet):
                    seconds = frame.time - offset if frame.time is not None else 0.0
                    if end is not None and seconds >= end - 1e-6:
                        return
                    if seconds >= start - 1e-6:
                        yield seconds, _Picture(frame, _pixel_aspect(of_container, stream))
            if not start and packets < promised:
                raise UnreadableVideoError(f"it ends after {packets} of {promised} frames")
    except (av.FFmpegError, EOFError) as error:
        raise UnreadableVideoError(f"it cannot be decoded ({error})") from error


def _aspect_of_container(stream: VideoStream) -> Fraction | None:
    """What the container says of the pixels' aspect, which holds for all frames; None where the frames say it."""
    given = stream.sample_aspect_ratio  # the container's or, without one, the codec's
    return given if given != stream.codec_context.sample_aspect_ratio else None


def _pixel_aspect(of_container: Fraction | None, stream: VideoStream) -> float:
    """Width / height of the pixels of the frame decoded last; 1 where nothing is said that can be meant."""
    for said in (of_container, stream.codec_context.sample_aspect_ratio):
        if said and 1 / WIDEST_PIXEL <= said <= WIDEST_PIXEL:
            return float(said)
    return 1.0


def _upright(picture: _Picture) -> tuple[Image, float]:
    """RGB turned and flipped as a player shows it (telephones record sideways and say so), and its pixels' aspect."""
    image = picture.frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    matrix: Any = picture.frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image, picture.pixel_aspect
    a, b, _, c, d = struct.unpack("=9i", bytes(matrix))[:5]  # (x, y) is shown at (a x + c y, b x + d y)
    is_on_its_side = abs(b) + abs(c) > abs(a) + abs(d)
    if is_on_its_side:
        image, a, d = image.transpose(1, 0, 2), c, b
    image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image), 1 / picture.pixel_aspect if is_on_its_side else picture.pixel_aspect
