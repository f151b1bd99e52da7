"""Latents as two numbers that can be drawn."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .measures import principal_axes
from .view_policy import View


@dataclass(frozen=True)
class Projection:
    """Latents on their first two principal components.

    Attributes:
        latents: Of the inverse model at each frame, (N, 2), NaN where there is none; None without stage 1.
        samples: Of the policy, (M, S, L, 2); None without stage 2.
        shares: Of the variance, of the two.
    """

    latents: Tensor | None
    samples: Tensor | None
    shares: tuple[float, float]


def project(view: View) -> Projection | None:
    """The latents of a view on the components of the inverse model's, or of the samples where there are none of it."""
    rows = [x.flatten(0, -2) for x in (view.latents, view.samples) if x is not None]
    known = [x[torch.isfinite(x).all(dim=1)] for x in rows]
    fitted = next((x for x in known if len(x) > 1), None)
    if fitted is None:
        return None
    mean, axes = principal_axes(fitted)
    total = float((fitted - mean).square().sum())
    axes = F.pad(axes, (0, 2 - axes.shape[1]))
    found = ((fitted - mean) @ axes).square().sum(dim=0) / total if total > 0 else torch.zeros(2)
    latents = None if view.latents is None else (view.latents - mean) @ axes
    samples = None if view.samples is None else (view.samples - mean) @ axes
    return Projection(latents, samples, (float(found[0]), float(found[1])))
