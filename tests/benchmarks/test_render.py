"""Tables, figures and summary of a made-up folder of runs."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ablation
import pytest
from ablation.hours import hours, least_hours
from ablation.render import Difference, Figure, ModeFigure, Row, RunFileError, Table, render, write_summary
from ablation.statistics import MODE_BINS

TASK = "two_way"


class Results:
    """A folder of runs, and what is rendered from it."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.output, self.docs = folder / "runs", folder / "output", folder / "docs"

    def add(
        self, variant: str, seed: int = 0, /, success: Sequence[int] = (1, 1, 1, 0), task: str = TASK, **run: Any
    ) -> Path:
        """Write one run; ``run`` replaces entries, those of ``evaluation`` one by one."""
        evaluation = {
            "first_seed": 100000,
            "success": [bool(s) for s in success],
            "reward": [0.5 + 0.25 * s for s in success],
            **({"mode": ["left"] * len(success), "touched": [not s for s in success]} if task == TASK else {}),
            **run.pop("evaluation", {}),
        }
        data = {
            "task": task,
            "variant": variant,
            "training_seed": seed,
            "configuration": {"trainings": []},
            "digest": "d",
            "evaluation": evaluation,
            "measures": {"ms_per_chunk": 1.2 + seed, "mode_coverage": None},
            "cpu_seconds": {
                "latent_action": 60.0,
                "latent_policy": 120.0,
                "action_decoder": 30.0,
                "evaluation": 4000.0,
            },
            "provenance": {"commit": "c"},
            **run,
        }
        path = self.runs / task / variant / f"seed{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
        return path

    def render(self, *tables: Table) -> str:
        render(self.runs, tables, self.output, self.docs)
        return (self.output / "TABLES.md").read_text()

    def summary(self) -> Any:
        write_summary(self.runs, self.output / "summary.json")
        return json.loads((self.output / "summary.json").read_text())


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path)


@pytest.fixture
def table() -> Callable[..., Table]:
    """``table(*columns, variants=("lafp",), **options)``: one row a variant, labelled by its name in capitals."""

    def build(*columns: str, variants: tuple[str, ...] = ("lafp",), **options: Any) -> Table:
        rows = tuple(Row(variant.upper(), variant) for variant in variants)
        return Table(**{"name": "heads", "title": "Heads", "task": TASK, "rows": rows, "columns": columns, **options})

    return build


# Tables


def test_hours_count_a_training_once(results: Results) -> None:
    """Two rows that share stages 1 and 2, and differ in the third."""
    shared = [{"stage": "latent_action", "seed": 0}, {"stage": "latent_policy", "seed": 0}]
    for variant in ("one", "two"):
        trainings = [*shared, {"stage": "action_decoder", "options": variant}]
        results.add(variant, configuration={"trainings": trainings})
    found = hours(results.runs)[TASK]
    spent = {"evaluation": 8000.0, "latent_action": 60.0, "latent_policy": 120.0, "action_decoder": 60.0}
    assert found == pytest.approx({part: seconds / 3600 for part, seconds in spent.items()})
    assert "| two_way | 0.0 | 2.2 | 0.0 | 0.0 | 2.3 | 2.3 |" in results.render()


def test_at_the_least_everything_takes_what_the_quickest_of_its_kind_did(results: Results) -> None:
    """A slow and a quick training of one kind, one of another, and one file that does not know."""
    for seed, (steps, seconds) in enumerate([(10, 7200.0), (10, 3600.0), (20, 1800.0), (10, None)]):
        training = {"stage": "joint", "seed": seed, "steps": steps, "batch_size": 8}
        spent = {"joint": seconds, "evaluation": 0.0}
        results.add("lafp", seed, configuration={"trainings": [training]}, cpu_seconds=spent)
    assert hours(results.runs)[TASK]["joint"] == pytest.approx(2 + 1 + 0.5)
    assert least_hours(results.runs)[TASK] == pytest.approx(1 + 1 + 0.5 + 1)


