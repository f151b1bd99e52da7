"""Names of a feature's dimensions: read in every form that converters write, and matched between two sources.

A dataset, a robot and a checkpoint each have an order of their own. Whose joint a number is, its name says.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

#: What a name consists of: ``left_arm.shoulderPan.vel`` -> left, arm, shoulder, Pan, vel.
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
#: Parts by which a name says that its number is a speed or a step, and zero stands still.
_OF_MOTION = frozenset(
    {"vel", "velocity", "velocities", "speed", "twist", "delta", "deltas", "vx", "vy", "vz", "wx", "wy", "wz"}
    | {"dx", "dy", "dz", "droll", "dpitch", "dyaw", "omega", "qvel", "qd", "dq", "displacement", "increment"}
)


def dimension_names(feature: Mapping[str, Any]) -> list[str] | None:
    """Names of the dimensions of a LeRobot feature, one for each number of its shape.

    Understood are a list, a nested list, a dict of lists (``{"motors": [..]}``), a dict of positions
    (``{"x": 0, "y": 1}``) and one name of one number. Names that occur in several groups of a dict are led by the
    group's.

    Args:
        feature: Of ``meta.features``, or of a robot, with ``names`` and ``shape``.

    Returns:
        None where there are no names, or not one for each dimension.
    """
    names: Any = feature.get("names")
    width = prod(feature["shape"] or ())
    if isinstance(names, Mapping) and names and sorted(map(str, names.values())) == sorted(map(str, range(len(names)))):
        names = sorted(names, key=lambda name: int(names[name]))
    for read in (_flat, _led):
        found = list(read(names))
        if len(found) == width and len(set(found)) == width:
            return found
    return None


def _flat(names: Any) -> Iterator[str]:
    if isinstance(names, Mapping):
        for each in names.values():
            yield from _flat(each)
    elif isinstance(names, Sequence) and not isinstance(names, str):
        for each in names:
            yield from _flat(each)
    elif names is not None:
        yield str(names)


def _led(names: Any) -> Iterator[str]:
    """Those of groups, each led by its group's: ``{"left": ["x"]}`` -> ``left.x``."""
    if not isinstance(names, Mapping):
        return
    for group, each in names.items():
        below = list(_led(each)) or list(_flat(each))
        yield from (f"{group}.{name}" for name in below)


def numbered(what: str, count: int) -> list[str]:
    """Names for dimensions that have none: ``action 0``, ``action 1`` .."""
    return [f"{what} {i}" for i in range(count)]


def positions_of(own: Sequence[str], theirs: Sequence[str]) -> list[int] | None:
    """Where each of ``own`` is among ``theirs``; None if one is not there, or more than once.

    Names that differ by nothing but case, separators, a ``.pos`` at the end or a ``main_`` in front (as LeRobot's own
    older datasets have them) are the same name.
    """
    for read in (str, _bare):
        there = [read(name) for name in theirs]
        wanted = [read(name) for name in own]
        if len(set(there)) == len(there) and set(wanted) <= set(there) and len(set(wanted)) == len(wanted):
            return [there.index(name) for name in wanted]
    return None


def _bare(name: str) -> str:
    parts = _parts(name)
    if len(parts) > 1 and parts[-1] == "pos":
        parts = parts[:-1]
    if len(parts) > 1 and parts[0] == "main":
        parts = parts[1:]
    return " ".join(parts)


def is_motion(name: str) -> bool:
    """Whether a number of this name is a speed or a step, so that standing still is zero."""
    return not _OF_MOTION.isdisjoint(_parts(name))


def _parts(name: str) -> list[str]:
    return [part.lower() for part in _PARTS.findall(name)]


def listed(names: Sequence[str], most: int = 12) -> str:
    """In words, cut after ``most``."""
    return ", ".join(names[:most]) + (", .." if len(names) > most else "")
