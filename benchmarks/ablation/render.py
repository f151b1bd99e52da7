"""The ablations' tables, figures and summary, from the JSON of their runs alone.

One file a run, ``<results>/<task>/<variant>/seed<k>.json``. A variant without one is shown as not run, a broken file
stops everything: no row disappears in silence.
"""

import json
import math
import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .hours import hours, least_hours
from .statistics import MODE_BINS, MODE_END, Summary, align, paired_difference, stack, summarize

#: Columns with a value an episode, and so with an interval: success and reward, the share of all episodes that passed
#: the obstacle on either side, and that touched it.
EPISODE_METRICS = ("success", "reward", "left", "right", "touched")
_MODES = ("left", "right", "none")
_HEADINGS = {
    "reward": "maximum reward",
    "left": "passed left",
    "right": "passed right",
    "touched": "touched the obstacle",
    "cpu_minutes": "CPU minutes of training",
    "seeds": "training seeds",
}
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LEGEND = """\
Written from the runs' JSON by `benchmarks/ablation/render.py`; edits are lost.

- `0.83 [0.75, 0.90]`: mean and 95 % interval, a bootstrap over training seeds and episodes
  (`benchmarks/ablation/statistics.py` says what it covers). With one training seed it covers the episodes alone.
- `1.20 (1.10 to 1.30)`: mean over training seeds, smallest and largest.
- Differences are paired: the same training seeds and the same episodes.
- `not run`: there is no result yet. `n/a`: the runs have no such measure.
"""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    label: str
    variant: str


@dataclass(frozen=True)
class Difference:
    """``variant`` minus ``baseline``, paired, in one of `EPISODE_METRICS`."""

    label: str
    variant: str
    baseline: str
    metric: str = "success"

    def __post_init__(self) -> None:
        if self.metric not in EPISODE_METRICS:
            raise ValueError(f"`metric` of a difference must be one of {EPISODE_METRICS}, got {self.metric!r}.")


@dataclass(frozen=True)
class Figure:
    """A metric over ``x``; each series, by its label, names one variant an ``x``."""

    kind: Literal["lines", "bars"]
    x: tuple[float | str, ...]
    series: Mapping[str, tuple[str, ...]]
    metric: str = "success"
    xlabel: str = ""
    log_x: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("lines", "bars"):
            raise ValueError(f"`kind` must be 'lines' or 'bars', got {self.kind!r}.")
        for label, variants in self.series.items():
            if len(variants) != len(self.x):
                raise ValueError(f"Series {label!r} names {len(variants)} variants for {len(self.x)} values of `x`.")
        if not 0 < len(self.series) <= len(_COLORS):
            raise ValueError(f"A figure shows 1 to {len(_COLORS)} series, got {len(self.series)}.")
        if self.log_x and (self.kind == "bars" or any(isinstance(x, str) or x <= 0 for x in self.x)):
            raise ValueError(f"`log_x` is for lines over positive numbers, got {self.kind} over {self.x}.")

    @property
    def variants(self) -> list[str]:
        return [variant for of_series in self.series.values() for variant in of_series]


@dataclass(frozen=True)
class ModeFigure:
    """Where latents lie between two modes (``mode_histogram``): the inverse model's, and each variant's policy's.

    ``series`` names the variants by label; the inverse model is the first one's.
    """

    series: Mapping[str, str]

    @property
    def variants(self) -> list[str]:
        return list(self.series.values())


@dataclass(frozen=True)
class Table:
    """One section of TABLES.md.

    ``columns`` are any of `EPISODE_METRICS`, any key of the runs' ``measures``, ``cpu_minutes`` (all training stages),
    ``seeds`` and ``episodes``.
    """

    name: str
    title: str
    task: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    differences: tuple[Difference, ...] = ()
    figure: Figure | ModeFigure | None = None
    note: str = ""

    @property
    def variants(self) -> list[str]:
        """Every variant the section shows, in order of appearance."""
        shown = [row.variant for row in self.rows]
        shown += [variant for d in self.differences for variant in (d.variant, d.baseline)]
        shown += self.figure.variants if self.figure else []
        return list(dict.fromkeys(shown))


