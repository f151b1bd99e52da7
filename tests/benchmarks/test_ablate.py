"""``ablate.py`` from nothing to tables, on a dozen demonstrations; its jobs run in this process, one after another."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ablate
import pytest
from ablation import running, tasks
from ablation.plan import chain, plan
from ablation.tasks import OUTPUT
from ablation.variants import VARIANTS
from safetensors.torch import load_file

from ..executors import InProcess

NAMES = ("lafp", "stage1_decoder")


class Ablation:
    """A folder in which ``ablate.py`` runs, and the jobs that it ran."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.results = folder, folder / "results"
        self.jobs: list[str] = []
        self.broken: set[str] = set()
        patch.chdir(folder)
        patch.setattr(tasks, "NUM_TWO_WAY", 12)
        patch.setattr(tasks, "PUSHT_ROOT", None)
        patch.setattr(running, "ProcessPoolExecutor", InProcess)
        patch.setattr(ablate, "RESULTS", folder / "benchmarks" / "results")
        train, evaluate = running._train, running._evaluate

        def counted_train(training: Any, device: str) -> None:
            self.jobs.append(training.stage)
            if training.stage in self.broken:
                raise RuntimeError("no space left")
            train(training, device)

        def counted_evaluate(run: Any, *args: Any) -> None:
            self.jobs.append(f"evaluate {run.variant.name}")
            evaluate(run, *args)

        patch.setattr(running, "_train", counted_train)
        patch.setattr(running, "_evaluate", counted_evaluate)

    def run(self, *arguments: str) -> list[str]:
        """Smoke runs of ``NAMES``, and the jobs that they took."""
        self.jobs = []
        names = ",".join(NAMES)
        fixed = ("--smoke", "--seeds=1", "--jobs=2", f"--variants={names}", f"--results={self.results}")
        ablate.main(["run", "--task=two_way", *fixed, *arguments])
        return self.jobs

    def result(self, name: str) -> Any:
        return json.loads((self.results / "two_way" / name / "seed0.json").read_text())


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ablation]:
    """All of ``NAMES`` trained and evaluated: stage 3 failed at first, and the same call was made again."""
    tasks._data.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        made = Ablation(tmp_path_factory.mktemp("ablation"), patch)
        made.broken = {"action_decoder"}
        with pytest.raises(RuntimeError, match=r"1 job\(s\) failed: action_decoder-seed0-\w+\. .*run again to retry"):
            made.run()
        assert made.jobs == ["latent_action", "latent_policy", "evaluate stage1_decoder", "action_decoder"]
        made.broken = set()
        assert made.run() == ["action_decoder", "evaluate lafp"], "the rest was done"
        yield made
    tasks._data.cache_clear()


def test_processes_that_start_together_share_the_demonstrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "NUM_TWO_WAY", 4)
    with ThreadPoolExecutor(2) as pool:
        lengths = list(pool.map(lambda _: tasks._data.__wrapped__("two_way").meta.total_frames, range(2)))
    assert lengths[0] == lengths[1] > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_result_says_what_was_run_and_how_every_episode_went(name: str, ablation: Ablation) -> None:
    result, run = ablation.result(name), plan("two_way", VARIANTS["two_way"][name], 0, smoke=True)
    assert (result["task"], result["variant"], result["training_seed"]) == ("two_way", name, 0)
    assert result["digest"] == run.digest
    assert result["configuration"] == json.loads(json.dumps(run.configuration))
    assert [t["steps"] for t in result["configuration"]["trainings"]] == [2] * len(chain(run.training))
    evaluation = result["evaluation"]
    assert evaluation["first_seed"] == tasks.EVALUATION_SEED
    assert {key: len(values) for key, values in evaluation.items() if key != "first_seed"} == dict.fromkeys(
        ("success", "reward", "mode", "touched"), 2
    )
    assert all(type(success) is bool for success in evaluation["success"])
    assert result["measures"]["ms_per_chunk"] > 0
    assert {"probe_r2", "energy_distance", "mode_coverage"} <= result["measures"].keys()
    assert ("decoder_input_distance" in result["measures"]) == (name == "lafp")
    assert result["cpu_seconds"].keys() == {*(t.stage for t in chain(run.training)), "evaluation"}
    assert result["provenance"]["commit"]


def test_trainings_lie_where_the_plan_says_and_leave_nothing_half_done(ablation: Ablation) -> None:
    folders = {path.name for path in (ablation.folder / OUTPUT / "two_way").iterdir()}
    trainings = chain(plan("two_way", VARIANTS["two_way"]["lafp"], 0, smoke=True).training)
    assert folders == {running.folder_of(t).name for t in trainings}
    for training in trainings:
        folder = ablation.folder / running.folder_of(training)
        assert json.loads((folder / "done.json").read_text())["steps"] == 2
        assert not (folder / "partial").exists()
        assert (folder / "log.txt").is_file()
    steps = load_file(ablation.folder / running.checkpoint_of(trainings[-1]) / "model.safetensors")["stage_steps"]
    assert steps.tolist() == [2, 2, 2]


def test_what_is_done_is_not_done_again(ablation: Ablation) -> None:
    assert ablation.run() == []
    file = ablation.results / "two_way" / "lafp" / "seed0.json"
    whole = file.read_text()
    file.write_text(json.dumps({**json.loads(whole), "digest": "of other options"}))
    assert ablation.run() == ["evaluate lafp"], "a result of other options is replaced"
    again = ablation.result("lafp")
    assert again["digest"] == json.loads(whole)["digest"]
    assert again["evaluation"] == json.loads(whole)["evaluation"], "and the same checkpoint acts the same again"


def test_tables_and_summary_come_from_the_results(ablation: Ablation) -> None:
    ablate.main(["render", f"--results={ablation.results}"])
    output = ablation.folder / "benchmarks" / "results"
    lines = (output / "TABLES.md").read_text().splitlines()
    shown = [line for line in lines if line.startswith(("| LAFP as shipped: ", "| stage-1 decoder reused |"))]
    ran = [line for line in shown if "not run" not in line]
    assert len(shown) == 4, "on both tasks"
    assert len(ran) == 2
    assert all(line.endswith("| 1 | 2 |") for line in ran), "one training seed, two episodes"
    summary = json.loads((output / "summary.json").read_text())
    assert summary.keys() == {"two_way"}
    assert summary["two_way"].keys() == set(NAMES)
    assert summary["two_way"]["lafp"]["success"]["episodes"] == 2
    assert (ablation.folder / "docs").is_dir()


def test_an_unknown_variant_is_named(ablation: Ablation) -> None:
    with pytest.raises(SystemExit, match=r"unknown variant\(s\) of two_way: lapf\. `ablate\.py list`"):
        ablate.main(["run", "--task=two_way", "--variants=lafp,lapf", f"--results={ablation.results}"])


def test_variants_are_listed_with_their_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    ablate.main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(map(len, VARIANTS.values()))
    assert "two_way  lafp  5 training seeds" in lines
