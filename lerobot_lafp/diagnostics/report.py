"""``lafp probe``: what a checkpoint's latents are worth, in numbers, in a picture, and in three lines of words.

What the words stand for (``LEVELS``):

| line   | number                                          | good    | fair    | else |
|--------|-------------------------------------------------|---------|---------|------|
| probe  | R2 of the linear probe on held-out episodes     | >= 0.8  | >= 0.4  | poor |
| policy | energy distance as a share of the spread        | <= 0.05 | <= 0.2  | poor |
| policy | bimodal neighbourhoods with both modes covered  | >= 0.8  | >= 0.5  | poor |
| code   | perplexity of the codebook as a share of it     | >= 0.5  | >= 0.1  | poor |
| code   | S-PCFC, of continuous latents                   | <= 0    | <= 0.5  | poor |

The policy's line is as good as the worse of its two numbers. The bounds are ours; those of the policy lie between what
a flow gives on the two-way task (0.02, 91 %) and what its conditional mean gives (0.09, 13 %). Of a latent that is the
sum of motion, which turns round when time does, and of appearance (or a constant), which does not, S-PCFC is
``(appearance^2 - motion^2) / (appearance^2 + motion^2)``: 0 where they balance, 0.5 where motion is a quarter.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.policies import load_policy
from ..errors import UserError
from .collect import Collected, collect, dataset_batches
from .figures import draw_probe
from .measures import (
    LinearProbe,
    Structure,
    codebook_usage,
    effective_dimensions,
    linear_probe,
    nearest_of_other_episodes,
    s_pcfc,
    structure_preservation,
    wrong_mode_rate,
)

#: Number -> its bounds for "good" and "fair", from the table above.
LEVELS = {
    "r2": (0.8, 0.4),
    "energy_distance": (0.05, 0.2),
    "coverage": (0.8, 0.5),
    "perplexity": (0.5, 0.1),
    "s_pcfc": (0.0, 0.5),
}
_LOW_IS_GOOD = ("energy_distance", "s_pcfc")

#: Observations in a neighbourhood, each of another episode.
NEIGHBOURS = 16
#: Fewest with which structure is measured.
_FEWEST_NEIGHBOURS = 4


@dataclass(frozen=True)
class Diagnosis:
    """All that is known of a checkpoint on a dataset.

    Attributes:
        numbers: For JSON; None where a number could not be measured.
        lines: The three lines of words.
        probe: The linear probe behind them, if there was one.
        target: What it tells from latents.
        structure: The neighbourhoods behind them, if there were any.
        chunks: Rows of ``Collected`` whose chunk lies within the episode, (N,): what ``structure`` is about.
        neighbours: Of each of these, indices into them, (N, k); empty without ``structure``.
    """

    numbers: dict[str, Any]
    lines: tuple[str, str, str]
    probe: LinearProbe | None
    target: str
    structure: Structure | None
    chunks: Tensor
    neighbours: Tensor


def probe(
    checkpoint: str | Path,
    repo_id: str,
    root: str | Path | None = None,
    output_dir: Path = Path("outputs/probe"),
    modes: Path | None = None,
    max_frames: int = 4000,
    seed: int = 0,
) -> Diagnosis:
    """Probe ``checkpoint`` on a dataset; write ``probe.json`` and ``probe.png``.

    Args:
        checkpoint: What ``--policy.path`` takes.
        repo_id: The dataset's name.
        root: The dataset's folder; unset: LeRobot's cache, or the Hub.
        output_dir: Where the two files go.
        modes: JSON list with the mode of every episode: a string or a number, null if unknown.
        max_frames: Frames to look at, at most.
        seed: Of that choice, the held-out episodes and the policy's noise.

    Raises:
        UserError: ``checkpoint`` or ``modes`` cannot be read, or ``max_frames`` is below 1.
        ValueError: The dataset cannot be read, the checkpoint has no latents, or the two do not fit.
    """
    if max_frames < 1:
        raise UserError(f"--max_frames must be at least 1, got {max_frames}.")
    policy = load_policy(checkpoint)
    labels = None if modes is None else _read_modes(modes)
    batches = dataset_batches(policy.config, repo_id, root, max_frames, seed)
    collected = collect(policy, batches, seed=seed)
    diagnosis = diagnose(collected, labels, seed)
    output_dir.mkdir(parents=True, exist_ok=True)
    about = {"checkpoint": str(checkpoint), "dataset": repo_id, "seed": seed, "max_frames": max_frames}
    numbers = {**about, **diagnosis.numbers, "lines": diagnosis.lines}
    (output_dir / "probe.json").write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    draw_probe(
        output_dir / "probe.png",
        diagnosis.probe,
        diagnosis.target,
        diagnosis.structure,
        collected.z_idm[diagnosis.chunks].flatten(1),
        None if collected.samples is None else collected.samples[diagnosis.chunks].flatten(2),
        diagnosis.neighbours,
        diagnosis.numbers["flow_time"],
    )
    return diagnosis


def _read_modes(path: Path) -> list[str | int | None]:
    try:
        modes = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--modes={path} cannot be read as JSON ({error}).") from error
    if not isinstance(modes, list) or not all(mode is None or isinstance(mode, str | int) for mode in modes):
        raise UserError(
            f'--modes={path} must be a list with one string, number or null for every episode, as ["left", "right"].'
        )
    return modes


# --- Numbers ----------------------------------------------------------------------------------------------------


def diagnose(collected: Collected, modes: Sequence[str | int | None] | None = None, seed: int = 0) -> Diagnosis:
    """Every measure that ``collected`` allows, as numbers and as words.

    Args:
        collected: From ``collect``.
        modes: The mode of every episode of the dataset, None where unknown. Unset: 2-means finds them.
        seed: Of the held-out episodes.

    Raises:
        ValueError: There are fewer modes than episodes.
    """
    probe, target = _linear_probe(collected, seed)
    chunks = collected.valid.all(dim=1).nonzero().squeeze(1)
    labels = None if modes is None else _mode_numbers(modes, collected.episodes[chunks])
    structure, neighbours = _structure(collected, chunks, labels)
    first = collected.z_idm[collected.valid[:, 0], 0]
    usage = None if collected.codes is None else codebook_usage(collected.codes, collected.codebook_size)
    numbers: dict[str, Any] = {
        "frames": len(collected.episodes),
        "episodes": len(collected.episodes.unique()),
        "linear_probe": None
        if probe is None
        else {
            "target": target,
            "r2": _number(probe.mean_r2),
            "r2_per_dimension": [_number(r2) for r2 in probe.r2],
            "mse": _number(probe.mse),
            "held_out_episodes": probe.num_episodes,
            "held_out_frames": len(probe.actual),
        },
        "latent_dimensions": {
            "width": first.shape[1],
            "effective": _number(effective_dimensions(first)) if len(first) > 1 else None,
        },
        "s_pcfc": _number(s_pcfc(collected.z_past, collected.z_future)),
        "codebook": None
        if usage is None
        else {
            "size": collected.codebook_size,
            "codebooks": collected.codes.shape[1] if collected.codes is not None else 0,
            "share_used": usage.share,
            "perplexity": usage.perplexity,
        },
        "structure": None
        if structure is None
        else {
            "neighbourhoods": len(structure.bimodal),
            "neighbours": neighbours.shape[1],
            "energy_distance": _number(structure.energy_distance),
            "bimodal_neighbourhoods": int(structure.bimodal.sum()),
            "bimodal_energy_distance": _number(structure.bimodal_energy_distance),
            "mode_coverage": _number(structure.coverage),
            "between_modes": _number(structure.between),
            "modes": "2-means" if modes is None else "given",
        },
        "flow_time": None if structure is None else _against_tau(collected, chunks, structure, labels),
    }
    lines = (_probe_line(collected, numbers), _policy_line(collected, numbers), _latent_line(collected, numbers))
    return Diagnosis(numbers, lines, probe, target, structure, chunks, neighbours)


def _number(x: float) -> float | None:
    """``x`` for JSON, which knows no NaN."""
    return x if math.isfinite(x) else None


def _linear_probe(collected: Collected, seed: int) -> tuple[LinearProbe | None, str]:
    """The probe of each frame's first latent, and what of: the k actions it covers, else the change of the state."""
    z, k = collected.z_idm[:, 0], collected.frame_offset
    rows = collected.valid[:, 0] & collected.labeled[:, :k].all(dim=1)
    target, values = "action relative to the state" if collected.relative else "action", collected.actions[:, :k]
    if not bool(collected.labeled.any()):
        rows, target, values = collected.valid[:, 0], "change of the state", collected.changes
    episodes = collected.episodes[rows]
    if values.shape[-1] == 0 or len(episodes.unique()) < 2:
        return None, target
    return linear_probe(z[rows], values[rows], episodes, seed), target


