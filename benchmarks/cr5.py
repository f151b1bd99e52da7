"""Latent actions of real robot video without one action, against what a linear map makes of the video's own motion.

    python benchmarks/cr5.py --videos=FOLDER --lowdim=lowdim.npz

The videos (a Dobot CR5 with a camera on its arm, 16 episodes) become a dataset by ``lafp import-videos``; stage 1
trains on the first 12 by ``lerobot-train``; linear probes fitted on those 12 tell the recorded joint velocities,
averaged over the frames of a latent, of the other 4 from

* the latents of the inverse model,
* optical flow between the same two frames (DIS, its mean over a grid), and the shift of their brightness, and
* the plain difference of the two frames' features: those of the trained encoder, and the pixels averaged down.

An interrupted run goes on where it stopped. Written to ``results/cr5.json``. Two cores take about half an hour.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lerobot.configs import PreTrainedConfig
from lerobot.datasets import LeRobotDataset
from lerobot.policies.factory import make_policy
from record import provenance, write_result
from torch import Tensor
from tqdm import tqdm

import lerobot_policy_lafp  # noqa: F401  (registers the policy)
from lerobot_lafp.cli.main import main as lafp
from lerobot_lafp.diagnostics.measures import linear_probe
from lerobot_lafp.model.motion import brightness_shift, optical_flow
from lerobot_lafp.modeling_lafp import LAFPPolicy
from lerobot_lafp.runs.trainings import last_checkpoint, train

OUTPUT = Path("outputs/benchmarks/cr5")
NAME, CAMERA = "local/cr5", "observation.image"
FPS, SIDE = 10, 64
TRAINED, HELD_OUT = tuple(range(12)), tuple(range(12, 16))
#: Cells a side of the flow that is told, and of that which it is held against. A camera on the arm sees the whole image
#: move, and how it does so differently in its parts tells one joint from another.
GRID = 4
JOINTS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--lowdim", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--output_dir", type=Path, default=OUTPUT)
    given = parser.parse_args()
    root = given.output_dir / "videos"
    if not (root / "meta" / "info.json").is_file():
        options = [f"--root={root}", f"--repo_id={NAME}", f"--size={SIDE}", f"--fps={FPS}", "--resume"]
        if status := lafp(["import-videos", str(given.videos), *options]):
            raise SystemExit(status)
    train(given.output_dir / "latent_action", training(root, given.steps))
    result = measure(last_checkpoint(given.output_dir / "latent_action"), root, given.lowdim)
    settings = {"steps": given.steps, "side": SIDE, "fps": FPS, "motion_grid": GRID}
    path = write_result("cr5", {**result, "settings": settings, "provenance": provenance()})
    for name, probe in result["probes"].items():
        print(f"{name:<28} R2 {probe['mean_r2']:.3f}  per joint {probe['r2']}")
    print(path)


def training(root: Path, steps: int) -> list[str]:
    """Arguments of ``lerobot-train``: stage 1 on the first 12 episodes, which have no action."""
    policy = {
        "type": "lafp",
        "stage": "latent_action",
        "horizon": 16,
        "num_latents": 8,
        "device": "cpu",
        "push_to_hub": "false",
    }
    return [
        *(f"--policy.{name}={value}" for name, value in policy.items()),
        f"--dataset.repo_id={NAME}",
        f"--dataset.root={root}",
        f"--dataset.episodes={list(TRAINED)}",
        f"--steps={steps}",
        f"--save_freq={max(1, steps // 4)}",
        "--batch_size=64",
        "--num_workers=1",
    ]


@torch.no_grad()
def measure(checkpoint: Path, root: Path, lowdim: Path) -> dict[str, Any]:
    """R^2 of each probe on the held-out episodes."""
    dataset = LeRobotDataset(NAME, root=root)
    config = PreTrainedConfig.from_pretrained(checkpoint)
    config.pretrained_path = checkpoint
    policy = make_policy(config, ds_meta=dataset.meta).eval()
    assert isinstance(policy, LAFPPolicy)
    recorded = np.load(lowdim)
    ends = recorded["episode_ends"]
    lengths = np.diff(np.concatenate([[0], ends]))
    if lengths.tolist() != [int(n) for n in dataset.meta.episodes["length"]]:
        raise ValueError(f"The videos have {dataset.meta.episodes['length']} frames, {lowdim} has {lengths.tolist()}.")
    rows: list[dict[str, Tensor]] = []
    for episode, (end, length) in enumerate(tqdm(list(zip(ends, lengths, strict=True)), desc="probe", unit="episode")):
        images = torch.stack([dataset[i][CAMERA] for i in range(end - length, end)])
        velocity = torch.from_numpy(recorded["action"][end - length : end, :JOINTS]).double()
        rows.append({**features(policy, images), "velocity": over(velocity, policy.config.frame_offset)})
        rows[-1]["episode"] = torch.full((len(rows[-1]["velocity"]),), episode)
    found = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    velocity, episodes = found.pop("velocity"), found.pop("episode")
    probes = {name: linear_probe(x, velocity, episodes, held_out=HELD_OUT) for name, x in found.items()}
    return {
        "probes": {
            name: {
                "mean_r2": round(p.mean_r2, 4),
                "r2": [round(x, 3) for x in p.r2],
                "mse": p.mse,
                "inputs": found[name].shape[1],
            }
            for name, p in probes.items()
        },
        "rows": {"fitted": int((episodes < HELD_OUT[0]).sum()), "held_out": int((episodes >= HELD_OUT[0]).sum())},
    }


def over(values: Tensor, count: int) -> Tensor:
    """Mean of ``values`` (N, D) over each ``count`` frames that a latent covers, (N - count, D)."""
    return torch.stack([values[i : len(values) - count + i] for i in range(count)]).mean(dim=0)


def features(policy: LAFPPolicy, images: Tensor) -> dict[str, Tensor]:
    """What the probes see of every pair of frames that far apart, (N - k, ..), for an episode's images (N, C, H, W)."""
    model, offset = policy.latent_action_model, policy.config.frame_offset
    assert model is not None
    frames = policy.normalizer({CAMERA: images.unsqueeze(0)})
    tokens = model.encoder(frames)[0]
    now, later = tokens[:-offset].unsqueeze(1), tokens[offset:].unsqueeze(1)
    valid = torch.ones(len(now), 1, dtype=torch.bool)
    pairs = torch.stack([frames[CAMERA][0, :-offset], frames[CAMERA][0, offset:]], dim=1)
    small = F.adaptive_avg_pool2d(frames[CAMERA][0], 8).flatten(1)
    return {
        "latents": model.infer(now, later, valid)[0][:, 0],
        "optical flow": optical_flow(pairs, valid, GRID)[:, 0],
        "shift of brightness": brightness_shift(pairs)[:, 0],
        "difference of features": (later - now).flatten(1),
        "difference of pixels": small[offset:] - small[:-offset],
    }


if __name__ == "__main__":
    main()
