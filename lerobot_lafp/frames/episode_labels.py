"""Labels of one episode: what a stage would work out again and again from video, worked out once."""

import io
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from ..configuration_lafp import LAFPConfig
from ..model.latent_action_model import LatentActionModel
from ..observation.normalizer import ObservationNormalizer


class Labeller(Protocol):
    """What is asked of a ``LAFPPolicy`` here."""

    config: LAFPConfig
    normalizer: ObservationNormalizer
    latent_action_model: LatentActionModel | None

    def in_own_terms(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch in the policy's own order of dimensions."""


@torch.no_grad()
def label_episode(policy: Labeller, blocks: Iterable[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Normalised latents of the chunk that begins at each of an episode's N frames.

    Every frame is encoded once, though it is part of several chunks.

    Args:
        policy: With a trained stage 1; in evaluation mode.
        blocks: The episode's frames in order, raw, so many at a time: every observation (T, ..).

    Returns:
        Latents (N, L, Dz), zero where they reach beyond the episode, and (N, L), true there.
    """
    model, config = policy.latent_action_model, policy.config
    assert model is not None
    known = (policy.in_own_terms({key: x.unsqueeze(0) for key, x in block.items()}) for block in blocks)
    seen = (policy.normalizer(block, stored=True, states=config.vector_shapes) for block in known)
    tokens = torch.cat([model.encoder(frames)[0] for frames in seen])
    count, offset = len(tokens), config.frame_offset
    frames = torch.arange(count, device=tokens.device)
    later = frames + offset
    held = torch.ones_like(frames, dtype=torch.bool) if config.hold_last_frame else later < count
    z, _ = model.infer(tokens.unsqueeze(1), tokens[later.clamp(max=count - 1)].unsqueeze(1), held.unsqueeze(1))
    z = model.normalize(z, held.unsqueeze(1))[:, 0]
    starts = frames.unsqueeze(1) + offset * torch.arange(config.num_latents, device=tokens.device)
    inside = starts.clamp(max=count - 1)
    pad = ~held[inside]
    return torch.where(pad.unsqueeze(-1), torch.zeros_like(z[inside]), z[inside]), pad


@torch.no_grad()
def encode_episode(policy: Labeller, blocks: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Patch tokens (N, P, F) of each camera at each of an episode's N frames, by the policy's frozen ViT.

    Args:
        policy: With a ViT.
        blocks: The episode's frames in order, raw, so many at a time: every camera (T, C, H, W).
    """
    parts = [
        policy.normalizer.encode({key: x.unsqueeze(0) for key, x in block.items()}, stored=True) for block in blocks
    ]
    return {key: torch.cat([part[key][0] for part in parts]) for key in parts[0]}


def png(image: Tensor) -> bytes:
    """An image (3, H, W) of ``uint8`` on the CPU as a PNG file: nothing is lost, and it is quick rather than small."""
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG", compress_level=1)
    return file.getvalue()
