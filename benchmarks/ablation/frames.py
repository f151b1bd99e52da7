"""A LeRobotDataset held in memory: the batches LeRobot's loader would give, thirty times as fast.

LeRobot reads a sample in 2 to 4 ms, most of it in copying metadata. A sweep of hundreds of small trainings would wait
for that and nothing else, so the columns are read once, and a batch is an index into them.
``tests/benchmarks/test_frames.py`` holds the two against each other.
"""

import copy
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lerobot.datasets import LeRobotDatasetMetadata
from PIL import Image
from torch import Tensor


class Frames:
    """All frames of a dataset without videos.

    Attributes:
        meta: The dataset's metadata.
        columns: Feature -> (N, ..); images (N, C, H, W) uint8.
        episode: (N,), each frame's episode.
        first: (episodes,), each episode's first frame.
        end: (episodes,), one past its last.
    """

    def __init__(self, repo_id: str, root: str | Path | None = None) -> None:
        self.meta = LeRobotDatasetMetadata(repo_id, root=root)
        table = pa.concat_tables(pq.read_table(file) for file in sorted(self.meta.root.glob("data/*/*.parquet")))
        table = table.sort_by("index")
        self.columns = {
            key: _column(table[key], feature)
            for key, feature in self.meta.features.items()
            if key == "action" or key.startswith("observation.")
        }
        self.episode = torch.from_numpy(table["episode_index"].to_numpy().copy())
        count = torch.bincount(self.episode)
        self.end = count.cumsum(0)
        self.first = self.end - count

    def on(self, device: str) -> "Frames":
        """The same frames in the memory of ``device``, where batches are then put together."""
        there = copy.copy(self)
        there.columns = {key: column.to(device) for key, column in self.columns.items()}
        there.episode, there.first, there.end = self.episode.to(device), self.first.to(device), self.end.to(device)
        return there

    @property
    def num_episodes(self) -> int:
        return len(self.end)

    def usable(self, episodes: Sequence[int] | None, drop_n_last_frames: int) -> Tensor:
        """Frames to train on, as LeRobot's ``EpisodeAwareSampler`` picks them: indices (M,)."""
        chosen = range(self.num_episodes) if episodes is None else episodes
        spans = [(int(self.first[e]), int(self.end[e]) - drop_n_last_frames) for e in chosen]
        return torch.cat([torch.arange(first, max(first, last)) for first, last in spans])

    def batch(self, index: Tensor, config: Any) -> dict[str, Any]:
        """What LeRobot's loader collates for frames ``index`` (B,) and the offsets that ``config`` asks for.

        ``index`` lies where the frames do (``on``).
        """
        episode = self.episode[index]
        batch: dict[str, Any] = {"episode_index": episode}
        for key, column in self.columns.items():
            deltas = config.action_delta_indices if key == "action" else config.observation_delta_indices
            if deltas is None:
                rows = column[index]
            else:
                at = index[:, None] + torch.tensor(deltas, device=index.device)
                low, high = self.first[episode][:, None], self.end[episode][:, None] - 1
                batch[f"{key}_is_pad"] = (at < low) | (at > high)
                rows = column[torch.minimum(torch.maximum(at, low), high)]
            batch[key] = as_loaded(rows)
        return batch


def as_loaded(rows: Tensor) -> Tensor:
    """Images as LeRobot's loader gives them, in [0, 1]; anything else as it is."""
    return rows.float() / 255 if rows.dtype == torch.uint8 else rows


def _column(column: pa.ChunkedArray, feature: dict[str, Any]) -> Tensor:
    if feature["dtype"] == "image":
        images = [np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in column.to_pylist()]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return torch.from_numpy(np.stack(column.to_numpy())).float()
