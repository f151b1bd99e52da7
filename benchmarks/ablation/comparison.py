"""Ways of acting with LAFP's checkpoints, on the same episodes; what was evaluated is not evaluated again."""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from record import provenance
from torch import Tensor
from tqdm import tqdm

from lerobot_lafp import LAFPPolicy

from . import tasks
from .plan import Run, plan
from .running import is_trained
from .statistics import paired_difference, summarize
from .tasks import EVALUATION_SEED
from .variants import SEEDS as SEEDS_OF
from .variants import VARIANTS

#: Task -> training seeds.
SEEDS = {task: SEEDS_OF[task]("lafp") for task in ("two_way", "pusht_keypoints")}
#: A run, where it may leave files, and how many episodes -> outcomes of each.
Way = Callable[[Run, Path, int], dict[str, Any]]
OUTCOMES = ("success", "reward")


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        tasks: Names.
        first_training_seed: Of each task's; those of the results begin at 0.
        first_evaluation_seed: Of the episodes; those of the results begin at ``EVALUATION_SEED``.
        episodes: Of each checkpoint.
        output: Where everything is kept.
    """

    tasks: tuple[str, ...]
    first_training_seed: int
    first_evaluation_seed: int
    episodes: int
    output: Path

    @property
    def is_result(self) -> bool:
        """Whether it is on the seeds of the results, and of both tasks."""
        return (self.first_training_seed, self.first_evaluation_seed) == (0, EVALUATION_SEED) and {*SEEDS} == {
            *self.tasks
        }

    def runs(self, task: str) -> list[Run]:
        """LAFP of the ablation, by training seed.

        Raises:
            SystemExit: Some are not trained.
        """
        variant, first = VARIANTS[task]["lafp"], self.first_training_seed
        runs = [plan(task, variant, first + i, self.first_evaluation_seed) for i in range(SEEDS[task])]
        if missing := [run.seed for run in runs if not is_trained(run.training)]:
            raise SystemExit(
                f"{task}: training seeds {missing} are not there. Run benchmarks/ablate.py first (--help)."
            )
        return runs

    def outcomes(self, run: Run, row: str, way: Way) -> dict[str, Any]:
        """Of one row and one checkpoint."""
        folder = self.output / run.task.name / f"seed{run.seed}"
        file = folder / f"{row}_{self.first_evaluation_seed}_{self.episodes}.json"
        if file.is_file():
            found: dict[str, Any] = json.loads(file.read_text())
            return found
        folder.mkdir(parents=True, exist_ok=True)
        found = {**way(run, folder, self.episodes), "commit": provenance()["commit"]}
        file.write_text(json.dumps(found))
        return found

    def compare(self, task: str, ways: Mapping[str, Way], reference: str) -> dict[str, Any]:
        """Every row of one task: outcomes by training seed, their means, and the difference to the ``reference``."""
        runs = self.runs(task)
        found: dict[str, Any] = {}
        for row, way in ways.items():
            each = [self.outcomes(run, row, way) for run in tqdm(runs, desc=f"{task}, {row}", unit="policy")]
            values = {kind: [outcome[kind] for outcome in each] for kind in OUTCOMES}
            found[row] = {
                **{kind: summarize(x) for kind, x in values.items()},
                "modes": dict(Counter(str(mode) for outcome in each for mode in outcome.get("mode", ()))),
                "runs": each,
            }
            if reference in found:
                other = found[reference]["runs"]
                less = {kind: paired_difference(x, [run[kind] for run in other]) for kind, x in values.items()}
                found[row][f"less_than_{reference}"] = less
            print(task, row, {key: x for key, x in found[row].items() if key != "runs"}, flush=True)
        return found


def sampling(sampler: Callable[[Tensor, Tensor], Tensor]) -> Callable[[LAFPPolicy], None]:
    """What lets a policy act on the latents (B, L, Dz) that ``sampler`` makes of noise (B, L, Dz) and tokens."""

    def change(policy: LAFPPolicy) -> None:
        own: Any = policy.stages.acting_policy
        own.sample = lambda tokens, noise, steer=None: sampler(noise, tokens)

    return change


def rarer_side(row: Mapping[str, Any]) -> float:
    """Share of the side of the obstacle that was passed less often, on the two-way task."""
    modes = row["modes"]
    return float(min(modes.get(side, 0) for side in ("left", "right")) / sum(modes.values()))


def read_comparison(parser: argparse.ArgumentParser, output: Path) -> tuple[Comparison, argparse.Namespace]:
    """What a script's options ask for, in one thread."""
    parser.add_argument("--tasks", nargs="+", choices=list(SEEDS), default=list(SEEDS), help="unset: both")
    parser.add_argument("--pusht_root", type=Path, help="folder of the PushT datasets; unset: the Hub")
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--first_training_seed", type=int, default=0)
    parser.add_argument("--first_evaluation_seed", type=int, default=EVALUATION_SEED)
    parser.add_argument("--output_dir", type=Path, default=output)
    given = parser.parse_args()
    tasks.PUSHT_ROOT = given.pusht_root
    torch.set_num_threads(1)
    seeds = given.first_training_seed, given.first_evaluation_seed
    return Comparison(tuple(given.tasks), *seeds, given.episodes, given.output_dir), given
