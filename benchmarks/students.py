"""Policies of one or two calls to hold against `lafp distill`; each learns over the tokens of a trained encoder.

``two_calls`` learns from the flow, as the student of `lafp distill` does, but where its way is half done and where it
ends. The others have no teacher and begin anew: ``shortcut`` is a flow that is also told how far to step, and learns
long steps from pairs of its own short ones (Frans et al., 2024, arXiv 2410.12557); ``drifting`` moves its samples to
the demonstration and away from each other, by a kernel (Deng et al., 2026, arXiv 2602.04770); ``energy`` lowers the
energy score of its samples, a proper score.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from ablation.data import Data
from torch import Tensor, nn

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.diagnostics.collect import dataset_batches, on_policys_terms
from lerobot_lafp.model import flow
from lerobot_lafp.model.latent_policy import FlowPolicy, TimeEmbedding
from lerobot_lafp.observation.language import TASK
from lerobot_lafp.training.batch import read_batch
from lerobot_lafp.training.distillation import BATCH, learn

#: (noise, tokens) -> latents.
Sampler = Callable[[Tensor, Tensor], Tensor]

#: The least step of ``shortcut`` is 1 / 2 ** HALVINGS, and what share of its samples teach longer ones.
HALVINGS, LONGER = 3, 0.25
#: Samples at one observation, and reaches of the kernel, in mean distances between them and to the demonstration.
SAMPLES, REACHES = 8, (0.02, 0.05, 0.2)


@dataclass(frozen=True)
class Demonstrations:
    """What a policy over latents learns from.

    Attributes:
        tokens: Observations, (P, T, N, D).
        latents: Normalised, (P, L, Dz).
        valid: False for latents that reach beyond the episode, (P, L).
    """

    tokens: Tensor
    latents: Tensor
    valid: Tensor

    def some(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, latents, and what counts of them, (B, L, 1)."""
        rows = torch.randint(len(self.tokens), (count,))
        return self.tokens[rows], self.latents[rows], self.valid[rows].unsqueeze(-1).to(self.latents)


@torch.no_grad()
def demonstrations(policy: LAFPPolicy, data: Data, count: int, seed: int) -> Demonstrations:
    """Up to ``count`` frames as a policy of trained stages 1 and 2 sees them, and what was done there."""
    wanted = policy.config.but(stage="latent_policy")
    acting, model = policy.stages.acting_policy, policy.latent_action_model
    assert model is not None
    found: list[tuple[Tensor, ...]] = []
    for batch in dataset_batches(policy.config, data.repo_id, data.root, count, seed, wanted=wanted):
        read = read_batch(on_policys_terms(policy, batch), wanted, policy.normalizer)
        tokens = acting.observe(policy.stages.with_task(read.history, batch.get(TASK)))
        found.append((tokens, model.normalize(model.encode(read.frames, read.valid).z, read.valid), read.valid))
    return Demonstrations(*(torch.cat(each) for each in zip(*found, strict=True)))


def _mean(x: Tensor, counts: Tensor) -> Tensor:
    """Of x (B, L, Dz), over what counts, (B, L, 1)."""
    return (x * counts).sum() / (counts.sum() * x.shape[-1]).clamp(min=1)


