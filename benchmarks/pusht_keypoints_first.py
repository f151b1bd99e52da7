"""Human PushT from keypoints, 20 labelled episodes of 206: three trainings, 100 evaluation episodes, one JSON.

    python benchmarks/pusht_keypoints_first.py                        # dataset from the Hub
    python benchmarks/pusht_keypoints_first.py --dataset.repo_id=local/pusht_keypoints --dataset.root=FOLDER

Further options go to ``lafp train``. An interrupted run goes on where it stopped. On two cores of a CPU it takes
about half an hour.
"""

import json
import sys
import time
from pathlib import Path

from record import provenance, write_result

from lerobot_lafp.checkpoint.evaluation import mean_ci95, read_evaluation
from lerobot_lafp.options.constants import STAGES
from lerobot_lafp.runs.commands import evaluate
from lerobot_lafp.runs.stages import train_stages
from lerobot_lafp.runs.trainings import RunState, last_checkpoint, run_state

CONFIGS = Path(__file__).parent.parent / "configs" / "pusht_keypoints"
OUTPUT = Path("outputs/benchmarks/pusht_keypoints_first")
EPISODES = 100
EVALUATION_SEED = 100_000


def main() -> None:
    seconds_file = OUTPUT / "seconds.json"
    seconds = json.loads(seconds_file.read_text()) if seconds_file.is_file() else {}
    for stage in STAGES:
        if run_state(OUTPUT / stage) is RunState.FINISHED:
            continue
        start = time.monotonic()
        train_stages([str(CONFIGS), f"--output_dir={OUTPUT}", *sys.argv[1:]], until=stage)
        # Of a run that was interrupted, only what the last call took is known.
        seconds[stage] = round(time.monotonic() - start)
        seconds_file.write_text(json.dumps(seconds))

    checkpoint = last_checkpoint(OUTPUT / STAGES[-1])
    start = time.monotonic()
    environment = ["--env.type=pusht", "--env.obs_type=environment_state_agent_pos"]
    evaluate(checkpoint, OUTPUT / "evaluation", EPISODES, EVALUATION_SEED, environment)
    seconds["evaluation"] = round(time.monotonic() - start)
    episodes = read_evaluation(OUTPUT / "evaluation")
    configurations = {
        stage: json.loads((last_checkpoint(OUTPUT / stage) / "train_config.json").read_text()) for stage in STAGES
    }
    result = {
        "task": "pusht_keypoints",
        "max_reward": mean_ci95(episodes["max_rewards"]),
        "success": mean_ci95(episodes["successes"]),
        "seeds": {
            "training": [configuration["seed"] for configuration in configurations.values()],
            "evaluation": list(range(EVALUATION_SEED, EVALUATION_SEED + EPISODES)),
        },
        "seconds": seconds,
        "episodes": episodes,
        "provenance": provenance(),
        "configurations": configurations,
    }
    path = write_result("pusht_keypoints_first", result)
    reward, success = result["max_reward"], result["success"]
    print(
        f"\nmean maximum reward {reward['mean']:.3f} {reward['ci95']}, success {success['mean']:.2f} {success['ci95']}"
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
