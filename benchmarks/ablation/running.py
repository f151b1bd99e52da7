"""Trainings and evaluations as jobs of several single-threaded processes; what is done is not done again."""

import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from pathlib import Path
from typing import Any

from record import provenance
from tqdm import tqdm

from lerobot_lafp.data.importing.processes import end_with_parent, worker_context

from . import tasks
from .plan import RIVALS, Run, Training, chain
from .tasks import OUTPUT, load
from .vocabulary import configuration


def folder_of(training: Training) -> Path:
    return OUTPUT / training.task.name / f"{training.stage}-seed{training.seed}-{training.digest}"


def checkpoint_of(training: Training) -> Path:
    return folder_of(training) / "pretrained_model"


def is_trained(training: Training) -> bool:
    return (folder_of(training) / "done.json").is_file()


def result_file(results: Path, run: Run) -> Path:
    return results / run.task.name / run.variant.name / f"seed{run.seed}.json"


def is_evaluated(results: Path, run: Run) -> bool:
    file = result_file(results, run)
    return file.is_file() and json.loads(file.read_text())["digest"] == run.digest


def run_all(runs: Sequence[Run], results: Path, jobs: int, device: str = "cpu") -> None:
    """Train and evaluate ``runs`` with ``jobs`` processes. Stopped at any time, the same call goes on from there."""
    pending = [run for run in runs if not is_evaluated(results, run)]
    waiting: dict[str, Training] = {}
    for run in pending:
        waiting |= {t.digest: t for t in chain(run.training) if not is_trained(t)}
    total = len(waiting) + len(pending)
    with (
        tqdm(total=total, desc="trainings and evaluations", unit="job", smoothing=0) as bar,
        _pool(jobs) as pool,
    ):
        active: dict[Future[None], str] = {}
        failed: list[str] = []
        while active or waiting or pending:
            # Evaluations first: they put results on disk. Trainings in the order of the runs that need them.
            for run in [r for r in pending if is_trained(r.training)]:
                if len(active) < jobs:
                    pending.remove(run)
                    active[pool.submit(_evaluate, run, results, device)] = f"{run.variant.name} seed {run.seed}"
            for key, training in list(waiting.items()):
                if len(active) < jobs and (training.parent is None or is_trained(training.parent)):
                    del waiting[key]
                    active[pool.submit(_train, training, device)] = folder_of(training).name
            if not active:
                break  # what is left builds on a training that failed
            bar.set_postfix_str(", ".join(active.values()), refresh=True)
            for future in wait(active, return_when=FIRST_COMPLETED).done:
                name = active.pop(future)
                bar.update()
                if (error := future.exception()) is not None:
                    failed.append(name)
                    tqdm.write(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr)
    if failed:
        raise RuntimeError(f"{len(failed)} job(s) failed: {', '.join(failed)}. The rest is done; run again to retry.")


def remeasure(runs: Sequence[Run], results: Path, jobs: int, device: str = "cpu") -> None:
    """Take the measures of evaluated runs again, after ``measures.py`` changed; needs their checkpoints."""
    there = [run for run in runs if is_evaluated(results, run) and is_trained(run.training)]
    with _pool(jobs) as pool:
        futures = [pool.submit(_remeasure, run, results, device) for run in there]
        for future in tqdm(as_completed(futures), total=len(futures), desc="measures", unit="run"):
            future.result()


def _remeasure(run: Run, results: Path, device: str) -> None:
    file = result_file(results, run)
    with _log(folder_of(run.training) / "measures.txt"):
        measured = _measured(run, checkpoint_of(run.training), {**run.variant.acting, "device": device})
    _write(file, {**json.loads(file.read_text()), **measured})


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, worker_context(), initializer=_start_worker, initargs=(tasks.PUSHT_ROOT,))


def _start_worker(pusht_root: Path | None) -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)
    tasks.PUSHT_ROOT = pusht_root
    import lerobot_policy_lafp  # noqa: F401  (registers policy and environment)


def _train(training: Training, device: str) -> None:
    from .training import has_bf16, train

    config = _config(training, device)
    alone = training.stage in (*RIVALS, "action_decoder")
    folder = folder_of(training)
    folder.mkdir(parents=True, exist_ok=True)
    with _log(folder / "log.txt"):
        seconds = train(
            config,
            training.task.data,
            training.labeled_episodes if alone else None,
            training.budget,
            training.seed,
            folder,
        )
    used = {"bf16_used": training.budget.bf16 and has_bf16(device)}
    _write(folder / "done.json", {"cpu_seconds": round(seconds, 1), **used, **training.configuration})


def _config(training: Training, device: str = "cpu") -> Any:
    from lerobot.policies.factory import make_policy_config

    common = {"device": device, "push_to_hub": False}
    if training.stage in RIVALS and training.stage != "flow_on_actions":
        return make_policy_config(training.stage, **common, **training.options)
    source = {"latent_source": "actions"} if training.stage == "flow_on_actions" else {}
    stage = "joint" if source else training.stage
    labeled = list(training.labeled_episodes) or None
    config = configuration({"stage": stage, "labeled_episodes": labeled, **source, **common, **training.options})
    if training.parent is not None:
        config.pretrained_path = checkpoint_of(training.parent)
    return config


def _evaluate(run: Run, results: Path, device: str) -> None:
    checkpoint = checkpoint_of(run.training)
    acting = {**run.variant.acting, "device": device}
    start = time.process_time()
    with _log(folder_of(run.training) / "evaluation.txt"):
        evaluation = run.task.evaluate(checkpoint, acting, run.episodes, run.first_seed)
        seconds = time.process_time() - start
        measured = _measured(run, checkpoint, acting)
    done = {t.stage: json.loads((folder_of(t) / "done.json").read_text()) for t in chain(run.training)}
    trained = {stage: made["cpu_seconds"] for stage, made in done.items()}
    result = {
        "task": run.task.name,
        "variant": run.variant.name,
        "training_seed": run.seed,
        "configuration": run.configuration,
        "digest": run.digest,
        "evaluation": evaluation,
        **measured,
        "cpu_seconds": {**trained, "evaluation": round(seconds, 1)},
        "bf16_used": any(made.get("bf16_used") for made in done.values()),
        "provenance": provenance(),
    }
    _write(result_file(results, run), result)


def _write(file: Path, result: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(result) + "\n")
    os.replace(fresh, file)


def _measured(run: Run, checkpoint: Path, acting: dict[str, Any]) -> dict[str, Any]:
    from .measures import measure

    policy, processors = load(checkpoint, acting)
    return measure(policy, processors[0], run.task.data, run.seed)


class _log:  # noqa: N801
    """Everything a worker prints, LeRobot's progress bars included, goes to a file and not over ours."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.saved = os.dup(1), os.dup(2)
        target = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)

    def __exit__(self, *error: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in zip((1, 2), self.saved, strict=True):
            os.dup2(saved, number)
            os.close(saved)
