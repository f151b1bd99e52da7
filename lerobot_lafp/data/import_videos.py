"""``lafp import-videos``: folders of video files -> one action-free LeRobotDataset."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..command_line import CommandParser
from ..runs import CommandError
from .import_options import add_import_options, finish_import, import_settings
from .video_files import SUFFIXES, Framing, Image, read_images

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


@dataclass(frozen=True)
class VideoFile:
    """A source that is one file.

    Attributes:
        path: The file.
        name: What it is called in the dataset.
        task: Of its episodes.
    """

    path: Path
    name: str
    task: str

    @property
    def label(self) -> str:
        return self.name

    def identity(self) -> list[Any]:
        there = self.path.stat()
        return [str(self.path.resolve()), there.st_size, there.st_mtime_ns, self.task]

    def clips(self, framing: Framing) -> Iterator[tuple[str, Iterator[Image]]]:
        yield self.task, read_images(self.path, framing)


def run_import_videos(arguments: Sequence[str]) -> int:
    """Run ``lafp import-videos`` as ``USAGE`` says; returns the exit status.

    Raises:
        CommandError: An argument is missing or does not fit, or nothing could be imported.
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
        raise CommandError(
            f"There is no video in {', '.join(map(str, given.folders))}: no file ends in one of "
            f"{' '.join(sorted(SUFFIXES))}."
        )
    tasks = _tasks(files, given.tasks)
    sources = [VideoFile(path, name, tasks[name]) for name, path in files.items()]
    return finish_import(sources, given, settings)


def video_files(given: Sequence[Path]) -> dict[str, Path]:
    """Video files below each of ``given`` by name, in order of name: the folder's own name and the path within it.

    Symbolic links are followed, each folder being looked at once.

    Raises:
        CommandError: There is no such folder or file.
    """
    found: list[tuple[str, Path]] = []
    for place in given:
        if place.is_file():
            found.append((place.name, place))
        elif place.is_dir():
            label = place.resolve().name
            found += sorted((f"{label}/{path.relative_to(place).as_posix()}", path) for path in _walk(place))
        else:
            raise CommandError(f"{place} is neither a folder nor a file.")
    names = Counter(name for name, _ in found)
    return {name if names[name] == 1 else str(path.resolve()): path for name, path in found}


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()  # a link to what was seen already, perhaps to a folder above
            continue
        seen.add(real)
        yield from (Path(place) / file for file in files if Path(file).suffix.lower() in SUFFIXES)


def _tasks(files: dict[str, Path], given: str | None) -> dict[str, str]:
    """Task of each file."""
    if given is None:
        return dict.fromkeys(files, "")
    if given == "folder":
        return {name: path.resolve().parent.name for name, path in files.items()}
    try:
        with open(given, newline="") as table:
            rows = list(csv.DictReader(table))
        listed = {row["file"]: row["task"] for row in rows}
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise CommandError(
            f"--tasks={given} must be `folder` or a CSV file with the columns file and task ({error})."
        ) from error
    tasks = {}
    for name, path in files.items():
        keys = (name, name.partition("/")[2], str(path), path.name)
        tasks[name] = next((listed[key] for key in keys if key in listed), None)
    if unlisted := [name for name, task in tasks.items() if task is None]:
        raise CommandError(
            f"--tasks={given} does not list {len(unlisted)} of {len(files)} files, as {unlisted[:3]}. Add them."
        )
    return {name: str(task) for name, task in tasks.items()}