def _mode_numbers(modes: Sequence[str | int | None], episodes: Tensor) -> Tensor:
    """Mode of each row's episode as a number from 0, -1 where unknown, (N,)."""
    if len(modes) <= int(episodes.max()):
        raise ValueError(
            f"The list of modes names {len(modes)} episodes, but the dataset has at least {int(episodes.max()) + 1}. "
            "It needs one entry for every episode, null where the mode is unknown."
        )
    names = sorted({mode for mode in modes if mode is not None}, key=str)
    numbers = torch.tensor([-1 if mode is None else names.index(mode) for mode in modes])
    return numbers[episodes]


def _structure(collected: Collected, chunks: Tensor, labels: Tensor | None) -> tuple[Structure | None, Tensor]:
    nothing = torch.zeros(len(chunks), 0, dtype=torch.long)
    if collected.samples is None or len(chunks) == 0:
        return None, nothing
    neighbours = nearest_of_other_episodes(collected.features[chunks], collected.episodes[chunks], NEIGHBOURS)
    if neighbours.shape[1] < _FEWEST_NEIGHBOURS:
        return None, nothing
    samples, reference = collected.samples[chunks].flatten(2), collected.z_idm[chunks].flatten(1)
    return structure_preservation(samples, reference, neighbours, labels), neighbours


