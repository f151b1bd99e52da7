"""Small datasets with something wrong, made frame by frame."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets import LeRobotDataset
from numpy.typing import NDArray

#: (episode, frame, generator) -> the frame's columns.
Frame = Callable[[int, int, np.random.Generator], Mapping[str, Any]]

TABLE = "data/chunk-000/file-000.parquet"
LENGTHS = (24, 20, 22)


def numbers(width: int, names: Any = None, dtype: str = "float32") -> dict[str, Any]:
    """A feature of numbers."""
    return {"dtype": dtype, "shape": (width,), "names": names}


def camera(dtype: str = "image", size: tuple[int, int] = (32, 48)) -> dict[str, Any]:
    """A feature of pictures."""
    return {"dtype": dtype, "shape": (*size, 3), "names": ["height", "width", "channels"]}


def write(
    root: Path,
    features: Mapping[str, Any],
    frame: Frame,
    lengths: Sequence[int] = LENGTHS,
    fps: int = 10,
    task: str = "do it",
) -> Path:
    """A LeRobotDataset in folder ``root``, which is returned."""
    draw = np.random.default_rng(0)
    videos = any(feature["dtype"] == "video" for feature in features.values())
    dataset = LeRobotDataset.create(f"local/{root.name}", fps, dict(features), root=root, use_videos=videos)
    for episode, length in enumerate(lengths):
        for t in range(length):
            dataset.add_frame({**frame(episode, t, draw), "task": task})
        dataset.save_episode()
    dataset.finalize()
    return root


def replace(root: Path, column: str, values: Sequence[Any]) -> None:
    """Put ``values`` in place of a column of the only table."""
    table = pq.read_table(root / TABLE)
    at = table.schema.get_field_index(column)
    new = pa.array(list(values), type=table.schema.field(at).type)
    pq.write_table(table.set_column(at, table.schema.field(at), new), root / TABLE)


def scene(t: float, draw: np.random.Generator, size: tuple[int, int] = (32, 48), noise: float = 2.0) -> NDArray[Any]:
    """A picture of a box that goes from left to right, with the noise of a camera."""
    image = np.full((*size, 3), 90.0)
    image[: size[0] // 2, :, 1] = 140
    left = int(t * (size[1] - 12))
    image[10:22, left : left + 12] = (220, 60, 40)
    return np.clip(image + draw.normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def covered(draw: np.random.Generator, size: tuple[int, int] = (32, 48), noise: float = 2.0) -> NDArray[Any]:
    """A picture through a lens that is covered: dark, and noisy."""
    return np.clip(4 + draw.normal(0, noise, (*size, 3)), 0, 255).astype(np.uint8)
