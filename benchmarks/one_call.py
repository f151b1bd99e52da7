"""One call in place of ten: what policies of one or two calls lose against the flow's steps, and what they take.

    python benchmarks/ablate.py run --task two_way --variants lafp --seeds 5 --results FOLDER
    python benchmarks/ablate.py run --task pusht_keypoints --variants lafp --seeds 3 --results FOLDER
    python benchmarks/one_call.py

The first two leave their checkpoints in ``outputs/ablation``, where the last finds them; with ``--pusht_root=FOLDER``
PushT comes from a folder. Of every checkpoint act, on the same episodes: its flow by 1, 3 and 10 Euler steps; the
student that `lafp distill` adds; and the policies of ``students.py``. Everything is kept in ``--output_dir`` and not
done again. Then a chunk is timed, batch 1, one thread, the ways in turn: the student, ten steps, and behaviour cloning,
of the two tasks' policies and of `lafp train`'s choices for a camera of 96 and of 224 pixels; weights are random, which
changes no time. Written to ``results/one_call.json``. ``--first_training_seed`` and ``--first_evaluation_seed``
explore, and then no result is written.
"""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from ablation import tasks
from ablation.measures import measure
from ablation.plan import Run, plan
from ablation.running import checkpoint_of, is_trained
from ablation.statistics import paired_difference, summarize
from ablation.tasks import EVALUATION_SEED, TASKS
from ablation.variants import VARIANTS
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, OBS_STATE
from record import provenance, write_result
from students import TAUGHT, demonstrations
from tqdm import tqdm

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.data.policies import load_policy
from lerobot_lafp.model.one_call import OneCall
from lerobot_lafp.options.constants import FLOW_STEPS, STUDENT_STEPS, Stage
from lerobot_lafp.runs.distilling import distill_checkpoint
from lerobot_lafp.training.distillation import OBSERVATIONS

#: Task -> training seeds.
SEEDS = {"two_way": 5, "pusht_keypoints": 3}
#: Euler steps of the flow; the last is what the others are held against.
EULER = ("1", "3", "10")
ROWS = (*EULER, "student", *TAUGHT)
#: What the student may lose at most; how often each side is to be passed at least; the least of modes covered; and its
#: time over that of behaviour cloning at most.
LOSS, SIDE, COVERAGE, TIMES = {"two_way": -0.02, "pusht_keypoints": -0.03}, 0.35, 0.95, 1.2
CALLS = 500


def student_of(run: Run, folder: Path) -> Path:
    """A copy of a run's checkpoint to which `lafp distill` has added a student."""
    copy = folder / "student"
    if not copy.is_dir():
        data, new = run.task.data, folder / "student.new"
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(checkpoint_of(run.training), new)
        error = distill_checkpoint(new, data.repo_id, data.root, seed=run.seed)
        (folder / "student_error.json").write_text(json.dumps({"error": error}))
        new.rename(copy)
    return copy


def taught(run: Run, name: str) -> Any:
    """One of ``students.py``, learnt from the checkpoint of a run."""
    torch.manual_seed(run.seed)
    policy = load_policy(checkpoint_of(run.training)).eval()
    fresh = LAFPPolicy(policy.config).stages.acting_policy.network
    shown = demonstrations(policy, run.task.data, OBSERVATIONS, run.seed)
    steps = STUDENT_STEPS if name == "two_calls" else run.task.budgets[Stage.LATENT_POLICY].steps
    return TAUGHT[name](policy.stages.acting_policy, fresh, shown, steps)


def outcomes(run: Run, row: str, folder: Path, episodes: int) -> dict[str, Any]:
    """Success, reward and mode of every episode, and of the student what the probe says."""
    file = folder / f"{row}.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text())
        if len(found["success"]) == episodes:
            return found
    first = run.first_seed
    if row in EULER:
        found = run.task.evaluate(checkpoint_of(run.training), {"num_flow_steps": int(row)}, episodes, first)
    elif row == "student":
        student = student_of(run, folder)
        found = run.task.evaluate(student, {}, episodes, first)
        found |= json.loads((folder / "student_error.json").read_text())
    else:
        found = run.task.evaluate(checkpoint_of(run.training), {}, episodes, first, sampler=taught(run, row))
    if row in ("10", "student"):
        checkpoint = folder / "student" if row == "student" else checkpoint_of(run.training)
        policy, (pre, _) = tasks.load(checkpoint, {})
        found["measures"] = measure(policy, pre, run.task.data, run.seed)["measures"]
    found["commit"] = provenance()["commit"]
    file.write_text(json.dumps(found))
    return found


def compare(
    name: str, rows: list[str], first_training_seed: int, first_evaluation_seed: int, episodes: int, output: Path
) -> dict[str, Any]:
    """Every row of one task: outcomes by training seed, their means, and the difference to ten steps."""
    count, variant = SEEDS[name], VARIANTS[name]["lafp"]
    runs = [plan(name, variant, first_training_seed + i, first_evaluation_seed) for i in range(count)]
    if missing := [run.seed for run in runs if not is_trained(run.training)]:
        raise SystemExit(f"{name}: training seeds {missing} are not there. Run benchmarks/ablate.py first (--help).")
    found: dict[str, Any] = {}
    for row in rows:
        each = []
        for run in tqdm(runs, desc=f"{name}, {row}", unit="policy"):
            folder = output / name / f"seed{run.seed}"
            folder.mkdir(parents=True, exist_ok=True)
            each.append(outcomes(run, row, folder, episodes))
        kinds = {kind: [run[kind] for run in each] for kind in ("success", "reward")}
        found[row] = {
            **{kind: summarize(values) for kind, values in kinds.items()},
            "modes": dict(Counter(str(mode) for run in each for mode in run.get("mode", ()))),
            "runs": each,
        }
        if EULER[-1] in found:
            ten = found[EULER[-1]]["runs"]
            found[row]["less_than_10"] = {
                kind: paired_difference(values, [run[kind] for run in ten]) for kind, values in kinds.items()
            }
        print(name, row, {key: x for key, x in found[row].items() if key != "runs"}, flush=True)
    return found


