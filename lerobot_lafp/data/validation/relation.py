"""What actions are to the state beside them: the positions that follow, steps, or velocities. Measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION, OBS_STATE

from ...options.names import positions_of
from ...training.measuring import Numbers
from .columns import Recorded

#: A correlation from which on two columns are said to tell the same.
ALIKE = 0.8
#: A correlation from which on actions are said to drive the state's change.
DRIVES = 0.5
#: A target lies no further from the next state than so many of the state's deviations.
NEAR = 0.7
#: Seconds over which a change of the state is taken: from frame to frame it is noise.
SPAN_S = 0.3
#: Steps and velocities are told apart by the change that they make: within this share of what is expected.
WITHIN = 0.35


@dataclass(frozen=True)
class Relation:
    """One dimension.

    Attributes:
        name: Of the action.
        kind: ``positions``, ``scaled`` positions, ``steps``, ``velocities``, ``driving`` in another unit, ``unclear``,
            or ``still``.
        next_state: Correlation with the next state.
        change: Correlation with the state's change.
        slope: The state's change for an action of 1, over one frame.
    """

    name: str
    kind: str
    next_state: float
    change: float
    slope: float


def paired_dimensions(
    action_names: Sequence[str] | None, state_names: Sequence[str] | None, widths: tuple[int, int]
) -> dict[int, int]:
    """Dimension of the action -> the state's of the same name or, without names, of the same place."""
    if action_names is None or state_names is None:
        return {i: i for i in range(widths[0])} if widths[0] == widths[1] else {}
    at = ((i, positions_of([name], state_names)) for i, name in enumerate(action_names))
    return {i: where[0] for i, where in at if where is not None}


def relate(recorded: Recorded, pairs: Mapping[int, int], names: Sequence[str], fps: float) -> dict[str, Any]:
    """What the actions are, for JSON: a kind for each dimension, the commonest, and how exact it is.

    Args:
        recorded: With values of ``action`` and ``observation.state``.
        pairs: Of ``paired_dimensions``.
        names: Of the action's dimensions.
        fps: Frames a second.
    """
    chunks = list(_episodes(recorded, pairs))
    if not pairs or not chunks:
        return {}
    span = max(1, round(SPAN_S * fps))
    dimensions = [_relation(names[i], at, chunks, span, fps) for at, i in enumerate(pairs)]
    kinds = [each.kind for each in dimensions if each.kind not in ("still", "unclear")]
    out: dict[str, Any] = {
        "kind": max(sorted(set(kinds)), key=kinds.count) if kinds else "unclear",
        "dimensions": [asdict(each) for each in dimensions],
    }
    actions, states = (np.concatenate([chunk[k][:-1] for chunk in chunks]) for k in (0, 1))
    later = np.concatenate([chunk[1][1:] for chunk in chunks])
    out["equals_next_state"] = _share_equal(actions, later)
    out["equals_state"] = _share_equal(actions, states)
    return out


def _episodes(recorded: Recorded, pairs: Mapping[int, int]) -> Iterator[tuple[Numbers, Numbers]]:
    """(frames, pairs) of actions and of states, of the frames that have both."""
    for values in recorded.values.values():
        action, state = values.get(ACTION), values.get(OBS_STATE)
        if action is None or state is None or max(pairs, default=0) >= action.shape[1]:
            continue
        if max(pairs.values(), default=0) >= state.shape[1]:
            continue
        action, state = action[:, list(pairs)], state[:, list(pairs.values())]
        good = np.isfinite(action).all(axis=1) & np.isfinite(state).all(axis=1)
        if good.sum() > 2 and good.all():
            yield action, state


def _relation(name: str, at: int, chunks: Sequence[tuple[Numbers, Numbers]], span: int, fps: float) -> Relation:
    action = np.concatenate([a[:-1, at] for a, _ in chunks])
    later = np.concatenate([s[1:, at] for _, s in chunks])
    sums, changes = [], []
    for a, s in chunks:
        if len(s) > span:
            total = np.concatenate([[0.0], np.cumsum(a[:, at])])
            sums.append((total[span:] - total[:-span])[: len(s) - span])
            changes.append(s[span:, at] - s[:-span, at])
    driven, changed = (np.concatenate(each) if each else np.zeros(0) for each in (sums, changes))
    next_state, change = _correlation(action, later), _correlation(driven, changed)
    slope = float(driven @ changed / max(1e-12, driven @ driven)) if len(driven) else 0.0
    if not later.std() or not action.std():
        kind = "still"
    elif next_state >= ALIKE and np.sqrt(np.mean((action - later) ** 2)) <= NEAR * later.std():
        kind = "positions"
    elif change >= DRIVES and change > abs(next_state):
        kind = "steps" if abs(slope - 1) < WITHIN else "velocities" if abs(slope * fps - 1) < WITHIN else "driving"
    else:
        kind = "scaled" if next_state >= ALIKE else "unclear"
    return Relation(name, kind, round(next_state, 3), round(change, 3), float(f"{slope:.4g}"))


def _correlation(a: Numbers, b: Numbers) -> float:
    if len(a) < 3 or not a.std() or not b.std():
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _share_equal(a: Numbers, b: Numbers) -> float:
    return float(np.isclose(a, b, rtol=1e-5, atol=1e-6).all(axis=1).mean()) if a.size else 0.0
