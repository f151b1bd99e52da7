"""What is wrong with a LeRobotDataset on disk, by file and episode: said before a training meets it.

LeRobot asks the Hub for a file that is missing, and of one that is damaged says what its parser does, seldom which.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.datasets.utils import DEFAULT_TASKS_PATH, EPISODES_DIR, INFO_PATH, STATS_PATH
from lerobot.utils.constants import ACTION
from numpy.typing import NDArray
from pandas import DataFrame
from tqdm import tqdm

from ...errors import in_one_line
from ...training.measuring import numbers
from .cameras import Looks, Seen, grey_of, grey_of_cell
from .columns import plain

#: LeRobot's own ``tolerance_s``: seconds that a frame may be away from where it is looked for.
TOLERANCE_S = 1e-4


class CheckLevel(IntEnum):
    """How far one looks: whether files are there and can be opened; at every row and every frame's time; at every
    picture, decoded."""

    FILES = 0
    FRAMES = 1
    PICTURES = 2


@dataclass(frozen=True)
class Fault:
    """Something that a training or a probe would stumble on.

    Attributes:
        file: Which, from the dataset's folder.
        says: What is wrong with it, after "file ..".
        episodes: Those that cannot be used for it; none: not one of all can.
        lost: Whether the whole file is missing or cannot be read.
        option: Whether the episodes can be used all the same, with an option that ``says`` names.
    """

    file: str
    says: str
    episodes: tuple[int, ...]
    lost: bool = False
    option: bool = False

    def __str__(self) -> str:
        return f"{self.file} {self.says} ({_named(self.episodes)})."


@dataclass(frozen=True)
class Soundness:
    """What was found.

    Attributes:
        episodes: All there are; empty if not even that can be read.
        faults: What is wrong, in the order of the files.
    """

    episodes: tuple[int, ...]
    faults: tuple[Fault, ...]

    @property
    def sound_episodes(self) -> list[int]:
        """Those that no fault touches."""
        lost = (fault.episodes or self.episodes for fault in self.faults if not fault.option)
        return sorted(set(self.episodes).difference(*lost))


def validate_dataset(
    root: Path,
    level: CheckLevel = CheckLevel.FRAMES,
    tolerance_s: float = TOLERANCE_S,
    progress: bool = False,
    seen: Seen | None = None,
) -> Soundness:
    """Look for faults of the dataset in folder ``root``; nothing is changed, and nothing fetched.

    Args:
        root: With ``meta/info.json`` in it.
        level: How far.
        tolerance_s: Seconds that a frame may be away from where it is looked for.
        progress: Whether a bar is shown.
        seen: Gets what every picture looks like, of ``PICTURES``.
    """
    if faults := tuple(_meta_faults(root)):
        return Soundness((), faults)
    try:
        meta = LeRobotDatasetMetadata(root.name, root=root)
    except Exception as error:  # LeRobot, datasets and pandas have no common base for what can go wrong
        return Soundness((), (Fault("meta", f"cannot be read: {in_one_line(error)}", (), lost=True),))
    rows = meta.episodes.to_pandas()
    files = [
        (file, among, partial(_table_faults, meta=meta, seen=seen))
        for file, among in _by_file(rows, "data", meta.data_path, "dataset_from_index")
    ]
    for camera in meta.video_keys:
        path, start = str(meta.video_path).replace("{video_key}", camera), f"videos/{camera}/from_timestamp"
        files += [
            (file, among, partial(_video_faults, camera=camera, fps=meta.fps, seen=seen))
            for file, among in _by_file(rows, f"videos/{camera}", path, start)
        ]
    found: list[Fault] = list(_statistics_faults(meta)) if level else []
    for file, among, faults_of in tqdm(files, desc="files", unit="file", disable=not progress):
        if (root / file).is_file():
            found += faults_of(root, file, among, level=level, tolerance_s=tolerance_s)
        else:
            found.append(Fault(file, "is not there", tuple(among), lost=True))
    return Soundness(tuple(range(meta.total_episodes)), tuple(found))


def _named(episodes: tuple[int, ...]) -> str:
    if not episodes:
        return "the whole dataset"
    some = ", ".join(map(str, episodes[:10])) + (", .." if len(episodes) > 10 else "")
    return f"episode {some}" if len(episodes) == 1 else f"{len(episodes)} episodes: {some}"


def _meta_faults(root: Path) -> Iterator[Fault]:
    """Of the files without which LeRobot would ask the Hub, or end in its parser."""
    try:
        info = json.loads((root / INFO_PATH).read_text())
        empty = not info["total_episodes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Fault(INFO_PATH, f"cannot be read: {in_one_line(error)}", (), lost=True)
        return
    if empty:
        yield Fault(INFO_PATH, "says that there is no episode", ())
        return
    tables = sorted((root / EPISODES_DIR).glob("*/*.parquet"))
    if not tables:
        yield Fault(EPISODES_DIR, "holds no table", (), lost=True)
    try:
        if (root / STATS_PATH).exists():
            json.loads((root / STATS_PATH).read_text())
    except (OSError, ValueError) as error:
        yield Fault(STATS_PATH, f"cannot be read: {in_one_line(error)}", (), lost=True)
    for table in (root / DEFAULT_TASKS_PATH, *tables):
        try:
            pq.read_table(table)
        except (OSError, pa.ArrowException) as error:
            yield Fault(str(table.relative_to(root)), f"cannot be read: {in_one_line(error)}", (), lost=True)


def _statistics_faults(meta: LeRobotDatasetMetadata) -> Iterator[Fault]:
    """Statistics without which ``lerobot-train`` stops before its first step (``L/datasets/factory.py``)."""
    cameras = [key for key in meta.camera_keys if key not in meta.depth_keys]
    lacking = [key for key in cameras if key not in (meta.stats or {})]
    if lacking:
        what = "is not there" if meta.stats is None else f"lacks {', '.join(f'`{key}`' for key in lacking)}"
        yield Fault(
            STATS_PATH,
            f"{what}, and lerobot-train stops for want of it. Add --dataset.use_imagenet_stats=false: LAFP does "
            "without statistics of cameras",
            (),
            option=True,
        )


@dataclass(frozen=True)
class _Span:
    """Where an episode lies in a file: its first row or second, and how many frames it has."""

    start: float
    frames: int


def _by_file(rows: DataFrame, column: str, path: str, start: str) -> Iterable[tuple[str, dict[int, _Span]]]:
    """The files that ``column`` of the episodes' table names, and where each of their episodes lies in them."""
    files: dict[str, dict[int, _Span]] = {}
    for row in rows.to_dict("records"):
        file = path.format(chunk_index=int(row[f"{column}/chunk_index"]), file_index=int(row[f"{column}/file_index"]))
        span = _Span(float(row[start]), int(row["dataset_to_index"] - row["dataset_from_index"]))
        files.setdefault(file, {})[int(row["episode_index"])] = span
    return files.items()


