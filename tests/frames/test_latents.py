"""Latents ahead of stages 2 and 3: what is learnt from them is what would be learnt from the frames."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import make_policy
from lerobot.transforms import ImageTransforms, ImageTransformsConfig
from lerobot.utils.constants import ACTION

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.frames import latents, serving
from lerobot_lafp.frames.dataset import StoredDataset
from lerobot_lafp.frames.serving import of_a_training
from lerobot_lafp.options.constants import LATENT_ACTION, LATENT_ACTION_IS_PAD
from lerobot_lafp.options.context import TrainingContext

from ..building import lafp
from ..conftest import TINY
from .conftest import opened

FRONT, STATE = "observation.images.front", "observation.state"
MakeDataset = Callable[..., Path]


@pytest.fixture(scope="module")
def root(make_dataset: MakeDataset) -> Path:
    return make_dataset({"front": (24, 32)})


@pytest.fixture
def make_checkpoint(
    make_batch: Callable[..., dict[str, Any]], train: Callable[..., list[float]], tmp_path: Path
) -> Callable[..., Path]:
    """``make_checkpoint(before, **options)``: stage 1 after two steps, and what is built on before stage ``before``."""

    def build(before: str = "latent_policy", **options: Any) -> Path:
        inputs = {
            FRONT: PolicyFeature(FeatureType.VISUAL, (3, 24, 32)),
            STATE: PolicyFeature(FeatureType.STATE, (2,)),
        }
        outputs = {ACTION: PolicyFeature(FeatureType.ACTION, (2,))}
        config = lafp(input_features=inputs, output_features=outputs, stage="latent_action", **{**TINY, **options})
        config.facts.latent_features = sorted(inputs)
        torch.manual_seed(1)
        policy = LAFPPolicy(config)
        train(policy, make_batch(config, size=8), steps=2)
        policy.stage_steps[1] = int(before == "action_decoder")  # as it was drawn
        policy.save_pretrained(tmp_path / "checkpoint")
        return tmp_path / "checkpoint"

    return build


def stage_2(
    checkpoint: Path,
    root: Path,
    samples: int,
    context: dict[str, Any] | None = None,
    stage: str = "latent_policy",
    **options: Any,
) -> tuple[LAFPPolicy, StoredDataset]:
    """Policy and dataset as ``lerobot-train`` makes them for so many samples; of stage 3 if asked for."""
    typed = [
        f"--{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in options.pop("policy", {}).items()
    ]
    config = LAFPConfig.from_pretrained(checkpoint, cli_overrides=[f"--stage={stage}", *typed])
    config.pretrained_path = checkpoint
    config.context = TrainingContext(samples=samples, **(context or {}))
    dataset, *_ = of_a_training([opened(root, config, **options), None], config)
    assert isinstance(dataset, StoredDataset)
    torch.manual_seed(7)  # stage 2 is new, where the dataset has tasks in words
    policy = make_policy(config, ds_meta=dataset.meta, rename_map=(context or {}).get("rename_map"))
    assert isinstance(policy, LAFPPolicy)
    return policy, dataset


def losses(policy: LAFPPolicy, batch: dict[str, Any]) -> torch.Tensor:
    policy.train()
    torch.manual_seed(3)
    return policy.forward(batch, reduction="none")[0].detach()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hold_last_frame": True},
        {"n_obs_steps": 1},
        {"codebook__size": 8},
        {"random_shift": 2},
        {"resize_shape": (12, 16)},
    ],
    ids=str,
)
@pytest.mark.parametrize("episodes", [None, [2, 0]])
@pytest.mark.parametrize("stage", ["latent_policy", "action_decoder"])
def test_the_same_is_learnt(
    stage: str, options: dict[str, Any], episodes: list[int] | None, root: Path, make_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_checkpoint(stage, language="none", **options)
    policy, fly = stage_2(checkpoint, root, 1, stage=stage, episodes=episodes)
    assert not policy.config.given_latents
    ahead, dataset = stage_2(checkpoint, root, 10_000, stage=stage, episodes=episodes)
    assert ahead.config.given_latents
    rows = np.arange(len(dataset))
    batch = dataset.batch(rows)
    assert batch[FRONT].shape[:-3] == ((len(rows), 2) if options.get("n_obs_steps") != 1 else (len(rows),))
    expected = losses(policy, fly.batch(rows))
    torch.testing.assert_close(losses(ahead, batch), expected)
    assert float(expected.std()) > 0
    assert bool(batch[LATENT_ACTION_IS_PAD].any()) is not bool(options.get("hold_last_frame"))


def test_a_checkpoint_does_not_say_where_its_latents_came_from(
    root: Path, make_checkpoint: Callable[..., Path], train: Callable[..., list[float]], tmp_path: Path
) -> None:
    policy, dataset = stage_2(make_checkpoint(), root, samples=10_000)
    train(policy, dataset.batch(np.arange(8)))
    policy.save_pretrained(tmp_path / "next")
    text = (tmp_path / "next" / "config.json").read_text()
    assert "given_latents" not in text
    policy, dataset = stage_2(tmp_path / "next", root, samples=1)
    assert losses(policy, dataset.batch(np.arange(8))).isfinite().all()


def test_names_that_a_run_gives_its_cameras(make_dataset: MakeDataset, make_checkpoint: Callable[..., Path]) -> None:
    theirs = make_dataset({"top": (24, 32)})
    context = {"rename_map": {"observation.images.top": FRONT}}
    policy, dataset = stage_2(make_checkpoint(), theirs, samples=10_000, context=context)
    assert policy.config.given_latents
    assert bool((dataset.batch(np.arange(6))[LATENT_ACTION] != 0).any())
    assert "observation.images.top" in dataset.stores


@pytest.mark.parametrize(
    "decoder", [{"decoder_input": "interpolation"}, {"relative_actions": True}, {"finetune_policy": True}], ids=str
)
def test_whatever_the_decoder_learns(decoder: dict[str, Any], root: Path, make_checkpoint: Callable[..., Path]) -> None:
    if "finetune_policy" in decoder:
        decoder = {"decoder_input": "interpolation", **decoder}
    checkpoint = make_checkpoint("action_decoder", language="none")
    policy, fly = stage_2(checkpoint, root, 1, stage="action_decoder", policy=decoder)
    ahead, dataset = stage_2(checkpoint, root, 10_000, stage="action_decoder", policy=decoder)
    assert (policy.config.given_latents, ahead.config.given_latents) == (False, True)
    rows = np.arange(len(dataset))
    torch.testing.assert_close(losses(ahead, dataset.batch(rows)), losses(policy, fly.batch(rows)))


def test_a_decoder_of_samples_needs_no_latents(root: Path, make_checkpoint: Callable[..., Path]) -> None:
    sampled = {"decoder_input": "samples"}
    policy, _ = stage_2(
        make_checkpoint("action_decoder", language="none"), root, 10_000, stage="action_decoder", policy=sampled
    )
    assert not policy.config.given_latents


@pytest.mark.parametrize("why", ["few samples", "changes at random", "no store", "another stage", "labelled"])
def test_when_latents_are_not_inferred_ahead(
    why: str, root: Path, make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "label_episode", lambda *_: pytest.fail("inferred ahead"))
    checkpoint = make_checkpoint()
    frames = 12 + 9 + 14
    if why == "few samples":  # 2 latents each
        stage_2(checkpoint, root, samples=frames // 2)
        with pytest.raises(pytest.fail.Exception):
            stage_2(checkpoint, root, samples=frames // 2 + 1)
    elif why == "changes at random":
        stage_2(checkpoint, root, 10_000, image_transforms=ImageTransforms(ImageTransformsConfig(enable=True)))
    elif why == "no store":
        config = LAFPConfig.from_pretrained(checkpoint, cli_overrides=["--stage=latent_policy", "--frame_store=off"])
        config.context, config.pretrained_path = TrainingContext(samples=10_000), checkpoint
        dataset, _ = of_a_training([opened(root, config), None], config)
        assert dataset is not None
        make_policy(config, ds_meta=dataset.meta)
    elif why == "another stage":
        policy, dataset = stage_2(checkpoint, root, samples=1)
        policy.config.stage = "latent_action"
        latents.label_ahead(policy, [dataset])
    else:
        policy, dataset = stage_2(checkpoint, root, samples=1)
        policy.config.given_latents = True
        latents.label_ahead(policy, [dataset])


def test_what_is_held_out_has_latents_too(
    root: Path, make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or neither has: an evaluation while training reads what the training reads."""
    store = serving.with_frame_store
    for with_store in (True, False):
        config = LAFPConfig.from_pretrained(make_checkpoint(), cli_overrides=["--stage=latent_policy"])
        config.context, config.pretrained_path = TrainingContext(samples=10_000), make_checkpoint()
        train, held_out = (opened(root, config, episodes=episodes) for episodes in ([0, 1], [2]))
        if not with_store:
            monkeypatch.setattr(serving, "with_frame_store", lambda d, c: d if d.episodes == [2] else store(d, c))
        train, held_out = of_a_training([train, held_out], config)
        policy = make_policy(config, ds_meta=train.meta)
        assert policy.config.given_latents is with_store
        for dataset in (train, held_out):
            if isinstance(dataset, StoredDataset):
                assert (LATENT_ACTION in dataset.batch(np.arange(3))) is with_store


def test_a_full_disk_is_no_end(
    root: Path, make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    file = SimpleNamespace(write=full, __enter__=lambda: None)
    monkeypatch.setattr(latents, "_file", lambda: _Full(file))
    with caplog.at_level("INFO", "lerobot_lafp"):
        policy, dataset = stage_2(make_checkpoint(), root, samples=10_000)
    assert "Latents are inferred while training: No space left on device" in caplog.text
    assert not policy.config.given_latents
    assert losses(policy, dataset.batch(np.arange(8))).isfinite().all()


class _Full:
    """A file on a full disk."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> Any:
        return self.file

    def __exit__(self, *_: object) -> None:
        pass
