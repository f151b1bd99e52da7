"""The emulated SO-100 of `examples/so100_sim.py`, from recording to rollouts, as a result with every rollout in it.

    python benchmarks/robot_reach.py

LAFP with 120 films and 10 labelled episodes, and the same flow on the 10 alone. What the example has recorded, trained
and rolled out is not done again. Written to ``results/robot_reach.json``.
"""

import json
import runpy
from pathlib import Path
from typing import Any

from lerobot.configs.train import TRAIN_CONFIG_NAME
from record import provenance, write_result

from lerobot_lafp.configuration_lafp import STAGES
from lerobot_lafp.evaluation import mean_ci95
from lerobot_lafp.runs import last_checkpoint
from lerobot_lafp.sim_arm.reach import HOLD_S, TOLERANCE

ROOT = Path(__file__).parent.parent
OUTPUT = Path("outputs/so100_sim")


def main() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "so100_sim.py"), run_name="so100_sim")
    size = example["Size"]()
    methods = {name: summarize(rollouts, size.rollouts) for name, rollouts in example["run"](OUTPUT, size).items()}
    trained = last_checkpoint(OUTPUT / "lafp" / STAGES[-1]) / TRAIN_CONFIG_NAME
    result = {
        "task": "robot_reach",
        "methods": methods,
        "reached_means": {"within_m": TOLERANCE, "for_s": HOLD_S},
        "recorded": {"videos": size.videos, "labeled": size.labeled, "targets_per_episode": size.targets},
        "training": {"steps": size.steps, "batch_size": size.batch_size},
        "seeds": {
            "training": json.loads(trained.read_text())["seed"],
            "films": example["FILMED"],
            "labeled": example["LABELED"],
            "targets": example["ROLLOUTS"],
        },
        "provenance": provenance(),
    }
    path = write_result("robot_reach", result)
    for name, found in methods.items():
        print(f"{name}: reached {found['reached']}")
    print(f"written to {path}")


def summarize(rollouts: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """How many of ``count`` targets were reached; a rollout in which the arm never left home reached none."""
    reached = [bool(rollout["reached"]) for rollout in rollouts[:count]]
    return {"reached": mean_ci95(reached + [False] * (count - len(reached))), "rollouts": rollouts[:count]}


if __name__ == "__main__":
    main()
