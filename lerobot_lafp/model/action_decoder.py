"""Stage 3: latents -> physical actions, learnt from the few labelled demonstrations. LAFP paper, section 3.3.

Which latents it is trained on, ``decoder_input`` says (`training/losses.py`): by default the inverse model's own; in
the paper the frozen policy's, moved towards these by ``flow.interpolation_input``.
"""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn.functional import pad

from .layers import gone_on, mean_over_valid, mlp
from .running_statistics import RunningMoments

#: Up to so many labelled frames the weights decay by 1, over more by less: as a prior that counts as much as they do.
FEW_FRAMES = 2000


def weight_decay(labeled_frames: int | None) -> float:
    """That of a decoder's training with AdamW (`benchmarks/decoders.py`); None: how many there are is not known."""
    return min(1.0, FEW_FRAMES / labeled_frames) if labeled_frames else 1.0


class ActionDecoder(nn.Module):
    """A three-layer perceptron from latents, with or without observation, to actions.

    The same one makes each latent's actions, H / L of them. It reads that latent, those before it and the next, and
    which place it has: a labelled chunk teaches it L times.

    Args:
        num_latents: L.
        latent_dim: Dz.
        horizon: H.
        action_dim: A.
        hidden: Hidden width.
        observation_dim: Width O of the flattened observation it also reads; 0: latents alone.
        relative: Actions are places as seen from the present one: each latent's go on from where that before it led.
        whole: One for all latents instead, which makes the H actions at once, as those of older checkpoints do.
    """

    def __init__(
        self,
        num_latents: int,
        latent_dim: int,
        horizon: int,
        action_dim: int,
        hidden: int,
        observation_dim: int = 0,
        relative: bool = False,
        whole: bool = False,
    ) -> None:
        super().__init__()
        self.horizon = horizon
        self.observation_dim = observation_dim
        self.relative = relative
        self.whole = whole
        if whole:
            self.network = mlp(num_latents * latent_dim + observation_dim, hidden, horizon * action_dim)
        else:
            seen = (num_latents + 1) * latent_dim + num_latents + observation_dim
            self.network = mlp(seen, hidden, horizon // num_latents * action_dim)
        self.moments = RunningMoments(action_dim)

    def _normalized(self, z: Tensor, observation: Tensor | None) -> Tensor:
        if self.whole:
            read = [rearrange(z, "b l d -> b 1 (l d)")]
        else:
            latents = z.shape[1]
            around = pad(z, (0, 0, latents - 1, 1)).unfold(1, latents + 1, 1)
            place = torch.eye(latents, dtype=z.dtype, device=z.device)
            read = [rearrange(around, "b l d w -> b l (w d)"), repeat(place, "l p -> b l p", b=len(z))]
        if self.observation_dim:
            assert observation is not None
            read.append(repeat(observation, "b o -> b l o", l=read[0].shape[1]))
        each = self.network(torch.cat(read, dim=-1))
        actions = rearrange(each, "b l (k a) -> b l k a", a=self.moments.mean.shape[0])
        if self.relative and not self.whole:
            actions = gone_on(actions)
        return rearrange(actions, "b l k a -> b (l k) a")

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