class RunFileError(ValueError):
    """A run's file cannot be used; the message names it and the mend."""


# Reading


@dataclass(frozen=True)
class _Run:
    first_seed: int
    episodes: dict[str, list[float]]  # by metric, of EPISODE_METRICS
    scalars: dict[str, float]  # `measures` and cpu_minutes
    modes: dict[str, list[float]] | None  # `mode_histogram`


#: Runs by training seed, those by variant, and those by task.
_Runs = dict[int, _Run]
_Variants = dict[str, _Runs]


def _load(results: Path) -> dict[str, _Variants]:
    tasks: dict[str, _Variants] = {}
    first: dict[str, tuple[Path, int]] = {}
    for path in sorted(results.glob("*/*/seed*.json")):
        match = re.fullmatch(r"seed(\d+)\.json", path.name)
        if match is None:
            continue
        task, variant, seed = path.parts[-3], path.parts[-2], int(match[1])
        mend = f"delete it and run `{_command(task, [variant])}`"
        try:
            run = _parse(json.loads(path.read_text()), task, variant, seed)
        except json.JSONDecodeError as error:
            raise RunFileError(f"{path} is no whole JSON file ({error}), perhaps half-written: {mend}") from error
        except KeyError as error:
            raise RunFileError(f"{path} has no {error}: {mend}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise RunFileError(f"{path} is malformed ({error}): {mend}") from error
        other, first_seed = first.setdefault(task, (path, run.first_seed))
        if run.first_seed != first_seed:
            raise RunFileError(
                f"{path} and {other} were evaluated on different episodes (first seeds {run.first_seed} and "
                f"{first_seed}), so they cannot be compared: of the one that is wrong, {mend}"
            )
        tasks.setdefault(task, {}).setdefault(variant, {})[seed] = run
    return tasks


def _parse(data: Any, task: str, variant: str, seed: int) -> _Run:
    says = (data["task"], data["variant"], data["training_seed"])
    if says != (task, variant, seed):
        raise ValueError(f"it says it is of {says}, its path {(task, variant, seed)}")
    evaluation = data["evaluation"]
    episodes = {key: _numbers(key, evaluation[key]) for key in ("success", "reward")}
    if evaluation.get("touched") is not None:
        episodes["touched"] = _numbers("touched", evaluation["touched"])
    if evaluation.get("mode") is not None:
        if not set(evaluation["mode"]) <= set(_MODES):
            raise ValueError(f"mode must be one of {_MODES}, got {sorted(set(map(str, evaluation['mode'])))}")
        episodes |= {side: [float(mode == side) for mode in evaluation["mode"]] for side in ("left", "right")}
    lengths = {key: len(values) for key, values in episodes.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"its evaluation must have one value an episode, the same number of each, got {lengths}")
    scalars = {key: _number(key, value) for key, value in data["measures"].items() if value is not None}
    training = [value for stage, value in data["cpu_seconds"].items() if stage != "evaluation"]
    if training and None not in training:
        scalars["cpu_minutes"] = sum(_numbers("cpu_seconds", training)) / 60
    modes = data.get("mode_histogram")
    if modes is not None:
        modes = {of: _numbers(f"mode_histogram of {of}", modes[of]) for of in ("idm", "policy")}
        if {len(shares) for shares in modes.values()} != {MODE_BINS}:
            raise ValueError(f"its mode_histogram must have {MODE_BINS} bins")
    return _Run(int(_number("first_seed", evaluation["first_seed"])), episodes, scalars, modes)


def _numbers(name: str, values: Any) -> list[float]:
    if not isinstance(values, list):
        raise ValueError(f"{name} must be a list, got {values!r}")
    return [_number(name, value) for value in values]


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):  # a bool is an int
        raise ValueError(f"{name} must be finite, or null where there is none, got {value!r}")
    return float(value)


def _command(task: str, variants: Sequence[str]) -> str:
    return f"python benchmarks/ablate.py run --task {task} --variants {','.join(variants)}"


# Estimates


