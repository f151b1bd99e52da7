"""Columns of numbers in a dataset: what they are called, what they cover, in which unit, and where they are missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.utils.constants import ACTION, OBS_STR
from numpy.typing import NDArray

from ...options.names import dimension_names, numbered
from ...training.angles import turn_of
from ...training.measuring import Numbers, Statistics, numbers
from .units import guess_units, is_still

#: LeRobot's own columns.
BOOKKEEPING = frozenset({"timestamp", "frame_index", "episode_index", "index", "task_index"})
#: Of features that are cameras.
PICTURES = ("image", "video")


@dataclass
class Recorded:
    """What a pass over the tables found.

    Attributes:
        missing: Column -> frames that hold a NaN or infinite value, of all episodes.
        unlabelled: Episodes without any action.
        partly: Column -> episodes in which some frames are missing, and some are not.
        values: Episode -> column -> (frames, d), of the episodes that were asked for.
        other: Columns that hold no numbers, though they are not text.
        unreadable: Tables that cannot be read.
    """

    missing: dict[str, int] = field(default_factory=dict)
    unlabelled: list[int] = field(default_factory=list)
    partly: dict[str, list[int]] = field(default_factory=dict)
    values: dict[int, dict[str, Numbers]] = field(default_factory=dict)
    other: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)


def is_text(feature: Mapping[str, Any]) -> bool:
    return str(feature.get("dtype")) in ("string", "str", "language", "object")


def number_columns(features: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Columns that are neither pictures, text nor LeRobot's own."""
    return [
        key
        for key, feature in features.items()
        if feature.get("dtype") not in PICTURES and not is_text(feature) and key not in BOOKKEEPING
    ]


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of tables in tables (``datasets.Array2D``) as the lists that it is stored in."""
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)


def read_columns(meta: Any, keys: Sequence[str], keep: Sequence[int]) -> Recorded:
    """One pass over the tables.

    Args:
        meta: ``dataset.meta`` of a dataset whose tables are on disk.
        keys: Columns to look at, and ``timestamp``.
        keep: Episodes whose values are returned.
    """
    found, kept = Recorded(missing=dict.fromkeys(keys, 0)), set(keep)
    for path in sorted((Path(meta.root) / "data").glob("*/*.parquet")):
        try:
            for episode, values in _episodes_of(path, [*keys, "timestamp"], found):
                _take(found, episode, values, episode in kept)
        except (OSError, ValueError, KeyError) as error:  # pyarrow's are ValueErrors and OSErrors
            found.unreadable.append(f"{path.relative_to(meta.root)} ({' '.join(str(error).split())[:120]})")
    found.unlabelled.sort()
    return found


def _episodes_of(path: Path, keys: Sequence[str], found: Recorded) -> Iterator[tuple[int, dict[str, Numbers]]]:
    there = [key for key in keys if key in pq.read_schema(path).names]
    table = pq.read_table(path, columns=[*there, "episode_index"])
    columns = {key: numbers(plain(table[key]), len(table)) for key in there}
    found.other |= {key for key, values in columns.items() if values is None}
    episode_of: NDArray[Any] = table["episode_index"].to_numpy()
    for rows in np.split(np.arange(len(table)), np.flatnonzero(np.diff(episode_of)) + 1):
        if len(rows):
            yield (
                int(episode_of[rows[0]]),
                {key: values[rows] for key, values in columns.items() if values is not None},
            )


def _take(found: Recorded, episode: int, values: dict[str, Numbers], keep: bool) -> None:
    for key, rows in values.items():
        if key not in found.missing:
            continue
        bad = ~np.isfinite(rows).all(axis=1)
        found.missing[key] += int(bad.sum())
        if key == ACTION and bad.all():
            found.unlabelled.append(episode)
        elif bad.any():
            found.partly.setdefault(key, []).append(episode)
    if keep:
        found.values[episode] = values


def facts_of_column(
    key: str, feature: Mapping[str, Any], stats: Statistics | None, recorded: Recorded
) -> dict[str, Any]:
    """What is known of one column, for JSON.

    Args:
        key: Its name.
        feature: Of ``meta.features``.
        stats: Of ``measure_columns``; None where it could not be measured.
        recorded: Of ``read_columns``.
    """
    shape = [int(n) for n in feature.get("shape") or ()]
    names = dimension_names({**feature, "shape": shape})
    facts: dict[str, Any] = {
        "dtype": str(feature.get("dtype")),
        "shape": shape,
        "names": names,
        "names_given": feature.get("names"),
        "read": key == ACTION or key.startswith(f"{OBS_STR}."),
        "missing_frames": recorded.missing.get(key, 0),
        "partly_missing_episodes": sorted(recorded.partly.get(key, [])),
        "dimensions": [],
    }
    width = prod(shape) if shape else 1
    if key in recorded.other:
        facts["unreadable"] = "it holds no numbers"
    elif stats is None:
        nowhere = "no frame of it is finite"
        facts["unreadable"] = nowhere if facts["missing_frames"] else "it is not in every table, or not as numbers"
    elif len(stats["min"]) != width:
        facts["unreadable"] = f"meta says {width} numbers a frame, and the tables hold {len(stats['min'])}"
    else:
        facts["dimensions"] = _dimensions(names or _stand_ins(key, width), stats)
    return facts


def _stand_ins(key: str, width: int) -> list[str]:
    return [key.rpartition(".")[2]] if width == 1 else numbered("dimension", width)


def _dimensions(names: Sequence[str], stats: Statistics) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            **{which: float(stats[which][i]) for which in ("min", "max", "mean", "std", "noise", "tick")},
            "unit": unit.name,
            "reason": unit.reason,
            "still": is_still(unit, stats, i),
        }
        for i, (name, unit) in enumerate(zip(names, guess_units(names, stats), strict=True))
    ]


def wrapped(key: str, dimensions: Sequence[Mapping[str, Any]], recorded: Recorded) -> dict[str, list[int]]:
    """Angles that jump from one end of the circle to the other, though nothing turned so far in a frame.

    Returns:
        Name of the dimension -> the episodes in which it does.
    """
    of = {episode: values[key] for episode, values in recorded.values.items() if key in values}
    of = {episode: rows for episode, rows in of.items() if rows.shape[1] == len(dimensions)}
    if not of:
        return {}
    together, episode_of = np.concatenate(list(of.values())), np.repeat(list(of), [len(rows) for rows in of.values()])
    found: dict[str, list[int]] = {}
    for i, dimension in enumerate(dimensions):
        turn = turn_of(together[:, i], episode_of)  # of all of them together, as a training decides it
        if turn is not None:
            jumps = (np.abs(np.diff(together[:, i])) > turn / 2) & (np.diff(episode_of) == 0)
            found[dimension["name"]] = np.unique(episode_of[1:][jumps]).tolist()
    return found
