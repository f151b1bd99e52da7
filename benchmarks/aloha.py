"""gym-aloha's cube transfer: LAFP with 10 of 50 demonstrations labelled, LeRobot's `act` on those 10, and on all 50.

    python benchmarks/aloha.py --device=cuda      # a GPU's work
    python benchmarks/aloha.py --smoke            # the same, tiny: what it trains is worth nothing

The demonstrations are `lafp record-aloha`'s, of the size that an evaluation shows; LAFP looks at them smaller, `act` as
they are, as published. All three train and are evaluated through LeRobot's commands, on the same
episodes. An interrupted run goes on where it stopped. Written to ``results/aloha.json``.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record import provenance, write_result
from training_options import training_options

from lerobot_lafp.checkpoint.evaluation import mean_ci95, read_evaluation
from lerobot_lafp.cli.main import main as lafp
from lerobot_lafp.runs.commands import evaluate
from lerobot_lafp.runs.stages import train_stages
from lerobot_lafp.runs.trainings import last_checkpoint, train

LABELED = list(range(10))
EVALUATION_SEED = 100_000


@dataclass(frozen=True)
class Size:
    """How much is recorded, trained and evaluated."""

    demonstrations: int = 50
    picture: tuple[int, int] = (480, 640)
    resized: tuple[int, int] = (120, 160)
    lafp_steps: tuple[int, int, int] = (5000, 12_000, 2000)
    act_steps: int = 20_000
    batch_size: int = 64
    workers: int = 8
    episodes: int = 50
    episode_length: int = 400


SMOKE = Size(2, (48, 64), (24, 32), (2, 2, 2), 2, 4, 0, 1, 3)
#: A chunk of 0.8 s, half of it executed.
LAFP = [
    "--policy.horizon=40",
    "--policy.num_latents=4",
    "--policy.n_action_steps=20",
    "--policy.relative_actions=true",
    "--policy.random_shift=4",
    "--policy.optimizer_lr=1e-3",
]


def train_lafp(output: Path, data: list[str], labeled: list[int], size: Size, common: list[str]) -> Path:
    steps = zip(("latent_action", "latent_policy", "action_decoder"), size.lafp_steps, strict=True)
    options = [
        f"--policy.labeled_episodes={labeled}",
        f"--policy.resize_shape={list(size.resized)}",
        *(f"--{stage}.steps={count}" for stage, count in steps),
    ]
    return train_stages([*data, *LAFP, *options, *common, f"--output_dir={output}"])


def train_act(output: Path, data: list[str], episodes: list[int], size: Size, common: list[str]) -> Path:
    train(output, ["--policy.type=act", f"--dataset.episodes={episodes}", f"--steps={size.act_steps}", *data, *common])
    return last_checkpoint(output)


def measure(checkpoint: Path, output: Path, size: Size) -> dict[str, Any]:
    if not (output / "eval_info.json").is_file():
        environment = [
            "--env.type=aloha",
            "--env.task=AlohaTransferCube-v0",
            f"--env.episode_length={size.episode_length}",
        ]
        evaluate(checkpoint, output, size.episodes, EVALUATION_SEED, environment)
    episodes = read_evaluation(output)
    return {"success": mean_ci95([float(x) for x in episodes["successes"]]), "episodes": episodes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/benchmarks/aloha"))
    parser.add_argument("--act_backbone", default="ResNet18_Weights.IMAGENET1K_V1", help="null: without a download")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("MUJOCO_GL", "egl")
    size, output = SMOKE if given.smoke else Size(), given.output_dir
    root = output / "demonstrations"
    if not (root / "meta" / "stats.json").is_file():
        picture = f"--size={size.picture[0]}x{size.picture[1]}"
        plain = ["--plain"] if given.smoke else []
        if lafp(["record-aloha", f"--root={root}", f"--episodes={size.demonstrations}", picture, *plain]):
            raise SystemExit("No demonstrations: the message is above.")
    data = ["--dataset.repo_id=local/demonstrations", f"--dataset.root={root}"]
    common = training_options(given.device, size.batch_size, size.workers)
    of_act = [*common, f"--policy.pretrained_backbone_weights={'null' if given.smoke else given.act_backbone}"]
    labeled = LABELED[: size.demonstrations - 1]
    checkpoints = {
        "lafp, 10 labelled": train_lafp(output / "lafp", data, labeled, size, common),
        "act on the 10": train_act(output / "act_10", data, labeled, size, of_act),
        "act on the 50": train_act(output / "act_50", data, list(range(size.demonstrations)), size, of_act),
    }
    found = {
        name: measure(checkpoint, output / "evaluation" / name.split(",")[0].replace(" ", "_"), size)
        for name, checkpoint in checkpoints.items()
    }
    for name, row in found.items():
        print(f"{name:20} success {row['success']['mean']:.2f} {row['success']['ci95']}")
    if not given.smoke:
        seeds = {"evaluation": [EVALUATION_SEED, EVALUATION_SEED + size.episodes - 1]}
        print(write_result("aloha", {"task": "aloha", "methods": found, "seeds": seeds, "provenance": provenance()}))


if __name__ == "__main__":
    main()
