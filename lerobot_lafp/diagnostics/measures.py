"""Measures of a latent space, and of a policy over it: pure functions on tensors.

``N`` or ``M`` observations, ``S`` policy samples at each, ``D`` the width of what is compared: ``Dz`` for one latent,
``L * Dz`` for a flattened chunk. A *neighbourhood* is the ``k`` observations of other episodes, one of each, that look
most like one observation: what was done there is what could be done here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Two clusters count as two modes from this ratio of the variance between them to that within them. One mode cut in
#: two gives about 3 at most (evenly spread on a line; 16 points of it reach 8 in 3 % of cases), 1 on a surface, less in
#: more dimensions; on the two-way task 12 or more where both ways are open.
BIMODAL_RATIO = 8.0
#: ..and if each of them holds at least this share of a neighbourhood.
BIMODAL_SHARE = 0.2
#: A sample counts for a mode within this share of the distance between the two: their mean (0.5) is in neither, nor is
#: a mean weighted 2 : 1. At ``BIMODAL_RATIO`` it is 1.4 times the modes' own deviation.
MODE_RADIUS = 0.25
#: A mode is covered if at least this share of the samples falls into it.
COVERED_SHARE = 0.1

_BLOCK = 256  # neighbourhoods compared at once, to bound the memory


# --- Latents and actions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearProbe:
    """What ``linear_probe`` found on the M rows of its held-out episodes.

    Attributes:
        r2: Share of the variance explained, one value per action dimension; NaN for one that is constant there.
        mse: Mean squared error over all entries, in squared units of the actions.
        actual: Actions, (M, .., A).
        predicted: What the probe makes of their latents, (M, .., A).
        num_episodes: Episodes held out.
    """

    r2: list[float]
    mse: float
    actual: Tensor
    predicted: Tensor
    num_episodes: int

    @property
    def mean_r2(self) -> float:
        """Mean of ``r2`` over the dimensions that vary; NaN if none does."""
        return float(torch.tensor(self.r2, dtype=torch.float64).nanmean())


def linear_probe(
    z: Tensor,
    actions: Tensor,
    episodes: Tensor,
    seed: int = 0,
    test_share: float = 0.2,
    held_out: Sequence[int] | None = None,
) -> LinearProbe:
    """How well a linear map tells actions from latents: ``min_W,b E||W z + b - a||^2``, on episodes held out.

    ``R^2 = 1 - sum (a^ - a)^2 / sum (a - mean a)^2`` over the held-out rows. Neighbouring frames are nearly equal, so
    whole episodes are held out, never single frames. Least squares of the smallest norm: quantised latents may be
    linearly dependent. LAPO (ICLR 2024) and LAOM (ICML 2025) judge latents in this way.

    Args:
        z: Latents, (N, Dz).
        actions: (N, .., A); extra axes, such as the k frames of one latent, are pooled in R^2.
        episodes: Episode of each row, (N,).
        seed: Chooses the held-out episodes.
        test_share: Share of the episodes that is held out; at least one is, and one is not.
        held_out: The held-out episodes themselves, in place of a choice.

    Raises:
        ValueError: There are fewer than two episodes.
    """
    names = episodes.unique()
    if len(names) < 2:
        raise ValueError(
            f"A linear probe needs at least 2 episodes, one to fit and one to test on; there are {len(names)}."
        )
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    num_test = min(max(1, round(test_share * len(names))), len(names) - 1)
    chosen = names[order[:num_test].to(names.device)]
    if held_out is not None:
        chosen, num_test = torch.tensor(held_out, device=names.device), len(held_out)
    test = torch.isin(episodes, chosen).cpu()
    x, y = z.detach().cpu().double(), actions.detach().cpu().double()
    targets = y.flatten(1)
    x_mean, y_mean = x[~test].mean(dim=0), targets[~test].mean(dim=0)
    weights = torch.linalg.lstsq(x[~test] - x_mean, targets[~test] - y_mean, driver="gelsd").solution
    actual = y[test]
    predicted = ((x[test] - x_mean) @ weights + y_mean).reshape(actual.shape)
    rows = tuple(range(actual.ndim - 1))
    error = (predicted - actual).square().sum(dim=rows)
    spread = (actual - actual.mean(dim=0)).square().sum(dim=rows)
    r2 = torch.where(spread > 0, 1 - error / spread, torch.nan)
    return LinearProbe(
        r2=r2.tolist(),
        mse=float((predicted - actual).square().mean()),
        actual=actual.float(),
        predicted=predicted.float(),
        num_episodes=num_test,
    )


def s_pcfc(z_past: Tensor, z_future: Tensor) -> float:
    """S-PCFC of CoMo (2025): mean ``cos(z(o_{t-n}, o_t), z(o_{t+n}, o_t))``; lower is better.

    The two transitions end in the same frame and move, more or less, in opposite directions: latents that describe
    motion point apart, latents that describe what the scene looks like point the same way.

    Args:
        z_past: ``z(o_{t-n}, o_t)``, raw latents, (N, Dz).
        z_future: ``z(o_{t+n}, o_t)``, raw latents, (N, Dz).
    """
    return float(F.cosine_similarity(z_past, z_future, dim=-1).mean())


@dataclass(frozen=True)
class CodebookUsage:
    """Share of the codes that are used at all, and perplexity, the number that would be if all were used alike."""

    share: float
    perplexity: float


def codebook_usage(indices: Tensor, size: int) -> CodebookUsage:
    """Use of a codebook: share of codes that occur, and ``exp(-sum p log p)`` of their frequencies ``p``.

    Args:
        indices: Codes, (N,), or (N, heads) for several codebooks, over which both numbers are averaged.
        size: Codes per codebook.
    """
    columns = indices.reshape(indices.shape[0], -1).unbind(dim=1)
    counts = torch.stack([torch.bincount(column, minlength=size) for column in columns]).double()
    p = counts / counts.sum(dim=1, keepdim=True)
    entropy = -torch.special.xlogy(p, p).sum(dim=1)
    return CodebookUsage(share=float((counts > 0).double().mean()), perplexity=float(entropy.exp().mean()))


def effective_dimensions(z: Tensor) -> float:
    """Participation ratio ``(sum l)^2 / sum l^2`` of the covariance's eigenvalues ``l``: 1 on a line, Dz in a ball.

    Args:
        z: (N, Dz), N at least 2.
    """
    covariance = torch.atleast_2d(torch.cov(z.double().T))
    return float(covariance.trace() ** 2 / covariance.square().sum().clamp(min=torch.finfo(torch.float64).tiny))


# --- Distributions ----------------------------------------------------------------------------------------------


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (.., n, m); by differences, since products of large numbers would drown small distances."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def mean_distance(x: Tensor) -> Tensor:
    """``E|X - X'|`` of the samples ``x`` (.., n, D), pairs of a sample with itself excluded: (..)."""
    n = x.shape[-2]
    if n < 2:
        raise ValueError(f"A distance between samples needs at least 2 of them, got {n}.")
    return _distances(x, x).sum(dim=(-2, -1)) / (n * (n - 1))


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """``2 E|X - Y| - E|X - X'| - E|Y - Y'|``, unbiased: 0 on average, and at times below, for equal distributions.

    Szekely and Rizzo, "Energy statistics" (2013).

    Args:
        x: Samples, (.., n, D), n at least 2.
        y: Samples, (.., m, D), m at least 2.

    Returns:
        (..).
    """
    return 2 * _distances(x, y).mean(dim=(-2, -1)) - mean_distance(x) - mean_distance(y)


