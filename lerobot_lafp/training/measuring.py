"""Statistics of a dataset's columns, measured from its tables: what the model needs, it does not take on trust.

LeRobot's ``meta/stats.json`` may lack a column, be of other episodes, or hold NaN of a bad one. It also knows nothing
of a column's resolution and noise, by which a joint that was held still is told from one that moved.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..observation.angles import Angle, apart, turned

Numbers = NDArray[np.float64]
#: LeRobot's names of statistics, and ``noise`` and ``tick``: each (d,).
Statistics = dict[str, Numbers]

#: Of a dimension with more distinct values than these, the distance between two of them says nothing.
MOST_LEVELS = 4096
#: What 32-bit numbers are rounded by, as a share of their size.
ROUNDING = 1e-6


def measure_columns(meta: Any, keys: Sequence[str], episodes: Sequence[int] | None = None) -> dict[str, Statistics]:
    """Statistics of ``keys``, numbers of any type and shape, per dimension.

    Args:
        meta: ``dataset.meta`` of a dataset whose tables are on disk.
        keys: Columns.
        episodes: Those to measure; unset: all.

    Returns:
        Column -> ``mean``, ``std``, ``min``, ``max``, ``count``; ``noise``, the deviation that white noise of the same
        change from frame to frame would have; ``tick``, the least distance between two values that occur. Numbers that
        are not finite are left out. A column is missing where not all of its tables are there.
    """
    return measure_together([(meta, episodes, {})], keys)


def measure_together(
    datasets: Sequence[tuple[Any, Sequence[int] | None, Mapping[str, Sequence[int]]]],
    keys: Sequence[str],
    angles: Mapping[str, Sequence[Angle]] | None = None,
) -> dict[str, Statistics]:
    """``measure_columns`` of several datasets as if they were one: every frame counts alike.

    Args:
        datasets: Of each its metadata, its episodes, and where each dimension of the answer is in its columns, by
            column; as they are where that says nothing.
        keys: Columns, which all have.
        angles: Column -> the dimensions of the answer that wrap around.
    """
    if not keys or any(getattr(meta, "root", None) is None for meta, _, _ in datasets):
        return {}
    running = {key: _Running() for key in keys}
    expected = 0
    for meta, episodes, orders in datasets:
        for file, lengths in _files(meta, episodes).items():
            path = Path(meta.root) / file
            expected += sum(lengths.values())
            if not path.is_file():
                continue
            there = set(pq.read_schema(path).names)
            wanted = [key for key in keys if key in there]
            table = pq.read_table(path, columns=[*wanted, "episode_index"])
            episode_of = table["episode_index"].to_numpy()
            mine = np.isin(episode_of, list(lengths))
            for key in wanted:
                values = numbers(table[key], len(table))
                if values is not None:
                    values = values[:, orders[key]] if key in orders else values
                    values = turned(values, (angles or {}).get(key, ()), "own")
                    running[key].add(values[mine], episode_of[mine])
    return {key: each.result() for key, each in running.items() if each.seen == expected and each.found}


def measure_commands(
    meta: Any,
    action: str,
    episodes: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
    state: str | None = None,
    joints: Sequence[int] | None = None,
    angles: Sequence[Angle] = (),
) -> Statistics | None:
    """What commands did: range, deviation, largest change within an episode, how far they were from their joints.

    Args:
        meta: ``dataset.meta``.
        action: Column of the commands.
        episodes: Those to look at; unset: all.
        order: Columns of ``action`` in the order of the answer; unset: as they are.
        state: Column of the joints' positions.
        joints: Column of ``state`` that each command of the answer is to; unset: not known.
        angles: Dimensions of the answer that wrap around.

    Returns:
        ``min``, ``max``, ``change``, ``std`` and, where ``joints`` are known, ``lead``, the largest, and
        ``usual_lead``, root mean square, each (d,); None where not all tables are here, or hold no finite number.
    """
    columns = [action] if state is None or joints is None else [action, state]
    read = [*tables(meta, columns, episodes)]
    if not read or any(x is None for values, _ in read for x in values):
        return None
    commands, *places = (np.concatenate(column) for column in zip(*(values for values, _ in read), strict=True))
    episode_of = np.concatenate([each for _, each in read])
    commands = turned(commands if order is None else commands[:, order], angles, "own")
    steps = np.abs(np.diff(commands, axis=0))[np.diff(episode_of) == 0]
    found = {
        "min": -_most(-commands),
        "max": _most(commands),
        "change": _most(steps, 0.0),
        "std": np.sqrt(_mean_square(commands, centred=True)),
    }
    if places:
        off = apart(commands - places[0][:, joints], angles)
        found |= {"lead": _most(np.abs(off)), "usual_lead": np.sqrt(_mean_square(off))}
    return found if all(np.isfinite(x).all() for x in found.values()) else None


def _most(x: Numbers, least: float = -np.inf) -> Numbers:
    """The largest of each column, of what is finite."""
    most: Numbers = np.where(np.isfinite(x), x, -np.inf).max(axis=0, initial=least)
    return most


def _mean_square(x: Numbers, centred: bool = False) -> Numbers:
    """Of each column, of what is finite; if ``centred`` about its mean."""
    there = np.isfinite(x)
    count, x = np.maximum(1, there.sum(axis=0)), np.where(there, x, 0.0)
    mean = x.sum(axis=0) / count if centred else 0.0
    square: Numbers = (np.where(there, x - mean, 0.0) ** 2).sum(axis=0) / count
    return square


def tables(
    meta: Any, keys: Sequence[str], episodes: Sequence[int] | None
) -> Iterator[tuple[list[Any], NDArray[np.int64]]]:
    """Rows of columns ``keys`` of the episodes, None for one that is not here, and whose they are, table by table."""
    for file, lengths in _files(meta, episodes).items() if getattr(meta, "root", None) is not None else ():
        path = Path(meta.root) / file
        there = [key for key in keys if path.is_file() and key in pq.read_schema(path).names]
        if not there:
            yield [None] * len(keys), np.zeros(0, np.int64)
            continue
        table = pq.read_table(path, columns=[*there, "episode_index"])
        episode_of = table["episode_index"].to_numpy()
        mine = np.isin(episode_of, list(lengths))
        columns = {key: numbers(table[key], len(table)) for key in there}
        yield [None if (x := columns.get(key)) is None else x[mine] for key in keys], episode_of[mine]


def episodes_with_gaps(meta: Any, key: str, episodes: Sequence[int] | None = None) -> list[int]:
    """Episodes in which a number of column ``key`` is missing, NaN or infinite; of tables that are not here none.

    Args:
        meta: ``dataset.meta``.
        key: Column.
        episodes: Those to look at; unset: all.
    """
    found: set[int] = set()
    for (values,), episode_of in tables(meta, [key], episodes):
        if values is not None:
            found |= set(episode_of[~np.isfinite(values).all(axis=1)].tolist())
    return sorted(found)


def _files(meta: Any, episodes: Sequence[int] | None) -> dict[str, dict[int, int]]:
    """Table -> its episodes and their lengths, in order."""
    chosen = None if episodes is None else set(episodes)
    files: dict[str, dict[int, int]] = {}
    columns = ("episode_index", "length", "data/chunk_index", "data/file_index")
    for episode, length, chunk, file in zip(*(meta.episodes[name] for name in columns), strict=True):
        if chosen is None or int(episode) in chosen:
            path = meta.data_path.format(chunk_index=int(chunk), file_index=int(file))
            files.setdefault(path, {})[int(episode)] = int(length)
    return files


def numbers(column: pa.ChunkedArray, frames: int) -> Numbers | None:
    """(frames, numbers of a frame), NaN where one is missing; None if frames hold no numbers, or not equally many."""
    values = column.combine_chunks()
    there: NDArray[np.bool_] = np.ones(frames, dtype=bool)
    while True:
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        elif pa.types.is_struct(values.type) or not pa.types.is_nested(values.type):
            break
        else:
            if len(values) == frames:
                there &= values.is_valid().to_numpy(zero_copy_only=False)
            values = values.flatten()  # which drops what is missing
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return None
    found = values.to_numpy(zero_copy_only=False).astype(np.float64)
    rows = int(there.sum())
    if not rows or found.size % rows:
        return np.full((frames, 1), np.nan) if not rows else None
    out = np.full((frames, found.size // rows), np.nan)
    out[there] = found.reshape(rows, -1)
    return out


class _Running:
    """Statistics of one column, table by table."""

    def __init__(self) -> None:
        self.seen = 0
        nothing: Numbers = np.zeros(0)
        self.count = self.sum = self.squares = self.low = self.high = self.origin = self.jerk = self.jerks = nothing
        self.levels: list[Numbers | None] = []  # distinct values, while they are few

    @property
    def found(self) -> bool:
        """Whether every dimension had a number."""
        return bool(len(self.count)) and bool((self.count > 0).all())

    def add(self, values: Numbers, episode_of: NDArray[Any]) -> None:
        self.seen += len(values)
        if not len(values):
            return
        width = values.shape[1]
        if not len(self.count):
            self.count, self.sum, self.squares, self.jerk, self.jerks = (np.zeros(width) for _ in range(5))
            self.origin, self.levels = np.full(width, np.nan), [np.zeros(0)] * width
            self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        good = np.isfinite(values)
        first: Numbers = values[good.argmax(axis=0), np.arange(width)]
        self.origin = np.where(np.isnan(self.origin) & good.any(axis=0), first, self.origin)
        apart = np.where(good, values - self.origin, 0)
        self.count = self.count + good.sum(axis=0)
        self.sum, self.squares = self.sum + apart.sum(axis=0), self.squares + (apart**2).sum(axis=0)
        self.low = np.minimum(self.low, np.where(good, values, np.inf).min(axis=0))
        self.high = np.maximum(self.high, np.where(good, values, -np.inf).max(axis=0))
        self.levels = [_merged(levels, values[good[:, i], i]) for i, levels in enumerate(self.levels)]
        for jerk in _second_differences(values, episode_of):
            there = np.isfinite(jerk)
            self.jerk = self.jerk + (np.where(there, jerk, 0) ** 2).sum(axis=0)
            self.jerks = self.jerks + there.sum(axis=0)

    def result(self) -> Statistics:
        mean = self.sum / self.count
        return {
            "mean": self.origin + mean,
            "std": np.sqrt(np.maximum(self.squares / self.count - mean**2, 0)),
            "min": self.low,
            "max": self.high,
            "count": np.array([self.count.max()]),
            "noise": np.sqrt(self.jerk / np.maximum(1, self.jerks) / 6),
            "tick": np.array([_least_gap(levels) for levels in self.levels]),
        }


def _second_differences(values: Numbers, episode_of: NDArray[Any]) -> Iterator[Numbers]:
    """Of each episode's frames: x[t] - 2 x[t + 1] + x[t + 2].

    Of white noise of deviation s it has the variance 6 s**2; of what moves smoothly next to none.
    """
    borders = np.flatnonzero(np.diff(episode_of)) + 1
    for part in np.split(values, borders):
        with np.errstate(invalid="ignore"):
            yield np.diff(part, n=2, axis=0)


def _merged(levels: Numbers | None, values: Numbers) -> Numbers | None:
    """Distinct values so far; None if they are too many."""
    if levels is None:
        return None
    merged = np.union1d(levels, values)
    return merged if len(merged) <= MOST_LEVELS else None


def _least_gap(levels: Numbers | None) -> float:
    if levels is None or len(levels) < 2:
        return 0.0
    gaps = np.diff(levels)
    gaps = gaps[gaps > ROUNDING * np.abs(levels).max()]
    return float(gaps.min()) if len(gaps) else 0.0
