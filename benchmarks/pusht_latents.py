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
from ablation.data import Data, column, episode_of
from ablation.tasks import OUTPUT, TASKS, Budget, load
from ablation.training import train
from ablation.vocabulary import configuration
from lerobot.configs import FeatureType, PolicyFeature
from record import RESULTS, provenance, write_result
from tqdm import tqdm

import lerobot_policy_lafp  # noqa: F401  (registers the policy)
from lerobot_lafp.diagnostics.measures import linear_probe
from lerobot_lafp.frames.latents import infer_latents
from lerobot_lafp.options.constants import LATENT_ACTION, LATENT_ACTION_IS_PAD
from lerobot_lafp.options.features import camera_shape

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
    data = TASKS["pusht"].data
    file = RESULTS / "pusht_latents.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    for name in tqdm(given.motion, desc="targets"):
        results[name] = measure(data, name, Budget(given.steps, given.batch_size))
        print(f"motion {name}: R2 {results[name]['r2']}: {write_result('pusht_latents', results)}")


def measure(data: Data, name: str, budget: Budget) -> dict[str, Any]:
    """Train with that target, and probe."""
    shape = camera_shape(data.meta.features[CAMERA])
    stage_1 = {"stage": "latent_action", "label_weight": 0.0, "device": "cpu", "push_to_hub": False}
    config = configuration({**stage_1, **TARGETS[name]})
    config.input_features = {CAMERA: PolicyFeature(FeatureType.VISUAL, shape)}
    folder = OUTPUT / "pusht_latents" / f"{name}-{budget.steps}x{budget.batch_size}"
    if (folder / "seconds.json").is_file():
        seconds = json.loads((folder / "seconds.json").read_text())
    else:
        folder.mkdir(parents=True, exist_ok=True)
        seconds = train(config, data, TRAINED, budget, 0, folder)
        (folder / "seconds.json").write_text(json.dumps(seconds))
    policy, _ = load(folder / "pretrained_model", {"device": "cpu"})
    dataset = data.opened()
    with tqdm(total=len(dataset), desc="latents", unit="frame") as bar:
        dataset.columns |= infer_latents(policy, dataset, bar)
    every = torch.arange(len(dataset))
    latents, pad = (column(dataset, key, every) for key in (LATENT_ACTION, LATENT_ACTION_IS_PAD))
    there = (~pad[:, 0]).nonzero()[:, 0]
    offset = policy.config.frame_offset
    actions = torch.stack([column(dataset, "action", there + i) for i in range(offset)], dim=1)
    relative = actions - column(dataset, "observation.state", there).unsqueeze(1)
    first = latents[there, : policy.config.latent_dim]
    probe = linear_probe(first, relative, episode_of(dataset)[there], held_out=HELD_OUT)
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
