"""Building blocks that more than one stage uses."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from .distributed import sum_while_training


def mlp(in_dim: int, hidden: int, out_dim: int, layers: int = 3) -> nn.Sequential:
    """A plain perceptron of ``layers`` linear layers with SiLU between them."""
    dims = [in_dim, *[hidden] * (layers - 1)]
    body: list[nn.Module] = []
    for a, b in pairwise(dims):
        body += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*body, nn.Linear(dims[-1], out_dim))


class ResidualBlock(nn.Module):
    """Pre-norm residual perceptron whose norm is scaled and shifted by a condition: (n, D), (n, C) -> (n, D)."""

    def __init__(self, dim: int, cond_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation = nn.Linear(cond_dim, 2 * dim)
        self.body = nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition).chunk(2, dim=-1)
        return x + self.body(self.norm(x) * (1 + scale) + shift)


def attention(dim: int, layers: int) -> nn.TransformerDecoder:
    """Pre-norm blocks in which tokens (n, Q, D) attend to each other and to a memory (n, N, D)."""
    heads = next(h for h in (8, 4, 2, 1) if dim % h == 0)
    layer = nn.TransformerDecoderLayer(
        dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(dim))


def gone_on(actions: Tensor) -> Tensor:
    """Places (B, L, k, A), each latent's as seen from its own start: as seen from the start of the first.

    A latent starts where the last action of the one before led.
    """
    led = actions[:, :-1, -1:].cumsum(dim=1)
    return torch.cat([actions[:, :1], actions[:, 1:] + led], dim=1)


def mean_over_valid(error: Tensor, valid: Tensor) -> Tensor:
    """Per-sample losses (B,) whose mean is the mean of ``error`` over its valid entries.

    Where several processes train, their means' mean is that over the valid entries of all.

    Args:
        error: (B, ..).
        valid: Boolean, broadcastable to ``error``. What is not valid does not count, whatever it holds.
    """
    valid = valid.expand_as(error)
    kept = torch.where(valid, error, torch.zeros_like(error))
    count, samples = sum_while_training(torch.stack([valid.sum(), valid.new_tensor(len(error), dtype=torch.long)]))
    share = count.clamp(min=1) / samples
    return kept.flatten(1).sum(dim=1) / share
