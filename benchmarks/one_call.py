"""One call in place of ten: what policies of one or two calls lose against the flow's steps, and what they take.

    python benchmarks/ablate.py run --task two_way --variants lafp --seeds 5 --results FOLDER
    python benchmarks/ablate.py run --task pusht_keypoints --variants lafp --seeds 3 --results FOLDER
    python benchmarks/one_call.py

The first two leave their checkpoints in ``outputs/ablation``, where the last finds them; with ``--pusht_root=FOLDER``
PushT comes from a folder. Of every checkpoint act, on the same episodes: its flow by 1, 3 and 10 Euler steps; the
student that `lafp distill` adds; and the policies of ``students.py``. Everything is kept in ``--output_dir`` and not
done again. Then a chunk is timed, batch 1, one thread, the ways in turn: the student, ten steps, and behaviour cloning,
of the two tasks' policies and of the defaults for a camera of 96 and of 224 pixels; weights are random, which
changes no time. Written to ``results/one_call.json``. ``--first_training_seed`` and ``--first_evaluation_seed``
explore, and then no result is written.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation.comparison import SEEDS, Way, rarer_side, read_comparison, sampling
from ablation.measures import measure
from ablation.plan import Run, plan
from ablation.running import checkpoint_of
from ablation.tasks import load
from ablation.variants import VARIANTS
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, OBS_STATE
from record import provenance, write_result
from students import TAUGHT, demonstrations

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.data.policies import load_policy
from lerobot_lafp.diagnostics.bench import timed
from lerobot_lafp.model.one_call import OneCall
from lerobot_lafp.options.constants import FLOW_STEPS, STUDENT_STEPS, Stage
from lerobot_lafp.runs.distilling import distill_checkpoint
from lerobot_lafp.training.distillation import OBSERVATIONS

#: Euler steps of the flow; the last is what the others are held against.
EULER = ("1", "3", "10")
#: What the student may lose at most; how often each side is to be passed at least; the least of modes covered; and its
#: time over that of behaviour cloning at most.
LOSS, SIDE, COVERAGE, TIMES = {"two_way": -0.02, "pusht_keypoints": -0.03}, 0.35, 0.95, 1.2
CALLS = 500


def euler(steps: str) -> Way:
    """The flow by as many steps, and, of the most, what the probe says."""

    def act(run: Run, folder: Path, episodes: int) -> dict[str, Any]:
        checkpoint = checkpoint_of(run.training)
        found = run.task.evaluate(checkpoint, {"num_flow_steps": int(steps)}, episodes, run.first_seed)
        return {**found, "measures": measured(run, checkpoint)} if steps == EULER[-1] else found

    return act


def student(run: Run, folder: Path, episodes: int) -> dict[str, Any]:
    """A copy of the checkpoint to which `lafp distill` has added a student, kept; and what the probe says of it."""
    copy, error = folder / "student", folder / "student_error.json"
    if not copy.is_dir():
        data, new = run.task.data, folder / "student.new"
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(checkpoint_of(run.training), new)
        off = distill_checkpoint(new, data.repo_id, data.root, seed=run.seed)
        error.write_text(json.dumps({"error": off}))
        new.rename(copy)
    found = run.task.evaluate(copy, {}, episodes, run.first_seed)
    return {**found, **json.loads(error.read_text()), "measures": measured(run, copy)}


def measured(run: Run, checkpoint: Path) -> dict[str, Any]:
    policy, (pre, _) = load(checkpoint, {})
    measures: dict[str, Any] = measure(policy, pre, run.task.data, run.seed)["measures"]
    return measures


def taught(name: str) -> Way:
    """One of ``students.py``, learnt from the checkpoint of a run."""

    def act(run: Run, folder: Path, episodes: int) -> dict[str, Any]:
        torch.manual_seed(run.seed)
        policy = load_policy(checkpoint_of(run.training)).eval()
        flow: Any = policy.stages.acting_policy
        fresh = LAFPPolicy(policy.config).stages.acting_policy.network
        shown = demonstrations(policy, run.task.data, OBSERVATIONS, run.seed)
        steps = STUDENT_STEPS if name == "two_calls" else run.task.budgets[Stage.LATENT_POLICY].steps
        sampler = TAUGHT[name](flow, fresh, shown, steps)
        return run.task.evaluate(checkpoint_of(run.training), {}, episodes, run.first_seed, sampling(sampler))

    return act


WAYS: dict[str, Way] = {
    **{steps: euler(steps) for steps in EULER},
    "student": student,
    **{name: taught(name) for name in TAUGHT},
}


# --- Time --------------------------------------------------------------------------------------------------------


def camera_config(side: int) -> LAFPConfig:
    """LAFP's defaults, for an arm with six joints and a camera of so many pixels."""
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
    found = timed(there["one call"], ways, calls)
    medians = {name: float(np.median(each)) for name, each in found.items()}
    cloning = medians["behaviour cloning"]
    return {**medians, **{f"{name} / cloning": medians[name] / cloning for name in ("one call", "ten steps")}}


def speeds(calls: int) -> dict[str, dict[str, float]]:
    """Of the two tasks' policies, and of a camera."""
    configs = {}
    for name in SEEDS:
        run = plan(name, VARIANTS[name]["lafp"], 0)
        configs[name] = LAFPConfig.from_pretrained(checkpoint_of(run.training))
    configs |= {f"a camera of {side} pixels": camera_config(side) for side in (96, 224)}
    found = {}
    for name, config in configs.items():
        found[name] = times(config, calls)
        print(name, {key: round(x, 3) for key, x in found[name].items()}, flush=True)
    return found


# --- Result ------------------------------------------------------------------------------------------------------


def targets(compared: dict[str, Any], taken: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, least in LOSS.items():
        value = compared[name]["student"]["less_than_10"]["success"]["mean"]
        line = f"{name}: success of the student less that of ten steps"
        found.append({"name": line, "value": value, "at_least": least})
    two_way = compared["two_way"]["student"]
    found.append({"name": "two_way: share of the rarer side", "value": rarer_side(two_way), "at_least": SIDE})
    covered = [share for run in two_way["runs"] if (share := run["measures"]["mode_coverage"]) is not None]
    mean = sum(covered) / len(covered)
    found.append({"name": "two_way: modes that the student covers", "value": mean, "at_least": COVERAGE})
    for name, each in taken.items():
        value = each["one call / cloning"]
        found.append({"name": f"{name}: time of one call / behaviour cloning", "value": value, "at_most": TIMES})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(WAYS), default=list(WAYS), help="unset: all")
    comparison, given = read_comparison(parser, Path("outputs/benchmarks/one_call"))
    ways = {row: way for row, way in WAYS.items() if row in given.rows}
    found = {task: comparison.compare(task, ways, EULER[-1]) for task in comparison.tasks}
    if comparison.is_result and ways == WAYS:
        taken = speeds(CALLS)
        result = {"evaluation_seed": comparison.first_evaluation_seed, "tasks": found, "milliseconds": taken}
        print(write_result("one_call", {**result, "targets": targets(found, taken), "provenance": provenance()}))


if __name__ == "__main__":
    main()
