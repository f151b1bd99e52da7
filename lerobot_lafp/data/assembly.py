"""Many LeRobotDatasets with the same features -> one, without writing a video a second time.

LeRobot's ``aggregate_datasets`` copies every video: twice the disk, which an import that ran out of it has not got.
Here they are linked, each as the file it is, and only the tables are written anew.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets import LeRobotDatasetMetadata, aggregate_stats
from lerobot.datasets.io_utils import write_info, write_stats, write_tasks
from lerobot.datasets.utils import (
    DEFAULT_DATA_PATH,
    DEFAULT_EPISODES_PATH,
    DEFAULT_VIDEO_PATH,
    update_chunk_file_indices,
)


def link(source: str | Path, target: str | Path) -> None:
    """A hard link, or a copy where there can be none (another file system)."""
    try:
        os.link(os.path.realpath(source), target)  # the Hub's cache holds symbolic links
    except OSError:
        shutil.copy2(source, target)


def assemble(parts: Iterable[Path], target: Path) -> tuple[int, int]:
    """Write the episodes of ``parts``, in this order, as one LeRobotDataset v3.

    Args:
        parts: Roots of datasets with the same features and rate; at least one.
        target: The new dataset's folder, which must not exist.

    Returns:
        Episodes and frames.
    """
    merged = _Merged(target)
    for part in parts:
        merged.add(part)
    return merged.close()


class _Table:
    """Parquet files of at most about ``limit`` bytes, one row group a call."""

    def __init__(self, root: Path, pattern: str, limit: int, files_per_chunk: int) -> None:
        self.root, self.pattern, self.limit, self.files_per_chunk = root, pattern, limit, files_per_chunk
        self.place = (0, 0)
        self.file: Any = None
        self.writer: Any = None

    def begin(self) -> tuple[int, int]:
        """(chunk, file) that the next rows go to."""
        if self.file is not None and self.file.tell() >= self.limit:
            self.close()
            self.place = update_chunk_file_indices(*self.place, self.files_per_chunk)
        return self.place

    def write(self, table: pa.Table) -> None:
        if self.file is None:
            path = self.root / self.pattern.format(chunk_index=self.place[0], file_index=self.place[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("wb")
            self.writer = pq.ParquetWriter(self.file, table.schema, compression="snappy", use_dictionary=True)
        self.writer.write_table(table.cast(self.writer.schema))

    def close(self) -> None:
        if self.file is not None:
            self.writer.close()
            self.file.close()
        self.file = None


class _Merged:
    def __init__(self, target: Path) -> None:
        target.mkdir(parents=True)
        self.target = target
        self.info: Any = None
        self.stats: dict[str, Any] | None = None
        self.tasks: dict[str, int] = {}
        self.videos: dict[str, tuple[int, int] | None] = {}
        self.episodes = self.frames = 0

    def add(self, part: Path) -> None:
        meta = LeRobotDatasetMetadata(part.name, root=part)
        if self.info is None:
            self.info = meta.info
            limit, per_chunk = meta.info.data_files_size_in_mb << 20, meta.info.chunks_size
            self.data = _Table(self.target, DEFAULT_DATA_PATH, limit, per_chunk)
            self.meta = _Table(self.target, DEFAULT_EPISODES_PATH, limit, per_chunk)
            self.videos = dict.fromkeys(meta.video_keys)
        rows = pd.concat([pd.read_parquet(file) for file in sorted(part.glob("meta/episodes/*/*.parquet"))])
        rows["episode_index"] += self.episodes
        for name in ("dataset_from_index", "dataset_to_index"):
            rows[name] += self.frames
        rows["data/chunk_index"], rows["data/file_index"] = self.data.begin()
        rows["meta/episodes/chunk_index"], rows["meta/episodes/file_index"] = self.meta.begin()
        for key in meta.video_keys:
            self._link_videos(part, key, rows)
        renumbered = self._take_tasks(meta)
        for file in sorted(part.glob("data/*/*.parquet")):
            table = pq.ParquetFile(file)
            for group in range(table.num_row_groups):
                self.data.write(self._moved(table.read_row_group(group), renumbered))
        self.meta.write(pa.Table.from_pandas(rows, preserve_index=False))
        self.stats = aggregate_stats([self.stats, meta.stats]) if self.stats else meta.stats
        self.episodes += meta.total_episodes
        self.frames += meta.total_frames

    def _take_tasks(self, meta: LeRobotDatasetMetadata) -> dict[int, int]:
        """Index of a task in the part -> in the whole."""
        rows = meta.tasks.iterrows()
        return {int(row.task_index): self.tasks.setdefault(str(task), len(self.tasks)) for task, row in rows}

    def _moved(self, table: pa.Table, tasks: dict[int, int]) -> pa.Table:
        moved = {
            "index": [i + self.frames for i in table["index"].to_pylist()],
            "episode_index": [i + self.episodes for i in table["episode_index"].to_pylist()],
            "task_index": [tasks[i] for i in table["task_index"].to_pylist()],
        }
        for name, values in moved.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), pa.array(values, pa.int64()))
        return table

    def _link_videos(self, part: Path, key: str, rows: pd.DataFrame) -> None:
        """Link the part's files of a camera under the next numbers, and say so in its episodes' ``rows``."""
        names = [f"videos/{key}/chunk_index", f"videos/{key}/file_index"]
        places: dict[tuple[int, int], tuple[int, int]] = {}
        for old in dict.fromkeys(rows[names].itertuples(index=False, name=None)):
            last = self.videos[key]
            place = (0, 0) if last is None else update_chunk_file_indices(*last, self.info.chunks_size)
            source, target = (
                root / DEFAULT_VIDEO_PATH.format(video_key=key, chunk_index=at[0], file_index=at[1])
                for root, at in ((part, old), (self.target, place))
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            link(source, target)
            places[old] = self.videos[key] = place
        moved = [places[old] for old in rows[names].itertuples(index=False, name=None)]
        rows[names[0]], rows[names[1]] = zip(*moved, strict=True)

    def close(self) -> tuple[int, int]:
        self.data.close()
        self.meta.close()
        self.info.total_episodes, self.info.total_frames = self.episodes, self.frames
        self.info.total_tasks = len(self.tasks)
        self.info.splits = {"train": f"0:{self.episodes}"}
        write_tasks(
            pd.DataFrame({"task_index": list(self.tasks.values())}, index=pd.Index(self.tasks, name="task")),
            self.target,
        )
        write_stats(self.stats or {}, self.target)
        write_info(self.info, self.target)
        return self.episodes, self.frames