@dataclass(frozen=True)
class _Estimate:
    mean: float
    low: float
    high: float
    seeds: int


def _by_seed(runs: _Runs, metric: str) -> dict[int, list[float]]:
    return {seed: run.episodes[metric] for seed, run in runs.items() if metric in run.episodes}


def _scalars(runs: _Runs, measure: str) -> list[float]:
    return [runs[seed].scalars[measure] for seed in sorted(runs) if measure in runs[seed].scalars]


def _estimate(runs: _Runs, column: str) -> _Estimate | None:
    """Mean and interval of an episode metric, mean and range of a measure; None where no run has it."""
    if column in EPISODE_METRICS:
        values = _by_seed(runs, column)
        if not values:
            return None
        summary = summarize(stack(values))
        low, high = summary["ci95"]
        return _Estimate(summary["mean"], low, high, summary["seeds"])
    scalars = _scalars(runs, column)
    return _Estimate(float(np.mean(scalars)), min(scalars), max(scalars), len(scalars)) if scalars else None


# Markdown


def render(results: Path, tables: Sequence[Table], output: Path, docs: Path) -> None:
    """Write every table into ``<output>/TABLES.md`` and every figure as ``<docs>/ablation_<name>.png``.

    Args:
        results: Folder of the runs.
        tables: The sections, in order.
        output: Folder of TABLES.md.
        docs: Folder of the figures.

    Raises:
        RunFileError: If any run's file is broken.
    """
    names = [table.name for table in tables]
    if len(set(names)) != len(names):
        raise ValueError(f"Tables must have different names, got {names}: their figures are files of that name.")
    tasks = _load(results)
    output.mkdir(parents=True, exist_ok=True)
    docs.mkdir(parents=True, exist_ok=True)
    sections = [f"# Ablations\n\n{_LEGEND}"]
    for table in tables:
        variants = tasks.get(table.task, {})
        parts = [f"## {table.title}", table.note, *_rows(table, variants), *_differences(table, variants)]
        if table.figure is not None:
            path = docs / f"ablation_{table.name}.png"
            link = Path(os.path.relpath(path, output)).as_posix()
            draw = _mode_figure if isinstance(table.figure, ModeFigure) else _figure
            parts += draw(table.title, table.figure, variants, path, link)
        parts.append(f"```bash\n{_command(table.task, table.variants)}\n```")
        sections.append("\n\n".join(part for part in parts if part) + "\n")
    sections.append(_hours(hours(results), least_hours(results)))
    (output / "TABLES.md").write_text("\n".join(sections))


def _hours(found: Mapping[str, Mapping[str, float]], least: Mapping[str, float]) -> str:
    """CPU hours as a table, a line a task."""
    parts = sorted({part for parts in found.values() for part in parts})
    lines = [
        [
            task,
            *(f"{parts_of[part]:.1f}" if part in parts_of else "" for part in parts),
            f"{sum(parts_of.values()):.1f}",
            f"{least[task]:.1f}",
        ]
        for task, parts_of in found.items()
    ]
    note = (
        "Of the runs that are there, on whichever machine each was made (its JSON says); a training counts once, "
        "whichever rows share it. Those machines differ, and other work shared them; *at the least*: had each training "
        "and evaluation taken what the quickest of its kind did. `pusht` ran on a GPU: about the hours that passed."
    )
    return f"## CPU hours\n\n{note}\n\n{_markdown(['task', *parts, 'all', 'at the least'], lines)}\n"


def _rows(table: Table, variants: _Variants) -> Iterator[str]:
    lines = []
    for row in table.rows:
        runs = variants.get(row.variant, {})
        lines.append([row.label, *(_cell(runs, column) if runs else "not run" for column in table.columns)])
    yield _markdown(["", *map(_heading, table.columns)], lines)


def _differences(table: Table, variants: _Variants) -> Iterator[str]:
    if table.differences:
        lines = [[d.label, *_difference(d, variants)] for d in table.differences]
        yield _markdown(["paired difference", "mean", "95 % interval", "training seeds"], lines)


