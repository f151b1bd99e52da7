"""How much of what really moved a linear map tells from each target that ``motion.target`` may have.

    python benchmarks/motion_targets.py                                # PushT from the cache or the Hub
    python benchmarks/motion_targets.py --pusht_root=FOLDER            # with pusht and pusht_keypoints in it

Of pairs of frames k apart: optical flow (DIS, its mean over the image or over 4 x 4 cells) and the shift of brightness,
against the robot's own velocity on the two-way task, and the displacement of agent and block on PushT. Linear probes
are fitted on the first half of the episodes; R^2 is that of the other half. No network, nothing trained. Written to
``results/motion_targets.json``.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from ablation import tasks
from ablation.data import column, episode_of
from ablation.tasks import TASKS
from record import provenance, write_result
from torch import Tensor
from tqdm import tqdm

from lerobot_lafp.diagnostics.measures import linear_probe
from lerobot_lafp.frames.dataset import StoredDataset
from lerobot_lafp.model.motion import brightness_shift, optical_flow

EPISODES = {"two_way": 100, "pusht": 40}
OFFSETS = (1, 2, 4)
GRID = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pusht_root", type=Path, help="folder with pusht and pusht_keypoints")
    tasks.PUSHT_ROOT = parser.parse_args().pusht_root
    result = {task: {str(offset): measure(task, offset) for offset in tqdm(OFFSETS, desc=task)} for task in EPISODES}
    path = write_result("motion_targets", {**result, "episodes": EPISODES, "provenance": provenance()})
    print(table(result))
    print(path)


def measure(task: str, offset: int) -> dict[str, dict[str, float]]:
    """R^2 of a linear probe: what moved -> target -> R^2, of frames ``offset`` apart."""
    dataset = TASKS[task].data.opened()
    count = EPISODES[task]
    first, end = (dataset.meta.episodes[f"dataset_{bound}_index"][:count] for bound in ("from", "to"))
    now = torch.cat([torch.arange(a, b - offset) for a, b in zip(first, end, strict=True)])
    targets = [targets_of(dataset, part, offset) for part in now.split(256)]
    episodes, held_out = episode_of(dataset)[now], range(count // 2, count)
    return {
        truth: {
            name: round(
                linear_probe(torch.cat([t[name] for t in targets]), moved, episodes, held_out=held_out).mean_r2, 3
            )
            for name in targets[0]
        }
        for truth, moved in what_moved(task, dataset, now, offset).items()
    }


def targets_of(dataset: StoredDataset, now: Tensor, offset: int) -> dict[str, Tensor]:
    """Each target of the frames ``now`` (N,) and those ``offset`` later: (N, M)."""
    pairs = column(dataset, dataset.meta.camera_keys[0], torch.stack([now, now + offset], dim=1))
    flow = optical_flow(pairs, torch.ones(len(pairs), 1, dtype=torch.bool), GRID)[:, 0]
    return {
        "flow": flow.unflatten(1, (-1, 2)).mean(dim=1),
        f"flow, {GRID} x {GRID} cells": flow,
        "moments": brightness_shift(pairs)[:, 0],
    }


def what_moved(task: str, dataset: StoredDataset, now: Tensor, offset: int) -> dict[str, Tensor]:
    """(N, 2) each."""
    if task == "two_way":
        actions = torch.stack([column(dataset, "action", now + i) for i in range(offset)])
        return {"robot": actions.mean(dim=0)}
    every = torch.arange(len(dataset))
    agent = column(dataset, "observation.state", every)
    corners = column(TASKS["pusht_keypoints"].data.opened(), "observation.environment_state", every)
    block = corners.unflatten(1, (-1, 2)).mean(dim=1)
    return {name: x[now + offset] - x[now] for name, x in (("agent", agent), ("block", block))}


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    names = list(next(iter(result["two_way"]["1"].values())))
    rows = [f"| task | k | what moved | {' | '.join(names)} |", "|---|---|---|" + "---|" * len(names)]
    for task, offsets in result.items():
        for offset, found in offsets.items():
            for truth, r2 in found.items():
                rows.append(f"| {task} | {offset} | {truth} | {' | '.join(f'{r2[n]:.2f}' for n in names)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
