"""Stage 2: the policy over latents, p(z | o_t). The flow of LAFP, and behaviour cloning behind the same interface.

Both regress one network ``(z_tau, tau, tokens) -> prediction`` over the whole chunk ``L x Dz`` of normalised
latents; they differ in what they put into it. LAFP paper, section 3.2.
"""

from typing import Literal, cast

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.training_utils import EMAModel
from einops import rearrange, repeat
from torch import Tensor, nn

from ..model import flow
from ..observation.encoders import ObservationEncoder
from ..observation.terms import Observation
from .layers import ResidualBlock, attention

#: Share of what images tell that is left out while a policy trains: else it learns a few hundred demonstrations by
#: heart, and its samples are surer than they should be. Of states nothing is: PushT from keypoints lost by it.
DROPOUT = 0.3


class TimeEmbedding(nn.Module):
    """Sinusoids of flow time, then two linear layers (diffusers): tau (B,) -> (B, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.sinusoids = Timesteps(64, flip_sin_to_cos=True, downscale_freq_shift=0, scale=1000)
        self.project = TimestepEmbedding(64, dim)

    def forward(self, tau: Tensor) -> Tensor:
        return self.project(self.sinusoids(tau).to(tau.dtype))


class ResidualMLP(nn.Module):
    """The chunk as one vector; the observation and flow time modulate every block. One output (B, L, Dz)."""

    def __init__(
        self, num_latents: int, latent_dim: int, num_tokens: int, token_dim: int, dim: int, layers: int
    ) -> None:
        super().__init__()
        self.num_latents = num_latents
        self.observe = nn.Linear(num_tokens * token_dim, dim)
        self.time = TimeEmbedding(dim)
        self.enter = nn.Linear(num_latents * latent_dim, dim)
        self.blocks = nn.ModuleList(ResidualBlock(dim, dim) for _ in range(layers))
        self.leave = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_latents * latent_dim))

    def forward(self, z: Tensor, tau: Tensor, tokens: Tensor) -> Tensor:
        observed = self.observe(tokens.flatten(1))
        condition = nn.functional.silu(observed + self.time(tau))
        x = self.enter(rearrange(z, "b l d -> b (l d)")) + observed
        for block in self.blocks:
            x = block(x, condition)
        return rearrange(self.leave(x), "b (l d) -> b l d", l=self.num_latents)


class LatentTransformer(nn.Module):
    """L latent tokens attend to each other and to the observation tokens. One output (B, L, Dz)."""

    def __init__(
        self, num_latents: int, latent_dim: int, num_tokens: int, token_dim: int, dim: int, layers: int
    ) -> None:
        super().__init__()
        self.time = TimeEmbedding(dim)
        self.enter = nn.Linear(latent_dim, dim)
        self.observe = nn.Linear(token_dim, dim)
        self.latent_position = nn.Parameter(0.02 * torch.randn(num_latents, dim))
        self.token_position = nn.Parameter(0.02 * torch.randn(num_tokens, dim))
        self.body = attention(dim, layers)
        self.leave = nn.Linear(dim, latent_dim)

    def forward(self, z: Tensor, tau: Tensor, tokens: Tensor) -> Tensor:
        memory = self.observe(rearrange(tokens, "b t n d -> b (t n) d")) + self.token_position
        x = self.enter(z) + self.latent_position + self.time(tau).unsqueeze(1)
        return cast(Tensor, self.leave(self.body(x, memory)))


class LatentPolicy(nn.Module):
    """What the flow and behaviour cloning have in common: the encoder, the network, the shape of a chunk.

    Args:
        encoder: Turns the history into tokens; the policy's own, so that stage 1 stays as it is.
        num_obs_steps: T, frames of history.
        num_latents: L.
        latent_dim: Dz.
        network: ``mlp`` or ``transformer``.
        dim: Hidden width.
        layers: Blocks.
    """

    def __init__(
        self,
        encoder: ObservationEncoder,
        num_obs_steps: int,
        num_latents: int,
        latent_dim: int,
        network: Literal["mlp", "transformer"],
        dim: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(DROPOUT)
        self.chunk_shape = (num_latents, latent_dim)
        build = ResidualMLP if network == "mlp" else LatentTransformer
        num_tokens = num_obs_steps * encoder.num_tokens
        self.network = build(num_latents, latent_dim, num_tokens, encoder.token_dim, dim, layers)

    def observe(self, history: Observation) -> Tensor:
        """Tokens (B, T, N, D) of the history; in training some numbers of the images' are left out at random."""
        images, others = self.encoder(history).tensor_split([self.encoder.num_image_tokens], dim=2)
        return torch.cat([self.dropout(images), others], dim=2)

    def noise(self, batch: int, like: Tensor) -> Tensor:
        """``z_0 ~ N(0, I)``, (batch, L, Dz), on the device of ``like``."""
        return torch.randn(batch, *self.chunk_shape, dtype=like.dtype, device=like.device)

    def loss(self, z: Tensor, tokens: Tensor) -> Tensor:
        """Squared error of the prediction, elementwise, (B, L, Dz)."""
        raise NotImplementedError

    def sample(self, tokens: Tensor, noise: Tensor, steer: flow.Steering | None = None) -> Tensor:
        """Latents to act on, (B, L, Dz), from ``noise`` of that shape; ``steer`` changes what a flow's network says."""
        raise NotImplementedError

    def align(self, tokens: Tensor, noise: Tensor, z_idm: Tensor, tau: Tensor) -> Tensor:
        """Latents to train the decoder on, moved towards ``z_idm`` (the interpolation), (B, L, Dz)."""
        raise NotImplementedError


