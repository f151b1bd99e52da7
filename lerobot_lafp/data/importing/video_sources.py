"""``lafp import-videos``: folders of video files -> one action-free LeRobotDataset."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from .video_files import SUFFIXES, Framing, Image, read_images


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


def video_files(given: Sequence[Path]) -> dict[str, Path]:
    """Video files below each of ``given`` by name, in order of name: the folder's own name and the path within it.

    Symbolic links are followed, each folder being looked at once.

    Raises:
        UserError: There is no such folder or file.
    """
    found: list[tuple[str, Path]] = []
    for place in given:
        if place.is_file():
            found.append((place.name, place))
        elif place.is_dir():
            label = place.resolve().name
            found += sorted((f"{label}/{path.relative_to(place).as_posix()}", path) for path in _walk(place))
        else:
            raise UserError(f"{place} is neither a folder nor a file.")
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


def tasks_of(files: dict[str, Path], given: str | None) -> dict[str, str]:
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
        raise UserError(
            f"--tasks={given} must be `folder` or a CSV file with the columns file and task ({error})."
        ) from error
    tasks = {}
    for name, path in files.items():
        keys = (name, name.partition("/")[2], str(path), path.name)
        tasks[name] = next((listed[key] for key in keys if key in listed), None)
    if unlisted := [name for name, task in tasks.items() if task is None]:
        raise UserError(
            f"--tasks={given} does not list {len(unlisted)} of {len(files)} files, as {unlisted[:3]}. Add them."
        )
    return {name: str(task) for name, task in tasks.items()}
