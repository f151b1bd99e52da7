"""``lafp import-videos``."""

from collections.abc import Sequence
from pathlib import Path

from ..data.importing.video_files import SUFFIXES
from ..data.importing.video_sources import VideoFile, _tasks, video_files
from ..errors import UserError
from .arguments import CommandParser
from .import_options import add_import_options, finish_import, import_settings

USAGE = """lafp import-videos FOLDER.. --root=OUT [--repo_id=NAME] [--size=S] [--fps=N] [--fit=pad|crop] [--camera=KEY]
           [--tasks=folder|FILE.csv] [--split_cuts] [--max_seconds=S] [--min_frames=N] [--workers=N] [--resume]

Makes a LeRobotDataset without actions, for stages latent_action and latent_policy, from all video files in the folders
(files may be named, too). Frames are taken at N a second (default: 10) and resized to S pixels a side (default: 224;
or HEIGHTxWIDTH), their aspect kept: padded with black, or cropped. They look as a player shows them: turned, flipped
and with pixels as wide as the file says. An episode is a file; with --split_cuts each scene of it, and with
--max_seconds never more than that; clips of fewer than N frames (default: 2) are left out. Its task is empty, or the
name of the folder the file is in, or what a CSV with the columns file and task says. Images are called KEY (default:
observation.image); the column source says which file they are from. N processes work (default: one a core). A file that
cannot be read is skipped and named at the end; --resume goes on with an import that was interrupted.
"""


def run_import_videos(arguments: Sequence[str]) -> int:
    """Run ``lafp import-videos`` as ``USAGE`` says; returns the exit status.

    Raises:
        UserError: An argument is missing or does not fit, or nothing could be imported.
        FileExistsError: See ``run_import``.
    """
    parser = CommandParser("import-videos", USAGE)
    parser.add_argument("folders", nargs="+", type=Path)
    add_import_options(parser)
    parser.add_argument("--tasks")
    parser.add_argument("--split_cuts", action="store_true")
    given = parser.parse_args(arguments)
    settings = import_settings(given, split_cuts=given.split_cuts)
    files = video_files(given.folders)
    if not files:
        raise UserError(
            f"There is no video in {', '.join(map(str, given.folders))}: no file ends in one of "
            f"{' '.join(sorted(SUFFIXES))}."
        )
    tasks = _tasks(files, given.tasks)
    sources = [VideoFile(path, name, tasks[name]) for name, path in files.items()]
    return finish_import(sources, given, settings)
