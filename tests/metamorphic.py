"""Datasets on disk that differ in nothing that matters, and a policy trained on them as `lerobot-train` does it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, settings
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.policies.factory import make_policy
from numpy.typing import NDArray
from torch import Tensor

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.options.context import TrainingContext
from lerobot_lafp.processor_lafp import make_lafp_pre_post_processors

from .building import lafp
from .conftest import TINY

Numbers = NDArray[Any]
STATE, ACTION, FORCE = "observation.state", "action", "observation.force"
FPS = 10

#: An example trains a policy, or several.
FEW = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # to find a smaller example takes minutes
    suppress_health_check=list(HealthCheck),
)

#: Kind of a dimension -> its numbers, of so many frames.
KINDS: Mapping[str, Callable[[np.random.Generator, int], Numbers]] = {
    "moves": lambda draw, n: draw.normal(0.3, 1, n).cumsum(),
    "ramp": lambda draw, n: np.linspace(-3, 40, n) + draw.normal(),
    "steps": lambda draw, n: np.where(np.arange(n) // 6 % 2, 7.0, -2.0),
    "rare": lambda draw, n: np.where(np.arange(n) == n // 2, 100.0, 0.0),
    "heavy": lambda draw, n: draw.standard_cauchy(n),
    "ticks": lambda draw, n: np.round(draw.normal(0, 9, n)) * 0.088,
    "still": lambda draw, n: 50 + np.round(draw.normal(0, 0.7, n)) * 0.088,
    "noise": lambda draw, n: draw.normal(0, 1e-3, n),
    "constant": lambda draw, n: np.full(n, 12.34),
}


@dataclass(frozen=True)
class Data:
    """A dataset before it is written.

    Attributes:
        columns: Feature -> its episodes, each (frames, width), or (frames, H, W, C) of a camera.
        names: Feature -> ``names``.
        dtypes: Feature -> type in the tables; unset: ``float32``, and ``image`` of a camera.
        order: Features as they come in info.json; unset: as in ``columns``.
    """

    columns: Mapping[str, Sequence[Numbers]]
    names: Mapping[str, Any] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    order: Sequence[str] | None = None

    def permuted(self, orders: Mapping[str, Sequence[int]]) -> "Data":
        """The same with dimension i of ``key`` where ``orders[key][i]`` was, together with its name."""
        columns = {k: [x[:, orders[k]] if k in orders else x for x in each] for k, each in self.columns.items()}
        names = {k: [each[i] for i in orders[k]] if k in orders else each for k, each in self.names.items()}
        return replace(self, columns=columns, names=names)

    def scaled(self, factors: Mapping[str, Numbers]) -> "Data":
        """The same with every dimension of ``key`` times ``factors[key]``."""
        columns = {k: [x * factors[k] if k in factors else x for x in each] for k, each in self.columns.items()}
        return replace(self, columns=columns)

    def write(self, root: Path) -> Path:
        """Write it as LeRobot does."""
        features: dict[str, dict[str, Any]] = {}
        for key in self.order or self.columns:
            shape = self.columns[key][0].shape[1:]
            kind = self.dtypes.get(key, "float32" if len(shape) == 1 else "image")
            axes = ["height", "width", "channels"] if len(shape) == 3 else None
            features[key] = {"dtype": kind, "shape": shape, "names": self.names.get(key, axes)}
        made = LeRobotDataset.create(f"local/{root.name}", FPS, deepcopy(features), root=root, use_videos=False)
        for episode in range(len(next(iter(self.columns.values())))):
            for frame in range(len(next(iter(self.columns.values()))[episode])):
                kinds = {key: each["dtype"].replace("image", "uint8") for key, each in features.items()}
                row = {key: each[episode][frame].astype(kinds[key]) for key, each in self.columns.items()}
                made.add_frame({"task": "do it", **row})
            made.save_episode()
        made.finalize()
        return root


def joints(count: int) -> list[str]:
    """Names of joints, in no order that sorting would give."""
    return [f"{name}.pos" for name in ("shoulder", "elbow", "wrist", "gripper", "base")[:count]]


def demonstrations(kinds: Sequence[str], seed: int = 0, lengths: Sequence[int] = (20, 16), named: bool = True) -> Data:
    """Demonstrations of an arm with joints of these kinds; each is commanded to where it is next."""
    draw, total = np.random.default_rng(seed), sum(lengths)
    whole = np.stack([KINDS[kind](draw, total + 1) for kind in kinds], axis=1).astype(np.float32)
    borders = np.cumsum(lengths)[:-1]
    columns = {STATE: np.split(whole[:-1], borders), ACTION: np.split(whole[1:], borders)}
    names = {key: joints(len(kinds)) for key in columns} if named else {}
    return Data(columns, names)


@contextmanager
def written(*data: Data) -> Iterator[list[Path]]:
    """Folders with these datasets, for as long as they are looked at."""
    with TemporaryDirectory() as folder:
        yield [each.write(Path(folder) / f"data{i}") for i, each in enumerate(data)]


@lru_cache(maxsize=8)
def dataset_of(root: Path) -> LeRobotDataset:
    """A dataset that was written here, opened once."""
    return LeRobotDataset(f"local/{root.name}", root=root)


def meta_of(root: Path) -> LeRobotDatasetMetadata:
    return deepcopy(dataset_of(root).meta)


def fresh(root: Path, **options: Any) -> LAFPPolicy:
    """An untrained policy, made for a dataset as `lerobot-train` makes it."""
    torch.manual_seed(0)
    return make_policy(lafp(**{**TINY, "pretrained_path": None, **options}), ds_meta=meta_of(root))


def following(checkpoint: Path, root: Path, rename_map: Mapping[str, str] | None = None, **options: Any) -> LAFPPolicy:
    """A checkpoint, loaded for another dataset and with other options as `lerobot-train --policy.path` does it."""
    overrides = [f"--{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in options.items()]
    config = LAFPConfig.from_pretrained(checkpoint, cli_overrides=overrides)
    config.pretrained_path = checkpoint
    config.context = TrainingContext(rename_map=dict(rename_map or {}))
    torch.manual_seed(0)
    return make_policy(config, ds_meta=meta_of(root), rename_map=dict(rename_map or {}))


@lru_cache(maxsize=8)
def rows_of(root: Path, deltas: str, last: int) -> list[dict[str, Any]]:
    """The samples of a dataset with these ``delta_timestamps``, but for the ``last`` of each episode."""
    dataset = LeRobotDataset(f"local/{root.name}", root=root, delta_timestamps=json.loads(deltas))
    spans = zip(*(dataset.meta.episodes[f"dataset_{end}_index"] for end in ("from", "to")), strict=True)
    return [dataset[i] for start, end in spans for i in range(start, end - last)]


def batch_of(policy: LAFPPolicy, root: Path, rename_map: Mapping[str, str] | None = None) -> dict[str, Any]:
    """All frames that a dataset trains on, as LeRobot's loader and pipeline hand them over."""
    deltas = resolve_delta_timestamps(policy.config, meta_of(root))
    rows = rows_of(root, json.dumps(deltas), policy.config.drop_n_last_frames)
    preprocess, _ = make_lafp_pre_post_processors(policy.config)
    preprocess.steps[0].rename_map = dict(rename_map or {})
    return dict(preprocess(torch.utils.data.default_collate(rows)))


