"""Stage 1: latent actions from video. An inverse model (IDM), a bottleneck, a forward model (FDM), an action head.

    z_l = bottleneck(IDM(o_{t+lk}, o_{t+(l+1)k}))          what happened in these k frames
    o^_{t+(l+1)k} = FDM(o_{t+lk}, z_l)                      said well enough to predict the later frame
    a^_{t+lk .. t+(l+1)k-1} = head(z_l)                     and, where there are labels, to tell the actions
    m^_l = linear(z_l)                                      and, on request, the motion between the two frames

LAFP paper, section 3.1: ``L_vq + L_rec + lambda * L_ad``.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from einops import pack, rearrange, repeat
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from ..observation.encoders import SMALL_IMAGE, ObservationEncoder
from ..observation.terms import Observation, module_key, pixels_key, shrink
from .layers import attention, gone_on, mean_over_valid, mlp
from .motion import MotionHead
from .running_statistics import LatentStatistics, RunningMoments


@dataclass
class Latents:
    """Latent actions of a chunk: ``z`` (B, L, Dz), the frames' ``tokens`` (B, L+1, N, D), the bottleneck's loss."""

    z: Tensor
    tokens: Tensor
    bottleneck_loss: Tensor


class Continuous(nn.Module):
    """No bottleneck but the width Dz."""

    def forward(self, z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        return z, z.new_zeros(())


class VectorQuantized(nn.Module):
    """EMA codebook(s) over (B, L, Dz), by vector-quantize-pytorch (paper, section 3.1).

    The transitions of padded frames neither move the codebook nor enter its loss.
    """

    def __init__(self, dim: int, codebook_size: int, heads: int) -> None:
        super().__init__()
        self.quantize = VectorQuantize(
            dim,
            codebook_size=codebook_size,
            codebook_dim=dim // heads,
            heads=heads,
            separate_codebook_per_head=True,
            decay=0.99,
            kmeans_init=True,
            threshold_ema_dead_code=2,
        )

    def forward(self, z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        rows = z[valid]
        # An evaluation must not be what initialises the codebook (by k-means, on first use).
        unborn = not self.training and not bool(self.quantize.codebook.any())
        if rows.shape[0] == 0 or unborn:
            return z, z.new_zeros(())
        quantized, _, loss = self.quantize(rows.unsqueeze(0))
        # Padded transitions keep a value of their own; no loss ever sees it.
        return torch.zeros_like(z).masked_scatter(valid.unsqueeze(-1), quantized.squeeze(0)), loss.sum()


class PixelPredictor(nn.Module):
    """The FDM for a small camera: (condition, o_t) -> o^_{t+k}, as a change to o_t, at most ``size`` pixels a side."""

    def __init__(self, image_shape: tuple[int, int, int], cond_dim: int, size: int, width: int = 16) -> None:
        super().__init__()
        self.size = size
        height, breadth = shrink(torch.zeros(1, 1, *image_shape), size).shape[-2:]
        sizes = [(height, breadth)]
        while max(sizes[-1]) > 6:
            sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        channels = [min(width * 2**i, 4 * width) for i in range(len(sizes))]
        self.start = nn.Linear(cond_dim, channels[-1] * sizes[-1][0] * sizes[-1][1])
        self.start_shape = (channels[-1], *sizes[-1])
        layers: list[nn.Module] = []
        for level in reversed(range(len(sizes) - 1)):
            layers += [
                nn.SiLU(),
                nn.Upsample(size=sizes[level]),
                nn.Conv2d(channels[level + 1], channels[level], 3, padding=1),
                nn.GroupNorm(8, channels[level]),
            ]
        self.grow = nn.Sequential(*layers, nn.SiLU())
        self.blend = nn.Sequential(
            nn.Conv2d(channels[0] + 3, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1)
        )

    def forward(self, condition: Tensor, now: Tensor) -> Tensor:
        """condition (B, L, C), now (B, L, 3, h, w) already shrunk -> (B, L, 3, h, w)."""
        flat, shape = pack([now], "* c h w")
        x = self.start(condition.flatten(0, 1)).unflatten(1, self.start_shape)
        change = self.blend(torch.cat([self.grow(x), flat], dim=1))
        return (flat + change).unflatten(0, cast(tuple[int, int], shape[0]))

    def target(self, images: Tensor) -> Tensor:
        return shrink(images, self.size)


class AttendingIDM(nn.Module):
    """The IDM as M learned queries that attend to the tokens of both frames, M tokens a latent (UniVLA's shape)."""

    def __init__(self, num_tokens: int, token_dim: int, hidden: int, latent_dim: int, latent_tokens: int) -> None:
        super().__init__()
        self.enter = nn.Linear(token_dim, hidden)
        self.position = nn.Parameter(0.02 * torch.randn(num_tokens, hidden))
        self.queries = nn.Parameter(0.02 * torch.randn(latent_tokens, hidden))
        self.body = attention(hidden, layers=2)
        self.leave = nn.Linear(hidden, latent_dim // latent_tokens)

    def forward(self, pairs: Tensor) -> Tensor:
        """Tokens of both frames (B, L, 2N, D) -> (B, L, Dz)."""
        memory = self.enter(pairs.flatten(0, 1)) + self.position
        read = self.leave(self.body(self.queries.expand(len(memory), -1, -1), memory))
        return rearrange(read, "(b l) m d -> b l (m d)", b=len(pairs))


class PatchPredictor(nn.Module):
    """The FDM for a camera's patch tokens: as a change to those of o_t, which attend to o_t's tokens and the latent's.

    Args:
        patches: P.
        width: F.
        token_dim: D.
        latent_dim: Dz, that of ``latent_tokens`` tokens together.
        latent_tokens: M.
        hidden: Width of the transformer.
    """

    def __init__(
        self, patches: int, width: int, token_dim: int, latent_dim: int, latent_tokens: int, hidden: int
    ) -> None:
        super().__init__()
        self.latent_tokens = latent_tokens
        self.enter = nn.Linear(width, hidden)
        self.position = nn.Parameter(0.02 * torch.randn(patches, hidden))
        self.observe = nn.Linear(token_dim, hidden)
        self.act = nn.Linear(latent_dim // latent_tokens, hidden)
        self.act_position = nn.Parameter(0.02 * torch.randn(latent_tokens, hidden))
        self.body = attention(hidden, layers=2)
        self.leave = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, z: Tensor, now: Tensor) -> Tensor:
        """Tokens (B, L, N, D) of o_t, latents (B, L, Dz), patch tokens ``now`` (B, L, P, F) -> (B, L, P, F)."""
        parts = rearrange(z, "b l (m d) -> (b l) m d", m=self.latent_tokens)
        memory = torch.cat([self.act(parts) + self.act_position, self.observe(tokens.flatten(0, 1))], dim=1)
        change = self.leave(self.body(self.enter(now.flatten(0, 1)) + self.position, memory))
        return now + change.unflatten(0, cast(tuple[int, int], now.shape[:2]))


class LatentActionModel(nn.Module):
    """IDM, bottleneck, FDM and action head over the boundary frames of a chunk.

    Args:
        encoder: Turns frames into tokens; trained here.
        image_shapes: Camera -> (C, H, W) as the encoder sees it.
        vectors: State -> width.
        latent_dim: Dz.
        hidden: Width of the networks.
        frame_offset: k.
        action_dim: A; unset where no action was ever seen.
        bottleneck: ``continuous`` or ``vq``.
        codebook_size: Of ``vq``.
        codebook_heads: Of ``vq``.
        pixel_target_size: Longest side of predicted images.
        idm_input: ``frames`` or ``difference`` (see ``LAFPConfig``).
        motion_grid: Cells a side of the optical flow predicted from the latent; 0: no motion is predicted at all.
        motion_target: ``centroid``, ``flow`` or ``both`` (see ``LAFPConfig``).
        patch_shapes: Cameras that come as a ViT's patch tokens -> (P, F); these are then what is predicted.
        latent_tokens: M, tokens that the width Dz of a latent is divided into, each read by a query; 0: a perceptron.
    """

    def __init__(
        self,
        encoder: ObservationEncoder,
        image_shapes: Mapping[str, tuple[int, int, int]],
        vectors: Mapping[str, int],
        latent_dim: int,
        hidden: int,
        frame_offset: int,
        action_dim: int | None,
        bottleneck: Literal["continuous", "vq"] = "continuous",
        codebook_size: int = 64,
        codebook_heads: int = 4,
        pixel_target_size: int = 64,
        idm_input: Literal["frames", "difference"] = "frames",
        motion_grid: int = 0,
        motion_target: Literal["centroid", "flow", "both"] = "centroid",
        patch_shapes: Mapping[str, tuple[int, int]] | None = None,
        latent_tokens: int = 0,
    ) -> None:
        super().__init__()
        patch_shapes = patch_shapes or {}
        self.encoder = encoder
        self.idm_input = idm_input
        self.frame_offset = frame_offset
        frame_dim = encoder.num_tokens * encoder.token_dim
        self.idm: nn.Module = (
            AttendingIDM(2 * encoder.num_tokens, encoder.token_dim, hidden, latent_dim, latent_tokens)
            if latent_tokens
            else mlp(2 * frame_dim, hidden, latent_dim)
        )
        self.bottleneck = (
            VectorQuantized(latent_dim, codebook_size, codebook_heads) if bottleneck == "vq" else Continuous()
        )
        self.statistics = LatentStatistics(latent_dim)

        cond_dim = frame_dim + latent_dim
        self.vectors = list(vectors)
        self.vector_fdm = nn.ModuleDict({module_key(k): mlp(cond_dim, hidden, d) for k, d in vectors.items()})
        self.pixel_fdm = nn.ModuleDict()
        self.feature_fdm = nn.ModuleDict()
        self.pixel_cameras: list[str] = []
        self.feature_cameras: list[str] = []
        self.target_encoder: nn.ModuleDict = nn.ModuleDict()
        self.patch_fdm = nn.ModuleDict(
            {
                module_key(key): PatchPredictor(*shape, encoder.token_dim, latent_dim, max(1, latent_tokens), hidden)
                for key, shape in patch_shapes.items()
            }
        )
        self.patch_cameras = list(patch_shapes)
        for key, shape in image_shapes.items():
            if key in patch_shapes:
                continue
            name = module_key(key)
            if max(shape[1:]) <= SMALL_IMAGE:
                self.pixel_cameras.append(key)
                self.pixel_fdm[name] = PixelPredictor(shape, cond_dim, pixel_target_size)
            else:
                # A frozen copy: a target that is itself being trained could shrink to nothing.
                self.feature_cameras.append(key)
                self.target_encoder[name] = copy.deepcopy(encoder.encoders[name]).requires_grad_(False)
                self.feature_fdm[name] = mlp(cond_dim, hidden, encoder.token_dim)

        self.action_head = mlp(latent_dim, hidden, frame_offset * action_dim) if action_dim else None
        self.action_moments = RunningMoments(action_dim) if action_dim else None
        seen = {pixels_key(k) if k in patch_shapes else k: shape[0] for k, shape in image_shapes.items()}
        motion = (latent_dim, seen, vectors, motion_grid, motion_target)
        self.motion_head = MotionHead(*motion) if motion_grid else None

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """All but those of the frozen encoder that provides targets."""
        return (p for name, p in self.named_parameters() if not name.startswith("target_encoder."))

    def encode(self, frames: Observation, valid: Tensor) -> Latents:
        """Latent actions between consecutive boundary frames.

        Args:
            frames: Observations at 0, k, .., Lk: every tensor (B, L+1, ..).
            valid: (B, L), false where the later frame lies beyond the episode.
        """
        tokens = self.encoder(frames)
        z, loss = self.infer(tokens[:, :-1], tokens[:, 1:], valid)
        return Latents(z, tokens, loss)

    def infer(self, now: Tensor, later: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, L, Dz) between frames given by their tokens, both (B, L, N, D), and the bottleneck's loss."""
        pairs = torch.cat([now, later - now if self.idm_input == "difference" else later], dim=2)
        if not isinstance(self.idm, AttendingIDM):
            pairs = rearrange(pairs, "b l n d -> b l (n d)")
        z, loss = self.bottleneck(self.idm(pairs), valid)
        return z, loss

    def normalized_latents(self, frames: Observation, valid: Tensor) -> Tensor:
        """Normalised latents (B, L, Dz) without gradient; zero where not valid, so that nothing leaks from there."""
        with torch.no_grad():
            return self.normalize(self.encode(frames, valid).z, valid)

    def normalize(self, z: Tensor, valid: Tensor) -> Tensor:
        """Detach and normalise ``z`` (B, L, Dz): what stages 2 and 3 work on."""
        z = self.statistics.normalize(z.detach())
        return torch.where(valid.unsqueeze(-1), z, torch.zeros_like(z))

    def reconstruction_loss(self, frames: Observation, latents: Latents, valid: Tensor) -> Tensor:
        """``L_rec`` per sample (B,): squared error of the predicted later frames, averaged over features."""
        condition = torch.cat([rearrange(latents.tokens[:, :-1], "b l n d -> b l (n d)"), latents.z], dim=-1)
        losses = []
        for key in self.vectors:
            x = frames[key]
            predicted = x[:, :-1] + self.vector_fdm[module_key(key)](condition)
            losses.append(mean_over_valid((predicted - x[:, 1:]) ** 2, valid.unsqueeze(-1)))
        for key in self.pixel_cameras:
            predictor = cast(PixelPredictor, self.pixel_fdm[module_key(key)])
            x = predictor.target(frames[key])
            predicted = predictor(condition, x[:, :-1])
            losses.append(mean_over_valid((predicted - x[:, 1:]) ** 2, valid[..., None, None, None]))
        for key in self.feature_cameras:
            x = frames[key][:, 1:]
            with torch.no_grad():
                target = self.target_encoder[module_key(key)](x.flatten(0, 1)).unflatten(0, x.shape[:2])
            predicted = self.feature_fdm[module_key(key)](condition)
            losses.append(mean_over_valid((predicted - target) ** 2, valid.unsqueeze(-1)))
        for key in self.patch_cameras:
            x = frames[key]
            predicted = self.patch_fdm[module_key(key)](latents.tokens[:, :-1], latents.z, x[:, :-1])
            losses.append(mean_over_valid((predicted - x[:, 1:]) ** 2, valid[..., None, None]))
        return torch.stack(losses).mean(dim=0)

    def predict_actions(self, z: Tensor) -> Tensor:
        """The action head's chunk for raw latents ``z`` (B, L, Dz): (B, L, k, A), each relative as it was trained."""
        assert self.action_head is not None
        assert self.action_moments is not None
        out = rearrange(self.action_head(z), "b l (k a) -> b l k a", k=self.frame_offset)
        return self.action_moments.unnormalize(out)

    def decode(self, z: Tensor, origin: Tensor | None) -> Tensor:
        """The action head alone as decoder: normalised latents (B, L, Dz) -> absolute actions (B, H, A).

        The head's actions are relative to the state at each latent's own first frame. Of a chunk only the first such
        state is known; each later one is taken to be where the actions before it led.

        Args:
            z: Latents, (B, L, Dz).
            origin: The present state, (B, A), for relative actions; None for absolute ones.
        """
        actions = self.predict_actions(self.statistics.unnormalize(z))
        if origin is not None:
            actions = gone_on(actions) + origin[:, None, None]
        return rearrange(actions, "b l k a -> b (l k) a")

    def action_loss(self, z: Tensor, actions: Tensor, labeled: Tensor) -> Tensor:
        """``L_ad`` per sample (B,).

        Args:
            z: Raw latents, (B, L, Dz).
            actions: Targets, (B, L, k, A); where not labelled they may hold anything, NaN included.
            labeled: (B, L, k), true where the action is known and within the episode.
        """
        assert self.action_head is not None
        assert self.action_moments is not None
        if self.training:
            self.action_moments.update(actions[labeled])
        target = self.action_moments.normalize(actions)
        mask = repeat(labeled, "b l k -> b l k a", a=actions.shape[-1])
        target = torch.where(mask, target, torch.zeros_like(target))
        predicted = rearrange(self.action_head(z), "b l (k a) -> b l k a", k=self.frame_offset)
        return mean_over_valid((predicted - target) ** 2, mask)
