"""Means of (S, E) results, S training seeds by E evaluation episodes, and what their intervals cover.

The interval is a bootstrap over training seeds *and* episodes, crossed: every seed is evaluated on the same episodes,
so a resample draws seeds and episodes separately, and all seeds drawn share the episodes drawn. With counts ``w_s``
(S,) and ``w_e`` (E,) of how often each was drawn, its mean is ``w_s^T X w_e / (S E)``.

What it can say: how far the mean would move with other episodes, and roughly how far with other training seeds; so
intervals of few episodes, or of seeds that disagree, are wide. What it cannot:

- With one seed nothing is known of the training. The interval covers the episodes alone.
- With 3 to 5 seeds it resamples 3 to 5 numbers. Their spread is itself barely known, and the bootstrap's is too small
  by ``(S - 1) / S`` in variance: a third at 3 seeds, a fifth at 5. A failure that befalls one training in ten is
  likely to be in no sample and no interval. Read an interval that only just excludes 0 as "not yet shown".
- What is neither the seed's nor the episode's doing but their interaction (or the noise of single rollouts) is drawn
  twice, which overstates its variance by up to 3 at many seeds, 2.6 at 5, 2.3 at 3, 1 at one. Where it dominates, the
  interval is wider than it need be: it errs towards claiming less (A. Owen, "The pigeonhole bootstrap", 2007).
- Many rows are compared; at 95 %, one true null in twenty excludes 0.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
#: Bins of a result's ``mode_histogram``, and where they end; the two modes are at -1 and 1.
MODE_BINS, MODE_END = 40, 2.0
_SEEDS, _EPISODES = 0, 1  # each axis has a stream of its own, or S = E would draw the same for both


class Summary(TypedDict):
    """A mean, its 95 % interval [low, high], and over how many training seeds and episodes of each."""

    mean: float
    ci95: list[float]
    seeds: int
    episodes: int


def summarize(values: ArrayLike) -> Summary:
    """Mean of ``values`` (S, E) with its 95 % interval over training seeds and episodes, as the module says."""
    x = np.asarray(values, dtype=float)
    if x.ndim != 2 or not x.size:
        raise ValueError(
            f"`values` must be (training seeds, episodes), neither of them 0, got shape {x.shape}; "
            "give one training seed as [values]."
        )
    seeds, episodes = x.shape
    # Divided last: the totals of successes are whole numbers, the same on every machine.
    totals = ((_counts(_EPISODES, episodes) @ x.T) * _counts(_SEEDS, seeds)).sum(axis=1)
    low, high = (np.quantile(totals, [0.025, 0.975]) / x.size).tolist()
    return {"mean": float(x.sum() / x.size), "ci95": [low, high], "seeds": seeds, "episodes": episodes}


@lru_cache(maxsize=4)
def _counts(axis: int, size: int) -> NDArray[np.float64]:
    """How often each of ``size`` is drawn in ``size`` draws with replacement: (RESAMPLES, size), always the same."""
    drawn = np.random.default_rng((0, axis)).integers(size, size=(RESAMPLES, size))
    drawn += size * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=RESAMPLES * size).reshape(RESAMPLES, size).astype(float)
    counts.setflags(write=False)
    return counts


def paired_difference(a: ArrayLike, b: ArrayLike) -> Summary:
    """Mean of ``a - b`` with its interval, both (S, E) of the same training seeds and episodes in the same order.

    What makes an episode hard for both is no part of the interval. Runs that differ in seeds or episodes: `align`.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape:
        raise ValueError(
            f"`a` and `b` must be of the same training seeds and episodes, got shapes {x.shape} and {y.shape}; "
            "cut them to what both have with `align`."
        )
    return summarize(x - y)


def stack(runs: Mapping[int, Sequence[float]]) -> NDArray[np.float64]:
    """Per-episode values by training seed as (S, E): seeds ascending, and the first episodes that all runs have."""
    episodes = min(map(len, runs.values()), default=0)
    return np.array([runs[seed][:episodes] for seed in sorted(runs)], dtype=float)


def align(
    runs_a: Mapping[int, Sequence[float]], runs_b: Mapping[int, Sequence[float]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two variants' per-episode values by training seed, as (S, E) each: the seeds and first episodes both have."""
    seeds = sorted(runs_a.keys() & runs_b.keys())
    if not seeds:
        raise ValueError(
            f"No training seed in common: {sorted(runs_a)} and {sorted(runs_b)}; train both with the same seeds."
        )
    a, b = (stack({seed: runs[seed] for seed in seeds}) for runs in (runs_a, runs_b))
    episodes = min(a.shape[1], b.shape[1])
    return a[:, :episodes], b[:, :episodes]
