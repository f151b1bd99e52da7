"""The emulated SO-100 of `examples/so100_sim.py`, from recording to rollouts, as a result with every rollout in it.

    python benchmarks/robot_reach.py

LAFP with 120 films and 10 labelled episodes, and the same flow on the 10 alone. What the example has recorded, trained
and rolled out is not done again. Written to ``results/robot_reach.json``, with a picture, ``docs/robot_reach.png``.
"""

import json
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.configs.train import TRAIN_CONFIG_NAME
from lerobot.datasets import LeRobotDataset
from matplotlib.figure import Figure
from record import provenance, write_result

from lerobot_lafp.checkpoint.evaluation import mean_ci95
from lerobot_lafp.options.constants import STAGES
from lerobot_lafp.runs.trainings import last_checkpoint
from lerobot_lafp.simulators.so100.reach import HOLD_S, TOLERANCE

ROOT = Path(__file__).parent.parent
OUTPUT = Path("outputs/so100_sim")
PICTURE = ROOT / "docs" / "robot_reach.png"
LABELS = {"lafp": "LAFP, 120 films and 10 labelled", "few_labels": "the same flow on the 10 labelled alone"}
COLOURS = {"lafp": "#0072b2", "few_labels": "#d55e00"}


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
    last = max(OUTPUT.glob("recorded_lafp_*"), key=lambda root: int(root.name.rsplit("_", 1)[1]))
    film = LeRobotDataset("local/rollout_lafp", root=last, episodes=[0])
    draw(PICTURE, methods, film, example["VIEWS"])
    for name, found in methods.items():
        print(f"{name}: reached {found['reached']}")
    print(f"written to {path}")


def summarize(rollouts: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """How many of ``count`` targets were reached; a rollout in which the arm never left home reached none."""
    reached = [bool(rollout["reached"]) for rollout in rollouts[:count]]
    return {"reached": mean_ci95(reached + [False] * (count - len(reached))), "rollouts": rollouts[:count]}


def draw(path: Path, methods: Mapping[str, Any], film: LeRobotDataset, views: Sequence[str], moments: int = 4) -> None:
    """LAFP's first rollout as the cameras saw it, and how near each method came to its targets."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    grid = figure.add_gridspec(len(views), moments + 4)
    for column, frame in enumerate(np.linspace(0, len(film) - 1, moments).round().astype(int)):
        for row, view in enumerate(views):
            axis = figure.add_subplot(grid[row, column])
            axis.imshow(film[int(frame)][f"observation.images.{view}"].permute(1, 2, 0).numpy())
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(f"{frame / film.fps:.1f} s", fontsize=9)
            if column == 0:
                axis.set_ylabel(view)
    axis = figure.add_subplot(grid[:, moments:])
    for name, found in methods.items():
        closest = np.sort([100 * rollout["closest"] for rollout in found["rollouts"]])
        share = np.arange(1, len(closest) + 1) / found["reached"]["episodes"]
        axis.step(closest, share, where="post", color=COLOURS[name], label=LABELS[name])
    axis.axvline(100 * TOLERANCE, color="#888888", linestyle=":", label="reached, if it stays there")
    axis.set(xlabel="closest to the target (cm)", ylabel="share of the rollouts", xlim=(0, 15), ylim=(0, 1.02))
    axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
