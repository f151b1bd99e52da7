"""Stage 2 in one call: a student of the flow, which goes from noise straight to where its Euler steps end (ours).

Once its equation is solved, a flow is a map from noise and observation to latents. The student is the flow's network
once more, read at ``tau = 0`` and taught that map (`training/distillation.py`): different noise still leads to
different ways of doing the task, where one Euler step of the flow itself ends between them. ``lafp distill`` adds it.
"""

import copy

import torch
from torch import Tensor, nn

from . import flow
from .latent_policy import FlowPolicy


class OneCall(nn.Module):
    """Noise and tokens to latents in one call of a network.

    Args:
        policy: The flow that it learns from, whose network it copies.
    """

    steps: Tensor

    def __init__(self, policy: FlowPolicy) -> None:
        super().__init__()
        self.prediction = policy.prediction
        self.network = copy.deepcopy(policy.network).requires_grad_(False)
        # Of its training since the flow's; 0: the flow was trained after it.
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def is_ready(self) -> bool:
        """Whether it has learnt from the flow as that is now."""
        return bool(self.steps)

    def forward(self, noise: Tensor, tokens: Tensor) -> Tensor:
        """Noise (B, L, Dz) and tokens (B, T, N, D) -> normalised latents (B, L, Dz)."""
        start = noise.new_zeros(len(noise))
        output = self.network(noise, start, tokens).to(noise.dtype)
        return flow.prediction_to_sample(output, noise, start, self.prediction)
