"""Several processes that train one policy (accelerate: DDP, FSDP): what they must agree on beyond the gradients.

A mean over the valid entries of a batch, and the statistics that a batch adds to, are those of all processes' batches
together. Else two processes would not learn what one learns from a batch of twice the size. In one process, and where
no gradient is wanted, such as in an evaluation that only the first process runs, nothing is exchanged.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def several_processes() -> bool:
    """Whether other processes train on other parts of this batch."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def process_index() -> int:
    """Which of the processes this is."""
    return dist.get_rank() if several_processes() else 0


def sum_of_all(x: Tensor) -> Tensor:
    """The sum of ``x`` over all processes, without gradient. Every process must call this at the same point."""
    return _reduced(x, dist.ReduceOp.SUM)


def least(x: Tensor) -> Tensor:
    """The elementwise minimum of ``x`` over all processes; see ``sum_of_all``."""
    return _reduced(x, dist.ReduceOp.MIN)


def _reduced(x: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    out = x.detach().clone()
    if several_processes():
        dist.all_reduce(out, operation)
    return out


def sum_while_training(x: Tensor) -> Tensor:
    """``sum_of_all`` where a gradient is wanted, else ``x``."""
    return sum_of_all(x) if torch.is_grad_enabled() else x.detach()


def moments(rows: Tensor) -> tuple[int, Tensor, Tensor]:
    """How many rows (N, D) all processes have together, their mean and their variance over N, both (D,)."""
    if len(rows) and not several_processes():
        return len(rows), rows.mean(dim=0), rows.var(dim=0, unbiased=False)
    count = int(sum_of_all(torch.tensor(len(rows), device=rows.device)))
    mean = sum_of_all(rows.sum(dim=0)) / max(count, 1)
    return count, mean, sum_of_all(((rows - mean) ** 2).sum(dim=0)) / max(count, 1)


def bounds(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest value per column of the rows (N, D) of all processes, both (D,)."""
    nothing = rows.new_full((1, rows.shape[1]), torch.inf)
    return least(torch.cat([rows, nothing]).amin(dim=0)), -least(torch.cat([-rows, nothing]).amin(dim=0))