class FlowPolicy(LatentPolicy):
    """LAFP: a flow from noise to the chunk of latents, K Euler steps (paper, section 3.2)."""

    def __init__(
        self,
        *args: object,
        prediction: flow.Prediction,
        num_steps: int,
        draws: int = 1,
        **kwargs: object,
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.prediction = prediction
        self.num_steps = num_steps
        self.draws = draws

    def loss(self, z: Tensor, tokens: Tensor) -> Tensor:
        data = repeat(z, "b l d -> (m b) l d", m=self.draws)
        seen = repeat(tokens, "b t n d -> (m b) t n d", m=self.draws)
        noise = torch.randn_like(data)
        tau = torch.rand(data.shape[0], dtype=data.dtype, device=data.device)
        output = self.network(flow.interpolate(noise, data, tau), tau, seen)
        error = (output - flow.prediction_target(noise, data, self.prediction)) ** 2
        return rearrange(error, "(m b) l d -> m b l d", m=self.draws).mean(dim=0)

    def _predictor(self, tokens: Tensor) -> flow.Predictor:
        return lambda z, tau: self.network(z, tau, tokens)

    def sample(self, tokens: Tensor, noise: Tensor, steer: flow.Steering | None = None) -> Tensor:
        predictor = self._predictor(tokens)
        if steer is not None:
            predictor = steer(predictor)
        return flow.integrate(predictor, noise, self.num_steps, self.prediction)

    def align(self, tokens: Tensor, noise: Tensor, z_idm: Tensor, tau: Tensor) -> Tensor:
        return flow.interpolation_input(self._predictor(tokens), z_idm, noise, tau, self.prediction)


class BehaviorCloningPolicy(LatentPolicy):
    """LAOM's latent policy: the conditional mean. Noise does not matter to it, nor does flow time."""

    def _mean(self, tokens: Tensor) -> Tensor:
        start = torch.zeros(tokens.shape[0], *self.chunk_shape, dtype=tokens.dtype, device=tokens.device)
        return cast(Tensor, self.network(start, start[:, 0, 0], tokens))

    def loss(self, z: Tensor, tokens: Tensor) -> Tensor:
        return (self._mean(tokens) - z) ** 2

    def sample(self, tokens: Tensor, noise: Tensor, steer: flow.Steering | None = None) -> Tensor:
        return self._mean(tokens)

    def align(self, tokens: Tensor, noise: Tensor, z_idm: Tensor, tau: Tensor) -> Tensor:
        return self._mean(tokens)


@torch.no_grad()
def update_average(average: nn.Module, trained: nn.Module, decay: float, step: int) -> None:
    """One step of the exponential moving average of the weights (diffusers' ``EMAModel``), in place.

    Both are plain modules, so that the average lies in the checkpoint beside the weights it follows.

    Args:
        average: Module to update.
        trained: Module of the same structure that the optimiser works on.
        decay: Largest decay; a warm-up keeps it lower at first.
        step: Updates made before this one.
    """
    ema = EMAModel([], decay=decay, foreach=True)
    ema.shadow_params = list(average.parameters())
    ema.optimization_step = step
    weights = [p.detach().requires_grad_() for p in trained.parameters()]  # EMAModel copies what needs no gradient
    ema.step(weights)
