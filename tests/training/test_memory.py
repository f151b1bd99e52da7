"""A policy that acts or trains for long takes no more memory than one that has begun to."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lerobot_lafp import LAFPPolicy

from ..conftest import FRONT, STATE

MIB = 1 << 20
#: What the allocators may keep for themselves. A leak of one picture a call would be seven times that.
MOST = 4 * MIB


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def grown(step: Callable[[], Any], first: int, times: int) -> int:
    """By how much the process grows over ``times`` steps, after the ``first``."""
    for _ in range(first):
        step()
    before = resident()
    for _ in range(times):
        step()
    return resident() - before


pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")


def anew(batch: dict[str, Any]) -> dict[str, Any]:
    """The same in memory of its own, as every observation and batch is."""
    return {key: x.clone() if isinstance(x, torch.Tensor) else x for key, x in batch.items()}


def test_over_five_thousand_actions(
    trained: Callable[..., LAFPPolicy], make_observation: Callable[..., dict[str, Any]]
) -> None:
    policy = trained("joint", STATE, FRONT, num_flow_steps=2).eval()
    observation = make_observation(policy.config, size=1)
    assert grown(lambda: policy.select_action(anew(observation)), first=500, times=5000) < MOST


@pytest.mark.slow
def test_over_a_thousand_training_steps(
    make_policy: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
) -> None:
    policy = make_policy(STATE, FRONT)
    batch = make_batch(policy.config)
    assert grown(lambda: train(policy, anew(batch), steps=1), first=100, times=1000) < MOST // 2  # half as many steps
