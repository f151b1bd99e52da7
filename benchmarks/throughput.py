"""Stage 2 from labels against stage 2 from video: samples a second, and the losses of all, in one run.

    python benchmarks/throughput.py --root=FOLDER           # a LeRobotDataset of video without labels, e.g. PushT
    python benchmarks/throughput.py --root=FOLDER --num_workers=1 --batch_size=64 --batches=20 --repeats=3

Labels are those of ``lafp label``, without and with ``--images``. Everything is as ``lerobot-train`` does it: LeRobot's
factories, sampler and loader, the policy's forward and backward pass, the optimiser. The network has the cores that the
loader's workers leave. They take turns, so that what else the machine does falls on all. Weights are random, which
changes no speed. In the result, too: how much of the time went into waiting for the loader (the rest is the network's,
of which a CPU needs much), and what CPU time the loader takes a sample. Written to ``results/throughput.json``.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.datasets import EpisodeAwareSampler, LeRobotDataset, LeRobotDatasetMetadata
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.policies.factory import make_policy, make_policy_config, make_pre_post_processors
from lerobot.utils.random_utils import set_seed
from record import provenance, write_result
from torch.utils.data import DataLoader
from tqdm import tqdm

import lerobot_policy_lafp  # noqa: F401  (registers the policy)
from lerobot_lafp.data.latent_labels import label_dataset

NAME = "local/video"


@dataclass(frozen=True)
class Turn:
    """A training of some batches: what all but the first took, how much of that the loader, and every loss."""

    seconds: float
    waited: float
    losses: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=20, help="measured in each turn, after one that is not")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--num_workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - given.num_workers))
    folder = Path(tempfile.mkdtemp(dir=given.root.parent))  # on its file system, so that videos can be linked
    try:
        result = measure(given, folder)
    finally:
        shutil.rmtree(folder)
    path = write_result("throughput", result)
    for name, speed in result["samples_per_s"].items():
        print(
            f"{name}: {speed['median']:.1f} samples/s, {result['ratio'][name]:.2f} times those of video; "
            f"{result['waiting_share'][name]:.0%} of the time waiting for the loader, which takes "
            f"{result['loader_cpu_ms_per_sample'][name]} CPU ms a sample"
        )
    print(f"losses differ by at most {result['largest_loss_difference']:.2g}: {path}")


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    checkpoint = folder / "checkpoint"
    config = make_policy_config("lafp", stage="latent_action", device=given.device, push_to_hub=False)
    train(config, given.root, checkpoint, given, batches=1)
    roots, labelling = {"video": given.root}, {}
    for name, images in (("labels", False), ("labels and images", True)):
        roots[name] = folder / name
        start = time.monotonic()
        label_dataset(checkpoint, NAME, roots[name], given.root, num_workers=given.num_workers, images=images)
        labelling[name] = time.monotonic() - start
    turns: dict[str, list[Turn]] = {name: [] for name in roots}
    threads = torch.get_num_threads()
    for _ in tqdm(range(given.repeats), desc="turns"):
        for name, root in roots.items():
            config = stage_2(checkpoint, from_labels=name != "video")
            turns[name].append(train(config, root, folder / "trained", given, given.batches))
    speeds = {name: [given.batches * given.batch_size / turn.seconds for turn in of] for name, of in turns.items()}
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    losses = {name: of[-1].losses for name, of in turns.items()}
    differences = [abs(a - b) for found in losses.values() for a, b in zip(losses["video"], found, strict=True)]
    meta = LeRobotDatasetMetadata(NAME, root=given.root)
    return {
        "ratio": {name: round(median / medians["video"], 3) for name, median in medians.items()},
        "samples_per_s": {
            n: {"median": round(medians[n], 2), "turns": [round(x, 2) for x in speeds[n]]} for n in roots
        },
        "waiting_share": {
            name: round(sum(turn.waited for turn in of) / sum(turn.seconds for turn in of), 3)
            for name, of in turns.items()
        },
        "loader_cpu_ms_per_sample": {
            name: loader_ms(stage_2(checkpoint, from_labels=name != "video"), root) for name, root in roots.items()
        },
        "largest_loss_difference": max(differences),
        "losses": losses,
        "labelling": {
            name: {"seconds": round(seconds, 1), "frames_per_s": round(meta.total_frames / seconds, 1)}
            for name, seconds in labelling.items()
        },
        "settings": {
            **{name: getattr(given, name) for name in ("batch_size", "batches", "repeats", "num_workers", "device")},
            "threads": threads,
        },
        "dataset": {"frames": meta.total_frames, "episodes": meta.total_episodes, "features": sorted(meta.features)},
        "provenance": provenance(),
    }


def stage_2(checkpoint: Path, from_labels: bool) -> PreTrainedConfig:
    """Stage 2 upon a checkpoint of stage 1."""
    config = PreTrainedConfig.from_pretrained(checkpoint, cli_overrides=["--stage=latent_policy"])
    config.pretrained_path, config.given_latents = checkpoint, from_labels
    return config


def train(config: PreTrainedConfig, root: Path, output: Path, given: argparse.Namespace, batches: int) -> Turn:
    """Train on ``batches`` batches after a first one; the policy goes to ``output``."""
    set_seed(0)
    dataset = opened(config, root)
    policy = make_policy(config, ds_meta=dataset.meta)
    start = {"pretrained_path": str(config.pretrained_path)} if config.pretrained_path else {}
    preprocessor, postprocessor = make_pre_post_processors(config, **start, dataset_stats=dataset.meta.stats)
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    loader = iter(_loader(dataset, config, given))
    losses, waited, began = [], 0.0, 0.0
    torch.manual_seed(1)  # the loader draws a seed, too
    policy.train()
    for step in range(batches + 1):
        asked = time.monotonic()
        batch = next(loader)
        waited += (time.monotonic() - asked) * (step > 0)
        loss, _ = policy.forward(preprocessor(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
        losses.append(loss.item())
        if step == 0:
            began = time.monotonic()
    seconds = time.monotonic() - began
    for part in (policy, preprocessor, postprocessor):
        part.save_pretrained(output)
    return Turn(seconds, waited, losses)


def opened(config: PreTrainedConfig, root: Path) -> LeRobotDataset:
    """The dataset in ``root`` with the frames that ``config`` trains on."""
    meta = LeRobotDatasetMetadata(NAME, root=root)
    deltas = resolve_delta_timestamps(config, meta)
    return LeRobotDataset(NAME, root=root, delta_timestamps=deltas, return_uint8=True)


def loader_ms(config: PreTrainedConfig, root: Path, samples: int = 200) -> float:
    """CPU time of this process for a sample, drawn at random, in milliseconds; one thread, as a worker has."""
    torch.set_num_threads(1)
    dataset = opened(config, root)
    drawn = torch.randint(len(dataset) - config.drop_n_last_frames, (samples + 1,)).tolist()
    dataset[drawn[0]]  # opens files
    start = time.process_time()
    for i in drawn[1:]:
        dataset[i]
    return round((time.process_time() - start) / samples * 1e3, 2)


def _loader(dataset: LeRobotDataset, config: Any, given: argparse.Namespace) -> DataLoader:
    starts, ends = dataset.meta.episodes["dataset_from_index"], dataset.meta.episodes["dataset_to_index"]
    sampler = EpisodeAwareSampler(starts, ends, drop_n_last_frames=config.drop_n_last_frames, shuffle=True, seed=0)
    workers = {"num_workers": given.num_workers, "prefetch_factor": 2} if given.num_workers else {}
    return DataLoader(dataset, batch_size=given.batch_size, sampler=sampler, **workers)


if __name__ == "__main__":
    main()