def test_a_section_has_title_note_rows_and_the_command_that_makes_them(
    results: Results, table: Callable[..., Table]
) -> None:
    for seed in (0, 1):
        results.add("lafp", seed, success=[1] * 8)
    text = results.render(table("success", "reward", "left", "right", "touched", "seeds", "episodes", note="One note."))
    assert "## Heads\n\nOne note.\n\n| " in text
    assert "| success | maximum reward | passed left | passed right | touched the obstacle | training seeds |" in text
    shares = "1.00 [1.00, 1.00] | 0.750 [0.750, 0.750] | 1.00 [1.00, 1.00] | 0.00 [0.00, 0.00] | 0.00 [0.00, 0.00]"
    assert f"| LAFP | {shares} | 2 | 8 |" in text
    assert "```bash\npython benchmarks/ablate.py run --task two_way --variants lafp\n```" in text


def test_an_interval_is_shown_around_its_mean(results: Results, table: Callable[..., Table]) -> None:
    results.add("lafp", success=[1, 0] * 50)
    assert "| LAFP | 0.50 [0.40, 0.60] |" in results.render(table("success"))


def test_measures_are_means_with_their_range_over_seeds(results: Results, table: Callable[..., Table]) -> None:
    results.add("one")
    for seed in (0, 1):
        results.add("two", seed)
    results.add("part", 0, measures={"ms_per_chunk": 1234.5})
    results.add("part", 1, measures={"ms_per_chunk": None})
    text = results.render(table("ms_per_chunk", "cpu_minutes", "mode_coverage", variants=("one", "two", "part")))
    assert "| ms per chunk | CPU minutes of training | mode coverage |" in text
    assert "| ONE | 1.20 | 3.50 | n/a |" in text
    assert "| TWO | 1.70 (1.20 to 2.20) | 3.50 (3.50 to 3.50) | n/a |" in text
    assert "| PART | 1234 (1 of 2 seeds) | 3.50 (3.50 to 3.50) | n/a |" in text


def test_small_measures_keep_their_digits(results: Results, table: Callable[..., Table]) -> None:
    results.add("lafp", measures={"a": 0.05123, "b": 0.0, "c": -0.0000123, "d": 12.345})
    assert "| LAFP | 0.0512 | 0.00 | -1.23e-05 | 12.3 |" in results.render(table("a", "b", "c", "d"))


def test_a_missing_variant_is_shown_as_not_run(results: Results, table: Callable[..., Table]) -> None:
    results.add("lafp")
    text = results.render(
        table("success", "seeds", variants=("lafp", "bc"), differences=(Difference("LAFP over BC", "lafp", "bc"),))
    )
    assert "| BC | not run | not run |" in text
    assert "| LAFP over BC | not run: bc |" in text
    assert "--variants lafp,bc" in text


def test_no_results_at_all_is_a_table_of_what_is_not_run(results: Results, table: Callable[..., Table]) -> None:
    assert "| LAFP | not run |" in results.render(table("success", figure=Figure("bars", ("a",), {"": ("lafp",)})))
    assert results.summary() == {}


def test_runs_of_different_lengths_are_cut_to_the_first_episodes_all_have(
    results: Results, table: Callable[..., Table]
) -> None:
    results.add("lafp", 0, success=[1, 1])
    results.add("lafp", 1, success=[1, 1, 0, 0, 0])
    assert "| LAFP | 1.00 [1.00, 1.00] | 2 | 2 |" in results.render(table("success", "seeds", "episodes"))


def test_differences_compare_the_seeds_both_have(results: Results, table: Callable[..., Table]) -> None:
    for seed in (0, 1, 2):
        results.add("lafp", seed, success=[1, 1, 1, 1])
    for seed in (1, 2, 3):
        results.add("bc", seed, success=[0, 0, 0])
    results.add("late", 9)
    differences = (
        Difference("LAFP over BC", "lafp", "bc"),
        Difference("BC over LAFP, by reward", "bc", "lafp", metric="reward"),
        Difference("LAFP over itself", "lafp", "lafp"),
        Difference("LAFP over a late one", "lafp", "late"),
    )
    text = results.render(table("success", differences=differences))
    assert "| LAFP over BC | success +1.00 | +1.00 to +1.00 | 2 |" in text
    assert "| BC over LAFP, by reward | maximum reward -0.250 | -0.250 to -0.250 | 2 |" in text
    assert "| LAFP over itself | success +0.00 | +0.00 to +0.00 | 3 |" in text
    assert "| LAFP over a late one | no training seed in common: [0, 1, 2] and [9] |" in text
    assert "--variants lafp,bc,late" in text


def test_a_task_without_modes_has_none(results: Results, table: Callable[..., Table]) -> None:
    results.add("lafp", task="pusht")
    assert "| LAFP | n/a | n/a |" in results.render(table("left", "touched", task="pusht"))


