"""``lafp import-datasets``: LeRobotDatasets of different cameras, rates and robots -> one without actions."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from PIL import Image as PILImage
from PIL import ImageOps

from ..command_line import CommandParser
from ..messages import in_one_line
from ..runs import CommandError
from .formats import refuse_other_format, why_unreadable
from .import_options import add_import_options, finish_import, import_settings
from .video_files import Framing, Image, at_rate, fitted, read_images

USAGE = """lafp import-datasets SOURCE.. --root=OUT [--repo_id=NAME] [--size=S] [--fps=N] [--fit=pad|crop]
           [--camera=KEY] [--max_seconds=S] [--min_frames=N] [--workers=N] [--resume]

Joins LeRobotDatasets that LeRobot itself cannot merge, since they differ in cameras, rate or robot, into one without
actions, for stages latent_action and latent_policy. SOURCE is a dataset's folder, or its name on the Hub; which of its
cameras is taken is said after a comma where it has several: me/pick,observation.images.front. All images are called
KEY (default: observation.image), taken at N a second (default: 10) and resized to S pixels a side (default: 224, or
HEIGHTxWIDTH), their aspect kept. Tasks are kept, and the column source says which dataset a frame is from. Other
options are those of lafp import-videos.
"""


@dataclass(frozen=True)
class DatasetEpisode:
    """A source that is one episode of a dataset.

    Attributes:
        label: The dataset's name as it was given.
        root: Its folder.
        camera: What is taken.
        episode: Which.
    """

    label: str
    root: Path
    camera: str
    episode: int

    @property
    def name(self) -> str:
        return f"{self.label}, episode {self.episode}"

    def identity(self) -> list[Any]:
        info = (self.root / "meta" / "info.json").stat()
        return [str(self.root.resolve()), info.st_size, info.st_mtime_ns, self.camera]

    def clips(self, framing: Framing) -> Iterator[tuple[str, Iterator[Image]]]:
        meta = _metadata(self.label, self.root)
        row = meta.episodes[self.episode]
        if self.camera in meta.video_keys:
            start, end = (float(row[f"videos/{self.camera}/{side}_timestamp"]) for side in ("from", "to"))
            images = read_images(self.root / meta.get_video_file_path(self.episode, self.camera), framing, start, end)
        else:
            images = self._stored_images(meta, framing)
        yield (row["tasks"] or [""])[0], images

    def _stored_images(self, meta: LeRobotDatasetMetadata, framing: Framing) -> Iterator[Image]:
        file = self.root / meta.get_data_file_path(self.episode)
        cells = pq.read_table(file, columns=[self.camera], filters=[("episode_index", "=", self.episode)])[self.camera]
        for cell in at_rate(((i / meta.fps, cell) for i, cell in enumerate(cells)), framing.fps):
            stored = ImageOps.exif_transpose(PILImage.open(io.BytesIO(cell["bytes"].as_py())))  # as LeRobot shows it
            yield fitted(np.asarray(stored.convert("RGB")), 1.0, framing)


@cache
def _metadata(repo_id: str, root: Path) -> LeRobotDatasetMetadata:
    return LeRobotDatasetMetadata(repo_id, root=root)


def run_import_datasets(arguments: Sequence[str]) -> int:
    """Run ``lafp import-datasets`` as ``USAGE`` says; returns the exit status.

    Raises:
        CommandError: An argument is missing or does not fit, a dataset cannot be read, or nothing could be imported.
        ValueError: A dataset has another format.
        FileExistsError: See ``run_import``.
    """
    parser = CommandParser("import-datasets", USAGE)
    parser.add_argument("sources", nargs="+")
    add_import_options(parser)
    given = parser.parse_args(arguments)
    settings = import_settings(given)
    sources = [episode for source in given.sources for episode in _episodes(source)]
    return finish_import(sources, given, settings)


def _episodes(given: str) -> list[DatasetEpisode]:
    """Every episode of the dataset that ``given`` names, as ``NAME[,CAMERA]``."""
    name, _, wanted = given.partition(",")
    folder = Path(name)
    if folder.exists():
        refuse_other_format(folder)
    else:
        refuse_other_format(None, name)
    try:
        if (folder / "meta" / "info.json").is_file():
            label, root = folder.resolve().name, folder
        else:
            label, root = name, Path(LeRobotDataset(name).root)  # fetches it
        meta = _metadata(label, root)
    except Exception as error:  # the Hub's client, LeRobot and datasets have no common base for what can go wrong
        unreadable = f"Dataset {name} cannot be read ({in_one_line(error)})."
        mend = "Name a folder with meta/info.json, or a Hub name."
        raise CommandError(why_unreadable(error, name) or f"{unreadable} {mend}") from error
    cameras = [key for key in meta.camera_keys if key not in meta.depth_keys]
    if wanted not in cameras and (wanted or len(cameras) != 1):
        problem = f"has no camera {wanted}" if wanted else f"has {len(cameras)} cameras"
        raise CommandError(f"Dataset {name} {problem}: name one of {cameras} after a comma, as {name},{cameras[:1]}.")
    return [DatasetEpisode(label, root, wanted or cameras[0], episode) for episode in range(meta.total_episodes)]
