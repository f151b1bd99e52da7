"""Which dimensions of a dataset wrap around, and where a policy cuts their circle."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION, OBS_STATE
from numpy.typing import NDArray

from ..configuration_lafp import LAFPConfig
from ..observation.angles import TURNS, Angle, angles_of, apart, turned
from ..options.names import numbered
from .joined import Part, columns_of, parts
from .measuring import Numbers, tables

logger = logging.getLogger(__name__)

#: A dimension with fewer values is a switch.
FEWEST_VALUES = 16
#: A command is to its joint if it is usually within this share of a turn of it.
NEAR = 1 / 16


def turn_of(values: Numbers, episode_of: NDArray[Any]) -> float | None:
    """A whole turn, if a dimension wraps around: it covers one and goes from end to end of it within a frame.

    Args:
        values: Frame by frame, (N,).
        episode_of: Whose, (N,).
    """
    finite = np.isfinite(values)
    if not finite.any():
        return None
    span = float(np.ptp(values[finite]))
    steps = np.abs(np.diff(values))[np.diff(episode_of) == 0]
    for turn in TURNS:
        if 0.9 * turn < span <= turn * (1 + 1e-3):
            far = steps[steps > turn / 2]
            if len(far) and bool((far > 0.75 * turn).all()) and len(np.unique(values[finite])) >= FEWEST_VALUES:
                return turn
    return None


def angle_of(values: Numbers, dimension: int, turn: float) -> Angle:
    """The circle of such values (N,), cut in the middle of the widest part of it where none lies."""
    values = values[np.isfinite(values)]
    places = np.unique(values % turn)
    gaps = np.diff(places, append=places[0] + turn)
    widest = int(gaps.argmax())
    cut = places[widest] + gaps[widest] / 2
    own = cut - turn * np.floor((cut + turn) / turn)  # the middle of the interval is within half a turn of zero
    low, high = float(values.min()), float(values.max())
    slack = turn * 1e-3
    theirs = 0.0 if low >= -slack else -turn / 2 if high <= turn / 2 + slack else low
    return Angle(dimension, turn, float(own), theirs)


def take_angles(config: LAFPConfig, meta: Any | None, fresh: bool) -> None:
    """Fill in ``facts.angles`` of what the policy has not seen before, from the tables of a run's datasets.

    Args:
        config: Of the policy that is about to be trained.
        meta: ``dataset.meta``; None where no dataset is at hand.
        fresh: Whether the policy is new, and no weights follow from a checkpoint.
    """
    if fresh and config.facts.angles is None:
        config.facts.angles = {}
    known = config.facts.angles
    if meta is None or known is None:  # weights of a version that did not know of angles
        return
    of_run, renamed = parts(config, meta), columns_of(config)
    before = () if fresh else config.facts.latent_features or ()
    states = {*config.vector_shapes, *config.decoder_vector_shapes} - {*known, *before}
    for key in sorted(states):
        if renamed.get(key, key) in meta.features:
            _take(config, key, _find(of_run, renamed.get(key, key)))
    if ACTION not in known and config.reads_labels and ACTION in meta.features:
        part = of_run[-1]
        labels = Part(part.meta, part.labeled, part.labeled, part.orders)
        _take(config, ACTION, _of_commands(config, labels, _find([labels], ACTION)))


def _take(config: LAFPConfig, key: str, angles: Sequence[Angle]) -> None:
    known = config.facts.angles
    assert known is not None
    known[key] = [angle.numbers for angle in angles]
    if angles:
        names = config.names_of(key) or numbered("dimension", 1 + max(angle.dimension for angle in angles))
        told = ", ".join(names[angle.dimension] for angle in angles)
        logger.info("`%s`: %s wraps around; the policy knows it on a turn that nothing jumps out of.", key, told)


def _read(of: Sequence[Part], keys: Sequence[str]) -> tuple[list[Numbers], NDArray[Any]] | None:
    """Rows of columns in the policy's order, and whose they are; None where not all tables are here."""
    found: list[list[Numbers]] = []
    whose: list[NDArray[Any]] = []
    for number, part in enumerate(of):
        for values, episode_of in tables(part.meta, keys, part.episodes):
            if any(each is None for each in values):
                return None
            found.append([x[:, part.orders[k]] if k in part.orders else x for k, x in zip(keys, values, strict=True)])
            whose.append(episode_of * len(of) + number)
    if not found:
        return None
    return [np.concatenate(column) for column in zip(*found, strict=True)], np.concatenate(whose)


def _find(of: Sequence[Part], column: str) -> list[Angle]:
    read = _read(of, [column])
    if read is None:
        return []
    (values,), episode_of = read
    turns = [turn_of(values[:, i], episode_of) for i in range(values.shape[1])]
    return [angle_of(values[:, i], i, turn) for i, turn in enumerate(turns) if turn is not None]


def _of_commands(config: LAFPConfig, labels: Part, found: Sequence[Angle]) -> list[Angle]:
    """Angles of the action: where a command is to a joint, both lie on the same turn."""
    joints, of_state = config.joint_of_action, angles_of(config.facts).get(OBS_STATE, [])
    column = columns_of(config).get(OBS_STATE, OBS_STATE)
    if joints is None or column not in labels.meta.features or not (found or of_state):
        return list(found)
    read = _read([labels], [ACTION, column])
    if read is None or max(joints, default=-1) >= read[0][1].shape[1]:
        return list(found)
    commands, places = read[0][0], turned(read[0][1], of_state, "own")[:, joints]
    own = {angle.dimension: angle for angle in found}
    joint_of = {angle.dimension: angle for angle in of_state}
    for i, joint in enumerate(joints):
        angle = joint_of.get(joint, own.get(i))
        if angle is None:
            continue
        angle = Angle(i, angle.turn, angle.own, angle.theirs)
        off = apart((commands[:, i] - places[:, i])[:, None], [Angle(0, angle.turn, 0, 0)])
        if not np.sqrt(np.nanmean(off**2)) < NEAR * angle.turn:
            continue
        turns = np.nanmedian(turned(commands, [angle], "own")[:, i] - places[:, i]) / angle.turn
        own[i] = Angle(i, angle.turn, angle.own - angle.turn * float(np.round(turns)), angle.theirs)
    return [own[i] for i in sorted(own)]
