"""A folder for stores of each test's own, and datasets of every kind of camera."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.datasets.factory import resolve_delta_timestamps
from numpy.typing import NDArray
from torch import Tensor

from lerobot_lafp import LAFPConfig
from lerobot_lafp.frames import store

SHARED = Path(__file__).parents[3] / "shared" / "data"
#: Of the datasets that tests make.
LENGTHS = (12, 9, 14)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's stores are."""
    monkeypatch.setattr(store, "HF_LEROBOT_HOME", tmp_path / "home")
    return tmp_path / "home" / "frame_store"


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``make_dataset(cameras, video=False, lengths=LENGTHS, **more)``: root of ``local/it``.

    ``cameras`` are name -> (height, width); every frame is noise of its own. ``more`` are further features, which are
    filled with random numbers.
    """

    def build(
        cameras: dict[str, tuple[int, int]],
        video: bool = False,
        lengths: tuple[int, ...] = LENGTHS,
        more: dict[str, dict[str, Any]] | None = None,
        seed: int = 0,
    ) -> Path:
        draw = np.random.default_rng(seed)
        root = tmp_path_factory.mktemp("data") / "it"
        pictures = {
            f"observation.images.{name}": {
                "dtype": "video" if video else "image",
                "shape": (*size, 3),
                "names": ["height", "width", "channels"],
            }
            for name, size in cameras.items()
        }
        state = {"dtype": "float32", "shape": (2,), "names": ["x", "y"]}
        features = {**pictures, "observation.state": state, "action": dict(state), **(more or {})}
        made = LeRobotDataset.create("local/it", fps=10, features=features, root=root, use_videos=video)
        for episode, length in enumerate(lengths):
            for _ in range(length):
                made.add_frame({**{k: _value(f, draw) for k, f in features.items()}, "task": f"task {episode % 2}"})
            made.save_episode()
        made.finalize()
        return root

    return build


def _value(feature: dict[str, Any], draw: np.random.Generator) -> Any:
    shape = tuple(feature["shape"])
    if feature["dtype"] in ("image", "video") and shape[-1] == 3:
        return draw.integers(0, 256, shape, dtype=np.uint8)
    if feature["dtype"] == "image":
        return draw.integers(0, 60_000, shape, dtype=np.uint16)
    if feature["dtype"] == "string":
        return "abc"[int(draw.integers(3))]
    if feature["dtype"] == "bool":
        return draw.integers(0, 2, shape).astype(bool)
    found: NDArray[Any] = draw.normal(size=shape).astype(feature["dtype"])
    return found


def opened(root: Path, config: LAFPConfig, repo_id: str = "local/it", **options: Any) -> LeRobotDataset:
    """A dataset as ``lerobot-train`` opens it for ``config``."""
    deltas = resolve_delta_timestamps(config, LeRobotDatasetMetadata(repo_id, root=root))
    return LeRobotDataset(repo_id, root=root, delta_timestamps=deltas, return_uint8=True, **options)


def as_the_training_sees_it(x: Tensor) -> Tensor:
    """What ``lerobot-train`` makes of pictures that are bytes."""
    return x.float() / 255.0 if x.dtype == torch.uint8 else x


def assert_same(
    found: Sequence[dict[str, Any]],
    expected: Sequence[dict[str, Any]],
    unread: Sequence[str] = (),
    levels: float = 0.0,
) -> None:
    """Batches that are equal to the bit.

    Args:
        found: Some.
        expected: And others.
        unread: Columns that only ``expected`` has.
        levels: Of 255, by which pictures may differ.
    """
    left_out = {*unread, *(f"{key}_is_pad" for key in unread)}
    assert len(found) == len(expected) > 1
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys() - left_out
        for key, x in mine.items():
            if not isinstance(x, Tensor):
                assert x == theirs[key], key
                continue
            own, its = as_the_training_sees_it(x), as_the_training_sees_it(theirs[key])
            assert own.dtype == its.dtype, key
            atol = levels / 255 if "images" in key else 0
            torch.testing.assert_close(own, its, rtol=0, atol=atol, equal_nan=True, msg=key)
