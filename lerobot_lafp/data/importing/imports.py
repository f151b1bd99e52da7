"""Videos, or datasets that LeRobot cannot merge, as one dataset without actions: the options read, the work begun."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ...errors import UserError
from .dataset_episodes import episodes_of
from .importer import Settings, Source, run_import, summary
from .video_files import SUFFIXES, Framing
from .video_sources import VideoFile, tasks_of, video_files


@dataclass(frozen=True)
class ImportOptions:
    """What is made, where.

    Attributes:
        root: Folder of the new dataset.
        repo_id: Its name. Unset: by the folder's.
        size: Pixels a side, or ``HEIGHTxWIDTH``.
        fps: Frames a second.
        fit: How the aspect is kept.
        camera: Name of the images.
        max_seconds: Of an episode; longer ones are split.
        min_frames: Of an episode; shorter ones are left out.
        workers: Processes. Unset: one a core.
        resume: Go on with an import that was interrupted.
    """

    root: Path
    repo_id: str | None = None
    size: str = "224"
    fps: int = 10
    fit: Literal["pad", "crop"] = "pad"
    camera: str = "observation.image"
    max_seconds: float | None = None
    min_frames: int = 2
    workers: int | None = None
    resume: bool = False


class Imported(NamedTuple):
    """What became of an import, in words; and whether nothing failed and the disk sufficed."""

    summary: str
    is_whole: bool


def import_videos(
    folders: Sequence[Path], options: ImportOptions, tasks: str | None = None, split_cuts: bool = False
) -> Imported:
    """Import video files.

    Args:
        folders: Searched for them; files may be named, too.
        options: What is made.
        tasks: ``folder``, or a CSV file with the columns file and task. Unset: no task.
        split_cuts: Whether every scene is an episode of its own.

    Raises:
        UserError: An option does not fit, there is no video, or nothing could be imported.
        FileExistsError: See ``run_import``.
    """
    settings = _settings(options, split_cuts)
    files = video_files(folders)
    if not files:
        raise UserError(
            f"There is no video in {', '.join(map(str, folders))}: no file ends in one of {' '.join(sorted(SUFFIXES))}."
        )
    task_of = tasks_of(files, tasks)
    return _import([VideoFile(path, name, task_of[name]) for name, path in files.items()], options, settings)


def import_datasets(sources: Sequence[str], options: ImportOptions) -> Imported:
    """Import one camera of each of several datasets.

    Args:
        sources: Each ``NAME[,CAMERA]``: a folder or a name on the Hub, and one of its cameras.
        options: What is made.

    Raises:
        UserError: An option does not fit, a dataset cannot be read, or nothing could be imported.
        ValueError: A dataset has another format.
        FileExistsError: See ``run_import``.
    """
    settings = _settings(options)
    return _import([episode for source in sources for episode in episodes_of(source)], options, settings)


def _settings(options: ImportOptions, split_cuts: bool = False) -> Settings:
    height, _, width = options.size.partition("x")
    try:
        framing = Framing(options.fps, int(height), int(width or height), options.fit)
    except ValueError as error:
        raise UserError(f"--size={options.size}, --fps={options.fps}: {error}") from error
    if not options.camera.startswith("observation.image"):
        raise UserError(
            f"--camera={options.camera} must begin with observation.image, by which LeRobot knows a camera (as "
            "observation.images.front)."
        )
    longest = None if options.max_seconds is None else round(options.max_seconds * options.fps)
    for name, value, least in (
        ("--min_frames", options.min_frames, 2),
        ("--workers", options.workers, 1),
        ("--max_seconds, in frames,", longest, options.min_frames),
    ):
        if value is not None and value < least:
            raise UserError(f"{name} must be at least {least}, got {value}.")
    return Settings(framing, options.camera, split_cuts, longest, options.min_frames)


def _import(sources: Sequence[Source], options: ImportOptions, settings: Settings) -> Imported:
    repo_id, workers = options.repo_id or f"local/{options.root.name}", options.workers or os.cpu_count() or 1
    report = run_import(sources, options.root, repo_id, settings, workers, options.resume)
    return Imported(summary(report, options.root, settings.framing), report.is_whole)
