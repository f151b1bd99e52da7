"""Random numbers of a training step that depend on the seed, the step and the process alone.

LeRobot's loader draws from the same stream as a policy does, and once more where a run is resumed: from there on noise
and flow times would be others than without the interruption.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..model.distributed import process_index


@contextmanager
def step_rng(step: int, part: int, device: torch.device) -> Iterator[None]:
    """Draw, within, what any run of this seed draws at this step; afterwards all is as it was before.

    Args:
        step: Optimiser steps done.
        part: Forward passes since the last of them; more than one where gradients are accumulated.
        device: What is drawn on.
    """
    key = f"{torch.initial_seed()} {process_index()} {step} {part}".encode()
    seed = int.from_bytes(hashlib.sha256(key).digest()[:8])
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed >> 1)
        yield
