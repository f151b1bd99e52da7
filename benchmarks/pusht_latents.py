"""Latent actions of PushT from images alone, without one action or state, by each target that motion may have.

    python benchmarks/pusht_latents.py                                 # PushT from the cache or the Hub
    python benchmarks/pusht_latents.py --pusht_root=FOLDER --motion none flow moments

Stage 1 trains on the images of the first 165 episodes, on as many cores as ``OMP_NUM_THREADS`` says.
A linear probe fitted on their latents tells the actions of the other 41, relative to the agent: held-out
R^2 for x and y. Trainings go on where they stopped. Written to ``results/pusht_latents.json``, one entry a target.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from ablation import tasks
from ablation.frames import Frames
from ablation.tasks import OUTPUT, TASKS, Budget, load
from ablation.training import latent_labels, train
from ablation.vocabulary import configuration
from lerobot.configs import FeatureType, PolicyFeature
from record import RESULTS, provenance, write_result
from tqdm import tqdm

import lerobot_policy_lafp  # noqa: F401  (registers the policy)
from lerobot_lafp.diagnostics.measures import linear_probe

CAMERA = "observation.image"
TRAINED, HELD_OUT = range(165), range(165, 206)
#: Stage 1's options beside the task's: no label, and what is told of motion.
TARGETS: dict[str, dict[str, Any]] = {
    "none": {"motion_weight": 0.0},
    **{name: {"motion_weight": 1.0, "motion_target": name} for name in ("flow", "moments", "both")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pusht_root", type=Path, help="folder with pusht in it")
    parser.add_argument("--motion", nargs="+", choices=list(TARGETS), default=["moments"])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch_size", type=int, default=64)
    given = parser.parse_args()
    tasks.PUSHT_ROOT = given.pusht_root
    frames = TASKS["pusht"].frames()
    file = RESULTS / "pusht_latents.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    for name in tqdm(given.motion, desc="targets"):
        results[name] = measure(frames, name, Budget(given.steps, given.batch_size))
        print(f"motion {name}: R2 {results[name]['r2']}: {write_result('pusht_latents', results)}")


def measure(frames: Frames, name: str, budget: Budget) -> dict[str, Any]:
    """Train with that target, and probe."""
    shape = tuple(frames.columns[CAMERA].shape[1:])
    stage_1 = {"stage": "latent_action", "label_weight": 0.0, "device": "cpu", "push_to_hub": False}
    config = configuration({**stage_1, **TARGETS[name]})
    config.input_features = {CAMERA: PolicyFeature(FeatureType.VISUAL, shape)}
    folder = OUTPUT / "pusht_latents" / f"{name}-{budget.steps}x{budget.batch_size}"
    if (folder / "seconds.json").is_file():
        seconds = json.loads((folder / "seconds.json").read_text())
    else:
        folder.mkdir(parents=True, exist_ok=True)
        seconds = train(config, frames, TRAINED, budget, 0, folder)
        (folder / "seconds.json").write_text(json.dumps(seconds))
    policy, _ = load(folder / "pretrained_model", {"device": "cpu"})
    latents, pad = latent_labels(policy, frames).values()
    there = (~pad[:, 0]).nonzero()[:, 0]
    offset = policy.config.frame_offset
    actions = torch.stack([frames.columns["action"][there + i] for i in range(offset)], dim=1)
    relative = actions - frames.columns["observation.state"][there].unsqueeze(1)
    probe = linear_probe(latents[there, 0], relative, frames.episode[there], held_out=HELD_OUT)
    return {
        "r2": [round(x, 4) for x in probe.r2],
        "cpu_minutes": round(seconds / 60, 1),
        "steps": budget.steps,
        "batch_size": budget.batch_size,
        "latent_dim": policy.config.latent_dim,
        "frame_offset": offset,
        "provenance": provenance(),
    }


if __name__ == "__main__":
    main()
