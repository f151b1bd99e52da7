"""A chunk that goes on from the one before."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lerobot.policies.rtc import RTCConfig
from lerobot.rollout.inference.rtc import supports_rtc_inference
from torch import Tensor

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.acting import chunk
from lerobot_lafp.acting.real_time import Chunk, Prefix, find_prefix, nearest, towards_actions, towards_latents
from lerobot_lafp.model import flow

from ..conftest import STATE, TINY

Policies = Callable[..., LAFPPolicy]
OPTIONS = RTCConfig(execution_horizon=6)
HORIZON, FRAMES = 8, 2


@pytest.fixture
def present() -> Chunk:
    """Four latents of two frames each; the actions of its frames are numbered."""
    z = torch.arange(4.0).reshape(1, 4, 1).expand(1, 4, 3)
    return Chunk(z, torch.arange(1.0, HORIZON + 1).reshape(1, HORIZON, 1).expand(1, HORIZON, 2).contiguous())


# --- Where the chunk before is -------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [3, 6, 10])
def test_it_is_found_by_what_is_left_of_it(present: Chunk, length: int) -> None:
    for executed in range(HORIZON):
        left = present.actions[0, executed:]
        given = torch.cat([left, torch.zeros(10, 2)])[:length]  # as LeRobot cuts and fills it
        found = find_prefix(present, present.actions, given, 1, OPTIONS)
        assert found is not None
        assert found.executed == executed
        assert torch.equal(found.left[0], left)
        assert (found.sent is None) == (executed == 0)


def test_another_chunk_is_not_taken_for_it(present: Chunk) -> None:
    assert find_prefix(present, present.actions, present.actions[0, 2:] + 0.5, 1, OPTIONS) is None


@pytest.mark.parametrize(("executed", "delay"), [(2, 0), (2, 2), (4, 3), (6, 4)])
def test_weights_are_whole_for_what_is_committed_and_end_with_what_is_left(
    present: Chunk, executed: int, delay: int
) -> None:
    found = find_prefix(present, present.actions, present.actions[0, executed:], delay, OPTIONS)
    assert found is not None
    assert found.committed == min(delay, HORIZON - executed)
    assert (found.weights[: found.committed] == 1).all()
    assert (found.weights[HORIZON - executed :] == 0).all()
    assert (found.weights.diff() <= 0).all()


# --- The two ways --------------------------------------------------------------------------------------------


def prefix(present: Chunk, executed: int, committed: int) -> Prefix:
    return Prefix(present, executed, committed, (torch.arange(HORIZON) < committed).float())


@pytest.mark.parametrize("prediction", ["sample", "velocity"])
def test_latents_of_what_is_committed_are_those_before(present: Chunk, prediction: flow.Prediction) -> None:
    def elsewhere(z: Tensor, tau: Tensor) -> Tensor:
        far = torch.full_like(z, 9.0)
        return far if prediction == "sample" else flow.prediction_to_velocity(far, z, tau, "sample")

    steered = towards_latents(elsewhere, prefix(present, 2, 3), prediction)
    z = flow.integrate(steered, torch.randn(1, 4, 3), 5, prediction)
    assert torch.allclose(z[0, :, 0], torch.tensor([1.0, (2 + 9) / 2, 9.0, 9.0]), atol=1e-5)


def test_between_two_latents_it_is_between_them(present: Chunk) -> None:
    steered = towards_latents(lambda z, tau: z, prefix(present, 3, 4), "sample")
    z = flow.integrate(steered, torch.randn(1, 4, 3), 5, "sample")
    assert torch.allclose(z[0, :2, 0], torch.tensor([1.5, 2.5]))


@pytest.mark.parametrize("prediction", ["sample", "velocity"])
def test_the_decoder_guides_what_is_committed_and_leaves_the_rest(present: Chunk, prediction: flow.Prediction) -> None:
    """A flow of which the data is N(0, 1), and a decoder that repeats each latent's first two numbers."""

    def posterior_mean(z: Tensor, tau: Tensor) -> Tensor:
        t = flow.expand_time(tau, z)
        sample = z * t / (t**2 + (1 - t) ** 2)
        return sample if prediction == "sample" else flow.prediction_to_velocity(sample, z, tau, "sample")

    def decode(z: Tensor) -> Tensor:
        return 10 * z[..., :2].repeat_interleave(FRAMES, dim=1)

    where = prefix(present, 2, 4)
    noise, unit = torch.randn(1, 4, 3), torch.tensor([10.0, 10.0])
    free = flow.integrate(posterior_mean, noise, 10, prediction)
    steered = towards_actions(posterior_mean, where, prediction, decode, unit, largest_weight=10.0)
    guided = flow.integrate(steered, noise, 10, prediction)
    wanted = where.left[:, :4]
    apart = [(decode(z)[:, :4] - wanted).abs().mean() for z in (free, guided)]
    assert apart[1] < 0.2 * apart[0]
    assert torch.allclose(guided[:, 2:], free[:, 2:])


