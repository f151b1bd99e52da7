"""``lafp import-datasets``: LeRobotDatasets of different cameras, rates and robots -> one without actions."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from PIL import Image as PILImage
from PIL import ImageOps

from ...errors import UserError, in_one_line
from ...training.dataset_formats import refuse_other_format, why_unreadable
from .video_files import Framing, Image, at_rate, fitted, read_images


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


def episodes_of(given: str) -> list[DatasetEpisode]:
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
        raise UserError(why_unreadable(error, name) or f"{unreadable} {mend}") from error
    cameras = [key for key in meta.camera_keys if key not in meta.depth_keys]
    if wanted not in cameras and (wanted or len(cameras) != 1):
        problem = f"has no camera {wanted}" if wanted else f"has {len(cameras)} cameras"
        raise UserError(f"Dataset {name} {problem}: name one of {cameras} after a comma, as {name},{cameras[:1]}.")
    return [DatasetEpisode(label, root, wanted or cameras[0], episode) for episode in range(meta.total_episodes)]