def two_calls(policy: FlowPolicy, fresh: nn.Module, shown: Demonstrations, steps: int) -> Sampler:
    """Two calls of a network that learns where the flow is half way and at its end."""
    half = policy.num_steps // 2

    @torch.no_grad()
    def way(noise: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Where the flow is half way, and at its end."""
        there: list[Tensor] = []

        def seen(z: Tensor, tau: Tensor) -> Tensor:
            there.append(z)
            return policy.network(z, tau, tokens)

        end = flow.integrate(seen, noise, policy.num_steps, policy.prediction)
        return there[half], end

    def loss(learner: nn.Module, average: nn.Module) -> Tensor:
        tokens, _, _ = shown.some(BATCH // 2)
        noise = torch.randn(len(tokens), *policy.chunk_shape)
        middle, end = way(noise, tokens)
        tau = torch.cat([torch.zeros(len(tokens)), torch.full((len(tokens),), 0.5)])
        z = torch.cat([noise, middle])
        velocity = torch.cat([2 * (middle - noise), 2 * (end - middle)])
        target = flow.prediction_to_sample(velocity, z, tau, "velocity")
        output = flow.prediction_to_sample(learner(z, tau, tokens.repeat(2, 1, 1, 1)), z, tau, policy.prediction)
        return (output - target).square().mean()

    network = learn("two calls", policy.network, loss, steps)
    return lambda noise, tokens: flow.integrate(lambda z, tau: network(z, tau, tokens), noise, 2, policy.prediction)


class TimeAndStep(nn.Module):
    """Flow time and how far to step from there, (B, 2) -> (B, D); the least step counts as none."""

    def __init__(self, time: TimeEmbedding, dim: int) -> None:
        super().__init__()
        self.time, self.step = time, TimeEmbedding(dim)

    def forward(self, both: Tensor) -> Tensor:
        return self.time(both[:, 0]) + self.step(both[:, 1])


def shortcut(policy: FlowPolicy, fresh: nn.Module, shown: Demonstrations, steps: int) -> Sampler:
    """One step of a flow that is told how far to step."""
    network = copy.deepcopy(fresh)
    network.time = TimeAndStep(network.time, network.time.project.linear_2.out_features)
    least = 2.0**-HALVINGS

    def velocity(network: nn.Module, z: Tensor, tau: Tensor, step: Tensor, tokens: Tensor) -> Tensor:
        both = torch.stack([tau, torch.where(step > least, step, 0.0)], dim=1)
        return flow.prediction_to_velocity(network(z, both, tokens), z, tau, policy.prediction)

    def sample(network: nn.Module, z: Tensor, tau: Tensor, step: Tensor, tokens: Tensor) -> Tensor:
        return flow.prediction_to_sample(velocity(network, z, tau, step, tokens), z, tau, "velocity")

    def loss(learner: nn.Module, average: nn.Module) -> Tensor:
        tokens, data, counts = shown.some(BATCH)
        noise = torch.randn_like(data)
        longer = torch.arange(BATCH) < LONGER * BATCH
        step = torch.where(longer, 2.0 ** -torch.randint(HALVINGS, (BATCH,)).float(), torch.zeros(BATCH))
        tau = torch.rand(BATCH)
        tau = torch.where(longer, (tau / step.clamp(min=least)).floor() * step, tau)
        z = flow.interpolate(noise, data, tau)
        target = data.clone()
        with torch.no_grad():
            at, half, seen = z[longer], step[longer] / 2, tokens[longer]
            first = velocity(average, at, tau[longer], half, seen)
            then = at + flow.expand_time(half, at) * first
            second = velocity(average, then, tau[longer] + half, half, seen)
            target[longer] = flow.prediction_to_sample((first + second) / 2, at, tau[longer], "velocity")
        return _mean((sample(learner, z, tau, step, tokens) - target).square(), counts)

    network = learn("shortcut", network, loss, steps)
    return lambda noise, tokens: sample(network, noise, noise.new_zeros(len(noise)), noise.new_ones(len(noise)), tokens)


def _without_flow(
    name: str, policy: FlowPolicy, fresh: nn.Module, shown: Demonstrations, steps: int, score: Callable[..., Tensor]
) -> Sampler:
    """One call of a network that has several samples at each observation held against what was done there."""

    def generate(network: nn.Module, noise: Tensor, tokens: Tensor) -> Tensor:
        start = noise.new_zeros(len(noise))
        return flow.prediction_to_sample(network(noise, start, tokens), noise, start, policy.prediction)

    def loss(learner: nn.Module, average: nn.Module) -> Tensor:
        tokens, data, counts = shown.some(BATCH // SAMPLES)
        noise = torch.randn(BATCH, *policy.chunk_shape)
        x = generate(learner, noise, tokens.repeat_interleave(SAMPLES, dim=0)).unflatten(0, (-1, SAMPLES))
        return score((x * counts.unsqueeze(1)).flatten(2), (data * counts).flatten(1).unsqueeze(1))

    network = learn(name, fresh, loss, steps)
    return lambda noise, tokens: generate(network, noise, tokens)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Of every row to every other, (B, S, S'), with a gradient where they meet."""
    return ((a.unsqueeze(2) - b.unsqueeze(1)).square().mean(dim=-1) + 1e-6).sqrt()


def _energy(x: Tensor, y: Tensor) -> Tensor:
    """Of samples x (B, S, L * Dz) for what was done, y (B, 1, L * Dz)."""
    return _distance(x, y).mean() - _distance(x, x).sum(dim=(1, 2)).mean() / (SAMPLES * (SAMPLES - 1)) / 2


def _drift(x: Tensor, y: Tensor) -> Tensor:
    """How far samples are to move: to y, and away from each other, by what the kernel says is near."""
    at = x.detach()
    distance = torch.cat([_distance(at, y), _distance(at, at)], dim=2)
    distance = distance / distance.mean()
    itself = torch.eye(SAMPLES, dtype=torch.bool)
    moves = torch.zeros_like(at)
    for reach in REACHES:
        logits = -distance / reach
        logits[:, :, 1:].masked_fill_(itself, -torch.inf)
        near = (logits.softmax(dim=2) * logits.softmax(dim=1)).sqrt()
        to, away = near[:, :, :1], near[:, :, 1:]
        move = (to * away.sum(dim=2, keepdim=True)) @ y - (away * to) @ at
        moves += move / move.square().mean().sqrt().clamp(min=1e-6)
    return (x - (at + moves)).square().mean()


def drifting(policy: FlowPolicy, fresh: nn.Module, shown: Demonstrations, steps: int) -> Sampler:
    """One call; samples drift by a kernel."""
    return _without_flow("drifting", policy, fresh, shown, steps, _drift)


def energy(policy: FlowPolicy, fresh: nn.Module, shown: Demonstrations, steps: int) -> Sampler:
    """One call; samples are held against the demonstration by the energy score."""
    return _without_flow("energy", policy, fresh, shown, steps, _energy)


#: Name -> how it is taught, of the flow, a network of its kind that has learnt nothing, demonstrations and steps.
TAUGHT: dict[str, Callable[[FlowPolicy, nn.Module, Demonstrations, int], Sampler]] = {
    "two_calls": two_calls,
    "shortcut": shortcut,
    "drifting": drifting,
    "energy": energy,
}
