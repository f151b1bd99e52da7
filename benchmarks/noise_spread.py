"""How far apart samples should start: success by the spread of the noise that latents to act on start from.

    python benchmarks/ablate.py run --task two_way --variants lafp --seeds 5 --results FOLDER
    python benchmarks/ablate.py run --task pusht_keypoints --variants lafp --seeds 3 --results FOLDER
    python benchmarks/noise_spread.py

The first two leave their checkpoints in ``outputs/ablation``, where the last finds them; with ``--pusht_root=FOLDER``
PushT comes from a folder. Each policy acts with the noise that it was trained with (1), and with less of it, on the
same episodes; what is in ``--output_dir`` is not evaluated again. ``--first_training_seed`` and
``--first_evaluation_seed`` explore, and then no result is written; else it is ``results/noise_spread.json``, with the
difference to 1 by episode, and how often which side of the obstacle was passed.
"""

import argparse
from pathlib import Path
from typing import Any

from ablation.comparison import Way, rarer_side, read_comparison
from ablation.plan import Run
from ablation.running import checkpoint_of
from record import provenance, write_result

from lerobot_lafp import LAFPPolicy

SPREADS = (1.0, 0.8, 0.6)
#: Of these the one that did best on other training seeds and other episodes.
CHOSEN = 0.8
#: What a spread may lose against 1 at most, and how often each side is to be passed at least.
LOSS, SIDE = -0.02, 0.35


def acting_with(spread: float) -> Way:
    """The flow's ten steps from noise of this spread."""

    def act(run: Run, folder: Path, episodes: int) -> dict[str, Any]:
        def narrow(policy: LAFPPolicy) -> None:
            flow: Any = policy.stages.acting_policy
            sample = flow.sample
            flow.sample = lambda tokens, noise, steer=None: sample(tokens, spread * noise, steer)

        return run.task.evaluate(checkpoint_of(run.training), {}, episodes, run.first_seed, narrow)

    return act


def targets(tasks: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the spread that was chosen."""
    chosen = {name: rows[f"{CHOSEN:g}"] for name, rows in tasks.items()}
    found = [
        {
            "name": f"{name}: success of spread {CHOSEN:g} less that of 1",
            "value": row["less_than_1"]["success"]["mean"],
            "at_least": LOSS,
        }
        for name, row in chosen.items()
    ]
    rarer = rarer_side(chosen["two_way"])
    return [*found, {"name": "two_way: share of the rarer side", "value": rarer, "at_least": SIDE}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    comparison, _ = read_comparison(parser, Path("outputs/benchmarks/noise_spread"))
    ways = {f"{spread:g}": acting_with(spread) for spread in SPREADS}
    found = {task: comparison.compare(task, ways, "1") for task in comparison.tasks}
    if comparison.is_result:
        result = {"evaluation_seed": comparison.first_evaluation_seed, "tasks": found, "targets": targets(found)}
        print(write_result("noise_spread", {**result, "provenance": provenance()}))


if __name__ == "__main__":
    main()
