"""The picture of ``lafp probe``: actions told, latents and policy samples where there are two ways, flow time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .measures import LinearProbe, Structure, principal_axes

NUM_NEIGHBOURHOODS = 3
_IDM_COLOR, _POLICY_COLOR, _CENTRE_COLOR = "#0072b2", "#d55e00", "black"
_MOST_POINTS = 2000


def draw_probe(
    path: Path,
    probe: LinearProbe | None,
    target: str,
    structure: Structure | None,
    latents: Tensor,
    samples: Tensor | None,
    neighbours: Tensor,
    flow_time: Mapping[str, Sequence[float | None]] | None,
) -> None:
    """Write the figure; what was not measured says so in its panel.

    Args:
        path: PNG file.
        probe: Actions told and true are drawn against each other.
        target: What the probe tells.
        structure: Of the M chunks that follow.
        latents: IDM latents, (M, D).
        samples: Policy samples, (M, S, D).
        neighbours: (M, k).
        flow_time: ``tau``, ``wrong_mode_rate`` and ``distance_to_idm``.
    """
    figure = Figure(figsize=(4 * NUM_NEIGHBOURHOODS, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, 2 * NUM_NEIGHBOURHOODS)
    half = NUM_NEIGHBOURHOODS
    _draw_actions(figure.add_subplot(grid[0, :half]), probe, target)
    _draw_flow_time(figure.add_subplot(grid[0, half:]), flow_time)
    below = [figure.add_subplot(grid[1, 2 * i : 2 * i + 2]) for i in range(NUM_NEIGHBOURHOODS)]
    if structure is None or samples is None:
        for axis in below:
            _leave_empty(axis, "policy against IDM latents:\nnot measured")
    else:
        clearest = _spread_out(structure.ratio.where(structure.bimodal, 0.0), neighbours)
        for axis, row in zip(below, clearest, strict=False):
            at = neighbours[row]
            _draw_neighbourhood(axis, latents[at], samples[at].flatten(0, 1), structure, row)
    figure.savefig(path, dpi=130)


def _spread_out(score: Tensor, neighbours: Tensor) -> list[int]:
    """Rows of the highest scores, none of which is a neighbour of another."""
    chosen: list[int] = []
    for row in score.argsort(descending=True, stable=True).tolist():
        if not any(bool(torch.isin(neighbours[row], neighbours[other]).any()) for other in chosen):
            chosen.append(row)
        if len(chosen) == NUM_NEIGHBOURHOODS:
            break
    return chosen


def _leave_empty(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes, color="#666666")
    axis.set(xticks=[], yticks=[])


def _draw_actions(axis: Axes, probe: LinearProbe | None, target: str) -> None:
    if probe is None:
        _leave_empty(axis, "linear probe: not measured")
        return
    actual, predicted = probe.actual.flatten(0, -2), probe.predicted.flatten(0, -2)
    shown = torch.linspace(0, len(actual) - 1, min(len(actual), _MOST_POINTS)).long()
    for dimension in range(actual.shape[1]):
        label = f"dimension {dimension}, R2 {probe.r2[dimension]:.2f}"
        axis.plot(actual[shown, dimension], predicted[shown, dimension], ".", ms=2, alpha=0.5, label=label)
    ends = [float(actual.min()), float(actual.max())]
    axis.plot(ends, ends, color="black", lw=0.8)
    axis.set(title="Linear probe, held-out episodes", xlabel=f"true {target}", ylabel="predicted from the latent")
    if actual.shape[1] <= 8:
        axis.legend(markerscale=4, fontsize="small", frameon=False)


def _draw_flow_time(axis: Axes, flow_time: Mapping[str, Sequence[Any]] | None) -> None:
    if flow_time is None:
        _leave_empty(axis, "flow time: not measured")
        return
    wrong, distance = flow_time["wrong_mode_rate"], flow_time["distance_to_idm"]
    axis.set(title="IDM latents sent through the policy", xlabel="from flow time tau", xlim=(0, 1), ylim=(0, 1))
    axis.set_ylabel("wrong-mode rate", color=_POLICY_COLOR)
    if any(rate is not None for rate in wrong):
        axis.plot(flow_time["tau"], wrong, "o-", ms=3, color=_POLICY_COLOR)
    else:
        axis.text(0.5, 0.9, "no neighbourhood is bimodal", ha="center", transform=axis.transAxes, color=_POLICY_COLOR)
    right = axis.twinx()
    right.plot(flow_time["tau"], distance, "s--", ms=3, color=_IDM_COLOR)
    right.set_ylabel("distance to the IDM latent (deviations)", color=_IDM_COLOR)
    right.set_ylim(bottom=0)


def _draw_neighbourhood(axis: Axes, latents: Tensor, samples: Tensor, structure: Structure, row: int) -> None:
    """First two principal components of the IDM latents (k, D), and the policy's samples (k * S, D) on them."""
    mean, axes = principal_axes(latents)
    is_bimodal = bool(structure.bimodal[row])
    drawn = [(samples, _POLICY_COLOR, 4, "o", "policy"), (latents, _IDM_COLOR, 25, "o", "IDM")]
    if is_bimodal:
        drawn.append((structure.centres[row], _CENTRE_COLOR, 60, "x", "centres"))
    for points, color, size, marker, label in drawn:
        at = F.pad((points - mean) @ axes, (0, 2 - axes.shape[1]))
        axis.scatter(at[:, 0], at[:, 1], s=size, color=color, marker=marker, label=label)
    modes = "two modes" if is_bimodal else "not bimodal"
    axis.set(title=f"Neighbours of chunk {row}: {modes}", xlabel="first principal component", ylabel="second")
    axis.legend(fontsize="small", frameon=False)
