"""What the command lines of ``lafp import-videos`` and ``lafp import-datasets`` have in common."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.importing.importer import Settings, Source, run_import, summary
from ..data.importing.video_files import Framing
from ..errors import UserError
from .arguments import CommandParser


def add_import_options(parser: CommandParser) -> None:
    """Add them to ``parser``."""
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--repo_id")
    parser.add_argument("--size", default="224")
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--fit", choices=("pad", "crop"), default="pad")
    parser.add_argument("--camera", default="observation.image")
    parser.add_argument("--max_seconds", type=float)
    parser.add_argument("--min_frames", type=int, default=2)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--resume", action="store_true")


def import_settings(given: Any, split_cuts: bool = False) -> Settings:
    """The options of ``add_import_options`` as ``Settings``.

    Raises:
        UserError: One of them does not fit.
    """
    height, _, width = given.size.partition("x")
    try:
        framing = Framing(given.fps, int(height), int(width or height), given.fit)
    except ValueError as error:
        raise UserError(f"--size={given.size}, --fps={given.fps}: {error}") from error
    if not given.camera.startswith("observation.image"):
        raise UserError(
            f"--camera={given.camera} must begin with observation.image, by which LeRobot knows a camera (as "
            "observation.images.front)."
        )
    longest = None if given.max_seconds is None else round(given.max_seconds * given.fps)
    for name, value, least in (
        ("--min_frames", given.min_frames, 2),
        ("--workers", given.workers, 1),
        ("--max_seconds, in frames,", longest, given.min_frames),
    ):
        if value is not None and value < least:
            raise UserError(f"{name} must be at least {least}, got {value}.")
    return Settings(framing, given.camera, split_cuts, longest, given.min_frames)


def finish_import(sources: Sequence[Source], given: Any, settings: Settings) -> int:
    """Import as the options of ``add_import_options`` say, and print the report; returns the exit status."""
    repo_id = given.repo_id or f"local/{given.root.name}"
    report = run_import(sources, given.root, repo_id, settings, given.workers, given.resume)
    print(summary(report, given.root, settings.framing))
    return 0 if report.is_whole else 1