def _table_faults(
    root: Path,
    file: str,
    episodes: Mapping[int, _Span],
    meta: LeRobotDatasetMetadata,
    level: CheckLevel,
    tolerance_s: float,
    seen: Seen | None,
) -> Iterator[Fault]:
    """Faults of one table of frames, which is there."""
    try:
        names = pq.read_schema(root / file).names
        pictures = [name for name in meta.image_keys if name in names] if level is CheckLevel.PICTURES else []
        wanted = [*pictures, *(name for name in names if name not in meta.image_keys)]
        table = pq.read_table(root / file, columns=wanted if level else ["episode_index"])
    except (OSError, pa.ArrowException) as error:
        yield Fault(file, f"cannot be read: {in_one_line(error)}", tuple(episodes), lost=True)
        return
    episode_of = table["episode_index"].to_numpy()
    for episode, span in episodes.items():
        mine = np.flatnonzero(episode_of == episode)
        if len(mine) != span.frames:
            yield Fault(file, f"has {len(mine)} frames where meta says {span.frames}", (episode,))
        elif level:
            yield from _frame_faults(file, episode, table.take(mine), span, meta, tolerance_s, seen)


def _frame_faults(
    file: str,
    episode: int,
    frames: pa.Table,
    span: _Span,
    meta: LeRobotDatasetMetadata,
    tolerance_s: float,
    seen: Seen | None,
) -> Iterator[Fault]:
    """Faults of the rows of one episode."""
    count = np.arange(span.frames)
    if not np.array_equal(frames["index"].to_numpy(), count + int(span.start)):
        yield Fault(file, "has its frames in another order than `index` says", (episode,))
    times = frames["timestamp"].to_numpy().astype(np.float64)
    late = ~(np.abs(times - count / meta.fps) <= tolerance_s + 1e-7 * count / meta.fps)  # which are of 32 bits
    if late.any():
        i = int(np.argmax(late))
        yield Fault(
            file,
            f"has frame {i} at {times[i]:.4f} s, which at {meta.fps} frames a second is due at {i / meta.fps:.4f} s",
            (episode,),
        )
    for name, feature in meta.features.items():
        if name not in frames.column_names:
            continue
        if feature["dtype"] == "image":
            bad = _unreadable_pictures(frames[name].to_pylist(), _looks(seen, episode, name))
            what = "no picture"
        elif feature["dtype"].startswith("float"):
            values = numbers(plain(frames[name]), span.frames)
            if values is None:
                yield Fault(file, f"has no numbers in `{name}`, which meta says is {feature['dtype']}", (episode,))
                continue
            bad = np.asarray(~np.isfinite(values).all(axis=1))
            what = "NaN or infinite values"
        else:
            continue
        if bad.any() and not (name == ACTION and bad.all()):  # an episode without any action is video
            where = f"{int(bad.sum())} of {span.frames} frames, the first is {int(np.argmax(bad))}"
            yield Fault(file, f"has {what} in `{name}` at {where}", (episode,))


