"""``meta/stats.json`` against the tables that it was once computed from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...training.measuring import Statistics

#: Means and deviations that differ by more than this share of the deviation are of other data.
APART = 0.05


def compare_statistics(
    stats: Mapping[str, Mapping[str, Any]] | None, measured: Mapping[str, Statistics], columns: Sequence[str]
) -> dict[str, Any]:
    """What is missing in a dataset's statistics, and what they have otherwise than the tables, for JSON.

    Args:
        stats: ``dataset.meta.stats``.
        measured: Of ``measure_columns``.
        columns: Columns of numbers that a policy reads.

    Returns:
        ``there``: whether there is a file; ``missing``: columns that it lacks; ``apart``: column -> what is otherwise.
    """
    if stats is None:
        return {"there": False, "missing": list(columns), "apart": {}}
    apart = {key: _apart(stats[key], measured[key]) for key in columns if key in stats and key in measured}
    return {
        "there": True,
        "missing": [key for key in columns if key not in stats],
        "apart": {key: why for key, why in apart.items() if why},
    }


def _apart(stats: Mapping[str, Any], measured: Statistics) -> str:
    given = {name: np.asarray(stats[name], dtype=np.float64).ravel() for name in ("mean", "std") if name in stats}
    if len(given) < 2:
        return f"has no {' and '.join({'mean', 'std'} - set(given))}"
    for name, values in given.items():
        if values.shape != measured[name].shape:
            return f"has {len(values)} numbers in `{name}`, and the tables {len(measured[name])}"
        if not np.isfinite(values).all():
            return f"holds NaN in `{name}`"
    scale = np.maximum(measured["std"], 1e-6 * np.maximum(1.0, np.abs(measured["mean"])))
    for name, values in given.items():
        off = np.abs(values - measured[name]) / scale
        if off.max() > APART:
            i = int(off.argmax())
            return f"says `{name}` {values[i]:.4g} of dimension {i}, and it is {measured[name][i]:.4g}"
    return ""
