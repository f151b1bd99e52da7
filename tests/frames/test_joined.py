"""Batches of two datasets, from frame stores or by LeRobot's loader: the same, whatever the two differ in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.transforms import ImageTransforms, ImageTransformsConfig
from lerobot.utils.constants import ACTION, OBS_STATE

from lerobot_lafp import LAFPConfig
from lerobot_lafp.frames.joined import JoinedDataset
from lerobot_lafp.frames.serving import of_a_training
from lerobot_lafp.options.constants import FROM_LABELS
from lerobot_lafp.training.joined import fit_together

from ..building import lafp
from ..two_datasets import batches
from .conftest import as_the_training_sees_it, assert_same, opened
from .test_batches import TINY

MakeDataset = Callable[..., Path]
FRONT = "observation.images.front"


def joined(video: Path, labels: Path, config: LAFPConfig, store: bool = True, **options: Any) -> JoinedDataset:
    parts = [opened(root, config, **options) for root in (video, labels)]
    fit = fit_together(config, *(part.meta for part in parts))
    dataset = JoinedDataset(parts[0], parts[1], fit, config.resize_shape)
    return of_a_training([dataset], config)[0] if store else dataset


@pytest.mark.parametrize("kinds", [(False, False), (True, True), (False, True), (True, False)], ids=str)
@pytest.mark.parametrize("stage", ["latent_action", "joint"])
def test_stores_give_the_batches_of_lerobots_loader(
    kinds: tuple[bool, bool], stage: str, make_dataset: MakeDataset
) -> None:
    """Of pictures in tables and of videos, and of one of each."""
    config = lafp(stage=stage, **TINY)
    video, labels = (make_dataset({"front": (64, 80)}, video=kind, seed=seed) for seed, kind in enumerate(kinds))
    found = joined(video, labels, config)
    assert all(hasattr(part, "stores") for part in (found.video, found.labels))
    assert_same(batches(found, config), batches(joined(video, labels, config, store=False), config))


def test_pictures_of_two_sizes_are_of_one_in_a_batch(make_dataset: MakeDataset) -> None:
    config = lafp(stage="latent_action", resize_shape=(32, 40), **TINY)
    video, labels = make_dataset({"front": (64, 80)}), make_dataset({"front": (24, 30)}, seed=1)
    found = batches(joined(video, labels, config), config)
    assert {tuple(batch[FRONT].shape[2:]) for batch in found} == {(3, 32, 40)}
    assert_same(found, batches(joined(video, labels, config, store=False), config), levels=1.0)


def test_changes_at_random_are_made_of_both(make_dataset: MakeDataset) -> None:
    config = lafp(stage="latent_action", **TINY)
    video, labels = make_dataset({"front": (64, 80)}), make_dataset({"front": (64, 80)}, video=True, seed=1)
    changes = ImageTransforms(ImageTransformsConfig(enable=True))
    plain = batches(joined(video, labels, config), config)
    changed = batches(joined(video, labels, config, image_transforms=changes), config)
    for one, other in zip(plain, changed, strict=True):
        same = (as_the_training_sees_it(one[FRONT]) - as_the_training_sees_it(other[FRONT])).abs().flatten(1).amax(1)
        assert float(same.median()) > 0.01
        assert torch.equal(one[FROM_LABELS], other[FROM_LABELS])


def test_what_one_of_them_does_not_have_is_left_out(make_dataset: MakeDataset) -> None:
    """And not stored; actions of the video are not even in memory."""
    more = {"observation.force": {"dtype": "float32", "shape": (3,), "names": None}}
    video = make_dataset({"front": (16, 20), "wrist": (16, 16)})
    labels = make_dataset({"front": (16, 20), "top": (16, 16)}, more=more, seed=1)
    config = lafp(stage="latent_action", observations=[FRONT, OBS_STATE], **TINY)
    found = joined(video, labels, config)
    assert [list(part.stores) for part in (found.video, found.labels)] == [[FRONT], [FRONT]]
    assert (ACTION in found.video.columns, ACTION in found.labels.columns) == (False, True)
    observed = {key for key in batches(found, config)[0] if key.startswith("observation") and "is_pad" not in key}
    assert observed == {FRONT, OBS_STATE}


def test_every_frame_is_as_likely_and_only_labels_have_actions(make_dataset: MakeDataset) -> None:
    config = lafp(stage="latent_action", **TINY)
    video, labels = make_dataset({}, lengths=(30, 20)), make_dataset({}, lengths=(10,), seed=1)
    found = joined(video, labels, config)
    epoch = batches(found, config)
    of_labels = torch.cat([batch[FROM_LABELS] for batch in epoch])
    kept = np.array([30, 20, 10]) - config.drop_n_last_frames
    assert (len(of_labels), int(of_labels.sum())) == (kept.sum(), kept[2])
    for batch in epoch:
        mine = batch[FROM_LABELS]
        assert batch[f"{ACTION}_is_pad"][~mine].all()
        assert not batch[f"{ACTION}_is_pad"][mine].any()
        assert not batch[ACTION][~mine].any()
    only = [i for i in range(16) if i < len(found.video)]
    (of_video,) = found.__getitems__(only)  # a batch without a single label
    assert of_video[ACTION].shape == (16, config.frame_offset, 2)
    assert of_video[f"{ACTION}_is_pad"].all()


def test_indices_and_tasks_are_those_of_each(make_dataset: MakeDataset) -> None:
    config = lafp(stage="latent_action", **TINY)
    video, labels = make_dataset({}, lengths=(12, 9)), make_dataset({}, lengths=(10,), seed=1)
    found = joined(video, labels, config)
    (batch,) = found.__getitems__([0, 12, 21, 30])
    assert batch["episode_index"].tolist() == [0, 1, 0, 0]
    assert batch["index"].tolist() == [0, 12, 0, 9]
    assert batch["task"] == ["task 0", "task 1", "task 0", "task 0"]


@pytest.mark.slow
def test_processes_that_load(make_dataset: MakeDataset) -> None:
    config = lafp(stage="latent_action", **TINY)
    found = joined(make_dataset({"front": (16, 20)}), make_dataset({"front": (16, 20)}, seed=1), config)
    loaded = batches(found, config, num_workers=2, multiprocessing_context="spawn")
    assert_same(loaded, batches(found, config))
