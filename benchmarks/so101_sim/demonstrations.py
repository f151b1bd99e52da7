"""What is recorded: the package's scripted expert, and play that has nothing to do with the task.

The expert's commands are disturbed, so that the recordings show how it recovers. The recorded actions are those that
were executed, not what the expert meant to do: the frames show them, and inverse model and labels must agree.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets import LeRobotDataset
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE
from lerobot_env_so101.configuration_so101 import AGENT_POS_DIM
from lerobot_env_so101.policy import DEFAULT_ACTION_SCALE, OBS_FIELD_NAMES
from lerobot_env_so101.scripted.pick_place import Phase, PickPlaceController
from numpy.typing import NDArray
from tqdm import tqdm

from .environment import CAMERA, FPS, PickPlace

Array = NDArray[np.float64]
Frame = dict[str, Any]

#: How far beside the cube's middle the expert aims, metres along y. Of its own accord it aims at the middle, where the
#: fixed jaw has 2 mm to spare: 4 mm to that side, and it comes down on the cube. To the other side there are 20 mm.
AIM = -0.008
#: Deviation of the expert's position commands at every step, and of a push that lasts ``PUSH_STEPS``; in action units.
NOISE, PUSH, PUSH_STEPS, PUSH_PROBABILITY = 0.03, 0.5, 3, 0.05
#: An episode that is longer has failed.
LONGEST = 150
#: Where play goes, metres: the table in front of the arm, up to the height of a lifted cube.
PLAY_BOUNDS = np.array([[0.13, -0.13, 0.025], [0.32, 0.13, 0.12]])
#: Steps of an episode of play.
PLAY_STEPS = 300


@dataclass(frozen=True)
class Recorded:
    """Seeds of the episodes that were tried, and of those that were kept."""

    tried: tuple[int, ...]
    kept: tuple[int, ...]


class Disturbance:
    """What is added to position commands: a little at every step, and a push now and then."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._left, self._push = rng, 0, np.zeros(3)

    def __call__(self) -> Array:
        if self._left == 0 and self._rng.random() < PUSH_PROBABILITY:
            self._left, self._push = PUSH_STEPS, self._rng.normal(0, PUSH, 3)
        pushed = self._push if self._left else np.zeros(3)
        self._left = max(0, self._left - 1)
        return pushed + self._rng.normal(0, NOISE, 3)


def demonstrate(env: PickPlace, seed: int) -> tuple[list[Frame], bool]:
    """One episode of the disturbed expert, until it has let go and moved away; and whether it succeeded."""
    observation, _ = env.reset(seed=seed)
    expert, disturbance = PickPlaceController(DEFAULT_ACTION_SCALE), Disturbance(np.random.default_rng(seed))
    frames: list[Frame] = []
    success = False
    while len(frames) < LONGEST:
        block = env.data.sensor("block_pos").data.copy()
        if expert.phase in (Phase.HOVER, Phase.DESCEND):
            block[1] += AIM
        action = expert.act(env.ik_point_pos, block, env.goal_pos)
        if expert.done:
            break
        action[:3] = np.clip(action[:3] + disturbance(), -1, 1)
        frames.append({"observation": observation, ACTION: action})
        observation, _, _, _, info = env.step(action)
        success |= info["is_success"]
    return frames, success and expert.done


def play(env: PickPlace, seed: int) -> tuple[list[Frame], bool]:
    """Motion from one random place to another at random speeds; now and then the gripper opens or closes."""
    observation, _ = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    frames: list[Frame] = []
    while len(frames) < PLAY_STEPS:
        goal, speed, grasp = rng.uniform(*PLAY_BOUNDS), rng.uniform(0.2, 1.0), float(rng.random() < 0.5)
        for _ in range(rng.integers(8, 16)):
            error = (goal - env.ik_point_pos) / DEFAULT_ACTION_SCALE
            action = np.array([*(np.clip(error, -speed, speed) + rng.normal(0, NOISE, 3)), grasp], dtype=np.float32)
            action[:3] = np.clip(action[:3], -1, 1)
            frames.append({"observation": observation, ACTION: action})
            observation, *_ = env.step(action)
    return frames[:PLAY_STEPS], True


def record(
    root: Path,
    episode: Callable[[PickPlace, int], tuple[list[Frame], bool]],
    count: int,
    first_seed: int,
    image_size: int | None,
    task: str,
) -> Recorded:
    """Write ``count`` episodes that succeeded as a LeRobotDataset.

    Args:
        root: Its folder, which must not exist.
        episode: ``demonstrate`` or ``play``.
        count: How many.
        first_seed: Seeds of the environment from which they are taken; a failed one is left out.
        image_size: Side of the camera's picture. None: the positions of cube and goal in its place.
        task: What is done, in words.

    Raises:
        FileExistsError: ``root`` exists.
    """
    env = PickPlace(image_size or 1, episode_length=10_000, image_obs=image_size is not None)
    features = _features(image_size)
    dataset = LeRobotDataset.create(f"local/{root.name}", FPS, features, root, robot_type="so101", use_videos=False)
    tried: list[int] = []
    kept: list[int] = []
    with tqdm(total=count, desc=root.name, unit="episode") as progress:
        while len(kept) < count:
            tried.append(first_seed + len(tried))
            frames, success = episode(env, tried[-1])
            if not success:
                continue
            for frame in _named(frames):
                dataset.add_frame({"task": task, **{key: frame[key] for key in features}})
            dataset.save_episode()
            kept.append(tried[-1])
            progress.update()
    dataset.finalize()
    env.close()
    return Recorded(tuple(tried), tuple(kept))


def _features(image_size: int | None) -> dict[str, Any]:
    names = {OBS_STATE: list(OBS_FIELD_NAMES[:AGENT_POS_DIM]), ACTION: ["dx", "dy", "dz", "grasp"]}
    features: dict[str, Any] = {}
    if image_size is None:
        names[OBS_ENV_STATE] = [f"{what}_{axis}" for what in ("block", "goal") for axis in "xyz"]
    else:
        shape = (image_size, image_size, 3)
        features[f"{OBS_IMAGES}.{CAMERA}"] = {
            "dtype": "image",
            "shape": shape,
            "names": ["height", "width", "channels"],
        }
    return features | {key: {"dtype": "float32", "shape": (len(n),), "names": n} for key, n in names.items()}


def _named(frames: list[Frame]) -> Iterator[Frame]:
    """Frames in LeRobot's names."""
    for frame in frames:
        seen = frame["observation"]
        yield {
            OBS_STATE: seen["agent_pos"],
            OBS_ENV_STATE: seen.get("environment_state"),
            f"{OBS_IMAGES}.{CAMERA}": seen.get("pixels", {}).get(CAMERA),
            ACTION: frame[ACTION],
        }
