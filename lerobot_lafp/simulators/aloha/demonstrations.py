"""Demonstrations of gym-aloha's cube transfer as a LeRobotDataset, with actions or as video alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gym_aloha  # noqa: F401 (registers the environment)
import gymnasium as gym
import numpy as np
from gym_aloha.constants import ACTIONS, JOINTS
from lerobot.datasets import LeRobotDataset
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as TF
from torchvision.tv_tensors import Image
from tqdm import tqdm

from .expert import TransferCubeExpert

FPS = 50
TASK = "Pick up the cube with the right arm and transfer it to the left arm."
CAMERA = f"{OBS_IMAGES}.top"
#: What gym-aloha renders, (H, W).
FULL_SIZE = (480, 640)


@dataclass(frozen=True)
class Recorded:
    """How the expert did: seeds of its episodes, and of those in which the cube was handed over."""

    tried: tuple[int, ...]
    succeeded: tuple[int, ...]


class Stage:
    """The environment, of which only what is asked for is rendered: gym-aloha renders three cameras at every step.

    Args:
        size: (H, W) of the picture. None: none is made.
        plain: Without shadows and smooth edges, several times faster; not what `lerobot-eval` will show.
    """

    def __init__(self, size: tuple[int, int] | None, plain: bool = False) -> None:
        env: Any = gym.make("gym_aloha/AlohaTransferCube-v0", obs_type="pixels_agent_pos").unwrapped
        self._env, self._size, self._plain = env, size, plain
        task = env._env.task

        def observe(physics: Any) -> dict[str, Any]:
            return {"qpos": task.get_qpos(physics), "images": {"top": self._picture(physics)}}

        task.get_observation = observe
        if plain:
            quality = env._env.physics.model.vis.quality
            quality.shadowsize = quality.offsamples = 0

    def _picture(self, physics: Any) -> NDArray[np.uint8]:
        if self._size is None:
            return np.zeros((1, 1, 3), dtype=np.uint8)
        if self._plain:
            height, width = self._size
            return physics.render(height=height, width=width, camera_id="top")
        full = physics.render(height=FULL_SIZE[0], width=FULL_SIZE[1], camera_id="top")
        if self._size == FULL_SIZE:
            return full
        small = TF.resize(Image(full.transpose(2, 0, 1)), list(self._size), antialias=True)  # as the policy would
        return small.permute(1, 2, 0).numpy()

    def play(self, expert: TransferCubeExpert, seed: int) -> tuple[list[dict[str, Any]], bool]:
        """One episode.

        Returns:
            Its frames, each with the picture, the joints (14,) and the action (14,); whether it succeeded.
        """
        observation, _ = self._env.reset(seed=seed)
        cube = self._env._env.physics.named.data.qpos["red_box_joint"][:3]
        frames, success = [], False
        for action in expert.actions(cube, np.random.default_rng(seed)):
            frames.append(
                {
                    CAMERA: observation["pixels"]["top"],
                    OBS_STATE: observation["agent_pos"].astype(np.float32),
                    ACTION: action,
                }
            )
            observation, _, _, _, info = self._env.step(action)
            success |= bool(info["is_success"])
        return frames, success


def evaluate_expert(episodes: int, first_seed: int = 0) -> Recorded:
    """How often the expert succeeds; nothing is rendered."""
    expert, stage = TransferCubeExpert(), Stage(size=None)
    seeds = range(first_seed, first_seed + episodes)
    done = [seed for seed in tqdm(seeds, desc="episodes", unit="episode") if stage.play(expert, seed)[1]]
    return Recorded(tuple(seeds), tuple(done))


def write_demonstrations(
    root: Path,
    repo_id: str,
    episodes: int,
    first_seed: int = 0,
    size: tuple[int, int] = FULL_SIZE,
    plain: bool = False,
    actions: bool = True,
) -> Recorded:
    """Write ``episodes`` that succeeded.

    Args:
        root: Folder of the dataset, which must not exist.
        repo_id: Its name.
        episodes: How many.
        first_seed: Seeds of gym-aloha from which they are taken; an episode that failed is left out.
        size: (H, W) of the camera `observation.images.top`.
        plain: See ``Stage``.
        actions: With joints and actions, or the picture alone.

    Raises:
        FileExistsError: ``root`` exists.
    """
    if root.exists():
        raise FileExistsError(f"{root} exists. Name another folder, or remove it.")
    features: dict[str, Any] = {
        CAMERA: {"dtype": "video", "shape": (*size, 3), "names": ["height", "width", "channels"]}
    }
    if actions:
        features |= {
            key: {"dtype": "float32", "shape": (len(names),), "names": names}
            for key, names in ((OBS_STATE, JOINTS), (ACTION, ACTIONS))
        }
    dataset = LeRobotDataset.create(repo_id, FPS, features, root=root, robot_type="aloha")
    expert, stage = TransferCubeExpert(), Stage(size, plain)
    tried: list[int] = []
    succeeded: list[int] = []
    with tqdm(total=episodes, desc="demonstrations", unit="episode") as progress:
        while len(succeeded) < episodes:
            seed = first_seed + len(tried)
            frames, success = stage.play(expert, seed)
            tried.append(seed)
            if not success:
                continue
            for frame in frames:
                dataset.add_frame({"task": TASK, **{key: frame[key] for key in features}})
            dataset.save_episode()
            succeeded.append(seed)
            progress.update()
    dataset.finalize()
    return Recorded(tuple(tried), tuple(succeeded))