# --- Neighbourhoods ---------------------------------------------------------------------------------------------


def nearest_of_other_episodes(features: Tensor, episodes: Tensor, count: int) -> Tensor:
    """Indices (N, k) of the observations nearest to each, nearest first: of every other episode at most one.

    Neighbouring frames of one episode are no two witnesses. ``k`` is ``count``, or the number of other episodes if
    that is less.

    Args:
        features: Observations as vectors, (N, F); Euclidean distance.
        episodes: Episode of each, (N,).
        count: Neighbours wanted.
    """
    _, numbers, lengths = episodes.unique(return_inverse=True, return_counts=True)
    frames = numbers.argsort(stable=True).split(lengths.tolist())
    table = nn.utils.rnn.pad_sequence(list(frames), batch_first=True, padding_value=-1)  # (episodes, most frames)
    count = min(count, len(table) - 1)
    found = []
    for rows, own in zip(features.split(_BLOCK), numbers.split(_BLOCK), strict=True):
        distance = torch.cdist(rows, features)[:, table].masked_fill(table < 0, torch.inf)
        nearest = distance.min(dim=2)
        others = nearest.values.scatter(1, own.unsqueeze(1), torch.inf)
        chosen = others.topk(count, dim=1, largest=False).indices
        found.append(table[chosen, nearest.indices.gather(1, chosen)])
    return torch.cat(found)