def test_a_pipe_in_a_label_does_not_split_its_cell(results: Results, table: Callable[..., Table]) -> None:
    assert r"| p(a\|z) | not run |" in results.render(table("success", rows=(Row("p(a|z)", "lafp"),)))


def test_two_tables_of_one_name_are_refused(results: Results, table: Callable[..., Table]) -> None:
    with pytest.raises(ValueError, match="different names"):
        results.render(table("success"), table("reward"))


# Figures


@pytest.mark.parametrize(
    "figure",
    [
        Figure("lines", (1, 10, 100), {"LAFP": ("a", "b", "c"), "BC": ("c", "d", "a")}, xlabel="labels", log_x=True),
        Figure("lines", (1, 2.5), {"LAFP": ("a", "b")}, metric="ms_per_chunk"),
        Figure("bars", ("interpolation", "direct samples"), {"A": ("a", "d"), "B": ("b", "c")}, metric="reward"),
    ],
)
def test_figures_are_small_and_linked(results: Results, table: Callable[..., Table], figure: Figure) -> None:
    for variant in "abc":
        for seed in (0, 1):
            results.add(variant, seed, success=[1, 0, 1, 1, 0])
    text = results.render(table("success", figure=figure))
    image = results.docs / "ablation_heads.png"
    assert "![Heads](../docs/ablation_heads.png)" in text
    assert image.read_bytes().startswith(b"\x89PNG")
    assert image.stat().st_size < 120_000
    missing = "d" in {variant for series in figure.series.values() for variant in series}
    assert ("not drawn: d." in text) == missing


MODES = {"idm": [1 / MODE_BINS] * MODE_BINS, "policy": [0.0] * (MODE_BINS - 1) + [1.0]}


def test_the_two_modes_are_drawn_of_what_was_measured(results: Results, table: Callable[..., Table]) -> None:
    section = table("success", figure=ModeFigure({"A": "a", "B": "b"}))
    results.add("a", mode_histogram=MODES)
    results.add("b", mode_histogram=None)
    assert "Figure: not measured (b)." in results.render(section)
    assert not list(results.docs.iterdir())
    results.add("b", mode_histogram=MODES)
    text = results.render(section)
    assert "![Heads](../docs/ablation_heads.png)" in text
    assert "1 training seed, taken together" in text
    assert (results.docs / "ablation_heads.png").stat().st_size < 100_000


def test_a_figure_of_nothing_is_not_drawn(results: Results, table: Callable[..., Table]) -> None:
    results.docs.mkdir()
    stale = results.docs / "ablation_heads.png"
    stale.write_bytes(b"")
    text = results.render(table("success", figure=Figure("bars", ("x", "y"), {"A": ("a", "b")})))
    assert "Figure: not run (a, b)." in text
    assert not stale.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "pie"}, "'lines' or 'bars'"),
        ({"series": {"A": ("a",)}}, "1 variants for 2 values"),
        ({"series": {}}, "1 to 7 series"),
        ({"x": (0, 1), "log_x": True}, "positive"),
        ({"x": ("a", "b"), "log_x": True}, "positive"),
        ({"kind": "bars", "log_x": True}, "for lines"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Figure(**{"kind": "lines", "x": (1, 2), "series": {"A": ("a", "b")}, **options})


def test_a_difference_of_a_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="'ms_per_chunk'"):
        Difference("", "a", "b", metric="ms_per_chunk")


# Summary


def test_the_summary_has_this_schema(results: Results) -> None:
    for seed in (1, 0):
        results.add("lafp", seed, success=[1] * 4)
    results.add("bc", 0, success=[0] * 3, task="pusht", measures={})
    estimate = {"seeds": 2, "episodes": 4}
    assert results.summary() == {
        "two_way": {
            "lafp": {
                "success": {"mean": 1.0, "ci95": [1.0, 1.0], **estimate},
                "reward": {"mean": 0.75, "ci95": [0.75, 0.75], **estimate},
                "ms_per_chunk": 1.7,
            }
        },
        "pusht": {
            "bc": {
                "success": {"mean": 0.0, "ci95": [0.0, 0.0], "seeds": 1, "episodes": 3},
                "reward": {"mean": 0.5, "ci95": [0.5, 0.5], "seeds": 1, "episodes": 3},
                "ms_per_chunk": None,
            }
        },
    }