def _difference(difference: Difference, variants: _Variants) -> list[str]:
    a, b = (variants.get(variant, {}) for variant in (difference.variant, difference.baseline))
    missing = [v for v, runs in ((difference.variant, a), (difference.baseline, b)) if not runs]
    if missing:
        return [f"not run: {', '.join(missing)}", "", ""]
    metric = difference.metric
    values_a, values_b = _by_seed(a, metric), _by_seed(b, metric)
    if not values_a.keys() & values_b.keys():
        return [f"no training seed in common: {sorted(values_a)} and {sorted(values_b)}", "", ""]
    summary = paired_difference(*align(values_a, values_b))
    low, high = (_fixed(bound, metric, sign="+") for bound in summary["ci95"])
    mean = f"{_heading(metric)} {_fixed(summary['mean'], metric, sign='+')}"
    return [mean, f"{low} to {high}", str(summary["seeds"])]


def _cell(runs: _Runs, column: str) -> str:
    if column == "seeds":
        return str(len(runs))
    if column == "episodes":
        return str(min(len(run.episodes["success"]) for run in runs.values()))
    estimate = _estimate(runs, column)
    if estimate is None:
        return "n/a"
    partly = f"{estimate.seeds} of {len(runs)} seeds" if estimate.seeds < len(runs) else ""
    if column in EPISODE_METRICS:
        mean, low, high = (_fixed(x, column) for x in (estimate.mean, estimate.low, estimate.high))
        return f"{mean} [{low}, {high}]" + (f" ({partly})" if partly else "")
    mean, low, high = (_significant(x) for x in (estimate.mean, estimate.low, estimate.high))
    details = [f"{low} to {high}"] if estimate.seeds > 1 else []
    details += [partly] if partly else []
    return mean + (f" ({', '.join(details)})" if details else "")


def _fixed(value: float, metric: str, sign: str = "") -> str:
    decimals = 3 if metric == "reward" else 2  # rewards of good policies differ in the third
    return f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"  # + 0.0: no "-0.00"


def _significant(value: float, digits: int = 3) -> str:
    """Three significant digits, without an exponent unless tiny."""
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}"
    whole = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{value:.{max(0, digits - whole)}f}"


