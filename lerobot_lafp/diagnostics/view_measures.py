"""How near an episode's samples are to what was done in it, and where they split into two modes.

Two chunks are apart by the root mean square of the difference of their entries, in deviations: of the actions that the
policy was trained on, or of the latents. A chunk chosen at random lies about 1 from the mean of all.

A *split* is a planning moment whose samples fall into two clusters (2-means) that are modes by the bounds of
`measures`: the variance between the two is at least 8 times that within them (``BIMODAL_RATIO``), and each holds at
least a fifth of the samples (``BIMODAL_SHARE``). Their centres must also be at least ``LEAST_APART`` apart. Chunks of
actions are compared where the checkpoint can act, else those of latents. Samples of one mode are taken for two at
times: 16 samples that are spread evenly along a line in 3 % of cases, 8 in 16 %; samples that vary in more than one
dimension hardly ever.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .measures import BIMODAL_SHARE, describe_clusters, mean_distance, split_in_two
from .view_policy import View

#: Two modes are at least so far apart: less is the same to a robot, or rounding.
LEAST_APART = 0.1
#: Fewest samples of which it can be said that they split.
FEWEST_SAMPLES = 8
#: Largest ratio of variances that is drawn; two sharp modes have hundreds.
MOST_DRAWN = 50.0


@dataclass(frozen=True)
class Accuracy:
    """Samples against what was done, at each of M moments, in deviations; NaN where that is not known.

    Attributes:
        mean: Distance of the mean of the samples, (M,).
        best: Distance of the nearest sample, (M,).
        energy_score: ``E|X - y| - E|X - X'| / 2`` of samples X and what was done y, (M,). It is least, on average,
            for a policy whose samples are distributed as what is done (Gneiting and Raftery, 2007). Pairs of a sample
            with itself are left out, so that the number of samples does not matter.
    """

    mean: Tensor
    best: Tensor
    energy_score: Tensor

    @property
    def known(self) -> Tensor:
        """(M,), true where there is something to compare with."""
        return ~self.mean.isnan()


def accuracy(samples: Tensor, done: Tensor, known: Tensor) -> Accuracy:
    """Compare samples with what was done.

    Args:
        samples: (M, S, T, D), in deviations, S at least 2.
        done: (M, T, D), likewise.
        known: (M, T), false where ``done`` is not known, or beyond the episode.
    """
    entries = (known.sum(dim=1) * samples.shape[-1]).clamp(min=1)
    weight = (known / entries.sqrt().unsqueeze(1)).unsqueeze(-1)  # makes the Euclidean norm a root mean square
    x = (samples * weight.unsqueeze(1)).flatten(2)
    y = (torch.where(known.unsqueeze(-1), done, 0.0) * weight).flatten(1)
    apart = (x - y.unsqueeze(1)).norm(dim=-1)
    nothing = ~known.any(dim=1)
    found = (
        (x.mean(dim=1) - y).norm(dim=-1),
        apart.min(dim=1).values,
        apart.mean(dim=1) - mean_distance(x) / 2,
    )
    return Accuracy(*(value.masked_fill(nothing, torch.nan) for value in found))


@dataclass(frozen=True)
class Modes:
    """The two clusters of the samples at each of M moments.

    Attributes:
        split: Whether they are two modes, (M,).
        ratio: Variance between them to that within, (M,), see `measures.Clusters`; 0 where one of them holds too few
            samples for a mode.
        second: Which samples are in the smaller of the two, (M, S); none where there is no split.
    """

    split: Tensor
    ratio: Tensor
    second: Tensor


def find_modes(samples: Tensor) -> Modes:
    """Where samples split into two modes, as the head of this module says.

    Args:
        samples: (M, S, T, D), in deviations.
    """
    points = samples.flatten(2).double()
    membership = split_in_two(points)
    clusters = describe_clusters(points, membership)
    apart = (clusters.centres[:, 0] - clusters.centres[:, 1]).norm(dim=-1) / math.sqrt(points.shape[-1])
    split = clusters.bimodal & (apart >= LEAST_APART)
    smaller = clusters.share.argmin(dim=1)
    second = membership.gather(2, smaller.reshape(-1, 1, 1).expand(-1, points.shape[1], 1)).squeeze(2) > 0
    shared = (clusters.share >= BIMODAL_SHARE - 1e-6).all(dim=1)
    return Modes(split, clusters.ratio.float() * shared, second & split.unsqueeze(1))


@dataclass(frozen=True)
class Findings:
    """All that is measured of a view; None where it cannot be.

    Attributes:
        actions: Sampled chunks against the recorded actions.
        latents: Sampled latents against those of the inverse model.
        modes: Of the samples.
    """

    actions: Accuracy | None
    latents: Accuracy | None
    modes: Modes | None


def measure(view: View) -> Findings:
    """Every measure that ``view`` allows."""
    actions = latents = modes = None
    chunks = None if view.chunks is None or view.unit is None else view.chunks / view.unit
    if chunks is not None and view.human is not None and view.unit is not None:
        done, known = _after(view.human / view.unit, view.plans, torch.arange(chunks.shape[2]))
        actions = accuracy(chunks, done, known)
    if view.samples is not None and view.latents is not None:
        steps = view.frame_offset * torch.arange(view.samples.shape[2])
        latents = accuracy(view.samples, *_after(view.latents, view.plans, steps))
    compared = chunks if chunks is not None else view.samples
    if compared is not None:
        modes = find_modes(compared)
    return Findings(
        actions if actions is not None and bool(actions.known.any()) else None,
        latents if latents is not None and bool(latents.known.any()) else None,
        modes,
    )


def _after(rows: Tensor, plans: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, D) at ``plans + steps``, (M, T, D), and (M, T), where they are known."""
    at = plans.unsqueeze(1) + steps
    found = rows[at.clamp(max=len(rows) - 1)]
    return found, (at < len(rows)) & torch.isfinite(found).all(dim=-1)


# --- Words ------------------------------------------------------------------------------------------------------

#: Frames that are named in one line, at most.
_MOST_NAMED = 12


def summarize(view: View, findings: Findings) -> list[str]:
    """What was found, in lines of words."""
    lines = []
    if findings.actions is not None:
        lines.append(f"Actions, in deviations of those of the training: {_errors(findings.actions)}")
    if findings.latents is not None:
        lines.append(f"Latents, against those of the inverse model: {_errors(findings.latents)}")
    if findings.modes is not None:
        lines.append(_splits(view, findings.modes))
    if view.limited is not None:
        lines.append(f"The limits of the checkpoint change {view.limited:.0%} of the sampled commands.")
    return [*lines, *view.notes]


def _errors(found: Accuracy) -> str:
    mean, best, score = (float(x[found.known].mean()) for x in (found.mean, found.best, found.energy_score))
    count = int(found.known.sum())
    return (
        f"error of the mean sample {mean:.2f}, of the best {best:.2f}, energy score {score:.2f} "
        f"({count} planning moment{'' if count == 1 else 's'})."
    )


def _splits(view: View, modes: Modes) -> str:
    frames = view.plans[modes.split].tolist()
    named = ", ".join(map(str, frames[:_MOST_NAMED])) + (", .." if len(frames) > _MOST_NAMED else "")
    where = f": frame{'' if len(frames) == 1 else 's'} {named}" if frames else ""
    return f"The samples split into two modes at {len(frames)} of {len(modes.split)} planning moments{where}."
