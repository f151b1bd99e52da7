"""A checkpoint of two actions, whatever it observes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION

from lerobot_lafp import LAFPPolicy

from ..building import lafp
from ..conftest import TINY


@pytest.fixture
def make_checkpoint(
    make_batch: Callable[..., dict[str, Any]], train: Callable[..., list[float]], tmp_path: Path
) -> Callable[..., Path]:
    """``make_checkpoint(features, steps=1, actions=True, **options)``: a policy after ``steps`` of training, saved."""

    def build(features: dict[str, PolicyFeature], steps: int = 1, actions: bool = True, **options: Any) -> Path:
        outputs = {ACTION: PolicyFeature(FeatureType.ACTION, (2,))} if actions else {}
        config = lafp(input_features=features, output_features=outputs, **{**TINY, **options})
        policy = LAFPPolicy(config)
        train(policy, make_batch(config, size=12, actions=actions), steps=steps)
        policy.save_pretrained(tmp_path / "checkpoint")
        return tmp_path / "checkpoint"

    return build
