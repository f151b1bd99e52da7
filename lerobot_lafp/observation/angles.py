"""Angles that wrap around: a dataset tells 179 and then -179 degrees where a wrist turned by two.

A policy knows such a dimension on an interval of one turn that begins elsewhere, where nothing passes: means, relative
actions and samples are then what they are of any other joint. What it commands goes back to the dataset's interval.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

#: Of a circle in radians and in degrees.
TURNS = (2 * np.pi, 360.0)


class _Facts(Protocol):
    angles: dict[str, list[list[float]]] | None


@dataclass(frozen=True)
class Angle:
    """A dimension that wraps around.

    Attributes:
        dimension: Its place in the policy's order.
        turn: What a whole turn is in its unit.
        own: Where the policy's interval begins.
        theirs: Where the dataset's does.
    """

    dimension: int
    turn: float
    own: float
    theirs: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Self:
        """As ``facts.angles`` has it."""
        dimension, turn, own, theirs = numbers
        return cls(int(dimension), turn, own, theirs)

    @property
    def numbers(self) -> list[float]:
        """As ``facts.angles`` has it."""
        return [float(x) for x in astuple(self)]


def angles_of(facts: _Facts) -> dict[str, list[Angle]]:
    """State or ``action`` -> its angles."""
    return {key: [Angle.of(each) for each in angles] for key, angles in (facts.angles or {}).items() if angles}


def turned[X: (Tensor, NDArray[Any])](x: X, angles: Sequence[Angle], into: Literal["own", "theirs"]) -> X:
    """``x`` (.., d) with its angles on the policy's or on the dataset's interval.

    A number that lies on it is left as it is, to the bit; one that is not finite likewise. ``x`` itself is not changed.
    """
    if not angles:
        return x
    x = x.clone() if isinstance(x, Tensor) else x.copy()
    for angle in angles:
        part = x[..., angle.dimension]
        x[..., angle.dimension] = part - angle.turn * ((part - getattr(angle, into)) // angle.turn)
    return x


def apart[X: (Tensor, NDArray[Any])](difference: X, angles: Sequence[Angle]) -> X:
    """Differences (.., d) between two places, of angles the short way round."""
    centred = [Angle(each.dimension, each.turn, -each.turn / 2, 0.0) for each in angles]
    return turned(difference, centred, "own")