def test_of_several_samples_it_takes_the_one_that_agrees_where_that_counts(present: Chunk) -> None:
    where, unit = prefix(present, 2, 4), torch.tensor([10.0, 10.0])
    actions = torch.zeros(1, 3, HORIZON, 2)
    actions[:, :, :6] = where.left.unsqueeze(1)
    actions[0, 0, 0] += 1.0  # where it is committed
    actions[0, 1, 4] += 5.0  # where it is not
    actions[0, 2] += 0.1
    z = torch.arange(3.0).reshape(1, 3, 1, 1).expand(1, 3, 4, 3)
    found = nearest(Chunk(z, actions), where, unit)
    assert torch.equal(found.z, z[:, 1])
    assert torch.equal(found.actions, actions[:, 1])


# --- The policy ----------------------------------------------------------------------------------------------


def acts(make_policy: Policies, **options: Any) -> tuple[LAFPPolicy, dict[str, Tensor]]:
    policy = make_policy(STATE, horizon=8, num_latents=4, **options).eval()
    policy.config.rtc_config = OPTIONS  # as lerobot-rollout sets it
    return policy, {STATE: torch.randn(1, 2)}


def test_lerobot_takes_it_for_real_time_chunking(make_policy: Policies) -> None:
    assert supports_rtc_inference(make_policy(STATE))
    assert not supports_rtc_inference(make_policy(STATE, policy_head="bc"))


@pytest.mark.parametrize("guidance", ["latents", "decoder", "noise", "none"])
@pytest.mark.parametrize("source", [{}, {"latent_source": "actions"}, {"prediction": "velocity"}])
def test_a_chunk_begins_with_what_is_committed(guidance: str, source: dict[str, str], make_policy: Policies) -> None:
    policy, seen = acts(make_policy, rtc_guidance=guidance, **source)
    first = policy.predict_action_chunk(seen)
    left = first[0, 3:]
    then = policy.predict_action_chunk(seen, inference_delay=2, prev_chunk_left_over=left)
    assert then.shape == first.shape
    assert torch.equal(then[0, :2], left[:2])
    assert torch.isfinite(then).all()
    assert not torch.equal(then[0, 2:5], left[2:])


def test_the_option_says_what_steers_the_flow(make_policy: Policies) -> None:
    before, after = {}, {}
    for guidance in ("none", "latents", "decoder"):
        policy, seen = acts(make_policy, rtc_guidance=guidance, limits__enabled=False)
        noise = torch.ones(2, 1, 4, TINY["latent_dim"]) * torch.tensor([3.0, -3.0]).reshape(2, 1, 1, 1)
        for chunks, x, left in ((before, noise[0], None), (after, noise[1], before)):
            left = None if left is None else left[guidance].actions[0]
            policy.predict_action_chunk(seen, x, inference_delay=4, prev_chunk_left_over=left)
            assert policy._present is not None
            chunks[guidance] = policy._present
        assert torch.equal(after[guidance].actions[:, :4], before[guidance].actions[:, :4])
    assert torch.allclose(after["latents"].z[:, :2], before["latents"].z[:, :2], atol=1e-6)
    assert not torch.allclose(after["none"].z[:, :2], before["none"].z[:, :2], atol=1e-3)
    assert not torch.allclose(after["decoder"].z, after["none"].z, atol=1e-5)


def test_without_a_chunk_before_it_begins_anew(make_policy: Policies) -> None:
    policy, seen = acts(make_policy)
    noise = torch.randn(1, 4, TINY["latent_dim"])
    fresh = policy.predict_action_chunk(seen, noise=noise)
    policy.reset()
    assert torch.equal(policy.predict_action_chunk(seen, noise, 2, fresh[0, 2:]), fresh)
    assert torch.equal(policy.predict_action_chunk(seen, noise, 2, fresh[0, 2:] + 1), fresh)  # not of that chunk
    policy.config.rtc_config = RTCConfig(enabled=False)
    assert torch.equal(policy.predict_action_chunk(seen, noise, 2, fresh[0, 2:]), fresh)


@pytest.mark.parametrize("options", [{}, {"latent_source": "actions"}, {"relative_actions": True}])
def test_the_noise_that_is_given_is_one_of_those_it_chooses_from(
    options: dict[str, Any], make_policy: Policies, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(guidance: str, candidates: int) -> Tensor:
        monkeypatch.setattr(chunk, "CANDIDATES", candidates)
        policy, _ = acts(make_policy, rtc_guidance=guidance, limits__enabled=False, **options)
        torch.manual_seed(0)
        seen = {STATE: torch.randn(16, 2)}
        noise = torch.randn(2, 16, *policy.stages.acting_policy.chunk_shape)
        first = policy.predict_action_chunk(seen, noise[0])
        policy.predict_action_chunk(seen, noise[1], inference_delay=2, prev_chunk_left_over=first[:, 3:])
        assert policy._present is not None
        return policy._present.z

    drawn = chosen("none", 1)
    assert torch.allclose(chosen("noise", 1), drawn, atol=1e-5)
    same = torch.isclose(chosen("noise", 32), drawn, atol=1e-5).flatten(1).all(dim=1)
    assert not same.all()