@dataclass(frozen=True)
class Clusters:
    """Each of N sets of points cut in two.

    Attributes:
        centres: (N, 2, D).
        share: Of the points, (N, 2).
        ratio: Variance between the two to variance within them, ``|c_0 - c_1|^2 / 4 / E|y - c|^2``, (N,).
    """

    centres: Tensor
    share: Tensor
    ratio: Tensor

    @property
    def bimodal(self) -> Tensor:
        """(N,), true where the two are modes (``BIMODAL_RATIO``, ``BIMODAL_SHARE``)."""
        return (self.ratio >= BIMODAL_RATIO) & (self.share >= BIMODAL_SHARE - 1e-6).all(dim=1)


def describe_clusters(points: Tensor, membership: Tensor) -> Clusters:
    """Centres and separation of two clusters.

    Args:
        points: (N, k, D).
        membership: (N, k, 2), 1 where a point belongs to the cluster, else 0; points of neither are left out.
    """
    sizes = membership.sum(dim=1)
    centres = torch.einsum("nkc,nkd->ncd", membership, points) / sizes.clamp(min=1).unsqueeze(-1)
    within = (_distances(points, centres).square() * membership).sum(dim=(1, 2)) / sizes.sum(dim=1).clamp(min=1)
    between = (centres[:, 0] - centres[:, 1]).square().sum(dim=-1) / 4
    between = torch.where((sizes > 0).all(dim=1), between, 0.0)
    return Clusters(
        centres=centres,
        share=sizes / points.shape[1],
        ratio=between / within.clamp(min=torch.finfo(points.dtype).tiny),
    )


def split_in_two(points: Tensor, num_iterations: int = 20) -> Tensor:
    """2-means (Lloyd), started from the two sides of the mean along the first principal axis.

    Args:
        points: N sets of k points, (N, k, D).
        num_iterations: Of assignment and averaging.

    Returns:
        Membership, (N, k, 2), 1 in the point's cluster.
    """
    centred = points - points.mean(dim=1, keepdim=True)
    # The axis' coordinates are an eigenvector of the (k, k) Gram matrix: k is small, D may not be.
    second = torch.linalg.eigh(centred @ centred.transpose(1, 2)).eigenvectors[..., -1] > 0
    for _ in range(num_iterations):
        membership = F.one_hot(second.long(), 2).to(points.dtype)
        centres = describe_clusters(points, membership).centres
        nearest = _distances(points, centres).argmin(dim=-1) == 1
        if bool((nearest == second).all()):
            break
        second = nearest
    return F.one_hot(second.long(), 2).to(points.dtype)


def _two_commonest(labels: Tensor) -> Tensor:
    """The two commonest of the labels (N, k) in each row, smaller first, (N, 2); -1 is no label."""
    counts = F.one_hot(labels + 1, max(int(labels.max()) + 2, 3)).sum(dim=1)[:, 1:]
    top = counts.topk(2, dim=1)
    return torch.where(top.values > 0, top.indices, -1).sort(dim=1).values


@dataclass(frozen=True)
class Structure:
    """What ``structure_preservation`` found in N neighbourhoods.

    Attributes:
        energy_distance: Between policy samples and IDM latents, mean over neighbourhoods, as a share of the mean
            spread ``E|Y - Y'|`` of the IDM latents within one. 0: the same; the mean of two distant modes: 1.
        bimodal_energy_distance: The same over the bimodal neighbourhoods alone; NaN if there are none.
        coverage: Share of the bimodal neighbourhoods in which the policy covers both modes; NaN if there are none.
        between: Share of the policy's samples there that lie in neither mode; NaN if there are none.
        bimodal: (N,), which neighbourhoods are.
        ratio: (N,), see ``Clusters``.
        centres: Of the two modes, (N, 2, D).
        labels: The known labels of the two, (N, 2), -1 for none; None where 2-means found them.
    """

    energy_distance: float
    bimodal_energy_distance: float
    coverage: float
    between: float
    bimodal: Tensor
    ratio: Tensor
    centres: Tensor
    labels: Tensor | None


