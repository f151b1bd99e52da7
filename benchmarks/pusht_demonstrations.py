"""How far the human PushT demonstrations go: the block's coverage of the goal at their ends, by the simulator itself.

    python benchmarks/pusht_demonstrations.py                # lerobot/pusht_keypoints, from the cache or the Hub
    python benchmarks/pusht_demonstrations.py --root=FOLDER

The block's pose is fitted to the eight recorded keypoints. Written to ``results/pusht_demonstrations.json``.
"""

import argparse
from pathlib import Path
from typing import Any

import gym_pusht  # noqa: F401  (registers the environment)
import gymnasium
import numpy as np
from lerobot.datasets import LeRobotDataset
from numpy.typing import NDArray
from record import provenance, write_result
from tqdm import tqdm

#: Frames at an episode's end of which coverage is reported one by one.
TAIL = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of the dataset; unset: LeRobot's cache, or the Hub")
    dataset = LeRobotDataset("lerobot/pusht_keypoints", root=parser.parse_args().root)
    keypoints = np.stack(dataset.hf_dataset.with_format("numpy")["observation.environment_state"][:])
    keypoints = keypoints.reshape(len(keypoints), -1, 2)
    env: Any = gymnasium.make("gym_pusht/PushT-v0", obs_type="state").unwrapped
    env.reset(seed=0)
    spans = zip(dataset.meta.episodes["dataset_from_index"], dataset.meta.episodes["dataset_to_index"], strict=True)
    covered = [
        [coverage(env, frame) for frame in keypoints[start:end]]
        for start, end in tqdm(list(spans), desc="episodes", unit="episode")
    ]
    largest = np.array([max(episode) for episode in covered])
    last = np.array([episode[-1] for episode in covered])
    threshold = float(env.success_threshold)
    result = {
        "episodes": len(covered),
        "success_threshold": threshold,
        "episodes_that_reach_it": int((largest > threshold).sum()),
        "largest_coverage": spread(largest),
        "last_coverage": spread(last),
        "mean_coverage_of_the_last_frames": [
            round(float(np.mean([episode[i] for episode in covered])), 4) for i in range(-TAIL, 0)
        ],
        "provenance": provenance(),
    }
    print(
        f"{result['episodes_that_reach_it']} of {len(covered)} demonstrations reach {threshold}; they end at "
        f"{last.mean():.3f} on average: {write_result('pusht_demonstrations', result)}"
    )


def spread(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean and quantiles."""
    quantiles = {f"q{q:02d}": float(np.quantile(values, q / 100)) for q in (5, 25, 50, 75, 95)}
    return {name: round(x, 4) for name, x in {"mean": float(values.mean()), **quantiles}.items()}


def coverage(env: Any, keypoints: NDArray[np.float32]) -> float:
    """Share of the goal that the block covers when its keypoints (8, 2) lie there."""
    place(env, 0.0, np.zeros(2))
    angle, shift = rigid_fit(env.get_keypoints(env.block.shapes), keypoints)
    place(env, angle, shift)
    return float(env._get_coverage())


def place(env: Any, angle: float, position: NDArray[np.float64]) -> None:
    """Turned first: turning about the centre of mass moves the position."""
    env.block.angle = angle
    env.block.position = position.tolist()


def rigid_fit(source: NDArray[np.float64], target: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
    """Angle and shift that bring ``source`` (N, 2) nearest to ``target`` (N, 2) (Kabsch)."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    angle = float(np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum()))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return angle, target.mean(axis=0) - turn @ source.mean(axis=0)


if __name__ == "__main__":
    main()
