"""The student of the flow (`model/one_call.py`) learns where its Euler steps end, from observations and no labels."""

import copy

import torch
from torch import Tensor
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
    learner, average = copy.deepcopy(student).train(), student.network
    weights = list(learner.network.requires_grad_().parameters())
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

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
    with torch.enable_grad():
        for step in tqdm(range(steps), desc="one call", unit="step", leave=False):
            rows = torch.randint(len(noise), (BATCH,), device=noise.device)
            off = learner(noise[rows], seen(*(place[rows] for place in places))) - target[rows]
            loss = (off.square().mean(dim=(1, 2)) + SMALL).sqrt().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            update_average(average, learner.network, DECAY, step)
    average.requires_grad_(False)
    shown_as_is = tokens[torch.randint(len(tokens), (4 * BATCH,), device=tokens.device)]
    noise, target = ends(shown_as_is)
    with torch.no_grad():
        off = student(noise, shown_as_is) - target
        error = float(off.square().mean() / target.var().clamp(min=1e-12))
    student.steps.fill_(steps)
    return error