# --- Time --------------------------------------------------------------------------------------------------------


def camera_config(side: int) -> LAFPConfig:
    """An arm with six joints and a camera of so many pixels, as `lafp train` would have it."""
    config = LAFPConfig(device="cpu", push_to_hub=False)
    config.input_features = {
        OBS_STATE: PolicyFeature(FeatureType.STATE, (6,)),
        "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, side, side)),
    }
    config.output_features = {ACTION: PolicyFeature(FeatureType.ACTION, (6,))}
    return config


def policies(config: LAFPConfig) -> dict[str, LAFPPolicy]:
    """Ten steps, one call and behaviour cloning, of one configuration; nothing is trained."""
    found = {}
    for name, head in (("ten steps", "flow"), ("one call", "flow"), ("behaviour cloning", "bc")):
        own = deepcopy(config)
        own.stage, own.policy_head, own.limits.enabled = "joint", head, False
        own.num_flow_steps = FLOW_STEPS if name == "ten steps" else None
        own.facts.one_call = name == "one call"
        policy = LAFPPolicy(own).eval()
        policy.stage_steps.fill_(1)
        if name == "one call":
            flow: Any = policy.stages.acting_policy
            policy.one_call = OneCall(flow)
            policy.one_call.steps.fill_(1)
        found[name] = policy
    return found


@torch.no_grad()
def times(config: LAFPConfig, calls: int) -> dict[str, float]:
    """Median milliseconds of a chunk by each policy, one after the other in turn."""
    draw = torch.Generator().manual_seed(0)
    seen = {key: torch.rand(1, *x.shape, generator=draw) for key, x in (config.input_features or {}).items()}
    batch = {**seen, "task": [""]}
    there = policies(config)
    assert there["one call"].stages.acts_in_one_call
    ways: dict[str, Callable[[], Any]] = {
        name: (lambda policy=policy: policy.predict_action_chunk(dict(batch))) for name, policy in there.items()
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in tqdm(range(-10, calls), desc="time", unit="call", leave=False):
        for name, way in ways.items():
            begun = perf_counter()
            way()
            if number >= 0:
                found[name].append(1000 * (perf_counter() - begun))
    medians = {name: float(np.median(each)) for name, each in found.items()}
    cloning = medians["behaviour cloning"]
    return {**medians, **{f"{name} / cloning": medians[name] / cloning for name in ("one call", "ten steps")}}


def speeds(calls: int) -> dict[str, dict[str, float]]:
    """Of the two tasks' policies, and of a camera."""
    configs = {}
    for name in SEEDS:
        run = plan(name, VARIANTS[name]["lafp"], 0)
        configs[name] = load_policy(checkpoint_of(run.training)).config
    configs |= {f"a camera of {side} pixels": camera_config(side) for side in (96, 224)}
    found = {}
    for name, config in configs.items():
        found[name] = times(config, calls)
        print(name, {key: round(x, 3) for key, x in found[name].items()}, flush=True)
    return found


# --- Result ------------------------------------------------------------------------------------------------------


def targets(compared: dict[str, Any], timed: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, least in LOSS.items():
        value = compared[name]["student"]["less_than_10"]["success"]["mean"]
        found.append(
            {"name": f"{name}: success of the student less that of ten steps", "value": value, "at_least": least}
        )
    two_way = compared["two_way"]["student"]
    rarer = min(two_way["modes"].get(side, 0) for side in ("left", "right")) / sum(two_way["modes"].values())
    covered = [run["measures"]["mode_coverage"] for run in two_way["runs"]]
    found.append({"name": "two_way: share of the rarer side", "value": rarer, "at_least": SIDE})
    mean = sum(covered) / len(covered)
    found.append({"name": "two_way: modes that the student covers", "value": mean, "at_least": COVERAGE})
    for name, each in timed.items():
        value = each["one call / cloning"]
        found.append({"name": f"{name}: time of one call / behaviour cloning", "value": value, "at_most": TIMES})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=lambda word: word.split(","), default=list(SEEDS), help="unset: both")
    parser.add_argument("--rows", type=lambda word: word.split(","), default=list(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--pusht_root", type=Path, help="folder of the PushT datasets; unset: the Hub")
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--first_training_seed", type=int, default=0)
    parser.add_argument("--first_evaluation_seed", type=int, default=EVALUATION_SEED)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/benchmarks/one_call"))
    given = parser.parse_args()
    if unknown := [row for row in given.rows if row not in ROWS] + [task for task in given.tasks if task not in TASKS]:
        parser.error(f"{', '.join(unknown)}: no such task or row")
    tasks.PUSHT_ROOT = given.pusht_root
    torch.set_num_threads(1)
    seeds = given.first_training_seed, given.first_evaluation_seed
    found = {task: compare(task, given.rows, *seeds, given.episodes, given.output_dir) for task in given.tasks}
    if seeds == (0, EVALUATION_SEED) and {*SEEDS} == {*given.tasks} and {*ROWS} == {*given.rows}:
        timed = speeds(CALLS)
        result = {"evaluation_seed": EVALUATION_SEED, "tasks": found, "milliseconds": timed}
        print(write_result("one_call", {**result, "targets": targets(found, timed), "provenance": provenance()}))


if __name__ == "__main__":
    main()
