"""Where the panels of a view lie, in pixels from the top left corner."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Width of the picture.
WIDTH = 1440
#: Space at the edges and between panels.
GAP = 12
_HEADER = 66
_CAMERAS = 384  # width of the cameras' column
_TITLE = 20  # above a panel or a camera
_TICKS = 36  # below a panel, for the numbers of its axis and what they are
_LATENTS = 200  # height of the row of latents
_OVERVIEW = 150  # height of the strip of the whole episode
_LEFT = 52  # left of a panel, for the numbers of its axis
#: Height of all rows of action panels, and the least and largest of one.
_ACTIONS, _LEAST, _LARGEST = 600, 112, 240


@dataclass(frozen=True)
class Box:
    """A rectangle of ``width`` x ``height`` pixels, ``x`` from the left and ``y`` from the top."""

    x: int
    y: int
    width: int
    height: int

    def fractions(self, height: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height as shares of a figure of that height, as Matplotlib takes them."""
        return (
            self.x / WIDTH,
            1 - (self.y + self.height) / height,
            self.width / WIDTH,
            self.height / height,
        )


@dataclass(frozen=True)
class Layout:
    """What lies where.

    Attributes:
        height: Of the picture; even, as video takes it.
        cameras: Camera -> its image, of its own aspect.
        actions: The panel of each action dimension.
        latents: The panels of two components over time, and of both as a plane; none without latents.
        overview: The strip of the whole episode.
    """

    height: int
    cameras: dict[str, Box]
    actions: list[Box]
    latents: list[Box]
    overview: Box


def arrange(cameras: Mapping[str, tuple[int, int]], num_actions: int, has_latents: bool) -> Layout:
    """Lay out a view.

    Args:
        cameras: Camera -> (height, width) of its images.
        num_actions: Action dimensions, 0 without actions.
        has_latents: Whether latents are drawn.
    """
    below, images = _stack(cameras)
    left = GAP + (_CAMERAS + GAP if cameras else 0)
    top = _HEADER
    actions: list[Box] = []
    if num_actions:
        columns = _columns(num_actions)
        rows = -(-num_actions // columns)
        room = max(_LEAST, min(_LARGEST, _ACTIONS // rows))
        actions = [
            box for row in range(rows) for box in _row(left, top + row * room, room, columns, last=row == rows - 1)
        ][:num_actions]
        top += rows * room + _TICKS
    latents: list[Box] = []
    if has_latents:
        latents = _row(left, top, _LATENTS, 3, last=True)
        top += _LATENTS + _TICKS
    top = max(top, below)
    overview = Box(GAP + _LEFT, top + _TITLE, WIDTH - 2 * GAP - _LEFT, _OVERVIEW - _TITLE - _TICKS - GAP)
    height = top + _OVERVIEW
    return Layout(height + height % 2, images, actions, latents, overview)


def _columns(num_actions: int) -> int:
    """Columns of panels: few of them as long as rows stay high enough to be read, and one more if that fills them."""
    few = next(columns for most, columns in ((2, 1), (6, 2), (12, 3), (20, 4), (math.inf, 5)) if num_actions <= most)
    return min((few, min(few + 1, 5)) if few > 1 else (few,), key=lambda columns: -num_actions % columns)


def _row(left: int, top: int, height: int, count: int, last: bool) -> list[Box]:
    """Panels side by side, up to the right edge; of the last row of a grid the numbers of the axis come below."""
    width = (WIDTH - GAP - left) // count
    return [
        Box(left + i * width + _LEFT, top + _TITLE, width - _LEFT - GAP, height - _TITLE - (GAP if not last else 0))
        for i in range(count)
    ]


def _stack(cameras: Mapping[str, tuple[int, int]]) -> tuple[int, dict[str, Box]]:
    """Images below each other, from four cameras on in two columns; and where they end."""
    columns = 1 if len(cameras) <= 3 else 2
    width = (_CAMERAS - (columns - 1) * GAP) // columns
    tops: Sequence[int] = [_HEADER] * columns
    boxes: dict[str, Box] = {}
    for i, (camera, (rows, cols)) in enumerate(cameras.items()):
        column = i % columns
        height = round(width * rows / cols)
        boxes[camera] = Box(GAP + column * (width + GAP), tops[column] + _TITLE, width, height)
        tops = [top + (_TITLE + height + GAP if each == column else 0) for each, top in enumerate(tops)]
    return max(tops), boxes