def _heading(column: str) -> str:
    return _HEADINGS.get(column, column.replace("_", " "))


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *([cell.replace("|", r"\|") for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


# Figures


def _figure(title: str, figure: Figure, variants: _Variants, path: Path, link: str) -> Iterator[str]:
    """Draw ``figure`` into ``path``; the Markdown that shows it, or says what it lacks."""
    estimates = {
        label: [_estimate(variants.get(variant, {}), figure.metric) for variant in of_series]
        for label, of_series in figure.series.items()
    }
    absent = [
        variant
        for label, of_series in figure.series.items()
        for variant, estimate in zip(of_series, estimates[label], strict=True)
        if estimate is None
    ]
    missing = ", ".join(dict.fromkeys(absent))
    if all(estimate is None for of_series in estimates.values() for estimate in of_series):
        path.unlink(missing_ok=True)
        yield f"Figure: not run ({missing})."
        return
    _draw(figure, estimates, path)
    bars = "95 % interval" if figure.metric in EPISODE_METRICS else "smallest and largest over training seeds"
    yield f"![{title}]({link})"
    yield f"Error bars: {bars}." + (
        f" Not run, or without this measure, and so not drawn: {missing}." if absent else ""
    )


def _mode_figure(title: str, figure: ModeFigure, variants: _Variants, path: Path, link: str) -> Iterator[str]:
    """Draw ``figure`` into ``path``; the Markdown that shows it, or says what it lacks."""
    found = {
        label: [run.modes for run in variants.get(variant, {}).values() if run.modes is not None]
        for label, variant in figure.series.items()
    }
    absent = ", ".join(figure.series[label] for label, runs in found.items() if not runs)
    if absent:
        path.unlink(missing_ok=True)
        yield f"Figure: not measured ({absent})."
        return
    _draw_modes(found, path)
    seeds = " and ".join(sorted({str(len(runs)) for runs in found.values()}))
    yield f"![{title}]({link})"
    yield (
        "Latents along the line through the two modes, at -1 and 1, of every neighbourhood that has two; "
        f"{seeds} training seed{'' if seeds == '1' else 's'}, taken together."
    )


def _draw_modes(found: Mapping[str, Sequence[Mapping[str, list[float]]]], path: Path) -> None:
    from matplotlib.figure import Figure as Canvas  # here, for a quick start

    canvas = Canvas(figsize=(5.2, 3.4), layout="constrained")
    axis = canvas.subplots()
    edges = np.linspace(-MODE_END, MODE_END, MODE_BINS + 1)
    reference = np.mean([run["idm"] for run in next(iter(found.values()))], axis=0)
    axis.stairs(reference, edges, fill=True, color="#bbbbbb", label="inverse model")
    for color, (label, runs) in zip(_COLORS, found.items(), strict=False):
        axis.stairs(np.mean([run["policy"] for run in runs], axis=0), edges, color=color, lw=1.5, label=label)
    axis.set(xlabel="from one mode (-1) to the other (1)", ylabel="share of the latents", xlim=(-MODE_END, MODE_END))
    canvas.legend(loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    canvas.savefig(path, dpi=120)


def _draw(figure: Figure, estimates: Mapping[str, Sequence[_Estimate | None]], path: Path) -> None:
    import matplotlib  # here, for a quick start

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    canvas, axis = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    categories = figure.kind == "bars" or any(isinstance(x, str) for x in figure.x)
    x = np.arange(len(figure.x), dtype=float) if categories else np.array(figure.x, dtype=float)
    width = 0.8 / len(estimates)
    for index, (label, of_series) in enumerate(estimates.items()):
        mean, low, high = np.array([(e.mean, e.low, e.high) if e else (np.nan,) * 3 for e in of_series]).T
        # A skewed bootstrap may leave the mean just outside its interval.
        error = np.maximum([mean - low, high - mean], 0).tolist()
        if figure.kind == "bars":
            place = x + width * (index - (len(estimates) - 1) / 2)
            axis.bar(place, mean, 0.9 * width, yerr=error, color=_COLORS[index], label=label, capsize=2)
        else:
            style: dict[str, Any] = {"color": _COLORS[index], "marker": _MARKERS[index], "ms": 5, "lw": 1.5}
            axis.errorbar(x, mean, error, label=label, capsize=3, elinewidth=1, **style)
    if figure.log_x:
        axis.set_xscale("log")
    room = max(8, 60 // len(figure.x))  # characters
    axis.set_xticks(x, [textwrap.fill(v, room) if isinstance(v, str) else f"{v:g}" for v in figure.x], fontsize="small")
    axis.set_xticks([], minor=True)
    axis.set(xlabel=figure.xlabel, ylabel=_heading(figure.metric))
    if figure.metric in EPISODE_METRICS and (figure.kind == "bars" or figure.metric != "reward"):
        axis.set_ylim(0, 1.02)
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    if len(estimates) > 1:
        canvas.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="small")
    canvas.savefig(path, dpi=120)
    plt.close(canvas)


# Summary


def write_summary(results: Path, path: Path) -> None:
    """Write ``{task: {variant: {"success": ..., "reward": ..., "ms_per_chunk": ...}}}`` of all runs to ``path``.

    ``success`` and ``reward`` are {"mean", "ci95", "seeds", "episodes"}, ``ms_per_chunk`` is the mean over training
    seeds or null. Keys are sorted and values have 4 decimals: the same runs give the same bytes.
    """
    summary = {
        task: {
            variant: {
                **{key: _rounded(summarize(stack(_by_seed(runs, key)))) for key in ("success", "reward")},
                "ms_per_chunk": round(float(np.mean(times)), 4) if (times := _scalars(runs, "ms_per_chunk")) else None,
            }
            for variant, runs in variants.items()
        }
        for task, variants in _load(results).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")


def _rounded(summary: Summary) -> Summary:
    return {**summary, "mean": round(summary["mean"], 4), "ci95": [round(bound, 4) for bound in summary["ci95"]]}
