"""Units of a column's numbers, guessed from their names and range: LeRobot does not record them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...options.names import is_motion
from ...training.measuring import Numbers, Statistics

#: Unit -> what a dimension covers if it is used; one that covers next to nothing of it was held still.
FULL_SCALE = {
    "degrees": 180.0,
    "radians": math.pi,
    "metres": 1.0,
    "millimetres": 1000.0,
    "-1..1": 2.0,
    "0..1": 1.0,
    "0..100 percent": 100.0,
    "-100..100": 200.0,
    "pixels or mm": 256.0,
    "encoder ticks": 4096.0,
}
#: Whole numbers over so small a range are modes and counts, not measures.
FEW_LEVELS = 32
#: Joints that cover less than this, in whatever unit, tell nothing of it.
SMALL = 0.1
#: A dimension that covers less than this share of the scale may have been held still.
STILL_SHARE = 0.02

_PARTS = re.compile(r"[a-z]+|\d+")
_GRIPPER = frozenset({"gripper", "grip", "jaw", "claw", "suction", "vacuum"})
_PLACE = frozenset({"x", "y", "z", "px", "py", "pz", "tx", "ty", "tz"})
_QUATERNION = frozenset({"qx", "qy", "qz", "qw"})
_FINGERS = ("hand", "finger", "thumb", "pinky")
_FORCE = frozenset({"force", "torque", "effort", "current", "load", "fx", "fy", "fz", "ft"})


@dataclass(frozen=True)
class Unit:
    """A guess.

    Attributes:
        name: Of the unit; ``unknown`` if nothing fits.
        reason: Why.
    """

    name: str
    reason: str


def guess_units(names: Sequence[str], stats: Statistics) -> list[Unit]:
    """The unit of each dimension of a column.

    Joints are judged together, since a joint that hardly moves looks like radians beside others in degrees.

    Args:
        names: Of the dimensions.
        stats: Of ``measure_columns``.
    """
    low, high, tick = stats["min"], stats["max"], stats["tick"]
    parts = [frozenset(_PARTS.findall(name.lower())) for name in names]
    units = [
        _by_name(own, name, low[i], high[i], tick[i]) for i, (name, own) in enumerate(zip(names, parts, strict=True))
    ]
    kinds = [_kind(name, own) for name, own in zip(names, parts, strict=True)]
    for kind in set(kinds):
        group = [i for i, unit in enumerate(units) if unit is None and kinds[i] == kind]
        if group:
            judge = _places if kind == "place" else _joints
            unit = judge([names[i] for i in group], low[group], high[group], tick[group])
            units = [unit if i in group else before for i, before in enumerate(units)]
    return [unit or Unit("unknown", "nothing fits") for unit in units]


def is_still(unit: Unit, stats: Statistics, dimension: int) -> bool:
    """Whether a dimension never moved: it is constant, or what it covers is noise or a few steps of its encoder."""
    low, high, std, noise, tick = (float(stats[k][dimension]) for k in ("min", "max", "std", "noise", "tick"))
    if low == high:
        return True
    scale = FULL_SCALE.get(unit.name)
    if scale is None or high - low > STILL_SHARE * scale:
        return False
    return high - low < 8 * tick or std < 2 * noise


def _by_name(parts: frozenset[str], name: str, low: float, high: float, tick: float) -> Unit | None:
    """Of one dimension, where it takes no others to tell."""
    most = max(abs(low), abs(high))
    if low == high:
        return Unit("constant", f"always {low:g}")
    if tick and math.isclose(tick, high - low, rel_tol=1e-6):
        return Unit("on/off", f"either {low:g} or {high:g}")
    if tick >= 1 and not (low % 1 or high % 1 or tick % 1) and max(abs(low), abs(high)) <= FEW_LEVELS:
        return Unit("whole numbers", f"from {low:g} to {high:g}")
    if parts & _FORCE:
        return Unit("force or current", f"named {name}")
    if is_motion(name):
        return Unit("velocity or step", f"named {name}")
    if parts & _QUATERNION and most <= 1.001:
        return Unit("quaternion", f"named {name}, within +-1")
    if parts & _GRIPPER:
        if low >= -0.05 and most <= 1.05:
            return Unit("0..1", "a gripper within 0 to 1")
        if low >= -5 and 2 < most <= 105:
            return Unit("0..100 percent", f"a gripper from {low:.3g} to {high:.3g}")
        if most <= 1.05:
            return Unit("-1..1", "a gripper within -1 to 1")
    return None


def _kind(name: str, parts: frozenset[str]) -> str:
    """What is judged together."""
    if parts & _PLACE:
        return "place"
    return "finger" if any(word in name.lower() for word in _FINGERS) else "joint"


def _places(names: Sequence[str], low: Numbers, high: Numbers, tick: Numbers) -> Unit:
    least, most = float(low.min()), float(max(abs(low).max(), abs(high).max()))
    named = f"named {', '.join(names[:3])}"
    if most <= 0.2 and least < 0:
        return Unit("metres", f"{named}, within +-{most:.2g}: small, perhaps steps")
    if most <= 5:
        return Unit("metres", f"{named}, within +-{most:.2g}")
    if least >= 0:
        return Unit("pixels or mm", f"{named}, from {least:.3g} to {most:.4g}")
    return Unit("millimetres", f"{named}, within +-{most:.4g}")


def _joints(names: Sequence[str], low: Numbers, high: Numbers, tick: Numbers) -> Unit:
    least, largest = float(low.min()), float(high.max())
    most = max(abs(least), abs(largest))
    at_ends = int(((abs(abs(low) - 1) < 5e-3) | (abs(abs(high) - 1) < 5e-3)).sum())
    if most <= 1.005 and least >= -0.005 and at_ends:
        return Unit("0..1", "within 0 to 1, and up to its end")
    if most <= 1.005 and at_ends:
        return Unit("-1..1", "within +-1, and up to its ends")
    if most < SMALL:
        return Unit("unknown", f"within +-{most:.2g}: small, perhaps steps")
    if most <= 2 * math.pi + 0.05:
        return Unit("radians", f"within +-{most:.2g}")
    if most <= 100.5 and most > 99.5:
        return Unit("-100..100", "up to 100 and not beyond: normalised, as LeRobot calibrates")
    ends = ", names end in .pos" if all(name.endswith(".pos") for name in names) else ""
    if most <= 400:
        return Unit("degrees", f"up to {most:.0f}{ends}")
    if least >= 0 and bool((tick >= 1).all()):
        return Unit("encoder ticks", f"whole numbers from {least:.0f} to {largest:.0f}")
    return Unit("unknown", f"from {least:.4g} to {largest:.4g}")
