"""What is recorded: the package's scripted expert, and play that has nothing to do with the task.

The expert's hand wavers, and where a grasp fails it starts over, so that the recordings show how it recovers. Recorded
are the actions that were executed, not what the expert meant to do: the frames show them, and inverse model and labels
must agree.
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
from lerobot_env_so101.scripted.pick_place import GRASP_HEIGHT, Phase, PickPlaceController
from lerobot_env_so101.scripted.reach_close import GRIPPER_CLOSED, GRIPPER_OPEN
from numpy.typing import NDArray
from tqdm import tqdm

from .environment import CAMERA, FPS, PickPlace

Array = NDArray[np.float64]
Frame = dict[str, Any]

#: How far beside the cube's middle the expert aims, metres along y, so that the cube is in the middle between the open
#: jaws. Of its own accord it aims at the cube's middle, where the fixed jaw has 2 mm to spare, and the other one 20.
AIM = -0.008
#: Deviation of what is added to the commands, in action units, and how much of it lasts to the next step.
NOISE, LASTING = 0.1, 0.7
#: A cube that is further than this below the grasp point while it should be carried has been lost, metres.
LOST = 0.035
#: An episode that is longer has failed.
LONGEST = 150
#: Where play goes, metres: the table in front of the arm, up to the height of a lifted cube.
PLAY_BOUNDS = np.array([[0.13, -0.13, 0.025], [0.32, 0.13, 0.12]])
#: Where on the table a cube is laid between the jaws, metres.
PLAY_TABLE = np.array([[0.15, -0.1], [0.3, 0.1]])
#: Steps of an episode of play.
PLAY_STEPS = 300


@dataclass(frozen=True)
class Recorded:
    """Seeds of the episodes that were tried, and of those that were kept."""

    tried: tuple[int, ...]
    kept: tuple[int, ...]


class Wavering:
    """What is added to position commands: noise that lasts for a few steps, as of a hand (Ornstein-Uhlenbeck)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._off = rng, np.zeros(3)

    def __call__(self) -> Array:
        self._off = LASTING * self._off + NOISE * np.sqrt(1 - LASTING**2) * self._rng.normal(0, 1, 3)
        return self._off


def demonstrate(env: PickPlace, seed: int) -> tuple[list[Frame], bool]:
    """One episode of the wavering expert, until it has let go and moved away; and whether it succeeded."""
    observation, _ = env.reset(seed=seed)
    expert, wavering = PickPlaceController(DEFAULT_ACTION_SCALE), Wavering(np.random.default_rng(seed))
    table = env.block_pos[2]
    frames: list[Frame] = []
    success = False
    while len(frames) < LONGEST:
        block, carries = env.block_pos, expert.phase in (Phase.LIFT, Phase.TRAVERSE, Phase.LOWER)
        if carries and env.ik_point_pos[2] - block[2] > LOST and block[2] < table + 0.01:
            expert.reset()
        if expert.phase in (Phase.HOVER, Phase.DESCEND):
            block[1] += AIM
        action = expert.act(env.ik_point_pos, block, env.goal_pos)
        if expert.done:
            break
        action[:3] = np.clip(action[:3] + wavering(), -1, 1)
        frames.append({"observation": observation, ACTION: action})
        observation, _, _, _, info = env.step(action)
        success |= info["is_success"]
    return frames, success and expert.done


class Player:
    """Play: from one random place to another at random speeds, now and then with a cube that somebody laid between the
    jaws, as an owner does who shows an arm how it moves."""

    def __init__(self, env: PickPlace, seed: int) -> None:
        self._env, self._rng = env, np.random.default_rng(seed)
        self._observation, _ = env.reset(seed=seed)
        self._table = env.block_pos[2]
        self._wavering = Wavering(self._rng)
        self.frames: list[Frame] = []

    def play(self) -> None:
        """A stretch of it."""
        if self._rng.random() < 0.5:
            return self._go(self._somewhere(), GRIPPER_OPEN if self._rng.random() < 0.6 else GRIPPER_CLOSED)
        low = np.append(self._rng.uniform(*PLAY_TABLE), self._table + GRASP_HEIGHT)
        self._go(low + np.array([0, 0, 0.05]), GRIPPER_OPEN, most=40)
        self._go(low, GRIPPER_OPEN, most=40)
        self._env.put_block(self._env.ik_point_pos[:2])
        self._stay(self._rng.integers(4, 12), GRIPPER_CLOSED)
        for _ in range(self._rng.integers(1, 4)):
            self._go(self._somewhere(), GRIPPER_CLOSED)
        return self._stay(self._rng.integers(3, 9), GRIPPER_OPEN)

    def _somewhere(self) -> Array:
        return self._rng.uniform(*PLAY_BOUNDS)

    def _go(self, place: Array, grasp: float, most: int | None = None) -> None:
        """Towards ``place``, for ``most`` steps, or for a while."""
        speed = self._rng.uniform(0.2, 1.0)
        for _ in range(self._rng.integers(8, 16) if most is None else most):
            error = place - self._env.ik_point_pos
            self._step(np.clip(error / DEFAULT_ACTION_SCALE, -speed, speed), grasp)
            if np.linalg.norm(error) < 0.006:
                break

    def _stay(self, steps: int, grasp: float) -> None:
        for _ in range(steps):
            self._step(np.zeros(3), grasp)

    def _step(self, move: Array, grasp: float) -> None:
        action = np.array([*np.clip(move + self._wavering(), -1, 1), grasp], dtype=np.float32)
        self.frames.append({"observation": self._observation, ACTION: action})
        self._observation, *_ = self._env.step(action)


def play(env: PickPlace, seed: int) -> tuple[list[Frame], bool]:
    """One episode of play; it cannot fail."""
    player = Player(env, seed)
    while len(player.frames) < PLAY_STEPS:
        player.play()
    return player.frames[:PLAY_STEPS], True


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
