"""How a state is counted: by its own deviation, resolution and noise, from a dataset's statistics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

#: A deviation below this share of the numbers' own size is what 32 bits round by: the dimension is constant.
ROUNDING = 1e-6
#: A dimension was held still if its deviation is less than so many times its noise from frame to frame ..
STILL_NOISE = 2.0
#: .. or if all its values lie within so many ticks of what measured it. A gripper that is open or shut is one of these.
STILL_TICKS = 8.0
#: A dimension that was held still counts by so many deviations of its noise.
NOISE_SCALE = 5.0
#: What it does beyond the range that was seen, plus this share of it, tells nothing: it counts as the edge.
STILL_MARGIN = 0.25


@dataclass(frozen=True)
class Spread:
    """How a dimension of a state is counted, each (d,): by its own deviation, resolution and noise.

    A joint that was held still trembles by an encoder's tick, and a policy that acts moves it by several. Told in
    deviations of that tremble, it would drown all else. So it counts by its noise, and beyond what was seen as the
    edge of it. Multiplying a dimension by any factor multiplies all of these by it, and changes no other dimension.

    Attributes:
        mean: Its mean.
        scale: What it is divided by; 1 where it is constant.
        low: Least value that counts as itself; -inf where it moved.
        high: Largest; inf where it moved.
        moved: Whether it was moved at all, as far as can be told.
    """

    mean: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor
    moved: Tensor

    @classmethod
    def of(cls, stats: Mapping[str, Any]) -> Self:
        """Of ``mean`` and ``std`` and, where they are known, ``min``, ``max``, ``noise`` and ``tick``, each (d,)."""

        def read(name: str, otherwise: Tensor) -> Tensor:
            return torch.as_tensor(stats[name], dtype=torch.float64).flatten() if name in stats else otherwise

        mean = read("mean", torch.zeros(0))
        std = read("std", mean)
        low, high = read("min", torch.full_like(mean, -torch.inf)), read("max", torch.full_like(mean, torch.inf))
        noise, tick = read("noise", torch.zeros_like(mean)), read("tick", torch.zeros_like(mean))
        width = high - low
        constant = (std <= ROUNDING * mean.abs()) | (width <= 0)
        still = constant | (std < STILL_NOISE * noise) | (width < STILL_TICKS * tick)
        floor = torch.minimum(torch.maximum(NOISE_SCALE * noise, STILL_TICKS * tick), width / 2)
        scale = torch.where(still, torch.maximum(std, floor), std)
        margin = torch.where(torch.isfinite(width), STILL_MARGIN * width, 0.0)
        return cls(
            mean=mean.float(),
            scale=torch.where(constant, 1.0, scale).float(),
            low=torch.where(constant, mean, torch.where(still, low - margin, -torch.inf)).float(),
            high=torch.where(constant, mean, torch.where(still, high + margin, torch.inf)).float(),
            moved=~still,
        )


class FixedNormalizer(nn.Module):
    """``(x - mean) / std`` per dimension, given once (from a dataset's statistics) and as ``Spread`` counts it.

    Args:
        shape: Of ``x``, without batch and time.
        stats: ``mean`` and ``std`` and, where they are known, ``min``, ``max``, ``noise`` and ``tick``. Unset: ``x``
            stays as it is.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, shape: tuple[int, ...], stats: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        plain = {"mean": torch.zeros(shape), "std": torch.ones(shape)}
        spread = Spread.of(stats if stats is not None and "mean" in stats and "std" in stats else plain)
        for name, x in (("mean", spread.mean), ("std", spread.scale), ("low", spread.low), ("high", spread.high)):
            self.register_buffer(name, x.reshape(shape).clone())

    def forward(self, x: Tensor) -> Tensor:
        return (torch.maximum(torch.minimum(x, self.high), self.low) - self.mean) / self.std