def _against_tau(
    collected: Collected, chunks: Tensor, structure: Structure, labels: Tensor | None
) -> dict[str, list[float | None]]:
    """Wrong-mode rate at the bimodal neighbourhoods, and distance to the IDM latent, for every tau.

    The distance is the root mean square per dimension of the chunk, in deviations of the latents.
    """
    assert collected.aligned is not None
    z_idm, aligned = collected.z_idm[chunks].flatten(1), collected.aligned[chunks].flatten(2)
    rows, own = structure.bimodal, None
    if labels is not None:
        assert structure.labels is not None
        rows = rows & (labels.unsqueeze(1) == structure.labels).any(dim=1)
        own = (labels == structure.labels[:, 1]).long()[rows]
    centres = structure.centres[rows]
    wrong = [wrong_mode_rate(z[rows], z_idm[rows], centres, own) for z in aligned.unbind(dim=1)]
    distance = (aligned - z_idm.unsqueeze(1)).square().mean(dim=(0, 2)).sqrt()
    return {
        "tau": list(collected.taus),
        "wrong_mode_rate": [_number(x) for x in wrong],
        "distance_to_idm": distance.tolist(),
    }


# --- Words ------------------------------------------------------------------------------------------------------


def _level(name: str, value: float) -> int:
    """0 for good, 1 for fair, 2 for poor."""
    sign = -1 if name in _LOW_IS_GOOD else 1
    return sum(sign * value < sign * bound for bound in LEVELS[name])


def _probe_line(collected: Collected, numbers: dict[str, Any]) -> str:
    probe, dimensions = numbers["linear_probe"], numbers["latent_dimensions"]
    has_actions = bool(collected.labeled.any())
    told = "the actions" + " relative to the state" * collected.relative if has_actions else "the changes of the state"
    said = "" if has_actions else "No actions in this dataset: "
    if probe is None:
        if has_actions:
            return "Latents and actions are not compared: that takes at least two episodes whose actions are known."
        width, effective = dimensions["width"], dimensions["effective"] or 0.0
        return f"{said}what latents tell of them is unknown; they vary in {effective:.1f} of {width} dimensions."
    if probe["r2"] is None:
        held_out = _count(probe["held_out_episodes"], "held-out episode")
        return f"{said or 'Latents are not probed: '}{told} never change in {held_out}."
    verdict = (f"tell {told} well", f"tell {told} in part", f"hardly tell {told}")[_level("r2", probe["r2"])]
    over = _count(probe["held_out_episodes"], "episode")
    latents = "latents" if said else "Latents"
    return f"{said}{latents} {verdict}: held-out linear probe R2 {probe['r2']:.2f} over {over}."


def _policy_line(collected: Collected, numbers: dict[str, Any]) -> str:
    structure = numbers["structure"]
    if collected.samples is None:
        return "The policy is not judged: stage latent_policy is not trained in this checkpoint."
    if structure is None or structure["energy_distance"] is None:
        return f"The policy is not judged: it takes whole chunks of at least {_FEWEST_NEIGHBOURS + 1} episodes."
    energy, coverage, bimodal = (structure[k] for k in ("energy_distance", "mode_coverage", "bimodal_neighbourhoods"))
    level = _level("energy_distance", energy)
    ways = "no neighbourhood is bimodal"
    if coverage is not None:
        level = max(level, _level("coverage", coverage))
        ways = f"both modes covered in {coverage:.0%} of {_count(bimodal, 'bimodal neighbourhood')}"
    verdict = ("keeps the structure", "keeps the structure in part", "loses the structure")[level]
    return f"The policy {verdict}: energy distance {round(energy, 2) + 0.0:.2f} of the spread, {ways}."


def _latent_line(collected: Collected, numbers: dict[str, Any]) -> str:
    codebook, value = numbers["codebook"], numbers["s_pcfc"]
    if codebook is not None:
        perplexity, size = codebook["perplexity"], codebook["size"]
        used = ("well used", "used in part", "collapsed")[_level("perplexity", perplexity / size)]
        return (
            f"Codebook {used}: {codebook['share_used']:.0%} of its {size} codes occur, perplexity {perplexity:.0f}, "
            f"over {_count(codebook['codebooks'], 'codebook')}."
        )
    if value is None:
        return f"S-PCFC is not measured: it takes an episode of {2 * collected.frame_offset + 1} frames."
    what = (
        "Latents describe motion: there and back point apart",
        "Latents describe motion and appearance alike: there and back partly point the same way",
        "Latents describe appearance more than motion: there and back point the same way",
    )[_level("s_pcfc", value)]
    return f"{what} (S-PCFC {value:.2f})."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