def test_summary_values_have_four_decimals_and_sorted_keys(results: Results) -> None:
    for variant in ("b", "a"):
        results.add(variant, 0, success=[1, 0, 0])
    summary = results.summary()
    assert summary["two_way"]["a"]["success"]["mean"] == 0.3333
    assert list(summary["two_way"]) == ["a", "b"]


def test_the_same_runs_give_the_same_bytes(results: Results, table: Callable[..., Table]) -> None:
    for seed in (0, 1, 10):
        results.add("lafp", seed, success=[1, 0, 1, 1, 0, seed % 2])
    results.add("bc", 1, success=[0, 1, 0, 1])
    figure = Figure("bars", ("x",), {"A": ("lafp",), "B": ("bc",)})
    section = table("success", differences=(Difference("d", "lafp", "bc"),), figure=figure)
    written = []
    for _ in range(2):
        results.summary()
        results.render(section)
        files = (*results.output.iterdir(), *results.docs.iterdir())
        written.append({path.name: path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert written[0].keys() == {"summary.json", "TABLES.md", "ablation_heads.png"}


# Broken runs


@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_half_written_run_is_named_with_its_mend(results: Results, table: Callable[..., Table], keep: float) -> None:
    path = results.add("lafp", 3)
    text = path.read_text()
    path.write_text(text[: int(keep * len(text))])
    mend = "delete it and run `python benchmarks/ablate.py run --task two_way --variants lafp`"
    for use in (results.summary, lambda: results.render(table("success"))):
        with pytest.raises(RunFileError, match="half-written") as raised:
            use()
        assert str(path) in str(raised.value)
        assert mend in str(raised.value)


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        ({"variant": "other"}, "it says it is of"),
        ({"training_seed": 7}, "it says it is of"),
        ({"evaluation": {"success": []}}, "one value an episode"),
        ({"evaluation": {"success": [True]}}, "one value an episode"),
        ({"evaluation": {"touched": [True]}}, "one value an episode"),
        ({"evaluation": {"mode": ["left", "right", "none", "up"]}}, "'up'"),
        ({"evaluation": {"success": "yes"}}, "success must be a list"),
        ({"evaluation": {"reward": [float("nan")] * 4}}, "reward must be finite"),
        ({"measures": {"ms_per_chunk": "fast"}}, "ms_per_chunk must be finite"),
        ({"measures": [1.0]}, "malformed"),
        ({"cpu_seconds": {"latent_action": "long"}}, "cpu_seconds must be finite"),
        ({"mode_histogram": {"idm": [1.0], "policy": [1.0]}}, f"must have {MODE_BINS} bins"),
    ],
)
def test_a_malformed_run_is_named_with_its_problem(results: Results, run: dict[str, Any], problem: str) -> None:
    results.add("bc")
    path = results.add("lafp", **run)
    with pytest.raises(RunFileError, match=problem) as raised:
        results.summary()
    assert f"{path} " in str(raised.value)
    assert "--task two_way --variants lafp" in str(raised.value)


def test_a_run_without_its_evaluation_says_so(results: Results) -> None:
    path = results.add("lafp")
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "evaluation"}))
    with pytest.raises(RunFileError, match="has no 'evaluation'"):
        results.summary()


def test_runs_of_different_episodes_are_not_compared(results: Results) -> None:
    results.add("bc")
    results.add("lafp", evaluation={"first_seed": 5})
    with pytest.raises(RunFileError, match="first seeds 5 and 100000"):
        results.summary()


def test_a_stage_of_unknown_cost_leaves_no_total(results: Results, table: Callable[..., Table]) -> None:
    results.add("lafp", cpu_seconds={"latent_action": None, "latent_policy": 60.0})
    assert "| LAFP | n/a |" in results.render(table("cpu_minutes"))


def test_files_that_are_no_runs_are_left_alone(results: Results) -> None:
    results.add("lafp").with_name("seed0.json.tmp").write_text("{")
    assert list(results.summary()["two_way"]) == ["lafp"]


def test_importing_it_loads_neither_torch_nor_matplotlib() -> None:
    code = "import sys, ablation.render; print(*{'torch', 'lerobot', 'lerobot_lafp', 'matplotlib'} & set(sys.modules))"
    folder = Path(ablation.__file__).parents[1]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""
