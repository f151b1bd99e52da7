"""What the commands of a policy are kept in, worked out from what the demonstrations did.

The same for tensors and for NumPy arrays, to the bit: a policy acts by it, and `lafp inspect` says it of a file.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def range_of_commands(
    low: Any, high: Any, width: Any, margin: float, chosen: Mapping[int, tuple[float, float]]
) -> tuple[Any, Any]:
    """Least and largest command of each action, (A,) each; infinite where nothing was demonstrated.

    Args:
        low, high: Least and largest demonstrated action, (A,), floating point; ``low > high`` if there was none.
        width: Of the demonstrated range, (A,).
        margin: Share of it by which the range may be left.
        chosen: Place of an action -> its range, in place of the demonstrated one.
    """
    more = margin * width
    least, largest = low - more, high + more
    if not _any(low, high):
        least[:], largest[:] = -math.inf, math.inf
    for index, (a, b) in chosen.items():
        least[index], largest[index] = a, b
    return least, largest


def largest_change(low: Any, high: Any, factor: float | None) -> Any:
    """By how much an action may change from one command to the next, (A,); infinite where that is unlimited.

    Args:
        low, high: Least and largest demonstrated change, (A,), floating point; ``low > high`` if there was none.
        factor: Of the largest change. None: unlimited.
    """
    limited = factor is not None and _any(low, high)
    change = (factor if limited else 1.0) * high
    if not limited:
        change[:] = math.inf
    return change


def changes_per_command(per_s: Mapping[str, float] | None, names: Sequence[str], fps: float | None) -> dict[int, float]:
    """``limits.change_per_s`` as place of an action -> its largest change from one command to the next.

    Raises:
        ValueError: It names what is no action, or the rate of the commands is not known.
    """
    if not per_s:
        return {}
    if fps is None:
        raise ValueError(
            "`limits.change_per_s` needs the rate of the commands, which this checkpoint does not know: train stage "
            "action_decoder again."
        )
    return {index: value / fps for index, value in by_place(per_s, names, "limits.change_per_s").items()}


def by_place(given: Mapping[str, Any] | None, names: Sequence[str], option: str) -> dict[int, Any]:
    """Values by an action's place that ``option`` gives by its name.

    Raises:
        ValueError: It names what is no action.
    """
    for name in given or {}:
        if name not in names:
            raise ValueError(f"`{option}` names {name!r}, which is no action of this policy: {', '.join(names)}.")
    return {names.index(name): value for name, value in (given or {}).items()}


def _any(low: Any, high: Any) -> bool:
    """Whether anything came by."""
    return bool((low <= high).all())
