"""The student of the flow (`model/one_call.py`) learns where its Euler steps end, from observations and no labels."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..model.latent_policy import FlowPolicy, update_average
from ..model.one_call import OneCall
from ..options.constants import STUDENT_STEPS

#: Of the student's training: observations a step; the peak of its learning rate; decay of its average.
BATCH, LEARNING_RATE, DECAY = 256, 1e-3, 0.999
#: How many observations it learns from, at most.
OBSERVATIONS = 16_384
#: Squared errors far above it count by their root: where the flow parts, that takes one way, and the square the middle.
SMALL = 1e-3
#: How many of them are mixed with others: the robot comes where no demonstration was, and the flow goes on there, too.
MIXED = 0.5
#: How often it learns from one end of the flow, which takes ten calls.
OFTEN = 8


def learn[Network: nn.Module](
    name: str, network: Network, loss: Callable[[Network, Network], Tensor], steps: int
) -> Network:
    """Train a copy of a network, with a progress bar.

    Args:
        name: What the progress bar says.
        network: What the copy begins as.
        loss: Of the copy and of the average of its weights.
        steps: Optimiser steps.

    Returns:
        The average of its weights.
    """
    learner, average = copy.deepcopy(network).requires_grad_().train(), copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for step in tqdm(range(steps), desc=name, unit="step", leave=False):
            value = loss(learner, average)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            update_average(average, learner, DECAY, step)
    return average.eval()


def distill(policy: FlowPolicy, student: OneCall, tokens: Tensor, steps: int = STUDENT_STEPS) -> float:
    """Teach the student of a flow, in place, with a progress bar.

    Args:
        policy: The flow, as it acts.
        student: Begins anew, from the flow's own network.
        tokens: Observations as the flow sees them, (P, T, N, D).
        steps: Optimiser steps.

    Returns:
        The squared error of its latents, as a share of their variance.
    """
    student.network.load_state_dict(policy.network.state_dict())

    @torch.no_grad()
    def ends(observations: Tensor) -> tuple[Tensor, Tensor]:
        """Noise, and where the flow goes from it."""
        noise = policy.noise(len(observations), observations)
        return noise, policy.sample(observations, noise)

    def draw(count: int) -> tuple[Tensor, ...]:
        """What ``seen`` takes, and the ends of the flow there."""
        first, second = torch.randint(len(tokens), (2, count), device=tokens.device)
        share = torch.rand(count, 1, tokens.shape[2], 1).to(tokens) * (torch.rand(count, 1, 1, 1) < MIXED).to(tokens)
        return first, second, share, *ends(seen(first, second, share))

    def seen(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
        """Observations, each token of them by a share of its way to that of another."""
        return torch.lerp(tokens[first], tokens[second], share)

    shown = [draw(BATCH) for _ in tqdm(range(-(-steps // OFTEN)), desc="ends of the flow", unit="batch", leave=False)]
    *places, noise, target = (torch.cat(each) for each in zip(*shown, strict=True))

    def loss(learner: OneCall, average: OneCall) -> Tensor:
        rows = torch.randint(len(noise), (BATCH,), device=noise.device)
        off = learner(noise[rows], seen(*(place[rows] for place in places))) - target[rows]
        return (off.square().mean(dim=(1, 2)) + SMALL).sqrt().mean()

    student.load_state_dict(learn("one call", student, loss, steps).state_dict())
    shown_as_is = tokens[torch.randint(len(tokens), (4 * BATCH,), device=tokens.device)]
    start, end = ends(shown_as_is)
    with torch.no_grad():
        off = student(start, shown_as_is) - end
        error = float(off.square().mean() / end.var().clamp(min=1e-12))
    student.steps.fill_(steps)
    return error
