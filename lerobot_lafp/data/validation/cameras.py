"""Cameras of a dataset that show nothing: black, frozen, of one plain colour, or the same as another."""

import io
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage

from ...observation.pictures import is_dark, shows_nothing
from ...training.measuring import Numbers

#: Pictures of an episode that are looked at, evenly spread, if not all are.
PICTURES = 8
#: A state moved if one of its dimensions covered so many deviations of the whole dataset's.
MOVED = 0.5
#: A camera's view changed if a cell of it became lighter or darker by so much, of 255.
CHANGED = 12
#: Two cameras show the same if none of their cells differs by more than this, of 255, and on average by less than
#: a quarter of it.
ALIKE = 4
#: Fewer pictures than these tell nothing of an episode.
FEWEST = 3
#: A part of an episode that is worth telling.
LEAST_PART = 0.25
#: Pictures that show nothing, as a share of an episode's, that are worth telling; one alone never is.
LEAST_BLANK = 0.05

#: Cells a side by which pictures are compared.
_CELLS = 8

Grey = NDArray[np.uint8]
"""(H, W)."""


@dataclass
class Looks:
    """What pictures of one camera in one episode look like, in order.

    Attributes:
        frames: (n,), which of the episode's.
        digests: (n,), alike if pictures are alike to the bit.
        blank: (n,), true where nothing is shown.
        dark: (n,), true where nothing is shown and it is next to black.
        cells: (n, 64), brightness of cells.
    """

    frames: list[int] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)
    blank: list[bool] = field(default_factory=list)
    dark: list[bool] = field(default_factory=list)
    cells: list[NDArray[np.uint8]] = field(default_factory=list)

    def add(self, frame: int, image: Grey) -> None:
        """Take in one picture."""
        one = torch.from_numpy(np.ascontiguousarray(image))[None, None]
        self.frames.append(frame)
        self.digests.append(zlib.crc32(np.ascontiguousarray(image).data))
        self.blank.append(bool(shows_nothing(one)))
        self.dark.append(self.blank[-1] and bool(is_dark(one)))
        small = cv2.resize(image, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
        self.cells.append(small.ravel().astype(np.uint8))

    def extend(self, other: "Looks") -> None:
        """Take in those of ``other``."""
        for name in ("frames", "digests", "blank", "dark", "cells"):
            getattr(self, name).extend(getattr(other, name))

    def taken(self, which: Sequence[int], frames: Iterable[int]) -> "Looks":
        """Those at ``which``, as the episode's ``frames``."""
        return Looks(
            list(frames),
            [self.digests[i] for i in which],
            [self.blank[i] for i in which],
            [self.dark[i] for i in which],
            [self.cells[i] for i in which],
        )


#: Episode -> camera -> what its pictures look like.
Seen = dict[int, dict[str, Looks]]


@dataclass(frozen=True)
class Finding:
    """A camera that shows nothing in an episode.

    Attributes:
        camera: Which.
        kind: ``black``, ``plain``, ``frozen``, or ``same`` as ``other``.
        episode: Where.
        part: Of the episode: 1 for all of it.
        other: The camera that shows the same.
    """

    camera: str
    kind: str
    episode: int
    part: float = 1.0
    other: str | None = None


def find(seen: Mapping[str, Looks], episode: int, path: Numbers | None) -> Iterator[Finding]:
    """What is wrong with the cameras of one episode.

    Args:
        seen: Camera -> its pictures.
        episode: Which.
        path: (frames, d), the state in deviations of the whole dataset; None without.
    """
    seen = {camera: looks for camera, looks in seen.items() if len(looks.frames) >= FEWEST}
    for camera, looks in seen.items():
        blank = np.array(looks.blank)
        if blank.sum() > 1 and blank.mean() >= LEAST_BLANK:
            kind = "black" if np.array(looks.dark)[blank].mean() > 0.5 else "plain"
            yield Finding(camera, kind, episode, float(blank.mean()))
        if not blank.all() and (part := _frozen_part(camera, seen, path)):
            yield Finding(camera, "frozen", episode, part)
    for one, other in combinations(seen, 2):
        if _show_the_same(seen[one], seen[other]):
            yield Finding(other, "same", episode, other=one)


def _frozen_part(camera: str, seen: Mapping[str, Looks], path: Numbers | None) -> float:
    """Share of the episode through which the camera showed one picture, although something moved; 0 for none.

    A compressed video repeats the picture of a scene that stands still, which is no fault.
    """
    looks = seen[camera]
    borders = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(looks.digests)) if a != b), len(looks.digests)]
    first, last = max(pairwise(borders), key=lambda run: run[1] - run[0])
    whole = last - first == len(looks.digests)
    if last - first < FEWEST or (last - first - 1) / (len(looks.digests) - 1) < LEAST_PART:
        return 0.0
    start, end = looks.frames[first], looks.frames[last - 1]
    others = [other for name, other in seen.items() if name != camera]
    if path is None and not others:
        return 1.0 if whole else 0.0
    moved = path is not None and _moved(path[start : end + 1])
    if not moved and not any(_changed(other, start, end) for other in others):
        return 0.0
    return 1.0 if whole else (end - start) / max(1, looks.frames[-1])


