"""Real-time chunking: the next chunk is made while the present one goes on, and goes on from it.

LeRobot's ``rtc`` inference (`L/rollout/inference/rtc.py`) asks for a chunk that begins now. Until it is there, actions
of the present chunk are still sent (``inference_delay`` of them), so the new one must agree with these, and should not
part from the rest of them in a jump: a flow that samples anew may take the other way round an obstacle. Two ways
change what the flow's network predicts, so that the solver stays as it is; the third needs no steps to steer:

- ``latents``: in place of what is predicted for the latents of committed actions, those of the present chunk. Their
  part of the sample then moves along ``(1 - tau) noise + tau z_present``, as in the interpolation of stage 3.
- ``decoder``: what is predicted is moved down the gradient of the difference that the decoded actions have from the
  present chunk's (Black et al. 2025, arXiv 2506.07339, whose actions are the data of the flow; ours lie behind it).
- ``noise``: of several samples the one whose actions agree best with the present chunk's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import reduce
from lerobot.policies.rtc import RTCConfig
from lerobot.policies.rtc.modeling_rtc import RTCProcessor
from torch import Tensor

from ..model import flow
from ..options.constants import Guidance

#: Of how many samples guidance by noise takes one.
CANDIDATES = 32


@dataclass(frozen=True)
class Chunk:
    """What was predicted: normalised latents (B, L, Dz), and the actions made of them, (B, H, A)."""

    z: Tensor
    actions: Tensor


@dataclass(frozen=True)
class Prefix:
    """The prefix that the next chunk has to agree with: where the present chunk is when the next one is asked for.

    Attributes:
        present: The present chunk.
        executed: How many of its actions have been sent.
        committed: How many more will have been when the next chunk is there.
        weights: How much each action of the next chunk should agree with the present one's, (H,), 1 to 0.
    """

    present: Chunk
    executed: int
    committed: int
    weights: Tensor

    @property
    def left(self) -> Tensor:
        """The actions of the present chunk that are not sent yet, (B, n, A); the next chunk begins with the first."""
        return self.present.actions[:, self.executed :]

    @property
    def sent(self) -> Tensor | None:
        """The action that was sent last, (B, A); None if there was none."""
        return self.present.actions[:, self.executed - 1] if self.executed else None


def find_prefix(present: Chunk, told: Tensor, left_over: Tensor, delay: int, options: RTCConfig) -> Prefix | None:
    """Find where the present chunk is, of which LeRobot tells only what is left.

    Args:
        present: The present chunk.
        told: Its actions as LeRobot was told them, (B, H, A).
        left_over: Its actions that were not sent yet, (n, A) or (B, n, A), cut or filled up with zeros to a length of
            LeRobot's own.
        delay: ``inference_delay``, in actions.
        options: The ``--inference.rtc.*`` of the rollout.

    Returns:
        None if ``left_over`` is not of that chunk, or nothing of it is left.
    """
    horizon = told.shape[1]
    given = left_over.to(told).reshape(len(told), -1, told.shape[2])
    for executed in range(horizon):
        left = min(horizon - executed, given.shape[1])
        if torch.equal(told[:, executed : executed + left], given[:, :left]) and not given[:, left:].any():
            break
    else:
        return None
    remaining = horizon - executed
    committed = min(delay, remaining)
    agree = min(max(options.execution_horizon, committed), remaining)
    weights = RTCProcessor(options).get_prefix_weights(committed, agree, horizon)
    return Prefix(present, executed, committed, weights.to(present.actions))


def steering(
    guidance: Guidance,
    prefix: Prefix | None,
    prediction: flow.Prediction,
    decode: Callable[[Tensor], Tensor],
    unit: Tensor,
    options: RTCConfig,
) -> flow.Steering | None:
    """What makes a flow go on from the present chunk; None where it need not.

    Args:
        guidance: Which way.
        prefix: Where the present chunk is. None: there is none.
        prediction: What the flow's network predicts.
        decode: Latents (B, L, Dz) -> actions (B, H, A).
        unit: Deviation of each action, (A,): a difference counts in units of it.
        options: The ``--inference.rtc.*`` of the rollout.
    """
    if prefix is None or guidance in ("noise", "none"):
        return None
    if guidance == "latents":
        return lambda predictor: towards_latents(predictor, prefix, prediction)
    largest = options.max_guidance_weight
    return lambda predictor: towards_actions(predictor, prefix, prediction, decode, unit, largest)


def towards_latents(predictor: flow.Predictor, prefix: Prefix, prediction: flow.Prediction) -> flow.Predictor:
    """``predictor``, with the latents of the present chunk where its actions are committed."""
    z = prefix.present.z
    latents, horizon = z.shape[1], len(prefix.weights)
    frames = horizon // latents
    committed = (torch.arange(horizon, device=z.device) < prefix.committed).to(z)
    weight = reduce(committed, "(l k) -> l 1", "mean", k=frames)  # of a latent that is so in part: the part
    # Latent l of the next chunk lies where the present one's is at l + executed / k, between two of them.
    place = torch.arange(latents, device=z.device) + prefix.executed / frames
    below = place.floor().long().clamp(max=latents - 1)
    above = (below + 1).clamp(max=latents - 1)
    before = torch.lerp(z[:, below], z[:, above], (place - place.floor()).to(z)[:, None])

    def drawn(z: Tensor, tau: Tensor) -> Tensor:
        sample = flow.prediction_to_sample(predictor(z, tau).to(z.dtype), z, tau, prediction)
        return _as_predicted(torch.lerp(sample, before, weight), z, tau, prediction)

    return drawn


def towards_actions(
    predictor: flow.Predictor,
    prefix: Prefix,
    prediction: flow.Prediction,
    decode: Callable[[Tensor], Tensor],
    unit: Tensor,
    largest_weight: float,
) -> flow.Predictor:
    """``predictor``, guided through the decoder towards the actions of the present chunk.

    Args:
        predictor: Of the flow.
        prefix: Where the present chunk is.
        prediction: What the predictor predicts.
        decode: Latents (B, L, Dz) -> actions (B, H, A).
        unit: Deviation of each action, (A,): a difference counts in units of it.
        largest_weight: Of the guidance (``--inference.rtc.max_guidance_weight``).
    """
    weights = prefix.weights[:, None]
    left, horizon = prefix.left, len(weights)
    wanted = torch.cat([left, left[:, -1:].expand(-1, horizon - left.shape[1], -1)], dim=1)  # where weights are zero

    def guided(z: Tensor, tau: Tensor) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            sample = flow.prediction_to_sample(predictor(z, tau).to(z.dtype), z, tau, prediction)
            actions = decode(sample) / unit
            error = (wanted / unit - actions).detach() * weights
            (gradient,) = torch.autograd.grad(actions, z, error)
        t = flow.expand_time(tau, z)
        strength = ((t**2 + (1 - t) ** 2) / (t * (1 - t))).clamp(max=largest_weight)  # infinite at tau = 0
        return _as_predicted(sample.detach() + (1 - t) * strength * gradient, z.detach(), tau, prediction)

    return guided


def nearest(candidates: Chunk, prefix: Prefix, unit: Tensor) -> Chunk:
    """Of several samples at each observation the one that goes on best from the present chunk.

    Args:
        candidates: S of them at each of B observations: latents (B, S, L, Dz) and actions (B, S, H, A).
        prefix: Where the present chunk is.
        unit: Deviation of each action, (A,): a difference counts in units of it.
    """
    left = prefix.left.unsqueeze(1)
    off = (candidates.actions[:, :, : left.shape[2]] - left) / unit
    error = (off.square().sum(dim=-1) * prefix.weights[: left.shape[2]]).sum(dim=-1)
    rows, best = torch.arange(len(error), device=error.device), error.argmin(dim=1)
    return Chunk(candidates.z[rows, best], candidates.actions[rows, best])


def _as_predicted(sample: Tensor, z: Tensor, tau: Tensor, prediction: flow.Prediction) -> Tensor:
    return sample if prediction == "sample" else flow.prediction_to_velocity(sample, z, tau, "sample")