def structure_preservation(
    policy_samples: Tensor, reference: Tensor, neighbours: Tensor, modes: Tensor | None = None
) -> Structure:
    """Whether a policy over latents keeps their structure: energy distance and coverage of modes by neighbourhood.

    Per neighbourhood, the policy's samples *at the neighbours' observations* are compared with the IDM latents there.
    (Samples at one single observation would be narrower than the neighbourhood even for a perfect policy, which sees
    more than any measure of nearness.) For the energy distance every other neighbour gives IDM latents and the rest
    policy samples, one of each observation at a time, so that no observation is compared with itself and a perfect
    policy has 0 on average. Ours; method.md, "Measures of a latent space".

    A neighbourhood is bimodal if its IDM latents fall into two clusters by ``BIMODAL_RATIO`` and ``BIMODAL_SHARE``; a
    mode is covered if ``COVERED_SHARE`` of the samples lie within ``MODE_RADIUS`` of its centre.

    Args:
        policy_samples: S samples of the policy at each of M observations, (M, S, D).
        reference: IDM latents at the same observations, (M, D).
        neighbours: N neighbourhoods, indices into the M, nearest first, (N, k), k at least 4.
        modes: Known mode of each of the M as a number from 0, -1 if unknown, (M,): the two commonest of a
            neighbourhood take the place of its clusters. Unset: 2-means.

    Raises:
        ValueError: There are fewer than 4 neighbours.
    """
    if neighbours.shape[1] < 4:
        raise ValueError(f"A neighbourhood needs at least 4 observations of other episodes, got {neighbours.shape[1]}.")
    parts = [_neighbourhoods(policy_samples, reference, rows, modes) for rows in neighbours.split(_BLOCK)]
    energy, spread, inside, centres, ratio, bimodal, labels = map(torch.cat, zip(*parts, strict=True))
    covered = (inside >= COVERED_SHARE).all(dim=1)
    return Structure(
        energy_distance=float(energy.mean() / spread.mean()),
        bimodal_energy_distance=float(energy[bimodal].mean() / spread[bimodal].mean()),
        coverage=float(covered[bimodal].double().mean()),
        between=float(1 - inside[bimodal].sum(dim=1).double().mean()),
        bimodal=bimodal,
        ratio=ratio,
        centres=centres,
        labels=None if modes is None else labels,
    )


def _neighbourhoods(
    policy_samples: Tensor, reference: Tensor, neighbours: Tensor, modes: Tensor | None
) -> tuple[Tensor, ...]:
    """Energy distance (n,), spread (n,), samples inside each mode (n, 2), centres, ratio, bimodal, labels of n rows."""
    points, samples = reference[neighbours], policy_samples[neighbours]
    latents = points[:, ::2]
    draws = samples[:, 1::2].transpose(1, 2)  # (n, S, k/2, D): one of every observation at a time
    spread = mean_distance(latents)
    energy = energy_distance(draws, latents.unsqueeze(1)).mean(dim=1)
    if modes is None:
        membership = split_in_two(points)
        labels = torch.full((len(neighbours), 2), -1, device=neighbours.device)
    else:
        labels = _two_commonest(modes[neighbours])
        membership = (modes[neighbours].unsqueeze(-1) == labels.unsqueeze(1)).to(points.dtype)
        membership = membership * (labels >= 0).unsqueeze(1)
    clusters = describe_clusters(points, membership)
    apart = (clusters.centres[:, 0] - clusters.centres[:, 1]).norm(dim=-1)
    inside = _distances(samples.flatten(1, 2), clusters.centres) < MODE_RADIUS * apart[:, None, None]
    inside_share = inside.to(points.dtype).mean(dim=1)
    return energy, spread, inside_share, clusters.centres, clusters.ratio, clusters.bimodal, labels


def wrong_mode_rate(z: Tensor, z_idm: Tensor, centres: Tensor, own: Tensor | None = None) -> float:
    """Share of latents that are nearest to another mode than the IDM latent they were started from.

    For ``z = policy.align(.., tau)``. With a denoiser that returns the nearest of two modes ``2 sqrt(d)`` apart (one
    unit per dimension from their mean) it is ``Phi(-tau sqrt(d) / (1 - tau))`` (method.md).

    Args:
        z: (N, D).
        z_idm: The IDM's latents, (N, D).
        centres: Of the two modes in each row's neighbourhood, (N, 2, D).
        own: Which of the two the row belongs to, 0 or 1, (N,). Unset: the one nearest to ``z_idm``.

    Returns:
        NaN if N is 0.
    """
    lands = _nearest_centre(z, centres)
    return float((lands != (_nearest_centre(z_idm, centres) if own is None else own)).double().mean())


def _nearest_centre(z: Tensor, centres: Tensor) -> Tensor:
    return _distances(z.unsqueeze(1), centres).squeeze(1).argmin(dim=-1)


def principal_axes(z: Tensor, count: int = 2) -> tuple[Tensor, Tensor]:
    """Mean (D,) and first ``count`` principal axes (D, count) of ``z`` (N, D): project by ``(z - mean) @ axes``."""
    mean = z.mean(dim=0)
    return mean, torch.linalg.svd(z - mean, full_matrices=False).Vh[:count].T
