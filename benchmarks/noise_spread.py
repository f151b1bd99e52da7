"""How far apart samples should start: success by the spread of the noise that latents to act on start from.

    python benchmarks/ablate.py run --task two_way --variants lafp --seeds 5 --results FOLDER
    python benchmarks/ablate.py run --task pusht_keypoints --variants lafp --seeds 3 --results FOLDER
    python benchmarks/noise_spread.py

The first two leave their checkpoints in ``outputs/ablation``, where the last finds them; with ``--pusht_root=FOLDER``
PushT comes from a folder. Each policy acts with the noise that it was trained with (1), and with less of it, on the
same episodes. ``--first_training_seed`` and ``--first_evaluation_seed`` explore, and then no result is written; else
it is ``results/noise_spread.json``, with the difference to 1 by episode, and how often which side of the obstacle was
passed.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from ablation import tasks
from ablation.plan import plan
from ablation.running import checkpoint_of, is_trained
from ablation.statistics import paired_difference, summarize
from ablation.tasks import EVALUATION_SEED, TASKS
from ablation.variants import VARIANTS
from record import provenance, write_result
from tqdm import tqdm

import lerobot_policy_lafp  # noqa: F401  (registers the policy)

SPREADS = (1.0, 0.8, 0.6, 0.4)
#: Of these the one that is to be shipped, chosen on other training seeds and other episodes.
CHOSEN = 0.8
#: Task -> training seeds.
SEEDS = {"two_way": 5, "pusht_keypoints": 3}
#: What a spread may lose against 1 at most, and how often each side is to be passed at least.
LOSS, SIDE = -0.02, 0.35


def measure(name: str, first_training_seed: int, first_evaluation_seed: int, episodes: int) -> dict[str, Any]:
    """Every spread on one task: outcomes by training seed, their mean, and the difference to 1."""
    runs = [plan(name, VARIANTS[name]["lafp"], first_training_seed + i) for i in range(SEEDS[name])]
    if missing := [run.seed for run in runs if not is_trained(run.training)]:
        raise SystemExit(f"{name}: training seeds {missing} are not there. Run benchmarks/ablate.py first (--help).")
    rows: dict[str, Any] = {}
    for spread in SPREADS:
        found = [
            TASKS[name].evaluate(checkpoint_of(run.training), {}, episodes, first_evaluation_seed, spread)
            for run in tqdm(runs, desc=f"{name}, {spread:g}", unit="policy")
        ]
        rows[f"{spread:g}"] = {
            "success": summarize([each["success"] for each in found]),
            "reward": summarize([each["reward"] for each in found]),
            "modes": dict(Counter(str(mode) for each in found for mode in each.get("mode", ()))),
            "runs": found,
        }
    for row in rows.values():
        row["less_than_1"] = {
            kind: paired_difference(*([run[kind] for run in each["runs"]] for each in (row, rows["1"])))
            for kind in ("success", "reward")
        }
        print(name, {kind: row[kind] for kind in ("success", "reward", "modes", "less_than_1")})
    return rows


def targets(tasks_: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the spread that was chosen."""
    chosen = {name: rows[f"{CHOSEN:g}"] for name, rows in tasks_.items()}
    found = [
        {
            "name": f"{name}: success of spread {CHOSEN:g} less that of 1",
            "value": row["less_than_1"]["success"]["mean"],
            "at_least": LOSS,
        }
        for name, row in chosen.items()
    ]
    modes = chosen["two_way"]["modes"]
    rarer = min(modes.get(side, 0) for side in ("left", "right")) / sum(modes.values())
    return [*found, {"name": "two_way: share of the rarer side", "value": rarer, "at_least": SIDE}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=lambda word: word.split(","), default=list(SEEDS), help="unset: both")
    parser.add_argument("--pusht_root", type=Path, help="folder of the PushT datasets; unset: the Hub")
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--first_training_seed", type=int, default=0)
    parser.add_argument("--first_evaluation_seed", type=int, default=EVALUATION_SEED)
    given = parser.parse_args()
    tasks.PUSHT_ROOT = given.pusht_root
    torch.set_num_threads(1)
    seeds = given.first_training_seed, given.first_evaluation_seed
    found = {name: measure(name, *seeds, given.episodes) for name in given.tasks}
    if seeds == (0, EVALUATION_SEED) and set(given.tasks) == set(SEEDS):
        result = {"evaluation_seed": EVALUATION_SEED, "tasks": found, "targets": targets(found)}
        print(write_result("noise_spread", {**result, "provenance": provenance()}))


if __name__ == "__main__":
    main()
