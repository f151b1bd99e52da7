"""Pictures of a whole dataset looked at, episode by episode, and what is wrong with its cameras, camera by camera."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
from lerobot.utils.constants import OBS_STATE
from tqdm import tqdm

from ...training.measuring import Numbers
from .cameras import PICTURES, Finding, Looks, Seen, evenly, find, grey_of_cell, look_at_video
from .columns import Recorded

#: Episodes that are looked at, evenly spread, if not all are.
MOST_EPISODES = 200
#: Deviations of a state's noise below which it does not tell that anything moved.
ABOVE_NOISE = 3.0


def look_at(meta: Any, episodes: Sequence[int], progress: bool) -> Seen:
    """A few pictures of ``episodes``, of each camera. Files that cannot be read are left out.

    Args:
        meta: ``dataset.meta`` of a dataset that is on disk.
        episodes: Which.
        progress: Whether a bar is shown.
    """
    seen: Seen = {}
    work = [(camera, file, spans) for camera in meta.camera_keys for file, spans in _files(meta, camera, episodes)]
    for camera, file, spans in tqdm(work, desc="pictures", unit="file", disable=not progress):
        path = Path(meta.root) / file
        try:
            if camera in meta.video_keys:
                for episode, looks in look_at_video(path, spans, meta.fps):
                    seen.setdefault(episode, {})[camera] = looks
            else:
                _look_at_table(path, camera, spans, seen)
        except (av.FFmpegError, OSError, ValueError, KeyError, IndexError):
            continue  # it is missing or damaged, and named as a fault
    return seen


def _files(meta: Any, camera: str, episodes: Sequence[int]) -> list[tuple[str, dict[int, tuple[float, int]]]]:
    """File -> its episodes: where each begins, in seconds or rows, and how many frames it has."""
    video = camera in meta.video_keys
    column, path = (f"videos/{camera}", meta.video_path) if video else ("data", meta.data_path)
    files: dict[str, dict[int, tuple[float, int]]] = {}
    for episode in episodes:
        row = meta.episodes[episode]
        start = row[f"videos/{camera}/from_timestamp"] if video else row["dataset_from_index"]
        file = path.format(
            video_key=camera, chunk_index=int(row[f"{column}/chunk_index"]), file_index=int(row[f"{column}/file_index"])
        )
        files.setdefault(file, {})[episode] = (float(start), int(row["length"]))
    return list(files.items())


def _look_at_table(path: Path, camera: str, spans: Mapping[int, tuple[float, int]], seen: Seen) -> None:
    """Pictures in a table; groups of rows that hold none of those wanted are not read."""
    wanted = {(episode, frame) for episode, (_, count) in spans.items() for frame in evenly(count, PICTURES)}
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=["episode_index", "frame_index"]).to_pydict()
            named = zip(rows["episode_index"], rows["frame_index"], strict=True)
            at = [i for i, each in enumerate(named) if each in wanted]
            if not at:
                continue
            cells = file.read_row_group(group, columns=[camera])[camera].take(at).to_pylist()
            for i, cell in zip(at, cells, strict=True):
                image = grey_of_cell(cell)
                if image is not None:
                    looks = seen.setdefault(rows["episode_index"][i], {}).setdefault(camera, Looks())
                    looks.add(rows["frame_index"][i], image)


def findings(seen: Seen, recorded: Recorded, columns: Mapping[str, Any]) -> list[Finding]:
    """What is wrong with the cameras of every episode that was looked at."""
    dimensions = columns.get(OBS_STATE, {}).get("dimensions") or []
    moving = [i for i, one in enumerate(dimensions) if not one["still"] and one["std"] > ABOVE_NOISE * one["noise"]]
    scale = np.array([dimensions[i]["std"] for i in moving])

    def path(episode: int) -> Numbers | None:
        values = recorded.values.get(episode, {}).get(OBS_STATE)
        if values is None or not dimensions or values.shape[1] <= max(moving, default=0):
            return None
        return values[:, moving] / scale if moving else np.zeros((len(values), 1))

    return [finding for episode in sorted(seen) for finding in find(seen[episode], episode, path(episode))]


def by_camera(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings of each camera and kind, all or a part of the episode apart, for JSON."""
    groups: dict[tuple[str, str, str | None, bool], list[Finding]] = {}
    for each in found:
        groups.setdefault((each.camera, each.kind, each.other, each.part < 1), []).append(each)
    return [
        {
            "camera": camera,
            "kind": kind,
            "other": other,
            "whole": not part,
            "episodes": sorted(each.episode for each in several),
            "part": float(np.median([each.part for each in several])),
        }
        for (camera, kind, other, part), several in groups.items()
    ]
