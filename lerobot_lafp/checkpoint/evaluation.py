"""What ``lerobot-eval`` found, and how sure that is."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def read_evaluation(folder: Path) -> dict[str, list[Any]]:
    """Per-episode results of one ``lerobot-eval`` run (its ``eval_info.json``), for an environment of one task.

    Returns:
        ``max_rewards``, ``sum_rewards`` and ``successes``, one entry an episode.

    Raises:
        ValueError: There are none in ``folder``.
    """
    file = folder / "eval_info.json"
    try:
        metrics = json.loads(file.read_text())["per_task"][0]["metrics"]
        return {key: metrics[key] for key in ("max_rewards", "sum_rewards", "successes")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{file} is not what lerobot-eval writes ({error!r}). Name the folder it wrote to.") from error


def mean_ci95(values: Sequence[float], resamples: int = 10_000) -> dict[str, Any]:
    """Mean over episodes with its 95 % bootstrap interval: {"mean", "ci95", "episodes"}."""
    x = np.asarray(values, dtype=float)
    rng = np.random.default_rng(0)
    means = x[rng.integers(len(x), size=(resamples, len(x)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    return {"mean": round(float(x.mean()), 4), "ci95": [round(low, 4), round(high, 4)], "episodes": len(x)}
