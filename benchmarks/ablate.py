"""The paper's claims, tested: train and evaluate every variant, then draw the tables.

    python benchmarks/ablate.py run                                             # everything, hours on two cores
    python benchmarks/ablate.py run --task two_way --variants lafp,bc --seeds 5 # some rows
    python benchmarks/ablate.py render                                          # tables and figures, from JSON alone

PushT comes from the Hub, or with ``--pusht_root=FOLDER`` from a folder that holds ``pusht_keypoints`` (and
``pusht``). Runs that are done are skipped; an interrupted one goes on where it stopped.
"""

import argparse
import os
import sys
from pathlib import Path

from record import RESULTS

ABLATION_RESULTS = RESULTS / "ablation"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and evaluate")
    measure = commands.add_parser("measure", help="take the measures of evaluated runs again, nothing else")
    for command in (run, measure):
        _add_choice(command)
    commands.add_parser("list", help="the variants of each task")
    render = commands.add_parser("render", help="tables, figures and summary.json from the results")
    render.add_argument("--results", type=Path, default=ABLATION_RESULTS)
    given = parser.parse_args(arguments)
    {"run": _run, "measure": _run, "list": _list, "render": _render}[given.command](given)


def _add_choice(command: argparse.ArgumentParser) -> None:
    """Which runs, and where they run."""
    command.add_argument("--task", help="two_way, pusht_keypoints, or pusht (for a GPU); unset: the first two")
    command.add_argument("--variants", help="names, separated by commas; unset: all of the task")
    command.add_argument("--seeds", type=int, help="training seeds 0 to N-1; unset: what each variant is meant to have")
    command.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, one thread each")
    command.add_argument("--pusht_root", type=Path, help="folder of the PushT datasets; unset: the Hub")
    command.add_argument("--results", type=Path, default=ABLATION_RESULTS)
    command.add_argument("--device", default="cpu", help="of policies, e.g. cuda, which all --jobs then share")
    command.add_argument("--smoke", action="store_true", help="two steps, two episodes; give --results another folder")
    explore = command.add_argument_group("exploring (never with the seeds of the results)")
    explore.add_argument("--first_training_seed", type=int, default=0)
    explore.add_argument("--first_evaluation_seed", type=int)


def _run(given: argparse.Namespace) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from ablation import tasks
    from ablation.plan import Run, plan
    from ablation.running import remeasure, run_all
    from ablation.variants import SEEDS, VARIANTS

    tasks.PUSHT_ROOT = given.pusht_root
    first = tasks.EVALUATION_SEED if given.first_evaluation_seed is None else given.first_evaluation_seed
    runs: list[tuple[int, Run]] = []
    for task in [given.task] if given.task else ("two_way", "pusht_keypoints"):
        names = given.variants.split(",") if given.variants else list(VARIANTS[task])
        if unknown := [name for name in names if name not in VARIANTS[task]]:
            sys.exit(f"unknown variant(s) of {task}: {', '.join(unknown)}. `ablate.py list` names them all.")
        for name in names:
            if (commit := VARIANTS[task][name].last_run_by) is not None:
                if given.variants:
                    sys.exit(
                        f"{name} has options that are gone. Its results stay; to run it again, check out {commit}."
                    )
                continue
            count = given.seeds if given.seeds is not None else SEEDS[task](name)
            for seed in range(given.first_training_seed, given.first_training_seed + count):
                runs.append((seed, plan(task, VARIANTS[task][name], seed, first, given.smoke)))
    runs.sort(key=lambda item: item[0])  # all variants with the first seed come first
    do = run_all if given.command == "run" else remeasure
    do([run for _, run in runs], given.results, given.jobs, given.device)


def _list(given: argparse.Namespace) -> None:
    from ablation.variants import SEEDS, VARIANTS

    for task, variants in VARIANTS.items():
        for name in variants:
            last = variants[name].last_run_by
            print(f"{task}  {name}  {SEEDS[task](name)} training seeds{f'  (last run by {last})' if last else ''}")


def _render(given: argparse.Namespace) -> None:
    from ablation.render import render, write_summary
    from ablation.tables import TABLES

    root = RESULTS.parent.parent
    render(given.results, TABLES, RESULTS, root / "docs")
    write_summary(given.results, RESULTS / "summary.json")


if __name__ == "__main__":
    main()
