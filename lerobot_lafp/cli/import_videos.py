"""``lafp import-videos``."""

from pathlib import Path
from typing import Annotated

import typer

from .import_options import Camera, Fit, Fps, MaxSeconds, MinFrames, RepoId, Resume, Root, Size, Workers


def import_videos(
    folders: Annotated[list[Path], typer.Argument(help="Folders with videos, or single video files.")],
    root: Root,
    repo_id: RepoId = None,
    size: Size = "224",
    fps: Fps = 10,
    fit: Fit = "pad",
    camera: Camera = "observation.image",
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks",
            show_default="no task",
            help="Task of each video: `folder` for the name of its folder, or a CSV file with columns file and task.",
        ),
    ] = None,
    split_cuts: Annotated[
        bool, typer.Option("--split_cuts", help="Start a new episode at every cut between scenes.")
    ] = False,
    max_seconds: MaxSeconds = None,
    min_frames: MinFrames = 2,
    workers: Workers = None,
    resume: Resume = False,
) -> int:
    """Turn folders of videos into a dataset without actions.

    Stages latent_action and latent_policy train on it. Each video file becomes an episode. Frames look as in a video
    player: rotated, flipped and with the pixel shape that the file asks for. The column source names the file of each
    frame.

    A file that cannot be read is skipped and listed at the end. The exit status is 1 if the import is incomplete.
    """
    from ..data.importing.imports import ImportOptions
    from ..data.importing.imports import import_videos as run

    options = ImportOptions(root, repo_id, size, fps, fit, camera, max_seconds, min_frames, workers, resume)
    found = run(folders, options, tasks, split_cuts)
    print(found.summary)
    return 0 if found.is_whole else 1
