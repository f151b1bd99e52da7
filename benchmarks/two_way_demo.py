"""The demo as a result: what `lafp demo` found, with every episode's outcome, as JSON, and its figure for the README.

    make demo && .venv/bin/python benchmarks/two_way_demo.py

What `make demo` has trained and evaluated is not run again; without it, this runs it.
"""

import shutil
from pathlib import Path

from record import provenance, write_result

from lerobot_lafp.checkpoint.evaluation import mean_ci95
from lerobot_lafp.runs.demo import EVALUATION_SEED, NUM_DEMONSTRATIONS, NUM_LABELED, run_demo, summarize

ROOT = Path(__file__).parent.parent
OUTPUT = Path("outputs/two_way")


def main() -> None:
    episodes = run_demo(ROOT / "configs" / "two_way", OUTPUT)
    result = {
        "task": "two_way",
        "methods": {
            method: {
                **summarize(of_method),
                "success": mean_ci95([episode.is_success for episode in of_method]),
                "outcomes": [
                    {"seed": e.seed, "mode": e.mode, "is_success": e.is_success, "touched": e.touched}
                    for e in of_method
                ],
            }
            for method, of_method in episodes.items()
        },
        "demonstrations": {"episodes": NUM_DEMONSTRATIONS, "labeled": NUM_LABELED, "seed": 0},
        "seeds": {"training": [1000], "evaluation": [EVALUATION_SEED, EVALUATION_SEED + len(episodes["LAFP"]) - 1]},
        "provenance": provenance(),
    }
    path = write_result("two_way_demo", result)
    (ROOT / "docs").mkdir(exist_ok=True)
    shutil.copy(OUTPUT / "demo.png", ROOT / "docs" / "demo.png")
    print(f"written to {path}; figure: docs/demo.png")


if __name__ == "__main__":
    main()
