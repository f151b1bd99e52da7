"""Statistics that live in the checkpoint: buffers that training fills and inference only reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from .distributed import bounds, moments

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
#: No floor is a share of another dimension's deviation; checkpoints of format 1 have one of 0.03 in their buffers.
LEAST_STATE_SHARE = 0.0


def _without_rounding(variance: Tensor, mean: Tensor) -> Tensor:
    """``variance``, zero where it is but what ``mean`` is rounded by."""
    return torch.where(variance.sqrt() > ROUNDING * mean.abs(), variance, torch.zeros_like(variance))


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


class RunningMoments(nn.Module):
    """Mean and deviation per dimension, measured on the labelled targets themselves as they come by.

    A dataset's own action statistics are of no use here: they cover episodes that count as unlabelled, may be
    NaN, and do not know of relative actions. After ``max_count`` rows the estimate stays as it is.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, dim: int, max_count: int = 20_000) -> None:
        super().__init__()
        self.max_count = max_count
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Merge ``rows`` (N, dim) into the estimate (the parallel variance formula of Chan et al.)."""
        seen = int(self.count)
        if seen >= self.max_count:
            return
        new, mean, variance = moments(rows)
        if new == 0:
            return
        total = seen + new
        delta = mean - self.mean
        spread = variance * new + (self.variance * seen if seen else 0) + delta**2 * (seen * new / total)
        self.mean.copy_(self.mean + delta * (new / total) if seen else mean)
        self.variance.copy_(_without_rounding(spread / total if seen else variance, self.mean))
        self.count.fill_(total)

    @property
    def std(self) -> Tensor:
        """Deviation, 1 where there is none."""
        return torch.where(self.variance > 0, self.variance.sqrt(), torch.ones_like(self.variance))

    def normalize(self, x: Tensor) -> Tensor:
        """``x`` in deviations from the mean; 0 where there are none, whatever the unit."""
        return torch.where(self.variance > 0, (x - self.mean) / self.std, torch.zeros_like(x))

    def unnormalize(self, x: Tensor) -> Tensor:
        return x * self.variance.sqrt() + self.mean


class RunningRange(nn.Module):
    """Least and largest value per dimension of all that came by."""

    low: Tensor
    high: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("low", torch.full((dim,), torch.inf))
        self.register_buffer("high", torch.full((dim,), -torch.inf))

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take in ``rows`` (N, dim)."""
        low, high = bounds(rows.to(self.low))
        torch.minimum(self.low, low, out=self.low)
        torch.maximum(self.high, high, out=self.high)

    @property
    def seen(self) -> bool:
        """Whether anything came by."""
        return bool((self.low <= self.high).all())

    @property
    def width(self) -> Tensor:
        """From least to largest, (dim,); zero if nothing came by."""
        return (self.high - self.low).clamp(min=0)


#: Below this, a dimension of the latents counts as constant.
MIN_SCALE = 1e-6


class LatentStatistics(nn.Module):
    """Centre and scale of the latents per dimension: (max + min) / 2 and a standard deviation (paper, 3.2).

    Followed by moving averages while the inverse model trains, fixed from then on: the same numbers serve
    stages 2 and 3 and inference.
    """

    low: Tensor
    high: Tensor
    variance: Tensor
    updates: Tensor

    def __init__(self, dim: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("low", -torch.ones(dim))
        self.register_buffer("high", torch.ones(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, z: Tensor) -> None:
        """Take in the valid latents ``z`` (N, Dz) of one batch."""
        z = z.to(self.low.dtype)
        count, _, variance = moments(z)
        if count < 2:
            return
        low, high = bounds(z)
        seen = int(self.updates)
        weight = 1 - min(self.decay, seen / (seen + 1))  # a plain mean at first, then a moving average
        self.low.lerp_(low, weight)
        self.high.lerp_(high, weight)
        self.variance.lerp_(variance * (count / (count - 1)), weight)
        self.updates += 1

    @property
    def centre(self) -> Tensor:
        return (self.low + self.high) / 2

    @property
    def scale(self) -> Tensor:
        std = self.variance.sqrt()
        return torch.where(std > MIN_SCALE, std, torch.ones_like(std))

    def normalize(self, z: Tensor) -> Tensor:
        return (z - self.centre) / self.scale

    def unnormalize(self, z: Tensor) -> Tensor:
        return z * self.scale + self.centre
