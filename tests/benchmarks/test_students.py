"""``benchmarks/students.py``: where there are two ways, every kind of student keeps both."""

import copy
from collections.abc import Callable

import pytest
import torch
from students import TAUGHT, Demonstrations, _drift

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.model.latent_policy import FlowPolicy
from lerobot_lafp.training.distillation import learn

from ..conftest import STATE

STEPS = 400


@pytest.fixture
def shown(make_policy: Callable[..., LAFPPolicy]) -> tuple[FlowPolicy, Demonstrations]:
    """A flow that knows them, and demonstrations of two ways, -1 and 1, at one observation."""
    policy = make_policy(STATE, policy_dim=64).stages.acting_policy
    assert isinstance(policy, FlowPolicy)
    history = {STATE: torch.randn(1, 2, 2)}
    tokens = policy.observe(history).detach().expand(512, -1, -1, -1)
    ways = torch.randint(2, (512, 1, 1)) * 2.0 - 1
    data = (ways + 0.05 * torch.randn(512, *policy.chunk_shape)).detach()
    demonstrations = Demonstrations(tokens, data, torch.ones(data.shape[:2], dtype=torch.bool))

    def loss(learner: torch.nn.Module, average: torch.nn.Module) -> torch.Tensor:
        seen, latents, _ = demonstrations.some(256)
        taught = copy.copy(policy)
        taught._modules = {**policy._modules, "network": learner}
        return taught.loss(latents, seen).mean()

    policy.network = learn("flow", policy.network, loss, STEPS)
    return policy, demonstrations


@pytest.mark.parametrize("name", TAUGHT)
def test_both_ways_are_kept(name: str, shown: tuple[FlowPolicy, Demonstrations]) -> None:
    policy, demonstrations = shown
    fresh = copy.deepcopy(policy.network)
    for module in fresh.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    sampler = TAUGHT[name](policy, fresh, demonstrations, STEPS)
    with torch.no_grad():
        z = sampler(torch.randn(512, *policy.chunk_shape), demonstrations.tokens)
    middle = z.mean(dim=(1, 2))
    assert 0.25 < (middle > 0).float().mean() < 0.75
    assert (middle.abs() - 1).abs().mean() < 0.3


def test_samples_that_are_the_demonstration_do_not_drift() -> None:
    x = torch.zeros(1, 8, 4)
    assert _drift(x, torch.zeros(1, 1, 4)) < 1e-6
