"""What an observation is called and shaped inside the policy, and what is done to it without weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .angles import Angle, turned

#: Pixels that are kept beside patch tokens, for their motion, have at most this longest side.
LONGEST_SIDE = 128

Observation = dict[str, Tensor]


def module_key(feature: str) -> str:
    """A feature's name as ``nn.ModuleDict`` takes it (no dots)."""
    return feature.replace(".", "__")


def pixels_key(camera: str) -> str:
    """Where an ``Observation`` keeps the small image of a camera that it holds as patch tokens."""
    return f"{camera}.pixels"


def with_last_axis(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``x`` (B, ..) or (B, T, ..) of a feature of ``shape``, of which LeRobot's loader drops the axis of one number."""
    if shape == (1,) and (x.ndim == 1 or (x.ndim == 2 and x.shape[1] != 1)):
        return x.unsqueeze(-1)
    return x


def in_own_terms(
    batch: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    orders: Mapping[str, Sequence[int]],
    angles: Mapping[str, Sequence[Angle]] | None = None,
) -> dict[str, Any]:
    """``batch`` with its states and actions as the policy knows them; the batch itself is left as it is.

    Args:
        batch: As a dataset's or a robot's.
        shapes: State, or ``action`` -> its shape, without batch and time.
        orders: State, or ``action`` -> where each of the policy's dimensions is in the batch's.
        angles: State, or ``action`` -> its dimensions that wrap around.

    Returns:
        The same entries: of floating point, with the axis that a feature of one number lost, in the policy's order,
        and angles on its turn.
    """
    out = dict(batch)
    for key, shape in shapes.items():
        if not isinstance(x := batch.get(key), Tensor):
            continue
        x = with_last_axis(x, tuple(shape))
        if not x.is_floating_point() or x.dtype == torch.float64:
            x = x.float()
        x = x[..., orders[key]] if key in orders else x
        out[key] = turned(x, (angles or {}).get(key, ()), "own")
    return out


def select_frames(observation: Observation, index: list[int]) -> Observation:
    """The frames ``index`` of every tensor (B, T, ..), which is not copied where these are all of them."""
    return {key: x if index == [*range(x.shape[1])] else x[:, index] for key, x in observation.items()}


def shift_at_random(images: Tensor, pixels: int) -> Tensor:
    """Shift every sample of (B, T, C, H, W) by up to ``pixels`` up or down and left or right, all its frames alike.

    What comes into view repeats the edge (DrQ, arXiv 2004.13649).
    """
    batch, _, _, height, width = images.shape

    def places(size: int) -> Tensor:
        shift = torch.randint(-pixels, pixels + 1, (batch, 1), device=images.device)
        return (torch.arange(size, device=images.device) + shift).clamp(0, size - 1)

    rows, columns = places(height), places(width)
    sample = torch.arange(batch, device=images.device).reshape(batch, 1, 1)
    moved = images[sample, :, :, rows.unsqueeze(2), columns.unsqueeze(1)]  # indexed axes come first
    return rearrange(moved, "b h w t c -> b t c h w").contiguous()


def shrink(images: Tensor, longest: int) -> Tensor:
    """Average images (.., C, H, W) down by a whole factor until their longest side is at most ``longest``."""
    factor = -(-max(images.shape[-2:]) // longest)
    if factor == 1:
        return images
    flat = F.avg_pool2d(images.flatten(0, -4), factor, ceil_mode=True)
    return flat.unflatten(0, images.shape[:-3])
