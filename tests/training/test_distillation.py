"""The student of the flow: what it learns, when it acts, and when it is stale."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.model.latent_policy import FlowPolicy
from lerobot_lafp.model.one_call import OneCall
from lerobot_lafp.training.distillation import distill

from ..conftest import ENV_STATE, FRONT, STATE

Build = Callable[..., LAFPPolicy]
Batches = Callable[..., dict[str, Any]]
Train = Callable[..., list[float]]
Students = Callable[..., LAFPPolicy]


def taught(policy: LAFPPolicy, tokens: torch.Tensor | None = None, steps: int = 3) -> LAFPPolicy:
    """The same with a student of its flow."""
    flow = policy.eval().stages.acting_policy
    assert isinstance(flow, FlowPolicy)
    if tokens is None:
        tokens = torch.randn(32, policy.config.n_obs_steps, flow.encoder.num_tokens, policy.config.token_dim)
    policy.config.facts.one_call = True
    policy.one_call = OneCall(flow)
    distill(flow, policy.one_call, tokens, steps)
    return policy


@pytest.fixture
def with_student(trained: Callable[..., LAFPPolicy]) -> Students:
    """``with_student(*features, **options)``: a policy through all stages, and its student."""
    return lambda *features, **options: taught(trained("joint", *features, **options))


@pytest.mark.parametrize(
    ("features", "options"),
    [
        ((STATE,), {}),
        ((STATE,), {"ema_decay": 0.0, "prediction": "velocity"}),
        ((STATE, FRONT), {"policy_network": "transformer"}),
        ((STATE, ENV_STATE), {"latent_source": "actions"}),
    ],
)
def test_it_acts_and_is_saved(
    features: tuple[str, ...],
    options: dict[str, Any],
    with_student: Students,
    make_observation: Batches,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = with_student(*features, **options)
    assert policy.stages.acts_in_one_call
    assert not any(p.requires_grad for p in policy.one_call.parameters())
    policy.save_pretrained(tmp_path)
    loaded = LAFPPolicy.from_pretrained(tmp_path)
    observation, noise = make_observation(policy.config), torch.randn(3, *policy.latent_policy.chunk_shape)
    called = []
    forward = loaded.one_call.network.forward
    monkeypatch.setattr(loaded.one_call.network, "forward", lambda *given: called.append(1) or forward(*given))
    monkeypatch.setattr(loaded.stages.acting_policy, "sample", None)
    actions = loaded.predict_action_chunk(observation, noise=noise)
    assert len(called) == 1
    assert torch.equal(actions, policy.predict_action_chunk(observation, noise=noise))


def test_a_policy_has_none_of_itself(trained: Callable[..., LAFPPolicy]) -> None:
    policy = trained("joint")
    assert policy.one_call is None
    assert not policy.stages.acts_in_one_call
    assert not any(name.startswith("one_call") for name in policy.state_dict())


@pytest.mark.parametrize(
    ("stage", "options", "kept"),
    [
        ("joint", {}, False),
        ("latent_policy", {}, False),
        ("action_decoder", {"decoder_input": "interpolation"}, True),
        ("action_decoder", {"decoder_input": "interpolation", "finetune_policy": True}, False),
    ],
)
def test_it_is_stale_once_the_flow_is_another(
    stage: str,
    options: dict[str, Any],
    kept: bool,
    with_student: Students,
    make_batch: Batches,
    train: Train,
    next_stage: Callable[..., LAFPPolicy],
) -> None:
    later = next_stage(with_student(), stage, **options)
    assert later.one_call is not None
    assert later.one_call.is_ready, "as it was saved"
    train(later, make_batch(later.config))
    assert later.one_call.is_ready is kept


def test_what_it_learns_is_where_the_steps_end(
    make_policy: Build, make_batch: Batches, train: Train, make_observation: Batches
) -> None:
    """It follows the noise: far nearer to the flow's ten steps than one step of the flow, which does not."""
    policy = make_policy(STATE, policy_dim=32, num_latents=1, latent_dim=2)
    train(policy, make_batch(policy.config, size=16), steps=150)
    stages = policy.eval().stages
    seen = make_observation(policy.config, 64)[STATE].unsqueeze(1).expand(-1, policy.config.n_obs_steps, -1)
    flow = stages.acting_policy
    assert isinstance(flow, FlowPolicy)
    tokens = flow.observe(stages.normalizer({STATE: seen})).detach()
    torch.manual_seed(1)
    taught(policy, tokens, steps=400)
    stages, noise = policy.stages, flow.noise(64, tokens)
    with torch.no_grad():
        wanted = flow.sample(tokens, noise)
        said = stages.sample(tokens, noise)
        policy.config.num_flow_steps = 10
        assert torch.equal(stages.sample(tokens, noise), wanted), "who asks for steps gets them"
        policy.config.num_flow_steps = None
        steered = stages.sample(tokens, noise, lambda predictor: predictor)
        assert torch.equal(steered, wanted), "what is steered is a flow"
        flow.num_steps = 1
        one_step = flow.sample(tokens, noise)
    assert (said - wanted).square().mean() < 0.2 * (one_step - wanted).square().mean()


def test_it_is_the_same_of_the_same_seed(make_policy: Build) -> None:
    students = []
    for _ in range(2):
        policy = make_policy(STATE)
        torch.manual_seed(3)
        students.append(taught(policy).one_call)
    assert all(torch.equal(one, two) for one, two in zip(*(s.state_dict().values() for s in students), strict=True))
