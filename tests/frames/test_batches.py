"""Batches of a frame store are those of LeRobot's loader: every one, in order, to the bit."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import send_to_device
from lerobot.datasets import EpisodeAwareSampler, LeRobotDataset
from lerobot.transforms import ImageTransformConfig, ImageTransforms, ImageTransformsConfig
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from lerobot_lafp import LAFPConfig
from lerobot_lafp.frames.dataset import OnDisk, StoredDataset, Words
from lerobot_lafp.frames.serving import with_frame_store
from lerobot_lafp.options.constants import STAGES
from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations

from ..building import lafp
from .conftest import SHARED, as_the_training_sees_it, assert_same, opened

MakeDataset = Callable[..., Path]
FRONT = "observation.images.front"
TINY: dict[str, Any] = {"horizon": 4, "num_latents": 2, "n_action_steps": 2, "device": "cpu", "push_to_hub": False}


def batches(dataset: LeRobotDataset, config: LAFPConfig, batch_size: int = 8, **options: Any) -> list[dict[str, Any]]:
    """An epoch, as ``lerobot-train`` goes through it."""
    about = dataset.meta.episodes
    sampler = EpisodeAwareSampler(
        about["dataset_from_index"],
        about["dataset_to_index"],
        episode_indices_to_use=dataset.episodes,
        drop_n_last_frames=config.drop_n_last_frames,
        shuffle=True,
        seed=3,
        absolute_to_relative_idx=dataset.absolute_to_relative_idx,
    )
    torch.manual_seed(5)  # of image transforms
    return list(DataLoader(dataset, batch_size=batch_size, sampler=sampler, **options))


def both(root: Path, config: LAFPConfig, repo_id: str = "local/it", **options: Any) -> tuple[Any, Any]:
    """A dataset with its store, and LeRobot's."""
    stored = with_frame_store(opened(root, config, repo_id, **options), config)
    assert isinstance(stored, StoredDataset)
    return stored, opened(root, config, repo_id, **options)