def _moved(path: Numbers) -> bool:
    finite = path[np.isfinite(path).all(axis=1)]
    return bool(finite.size and (finite.max(axis=0) - finite.min(axis=0)).max() > MOVED)


def _changed(looks: Looks, start: int, end: int) -> bool:
    between = [cells for frame, cells in zip(looks.frames, looks.cells, strict=True) if start <= frame <= end]
    if not between:
        return False
    cells = np.stack(between).astype(np.int16)
    return bool((cells.max(axis=0) - cells.min(axis=0)).max() > CHANGED)


def _show_the_same(one: Looks, other: Looks) -> bool:
    if len(one.frames) != len(other.frames) or np.all(one.blank) or np.all(other.blank):
        return False
    apart = np.abs(np.stack(one.cells).astype(np.int16) - np.stack(other.cells))
    return bool(apart.max() <= ALIKE and apart.mean() < ALIKE / 4)


# --- Looking at a few pictures ----------------------------------------------------------------------------------


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` of ``range(count)``, evenly spread, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))}) if count > 0 else []


def grey_of(frame: av.VideoFrame) -> Grey:
    return frame.to_ndarray(format="gray").astype(np.uint8, copy=False)


def grey_of_cell(cell: Mapping[str, Any] | None) -> Grey | None:
    """The picture that a table holds; None if it is none."""
    try:
        image = PILImage.open(io.BytesIO((cell or {})["bytes"]))
        array = np.array(image if image.mode.startswith(("I", "F")) else image.convert("L"))
    except (OSError, SyntaxError, KeyError, TypeError, ValueError):
        return None
    if array.dtype != np.uint8:  # depth, of 16 or 32 bits
        array = (255.0 / max(1.0, float(array.max())) * array).astype(np.uint8)
    return array


def look_at_video(file: Path, spans: Mapping[int, tuple[float, int]], fps: float) -> Iterator[tuple[int, Looks]]:
    """A few pictures of each episode in a video file. Key frames are preferred, which cost least to decode.

    Args:
        file: The video.
        spans: Episode -> its first second, and how many frames it has.
        fps: Frames a second.

    Raises:
        av.FFmpegError: It is damaged.
    """
    with av.open(str(file), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("its codec is not known")
        for episode, (start, count) in spans.items():
            looks = Looks()
            times = [start + i / fps for i in evenly(count, PICTURES)]
            for seconds, frame in _pictures_at(container, times, 0.5 / fps):
                looks.add(min(count - 1, round((seconds - start) * fps)), grey_of(frame))
            yield episode, looks


def _pictures_at(container: Any, times: Sequence[float], slack: float) -> Iterator[tuple[float, av.VideoFrame]]:
    """The key frame before each of ``times`` or, where there is no new one, the picture itself."""
    stream = container.streams.video[0]
    ahead, after = list(times), times[0] - slack if times else 0.0
    while ahead:
        container.seek(round(ahead[0] / stream.time_base), stream=stream, backward=True)
        frames = (
            (float(each.pts * stream.time_base), each) for each in container.decode(stream) if each.pts is not None
        )
        seconds, frame = next(frames, (-np.inf, None))
        if frame is not None and seconds > after and seconds <= ahead[0] + slack:
            yield seconds, frame
            after = seconds + slack
            ahead = ahead[1:]
            continue
        for seconds, frame in frames:  # from here on one after the other: the next key frame is far
            if ahead and seconds >= ahead[0] - slack and seconds > after:
                yield seconds, frame
                after, ahead = seconds + slack, ahead[1:]
            if not ahead:
                return
        return