def _looks(seen: Seen | None, episode: int, camera: str) -> Looks:
    return Looks() if seen is None else seen.setdefault(episode, {}).setdefault(camera, Looks())


def _unreadable_pictures(cells: Iterable[Mapping[str, Any] | None], looks: Looks) -> NDArray[np.bool_]:
    """Which of an episode's cells hold no picture; those that do are added to ``looks``."""
    bad = []
    for frame, cell in enumerate(cells):
        image = grey_of_cell(cell)
        bad.append(image is None)
        if image is not None:
            looks.add(frame, image)
    return np.array(bad)


def _video_faults(
    root: Path,
    file: str,
    episodes: Mapping[int, _Span],
    camera: str,
    fps: int,
    level: CheckLevel,
    tolerance_s: float,
    seen: Seen | None,
) -> Iterator[Fault]:
    """Faults of one video file, which is there."""
    shown = Looks() if level is CheckLevel.PICTURES and seen is not None else None
    try:
        times = _times(root / file, level, shown)
    except (av.FFmpegError, EOFError, OSError, ValueError) as error:
        yield Fault(file, f"cannot be read: {in_one_line(error)}", tuple(episodes), lost=True)
        return
    if times is None:
        return
    order = np.argsort(times, kind="stable")
    times = np.concatenate([[-np.inf], times[order], [np.inf]])
    for episode, span in episodes.items():
        due = span.start + np.arange(span.frames) / fps
        after = np.searchsorted(times, due)
        nearest = np.minimum(times[after] - due, due - times[after - 1])
        if shown is not None and len(order):
            before = due - times[after - 1] < times[after] - due
            which = order[np.clip(np.where(before, after - 1, after) - 1, 0, len(order) - 1)]
            _looks(seen, episode, camera).extend(shown.taken(which.tolist(), range(span.frames)))
        if (missed := ~(nearest < tolerance_s)).any():
            i = int(np.argmax(missed))
            where = f"{int(missed.sum())} of {span.frames} frames, the first is {i}, due at {due[i]:.4f} s of the video"
            yield Fault(file, f"has no picture for {where}; the nearest is {nearest[i]:.4f} s away", (episode,))


def _times(file: Path, level: CheckLevel, looks: Looks | None) -> NDArray[Any] | None:
    """Seconds of a video's pictures: those that its packets say, or of ``PICTURES`` those that are decoded, which are
    added to ``looks`` in the same order.

    None where it was only opened (``FILES``).
    """
    with av.open(str(file), metadata_errors="ignore") as container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        stream = container.streams.video[0]
        if stream.codec_context is None:  # decoding would take the whole process down
            raise ValueError("its codec is not known")
        if level is CheckLevel.FILES:
            return None
        at: list[Any] = []
        for each in container.decode(stream) if level is CheckLevel.PICTURES else container.demux(stream):
            if each.pts is None or each.time_base is None:
                continue
            at.append(each.pts * each.time_base)
            if looks is not None and isinstance(each, av.VideoFrame):
                looks.add(len(at) - 1, grey_of(each))
    return np.array(at, dtype=np.float64)


def lines(found: Soundness) -> list[str]:
    """What was found, in words, with the mend."""
    total, sound = len(found.episodes), found.sound_episodes
    if not found.faults:
        return [f"  {total} episodes, all sound"]
    said = [f"  {fault}" for fault in found.faults]
    if any(fault.lost for fault in found.faults):
        said.append("  Copy or download again what is missing or cannot be read.")
    if sound and any(not fault.option for fault in found.faults):
        first = "move the tables away that cannot be read, and " * any(
            fault.lost and fault.file.startswith("data/") for fault in found.faults
        )
        those = json.dumps(sound, separators=(",", ":"))
        said.append(
            f"  {len(sound)} of {total} episodes are sound. To go on with those, {first}add --dataset.episodes={those}"
        )
    return said
