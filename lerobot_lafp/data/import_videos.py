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
from .importing import Settings, Source, run_import, summary
from .video_files import SUFFIXES, Framing, Image, read_images

USAGE = """lafp import-videos FOLDER.. --root=OUT [--repo_id=NAME] [--size=S] [--fps=N] [--fit=pad|crop] [--camera=KEY]
           [--tasks=folder|FILE.csv] [--split_cuts] [--max_seconds=S] [--min_frames=N] [--workers=N] [--resume]

Makes a LeRobotDataset without actions, for stages latent_action and latent_policy, from all video files in the folders
(files may be named, too). Frames are taken at N a second (default: 10) and resized to S pixels a side (default: 224;
or HEIGHTxWIDTH), their aspect kept: padded with black, or cropped. An episode is a file; with --split_cuts each scene
of it, and with --max_seconds never more than that; clips of fewer than N frames (default: 2) are left out. Its task is
empty, or the name of the folder the file is in, or what a CSV with the columns file and task says. Images are called
KEY (default: observation.image); the column source says which file they are from. N processes work (default: one a
core). A file that cannot be read is skipped and named at the end; --resume goes on with an import that was interrupted.
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


def add_import_options(parser: CommandParser) -> None:
    """What ``lafp import-videos`` and ``import-datasets`` have in common."""
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
        CommandError: One of them does not fit.
    """
    height, _, width = given.size.partition("x")
    try:
        framing = Framing(given.fps, int(height), int(width or height), given.fit)
    except ValueError as error:
        raise CommandError(f"--size={given.size}, --fps={given.fps}: {error}") from error
    if not given.camera.startswith("observation.image"):
        raise CommandError(
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
            raise CommandError(f"{name} must be at least {least}, got {value}.")
    return Settings(framing, given.camera, split_cuts, longest, given.min_frames)


def finish_import(sources: Sequence[Source], given: Any, settings: Settings) -> int:
    """Import as the options of ``add_import_options`` say, and print the report; returns the exit status."""
    repo_id = given.repo_id or f"local/{given.root.name}"
    report = run_import(sources, given.root, repo_id, settings, given.workers, given.resume)
    print(summary(report, given.root, settings.framing))
    return 0 if report.is_whole else 1


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
