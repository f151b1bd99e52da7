"""Stage 3: latents -> physical actions, learnt from the few labelled demonstrations. LAFP paper, section 3.3.

Which latents it is trained on, ``decoder_input`` says (`training/losses.py`): by default the inverse model's own; in
the paper the frozen policy's, moved towards these by ``flow.interpolation_input``.
"""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from .layers import mean_over_valid, mlp
from .running_statistics import RunningMoments


class ActionDecoder(nn.Module):
    """A three-layer perceptron from a chunk of latents, with or without observation, to H actions.

    Args:
        num_latents: L.
        latent_dim: Dz.
        horizon: H.
        action_dim: A.
        hidden: Hidden width.
        observation_dim: Width of the flattened observation it also reads; 0: latents alone.
    """

    def __init__(
        self, num_latents: int, latent_dim: int, horizon: int, action_dim: int, hidden: int, observation_dim: int = 0
    ) -> None:
        super().__init__()
        self.horizon = horizon
        self.observation_dim = observation_dim
        self.network = mlp(num_latents * latent_dim + observation_dim, hidden, horizon * action_dim)
        self.moments = RunningMoments(action_dim)

    def _normalized(self, z: Tensor, observation: Tensor | None) -> Tensor:
        x = rearrange(z, "b l d -> b (l d)")
        if self.observation_dim:
            assert observation is not None
            x = torch.cat([x, observation], dim=-1)
        return rearrange(self.network(x), "b (h a) -> b h a", h=self.horizon)

    def forward(self, z: Tensor, observation: Tensor | None = None) -> Tensor:
        """Latents (B, L, Dz), normalised, and an observation (B, O) where it reads one -> actions (B, H, A)."""
        return self.moments.unnormalize(self._normalized(z, observation))

    def loss(self, z: Tensor, observation: Tensor | None, actions: Tensor, labeled: Tensor) -> Tensor:
        """Squared error per sample (B,), in units of the actions' own deviation.

        Args:
            z: Latents, (B, L, Dz).
            observation: (B, O) or None.
            actions: Targets, (B, H, A); where not labelled they may hold anything.
            labeled: (B, H), true where the action is known and within the episode.
        """
        if self.training:
            self.moments.update(actions[labeled])
        mask = repeat(labeled, "b h -> b h a", a=actions.shape[-1])
        target = torch.where(mask, self.moments.normalize(actions), torch.zeros_like(actions))
        return mean_over_valid((self._normalized(z, observation) - target) ** 2, mask)
