"""The learning rate, group by group: stage 1 of a joint run rests while the others go on."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from lerobot.optim import DiffuserSchedulerConfig

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.options.schedule import GroupCosineSchedulerConfig

STATE = "observation.state"
STEPS = 40


def optimizer(groups: int) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)], lr=2.0)


def rates(schedule: Any, groups: int) -> list[list[float]]:
    """Step -> learning rate of each group."""
    sgd = optimizer(groups)
    scheduler = schedule.build(sgd, STEPS)
    out = []
    for _ in range(STEPS + 3):
        out.append([group["lr"] for group in sgd.param_groups])
        sgd.step()
        scheduler.step()
    return out


@pytest.mark.parametrize("warmup", [0, 10])
def test_one_group_has_the_cosine_of_diffusers(warmup: int) -> None:
    ours = rates(GroupCosineSchedulerConfig(warmup), 1)
    theirs = rates(DiffuserSchedulerConfig(name="cosine", num_warmup_steps=warmup), 1)
    assert ours[: STEPS + 1] == [pytest.approx(rate) for rate in theirs[: STEPS + 1]]


def test_each_group_comes_to_rest_at_its_own_time() -> None:
    first, second = zip(*rates(GroupCosineSchedulerConfig(10, [0.5, 1.0]), 2), strict=True)
    assert first[:11] == second[:11], "they warm up together"
    assert all(a < b for a, b in zip(first[11:40], second[11:40], strict=True))
    assert first[19] > 0
    assert not any(first[20:])
    assert second[39] > 0
    assert not any(second[40:]), "and a run that goes on after its end learns nothing more"


def test_a_run_shorter_than_its_warm_up_never_divides_by_nothing() -> None:
    (a, b), *_ = rates(GroupCosineSchedulerConfig(100, [0.1, 1.0]), 2)[20:]
    assert a == b == pytest.approx(0.4)


def test_another_number_of_groups_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 group\(s\).*optimiser has 1.*use_policy_training_preset"):
        GroupCosineSchedulerConfig(10, [0.5, 1.0]).build(optimizer(1), STEPS)


@pytest.mark.parametrize(
    ("stage", "source", "groups"),
    [
        ("joint", "idm", 2),
        ("joint", "actions", 1),
        ("latent_action", "idm", 1),
        ("latent_policy", "idm", 1),
        ("action_decoder", "idm", 1),
    ],
)
def test_the_policys_groups_are_those_of_its_schedule(
    stage: str, source: str, groups: int, trained: Callable[..., LAFPPolicy]
) -> None:
    policy = trained(stage, STATE, latent_source=source)
    adamw = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    scheduler = policy.config.get_scheduler_preset().build(adamw, STEPS)
    assert len(scheduler.base_lrs) == groups


def test_stage_one_of_a_joint_run_stands_still_after_its_share(
    make_policy: Callable[..., LAFPPolicy], make_batch: Callable[..., dict[str, Any]]
) -> None:
    policy = make_policy(STATE, joint_latent_share=0.5, scheduler_warmup_steps=2).train()
    batch = make_batch(policy.config, seed=1)
    adamw = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    scheduler = policy.config.get_scheduler_preset().build(adamw, 12)
    weights = []
    for _ in range(12):
        policy.forward(batch)[0].backward()
        adamw.step()
        adamw.zero_grad()
        scheduler.step()
        policy.update()
        modules = (policy.latent_action_model, policy.latent_policy, policy.action_decoder)
        weights.append([torch.nn.utils.parameters_to_vector(m.parameters()).detach().clone() for m in modules])
    still = [[torch.equal(a, b) for a, b in zip(*pair, strict=True)] for pair in pairwise(weights)]
    assert still[:5] == [[False, False, False]] * 5
    assert still[5:] == [[True, False, False]] * 6
