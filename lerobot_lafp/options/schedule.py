"""The learning rate of a joint run: stage 1 comes to rest early, so that what builds on it learns fixed latents."""

import math
from dataclasses import dataclass, field
from functools import partial

from lerobot.optim.schedulers import LRSchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@LRSchedulerConfig.register_subclass("lafp_group_cosine")
@dataclass
class GroupCosineSchedulerConfig(LRSchedulerConfig):
    """Linear warm-up, then a cosine down to zero, which each group of parameters reaches at its own time.

    With one group and a share of 1 it is diffusers' ``cosine``.

    Attributes:
        num_warmup_steps: Steps of warm-up, the same for all.
        shares: Group by group, the share of the run after which its rate is zero, in (0, 1].
    """

    num_warmup_steps: int = 100
    shares: list[float] = field(default_factory=lambda: [1.0])

    def build(self, optimizer: Optimizer, num_training_steps: int) -> LambdaLR:
        """LeRobot calls this (``lerobot/optim/factory.py``).

        Raises:
            ValueError: The optimiser has another number of groups than there are shares.
        """
        if len(optimizer.param_groups) != len(self.shares):
            raise ValueError(
                f"The schedule is for {len(self.shares)} group(s) of parameters, the optimiser has "
                f"{len(optimizer.param_groups)}. Take both from the policy (leave --use_policy_training_preset on), "
                "or choose another --scheduler.type."
            )
        lasts = [share * num_training_steps for share in self.shares]
        return LambdaLR(optimizer, [partial(warmup_then_cosine, self.num_warmup_steps, last) for last in lasts])


def warmup_then_cosine(warmup: int, last: float, step: int) -> float:
    """Factor of the learning rate at ``step``: linear up to step ``warmup``, a cosine down to 0 at step ``last``."""
    if step < warmup:
        return step / warmup
    done = min(1.0, (step - warmup) / max(1.0, last - warmup))
    return 0.5 * (1 + math.cos(math.pi * done))
