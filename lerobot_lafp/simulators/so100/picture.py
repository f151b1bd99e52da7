"""What a camera at the table sees: the arm as coloured links, the target, and the shadows of both."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .kinematics import Vector

#: View -> where its camera stands and what it looks at, in metres.
VIEWS = {
    "front": (np.array([0.62, -0.30, 0.50]), np.array([0.12, 0.0, 0.08])),
    "side": (np.array([0.15, 0.75, 0.25]), np.array([0.12, 0.0, 0.08])),
}
#: Of every camera, in widths of the picture.
FOCAL_LENGTH = 1.05
TABLE, SHADOW, TARGET = (196, 190, 180), (160, 154, 146), (214, 40, 40)
#: Colours of the links from the base outwards, and their thickness in metres.
LINKS = (((60, 60, 66), 0.050), ((236, 160, 30), 0.036), ((70, 130, 200), 0.032), ((40, 160, 100), 0.024))
TARGET_RADIUS = 0.018
#: Pictures are drawn this many times as large and made smaller, so that what moves by less than a pixel shows.
OVERSAMPLING = 3


def draw(points: Vector, target: Vector | None, height: int, width: int, view: str = "front") -> NDArray[np.uint8]:
    """The scene as an RGB image (height, width, 3).

    Args:
        points: Of the arm, (5, 3) in metres (``kinematics.forward``).
        target: (3,) in metres; none: no target.
        height: In pixels.
        width: In pixels.
        view: Whose camera, one of ``VIEWS``.
    """
    size = np.array([width, height]) * OVERSAMPLING
    image = np.full((size[1], size[0], 3), TABLE, dtype=np.uint8)
    on_table = points * [1.0, 1.0, 0.0]
    for (_, thickness), a, b in zip(LINKS, on_table[:-1], on_table[1:], strict=True):
        _line(image, view, a, b, SHADOW, thickness)
    if target is not None:
        _disc(image, view, target * [1.0, 1.0, 0.0], SHADOW, TARGET_RADIUS)
        _disc(image, view, target, TARGET, TARGET_RADIUS)
    for (colour, thickness), a, b in zip(LINKS, points[:-1], points[1:], strict=True):
        _line(image, view, a, b, colour, thickness)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _project(image: NDArray[np.uint8], view: str, point: Vector) -> tuple[tuple[int, int], float]:
    """Pixel of a point, and pixels a metre there."""
    eye, looks_at = VIEWS[view]
    forwards = looks_at - eye
    forwards = forwards / np.linalg.norm(forwards)
    right = np.cross(forwards, [0.0, 0.0, 1.0])
    right = right / np.linalg.norm(right)
    down = np.cross(forwards, right)
    x, y, z = np.stack([right, down, forwards]) @ (point - eye)
    height, width = image.shape[:2]
    scale = FOCAL_LENGTH * width / z
    return (round(width / 2 + scale * x), round(height / 2 + scale * y)), float(scale)


def _line(
    image: NDArray[np.uint8], view: str, a: Vector, b: Vector, colour: tuple[int, int, int], thickness: float
) -> None:
    (start, near), (end, far) = _project(image, view, a), _project(image, view, b)
    cv2.line(image, start, end, colour, max(1, round(thickness * (near + far) / 2)), cv2.LINE_AA)


def _disc(image: NDArray[np.uint8], view: str, centre: Vector, colour: tuple[int, int, int], radius: float) -> None:
    at, scale = _project(image, view, centre)
    cv2.circle(image, at, max(1, round(radius * scale)), colour, cv2.FILLED, cv2.LINE_AA)