# --- Datasets that there are ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def build_pusht() -> Any:
    """``../shared/tools/build_pusht.py``, as a module."""
    file = SHARED.parent / "tools" / "build_pusht.py"
    if not file.is_file():
        pytest.skip(f"needs the PushT demonstrations beside {file}")
    spec = importlib.util.spec_from_file_location("build_pusht", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def pusht_video(build_pusht: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two demonstrations, as video."""
    root = tmp_path_factory.mktemp("data") / "pusht_video"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["build_pusht.py", str(root), "--video", "--episodes", "2"])
        build_pusht.main()
    return root


def shared(name: str) -> Path:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"needs {root}")
    return root


@pytest.mark.parametrize("stage", ["joint", *STAGES])
@pytest.mark.parametrize("episodes", [None, [7, 3, 200]])
def test_pusht_keypoints(stage: str, episodes: list[int] | None) -> None:
    config = lafp(stage=stage, device="cpu", push_to_hub=False)
    stored, dataset = both(shared("lerobot/pusht_keypoints"), config, episodes=episodes)
    assert not stored.stores, "tables stay in memory"
    if episodes is None:  # LeRobot's loader takes a minute for all of it
        some = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(1))[:400].tolist()
        loaders = [DataLoader(Subset(each, some), batch_size=64) for each in (stored, dataset)]
        assert_same(*(list(each) for each in loaders))
    else:
        assert_same(batches(stored, config), batches(dataset, config))


@pytest.mark.parametrize("stage", ["joint", "latent_action"])
def test_pusht_images(stage: str) -> None:
    config = lafp(stage=stage, device="cpu", push_to_hub=False)
    stored, dataset = both(shared("lerobot/pusht"), config, episodes=[9, 2])
    assert list(stored.stores) == ["observation.image"]
    assert_same(batches(stored, config), batches(dataset, config))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["joint", "latent_policy"])
def test_pusht_video(stage: str, pusht_video: Path) -> None:
    config = lafp(stage=stage, device="cpu", push_to_hub=False)
    stored, dataset = both(pusht_video, config)
    assert_same(batches(stored, config), batches(dataset, config))


def test_three_cameras_of_a_real_robot() -> None:
    config = lafp(stage="latent_action", device="cpu", push_to_hub=False)
    stored, dataset = both(shared("droid"), config, episodes=[4])
    assert len(stored.stores) == 3
    assert_same(batches(stored, config), batches(dataset, config))


def test_the_two_way_task(tmp_path: Path) -> None:
    write_demonstrations(tmp_path / "two_way", 3, 2, obs_type="pixels_agent_pos")
    config = lafp(stage="joint", **TINY)
    stored, dataset = both(tmp_path / "two_way", config, episodes=[0, 2])
    assert_same(batches(stored, config), batches(dataset, config))


# --- What a batch depends on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("episodes", [None, [2, 0]])
@pytest.mark.parametrize(
    "options",
    [
        *({"stage": stage} for stage in ("joint", *STAGES)),
        {"stage": "action_decoder", "decoder_input": "samples"},
        {"stage": "joint", "n_obs_steps": 3},
        {"stage": "joint", "latent_source": "actions"},
        {"stage": "latent_policy", "hold_last_frame": True},
    ],
    ids=str,
)
def test_cameras_of_two_sizes(
    video: bool, episodes: list[int] | None, options: dict[str, Any], make_dataset: MakeDataset, cache: dict[Any, Path]
) -> None:
    if video not in cache:
        cache[video] = make_dataset({"front": (64, 80), "wrist": (64, 64)}, video=video)
    config = lafp(**TINY, **options)
    stored, dataset = both(cache[video], config, episodes=episodes)
    assert_same(batches(stored, config), batches(dataset, config))


@pytest.fixture(scope="module")
def cache() -> dict[Any, Path]:
    """Datasets that a test has made already."""
    return {}


@pytest.mark.parametrize("video", [False, True])
def test_changes_at_random_are_drawn_alike(video: bool, make_dataset: MakeDataset) -> None:
    root = make_dataset({"front": (64, 80), "wrist": (64, 64)}, video=video)
    brightness = ImageTransformConfig(type="ColorJitter", kwargs={"brightness": (0.5, 1.5)})
    sharpness = ImageTransformConfig(type="SharpnessJitter", kwargs={"sharpness": (0.5, 1.5)})
    transforms = ImageTransforms(ImageTransformsConfig(enable=True, tfs={"b": brightness, "s": sharpness}))
    config = lafp(stage="latent_action", resize_shape=(16, 20), **TINY)
    stored, dataset = both(root, config, image_transforms=transforms)
    assert stored.stores[FRONT].record.shape == (3, 64, 80), "they are changed before they are resized"
    plain, _ = both(root, config)
    changed = batches(stored, config)
    assert_same(changed, batches(dataset, config))
    assert not torch.equal(as_the_training_sees_it(batches(plain, config)[0][FRONT]), changed[0][FRONT])


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.slow
def test_processes_that_load(context: str, make_dataset: MakeDataset) -> None:
    config = lafp(stage="joint", **TINY)
    stored, dataset = both(make_dataset({"front": (16, 20)}), config)
    expected = batches(dataset, config)
    assert_same(batches(stored, config, num_workers=2, multiprocessing_context=context), expected)


def test_columns_of_every_kind(make_dataset: MakeDataset) -> None:
    """Those of many numbers lie on disk; words, booleans, whole numbers and single ones are as LeRobot has them."""
    more = {
        "observation.wide": {"dtype": "float32", "shape": (600,), "names": None},
        "observation.whole": {"dtype": "int64", "shape": (600,), "names": None},
        "observation.grid": {"dtype": "float32", "shape": (30, 20), "names": None},
        "observation.said": {"dtype": "string", "shape": (1,), "names": None},
        "observation.one": {"dtype": "float32", "shape": (1,), "names": None},
        "observation.count": {"dtype": "int64", "shape": (2,), "names": None},
        "observation.double": {"dtype": "float64", "shape": (2, 3), "names": None},
        "next.touched": {"dtype": "bool", "shape": (1,), "names": None},
        "label": {"dtype": "int32", "shape": (1,), "names": None},
    }
    root = make_dataset({}, more=more)
    for stage in ("joint", "latent_policy"):
        config = lafp(stage=stage, **TINY)
        stored, dataset = both(root, config)
        assert sorted(stored.stores) == ["observation.grid", "observation.whole", "observation.wide"]
        assert isinstance(stored.columns["observation.said"], Words)
        assert_same(batches(stored, config), batches(dataset, config))


def test_what_the_policy_does_not_read_is_left_out(make_dataset: MakeDataset) -> None:
    root = make_dataset({"front": (16, 20), "wrist": (16, 16)})
    config = lafp(stage="joint", observations=["observation.images.wrist", "observation.state"], **TINY)
    stored, dataset = both(root, config)
    assert list(stored.stores) == ["observation.images.wrist"]
    assert_same(batches(stored, config), batches(dataset, config), unread=[FRONT])


@pytest.mark.parametrize("unit", ["mm", "m"])
def test_distances_are_as_they_are(unit: str, make_dataset: MakeDataset) -> None:
    depth = {
        "dtype": "image",
        "shape": (16, 20, 1),
        "names": ["height", "width", "channels"],
        "info": {"is_depth_map": True, "depth_unit": "mm"},
    }
    root = make_dataset({"front": (16, 20)}, more={"observation.images.depth": depth})
    config = lafp(stage="latent_action", resize_shape=(8, 10), **TINY)
    stored, dataset = both(root, config, depth_output_unit=unit)
    store = stored.stores["observation.images.depth"].record
    assert (store.dtype, store.shape) == ("float32", (1, 16, 20))
    plain = lafp(stage="latent_action", **TINY)
    stored, dataset = both(root, plain, depth_output_unit=unit)
    assert_same(batches(stored, plain), batches(dataset, plain))


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("size", [(16, 20), (16, 16), (96, 120)])
def test_the_policy_sees_the_same_of_frames_that_are_resized_ahead(
    video: bool, size: tuple[int, int], make_dataset: MakeDataset, cache: dict[Any, Path]
) -> None:
    """To half a level of brightness, which is what a byte is rounded by; enlarged they are not stored."""
    if video not in cache:
        cache[video] = make_dataset({"front": (64, 80), "wrist": (64, 64)}, video=video)
    from lerobot_lafp.observation.normalizer import ObservationNormalizer

    config = lafp(stage="latent_action", resize_shape=size, observations=[FRONT], **TINY)
    stored, dataset = both(cache[video], config)
    column = stored.columns[FRONT]
    assert isinstance(column, OnDisk)
    assert column.store.record.shape == (3, *(size if size[0] < 64 else (64, 80)))
    normalizer = ObservationNormalizer({FRONT: (3, 64, 80)}, {}, resize_shape=size)
    for mine, theirs in zip(batches(stored, config), batches(dataset, config), strict=True):
        own = normalizer({FRONT: mine[FRONT]}, stored=True)[FRONT]
        its = normalizer({FRONT: theirs[FRONT]})[FRONT]
        assert own.shape == its.shape
        assert float((own - its).abs().max()) <= (0.5 / 255) / 0.5 + 1e-5


def test_what_is_pinned_is_not_waited_for(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its way to a GPU, by what accelerate calls; and the batch stays one, as LeRobot's loop wants it."""
    config = lafp(stage="joint", **TINY)
    stored, _ = both(make_dataset({"front": (16, 20)}), config)
    batch = batches(stored, config)[0]
    assert isinstance(batch, dict)
    waited: list[bool] = []
    to = Tensor.to

    def noted(self: Tensor, device: Any, non_blocking: bool = False) -> Tensor:
        waited.append(not non_blocking)
        return to(self, device, non_blocking=non_blocking)

    monkeypatch.setattr(Tensor, "to", noted)
    for pinned in (False, True):
        monkeypatch.setattr(Tensor, "is_pinned", lambda self, pinned=pinned: pinned)
        sent = send_to_device(batch, torch.device("cpu"))
        assert sent.keys() == batch.keys()
        assert sent["task"] == batch["task"]
        assert sent[FRONT].dtype == torch.uint8, "bytes cross the bus"
        assert set(waited) == {not pinned}
        waited.clear()