def fit(
    policy: LAFPPolicy, root: Path, steps: int = 3, lr: float = 1e-3, rename_map: Mapping[str, str] | None = None
) -> list[float]:
    """Train on all of a dataset, so many steps; returns their losses."""
    batch, losses = batch_of(policy, root, rename_map), []
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=lr)
    for _ in range(steps):
        policy.train()
        loss, _ = policy.forward(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        policy.update()
        losses.append(loss.item())
    policy.eval()
    policy.reset()
    return losses


def loss_of(policy: LAFPPolicy, root: Path) -> dict[str, float]:
    """The losses on a dataset, nothing trained."""
    batch = batch_of(policy, root)
    torch.manual_seed(0)
    policy.eval()
    with torch.no_grad():
        return policy.forward(batch)[1]


def frames_of(root: Path) -> list[dict[str, Tensor]]:
    """Every frame as a robot or an environment would show it: a batch of one, its actions beside it."""
    dataset = dataset_of(root)
    shapes = {key: tuple(each["shape"]) for key, each in dataset.features.items()}
    numbers = [key for key in shapes if key.startswith(("observation.", "action"))]
    rows = [dataset[i] for i in range(len(dataset))]
    return [{k: row[k].reshape(1, *(row[k].shape if row[k].ndim == 3 else shapes[k])) for k in numbers} for row in rows]


def commands(policy: LAFPPolicy, frames: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Chunks (frames, H, A) for single observations, from the same noise each."""
    policy.eval()
    policy.reset()
    torch.manual_seed(3)
    together = {key: torch.cat([frame[key] for frame in frames]) for key in frames[0] if key != ACTION}
    return policy.predict_action_chunk(together)


def one_by_one(policy: LAFPPolicy, frames: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """What ``select_action`` commands in an episode of these frames, (frames, A), while no time passes."""
    policy.eval()
    policy.reset()
    if policy._guard is not None:
        policy._guard.clock = lambda: 0.0
    torch.manual_seed(5)
    return torch.cat([policy.select_action({k: x for k, x in frame.items() if k != ACTION}) for frame in frames])


def prefix(policy: LAFPPolicy, frames: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """A chunk that goes on from the one before, as with ``--inference.type=rtc``."""
    policy.reset()
    torch.manual_seed(7)
    before = policy.predict_action_chunk({STATE: frames[0][STATE]})
    return policy.predict_action_chunk({STATE: frames[1][STATE]}, inference_delay=1, prev_chunk_left_over=before[0, 1:])


def saved(policy: LAFPPolicy, folder: Path) -> Path:
    policy.save_pretrained(folder)
    return folder
