"""Whether today's trainings are level with those that the committed rows were made by.

    python benchmarks/ablate.py run --task two_way --variants lafp --seeds 5 --results FOLDER
    python benchmarks/ablate.py run --task pusht_keypoints --variants lafp --seeds 3 --results FOLDER
    python benchmarks/ablation_again.py --results FOLDER

The rows were trained by a loop of the benchmark's own, over the same samples in another order, and with the decoder of
before, which did not see the state. Of each run made again: its mean, that of the committed run of its seed, and the
interval of the committed row over seeds and episodes; and of all runs of a row the difference, paired by seed and
episode. Written to ``results/ablation_again.json``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ablation.statistics import paired_difference, summarize
from record import RESULTS, provenance, write_result

#: Task -> what is compared of an episode.
OUTCOMES = {"two_way": "success", "pusht_keypoints": "reward"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder of the runs that were made again")
    given = parser.parse_args()
    result: dict[str, Any] = {"runs": [], "differences": {}, "targets": []}
    for task, outcome in OUTCOMES.items():
        for file in sorted(given.results.glob(f"{task}/*/seed*.json")):
            row = RESULTS / "ablation" / task / file.parent.name
            again, then = (json.loads(each.read_text()) for each in (file, row / file.name))
            assert again["digest"] == then["digest"], f"{file} is of another configuration"
            every = [json.loads(each.read_text())["evaluation"][outcome] for each in sorted(row.glob("seed*.json"))]
            of_row = summarize(every)
            own = summarize([again["evaluation"][outcome]])
            name = f"{task}, {file.parent.name}, seed {again['training_seed']}: {outcome}"
            result["runs"].append(
                {
                    "name": name,
                    "again": own,
                    "then": summarize([then["evaluation"][outcome]]),
                    "row": of_row,
                    "cpu_seconds": {"again": again["cpu_seconds"], "then": then["cpu_seconds"]},
                    "outcomes": again["evaluation"][outcome],
                    "made_by": again["provenance"],
                }
            )
            # Two intervals that overlap: the run's own, over episodes, and the row's.
            result["targets"].append(
                {"name": f"{name}: upper end", "value": own["ci95"][1], "at_least": of_row["ci95"][0]}
            )
            result["targets"].append(
                {"name": f"{name}: lower end", "value": own["ci95"][0], "at_most": of_row["ci95"][1]}
            )
            means = [f"{kind} {result['runs'][-1][kind]['mean']:.3f}" for kind in ("again", "then", "row")]
            print(f"{name}: {', '.join(means)} {of_row['ci95']}")
        for row in sorted({file.parent for file in given.results.glob(f"{task}/*/seed*.json")}):
            files = sorted(row.glob("seed*.json"))
            before = [RESULTS / "ablation" / task / row.name / file.name for file in files]
            pairs = [[json.loads(each.read_text())["evaluation"] for each in made] for made in (files, before)]
            for kind in ("success", "reward"):
                off = paired_difference(*([run[kind] for run in runs] for runs in pairs))
                result["differences"][f"{task}, {row.name}: {kind}, again less then"] = off
                print(f"{task}, {row.name}: {kind}, again less then: {off['mean']:.3f} {off['ci95']}")
    result["provenance"] = provenance()
    print(write_result("ablation_again", result))


if __name__ == "__main__":
    main()
