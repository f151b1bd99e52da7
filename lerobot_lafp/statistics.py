"""Statistics that live in the checkpoint: buffers that training fills and inference only reads."""

import torch
from torch import Tensor, nn

from .distributed import bounds, moments

#: Below this, a dimension counts as constant and is only centred, never blown up.
MIN_SCALE = 1e-6
#: A joint that a demonstrator held still trembles by an encoder's tick, and a policy that acts moves it by several.
#: Told in deviations of that tremble, it would drown all else: no dimension of a state counts as finer than this share
#: of the widest.
LEAST_STATE_SHARE = 0.03


def _safe_scale(scale: Tensor) -> Tensor:
    return torch.where(scale > MIN_SCALE, scale, torch.ones_like(scale))


def at_least_share(scale: Tensor, share: float) -> Tensor:
    """``scale`` (dim,), no dimension's less than this share of the largest."""
    return scale.clamp(min=float(scale.max()) * share)


class FixedNormalizer(nn.Module):
    """``(x - mean) / std`` per dimension, with mean and std given once (from the dataset's statistics).

    No std counts as less than ``LEAST_STATE_SHARE`` of the largest, but that of a constant dimension is 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], stats: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        mean, std = torch.zeros(shape), torch.ones(shape)
        if stats is not None and "mean" in stats and "std" in stats:
            mean = torch.as_tensor(stats["mean"], dtype=torch.float32).reshape(shape).clone()
            given = torch.as_tensor(stats["std"], dtype=torch.float32).reshape(shape)
            std = torch.where(given > MIN_SCALE, at_least_share(given, LEAST_STATE_SHARE), std)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


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
        self.variance.copy_(spread / total if seen else variance)
        self.count.fill_(total)

    @property
    def std(self) -> Tensor:
        return _safe_scale(self.variance.sqrt())

    def normalize(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def unnormalize(self, x: Tensor) -> Tensor:
        return x * self.std + self.mean


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

    def width(self, least_share: float) -> Tensor:
        """From least to largest, (dim,); no less than this share of the widest dimension's."""
        return at_least_share(self.high - self.low, least_share)

    def widened(self, margin: float, least_share: float) -> tuple[Tensor, Tensor]:
        """The range with ``margin`` times its ``width`` added on both sides; without bounds if nothing came by."""
        if not self.seen:
            return torch.full_like(self.low, -torch.inf), torch.full_like(self.high, torch.inf)
        more = margin * self.width(least_share)
        return self.low - more, self.high + more


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
        return _safe_scale(self.variance.sqrt())

    def normalize(self, z: Tensor) -> Tensor:
        return (z - self.centre) / self.scale

    def unnormalize(self, z: Tensor) -> Tensor:
        return z * self.scale + self.centre
