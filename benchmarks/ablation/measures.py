"""What is measured of a policy beside its success."""

import statistics
import time
from typing import Any

import torch

from .frames import Frames


def measure(policy: Any, preprocessor: Any, frames: Frames, seed: int) -> dict[str, float | None]:
    """CPU milliseconds of one chunk; of a policy over latents also how well it keeps their structure."""
    return {"ms_per_chunk": milliseconds_per_chunk(policy, preprocessor, frames)}


@torch.no_grad()
def milliseconds_per_chunk(policy: Any, preprocessor: Any, frames: Frames, calls: int = 60) -> float:
    """Median CPU time of predicting one chunk of actions for one observation, on one thread, in milliseconds."""
    observation = {k: x[:1] for k, x in frames.columns.items() if k != "action"}
    batch = preprocessor({k: x.float() / 255 if x.dtype == torch.uint8 else x for k, x in observation.items()})
    times = []
    for _ in range(calls):
        policy.reset()
        start = time.process_time()
        policy.select_action(dict(batch))
        times.append(time.process_time() - start)
    return round(1000 * statistics.median(times[calls // 6 :]), 3)
