"""The pipelines: LeRobot's own steps under the names it addresses, and no normalisation of ours in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.policies.factory import make_pre_post_processors

from lerobot_lafp import LAFPConfig, make_lafp_pre_post_processors

STATE, FRONT = "observation.state", "observation.images.front"


def names(pipeline: Any) -> list[str]:
    return [type(step)._registry_name for step in pipeline.steps]


@pytest.fixture
def stats() -> dict[str, dict[str, torch.Tensor]]:
    numbers = {"mean": torch.full((2,), 9.0), "std": torch.full((2,), 3.0)}
    extremes = {"min": torch.zeros(2), "max": torch.ones(2)}
    return {STATE: {**numbers, **extremes}, "action": {**numbers, **extremes}}


def test_lerobot_finds_its_steps_by_name(make_config: Callable[..., LAFPConfig]) -> None:
    before, after = make_lafp_pre_post_processors(make_config(STATE))
    assert {"rename_observations_processor", "device_processor", "normalizer_processor"} <= set(names(before))
    assert {"unnormalizer_processor", "device_processor"} <= set(names(after))


def test_values_pass_as_they_are_whatever_the_dataset_says(
    make_config: Callable[..., LAFPConfig], stats: dict[str, Any]
) -> None:
    before, after = make_pre_post_processors(make_config(STATE, FRONT), dataset_stats=stats)
    state, image = torch.randn(2), torch.rand(3, 20, 24)
    out = before({STATE: state, FRONT: image, "task": "push"})
    assert torch.equal(out[STATE], state.unsqueeze(0))
    assert torch.equal(out[FRONT], image.unsqueeze(0))
    action = torch.randn(1, 2)
    assert torch.equal(after(action), action)


def test_saved_pipelines_take_lerobots_overrides(
    make_config: Callable[..., LAFPConfig], stats: dict[str, Any], tmp_path: Path
) -> None:
    config = make_config(STATE)
    for pipeline in make_lafp_pre_post_processors(config, stats):
        pipeline.save_pretrained(tmp_path)
    before, after = make_pre_post_processors(
        config,
        pretrained_path=str(tmp_path),
        preprocessor_overrides={
            "device_processor": {"device": "cpu"},
            "rename_observations_processor": {"rename_map": {"observation.joints": STATE}},
            "normalizer_processor": {"stats": stats},
        },
        postprocessor_overrides={"unnormalizer_processor": {"stats": stats}},
    )
    state, action = torch.randn(1, 2), torch.randn(1, 2)
    assert torch.equal(before({"observation.joints": state})[STATE], state)
    assert torch.equal(after(action), action)


def test_a_training_batch_comes_through_whole(
    make_config: Callable[..., LAFPConfig], make_batch: Callable[..., dict[str, Any]]
) -> None:
    config = make_config(STATE, FRONT)
    before, _ = make_lafp_pre_post_processors(config)
    batch = make_batch(config)
    out = before(batch)
    for key in (STATE, FRONT, f"{STATE}_is_pad", "action", "action_is_pad", "episode_index"):
        assert torch.equal(out[key], batch[key])
    batch["action"] = None
    assert before(batch)["action"] is None
