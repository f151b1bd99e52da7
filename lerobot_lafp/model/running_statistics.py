"""Statistics that live in the checkpoint: buffers that training fills and inference only reads."""

import torch
from torch import Tensor, nn

from ..observation.scaling import ROUNDING
from .distributed import bounds, moments

#: No floor is a share of another dimension's deviation; checkpoints of format 1 have one of 0.03 in their buffers.
LEAST_STATE_SHARE = 0.0


def _without_rounding(variance: Tensor, mean: Tensor) -> Tensor:
    """``variance``, zero where it is but what ``mean`` is rounded by."""
    return torch.where(variance.sqrt() > ROUNDING * mean.abs(), variance, torch.zeros_like(variance))


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
        if self.is_full:
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
    def is_full(self) -> bool:
        """Whether the estimate stays as it is."""
        return int(self.count) >= self.max_count

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
