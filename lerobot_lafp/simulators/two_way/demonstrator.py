"""A scripted demonstrator of the two-way task, and the LeRobotDataset it writes."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.constants import ACTION, OBS_IMAGE, OBS_STATE
from numpy.typing import NDArray
from tqdm import tqdm

from .two_way import FPS, TASK, Layout, ObsType, Point, Side, TwoWayEnv, sample_layout

CLEARANCE = (0.045, 0.095)  # of the path from contact with the obstacle, drawn per episode
SPEED = (0.62, 0.72)  # norm of the action before noise, drawn per episode
NOISE_SCALE = 0.06  # deviation of the action noise in each direction
NOISE_MEMORY = 0.7  # correlation of the noise from one step to the next
LOOKAHEAD = 0.08  # distance along the path at which the demonstrator aims
MIN_EPISODE_FRAMES = 17  # one frame more than a chunk of the default horizon

#: Keeps the layouts of demonstrations apart from those of ``TwoWayEnv.reset(seed=..)``, whatever the seeds.
DEMONSTRATION_SPAWN_KEY = 0x1AF9
#: Record of the arguments, inside the dataset; written last, so its presence also says "complete".
RECORD = Path("meta", "lafp_demonstrations.json")


class Demonstrator:
    """Goes round the obstacle along the shortest path that keeps a clearance, by pure pursuit.

    The path is the taut string: a tangent to the circle of radius ``contact_distance + clearance`` around the
    obstacle, a piece of that circle, a tangent to the goal. Its first step already heads to one side, at about 45
    degrees, and where the two ways are averaged they run into the obstacle.

    Args:
        layout: The episode's layout.
        rng: Draws side, clearance, speed and noise.
        side: The side to pass on. Unset: either, with even chances.
    """

    def __init__(self, layout: Layout, rng: np.random.Generator, side: Side | None = None) -> None:
        drawn: Side = "left" if rng.random() < 0.5 else "right"
        self.side: Side = drawn if side is None else side
        self.clearance = float(rng.uniform(*CLEARANCE))
        self.speed = float(rng.uniform(*SPEED))
        self.path = taut_path(layout, self.side, self.clearance)
        self._along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.path, axis=0), axis=1))])
        self._reached = 0
        self._rng = rng
        self._noise = rng.normal(0.0, NOISE_SCALE, 2)

    def act(self, position: Point) -> NDArray[np.float32]:
        """The action (2,) at the robot's ``position``; norm at most 1."""
        distance = np.linalg.norm(self.path[self._reached :] - position, axis=1)
        self._reached += int(distance.argmin())
        aim = int(np.searchsorted(self._along, self._along[self._reached] + LOOKAHEAD))
        heading = self.path[min(aim, len(self.path) - 1)] - position
        action = self.speed * heading / max(float(np.linalg.norm(heading)), 1e-9) + self._noise
        fresh = self._rng.normal(0.0, NOISE_SCALE, 2)
        self._noise = NOISE_MEMORY * self._noise + math.sqrt(1 - NOISE_MEMORY**2) * fresh
        return (action / max(1.0, float(np.linalg.norm(action)))).astype(np.float32)


def taut_path(layout: Layout, side: Side, clearance: float, spacing: float = 0.01) -> NDArray[np.float64]:
    """Points (N, 2) about ``spacing`` apart, from start to goal around the obstacle on ``side``."""
    centre, radius = np.array(layout.obstacle), layout.contact_distance + clearance
    turn = -1.0 if side == "left" else 1.0  # seen from the obstacle, the right way runs anticlockwise

    def bearing_and_opening(point: Point) -> tuple[float, float]:
        dx, dy = point[0] - layout.obstacle[0], point[1] - layout.obstacle[1]
        return math.atan2(dy, dx), math.acos(radius / math.hypot(dx, dy))

    bearing, opening = bearing_and_opening(layout.start)
    enter = bearing + turn * opening
    bearing, opening = bearing_and_opening(layout.goal)
    leave = (bearing if side == "right" else bearing - 2 * math.pi) - turn * opening
    angles = np.linspace(enter, leave, max(2, math.ceil(radius * abs(leave - enter) / spacing)))
    arc = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def straight(a: NDArray, b: NDArray) -> NDArray[np.float64]:
        return np.linspace(a, b, max(2, math.ceil(float(np.linalg.norm(b - a)) / spacing)))

    to_arc, to_goal = straight(np.array(layout.start), arc[0]), straight(arc[-1], np.array(layout.goal))
    return np.concatenate([to_arc[:-1], arc, to_goal[1:]])


@dataclass(frozen=True)
class Demonstration:
    """One episode of N steps. ``actions`` are always the true ones.

    Attributes:
        images: (N, S, S, 3) uint8, seen before each action.
        positions: (N, 2) float32, the robot's position before each action.
        actions: (N, 2) float32, as executed.
        side: The side it passed on.
        is_success: Whether it reached the goal.
        layout: Where everything was.
    """

    images: NDArray[np.uint8]
    positions: NDArray[np.float32]
    actions: NDArray[np.float32]
    side: Side
    is_success: bool
    layout: Layout


def demonstrate(env: TwoWayEnv, rng: np.random.Generator, side: Side | None = None) -> Demonstration:
    """Run the demonstrator for one episode in ``env``, in a layout drawn from ``rng``."""
    layout = sample_layout(rng)
    observation, info = env.reset(options={"layout": layout})
    demonstrator = Demonstrator(layout, rng, side)
    images, positions, actions = [], [], []
    done = False
    while not done:
        images.append(observation["pixels"])
        positions.append(env.position)
        actions.append(demonstrator.act(env.position))
        observation, _, terminated, truncated, info = env.step(actions[-1])
        done = terminated or truncated
    return Demonstration(
        images=np.stack(images),
        positions=np.array(positions, dtype=np.float32),
        actions=np.stack(actions),
        side=demonstrator.side,
        is_success=bool(info["is_success"]),
        layout=layout,
    )


def demonstrations(num_episodes: int, seed: int = 0, image_size: int = 32) -> Iterator[Demonstration]:
    """The episodes that ``write_demonstrations`` writes, true actions included.

    Each episode has a seed of its own, so the first N are the same whatever ``num_episodes`` is. Of the episodes
    2i and 2i + 1 one passes on the left, the other on the right, in random order: few labels cover both.

    Raises:
        RuntimeError: An episode failed, or is too short for a chunk.
    """
    env = TwoWayEnv(image_size=image_size)
    for episode in range(num_episodes):
        pair = np.random.SeedSequence(seed, spawn_key=(DEMONSTRATION_SPAWN_KEY, 0, episode // 2))
        left_first = np.random.default_rng(pair).random() < 0.5
        side: Side = "left" if left_first == (episode % 2 == 0) else "right"
        own = np.random.SeedSequence(seed, spawn_key=(DEMONSTRATION_SPAWN_KEY, 1, episode))
        demonstration = demonstrate(env, np.random.default_rng(own), side)
        if not demonstration.is_success or len(demonstration.actions) < MIN_EPISODE_FRAMES:
            raise RuntimeError(
                f"Demonstration {episode} of seed {seed} failed or is shorter than {MIN_EPISODE_FRAMES} frames "
                f"({len(demonstration.actions)}). Take another seed, and report this one."
            )
        yield demonstration


def write_demonstrations(
    root: str | Path,
    num_episodes: int,
    num_labeled: int | None = None,
    seed: int = 0,
    image_size: int = 32,
    obs_type: ObsType = "pixels",
    repo_id: str = "local/two_way",
) -> list[int]:
    """Write demonstrations as a LeRobotDataset v3, images embedded as PNG, actions known for some episodes only.

    The actions of unlabelled episodes are withheld: they are NaN in the dataset, so that nothing can be trained on
    them by accident. Which episodes are labelled changes nothing else, so label budgets compare on the same videos.

    Args:
        root: The dataset's folder. Complete and written with the same arguments: left as it is.
        num_episodes: Episodes to write.
        num_labeled: How many of them, the first ones, keep their actions. Unset: all. 0: there is no ``action``
            column, as in plain video.
        seed: Of the demonstrations. Their layouts are never those of ``TwoWayEnv.reset`` with any seed.
        image_size: Side of ``observation.image`` in pixels.
        obs_type: ``pixels_agent_pos`` adds ``observation.state`` (2,), the robot's position.
        repo_id: The name the dataset goes by.

    Returns:
        The labelled episodes, for ``--policy.labeled_episodes``.

    Raises:
        ValueError: A number is out of range.
        FileExistsError: ``root`` holds something else, or was written with other arguments.
    """
    num_labeled = num_episodes if num_labeled is None else num_labeled
    if num_episodes < 1 or not 0 <= num_labeled <= num_episodes:
        raise ValueError(
            "`num_episodes` must be at least 1 and `num_labeled` between 0 and `num_episodes`, got "
            f"{num_episodes} and {num_labeled}."
        )
    root = Path(root)
    labeled = list(range(num_labeled))
    arguments: dict[str, Any] = {
        "version": 1,  # raised when the same arguments come to give other data
        "num_episodes": num_episodes,
        "num_labeled": num_labeled,
        "seed": seed,
        "image_size": image_size,
        "obs_type": obs_type,
        "repo_id": repo_id,
    }
    if _is_complete(root, arguments):
        return labeled

    partial = root.with_name(root.name + ".partial")  # a run that was killed leaves this behind, never ``root``
    if partial.exists():
        shutil.rmtree(partial)
    dataset = LeRobotDataset.create(
        repo_id,
        fps=FPS,
        features=_features(image_size, obs_type, with_actions=num_labeled > 0),
        root=partial,
        robot_type="two_way",
        use_videos=False,
    )
    episodes = demonstrations(num_episodes, seed, image_size)
    for episode, demonstration in enumerate(tqdm(episodes, total=num_episodes, desc="demonstrations", unit="episode")):
        _add_episode(dataset, demonstration, is_labeled=episode < num_labeled)
    dataset.finalize()
    shutil.rmtree(partial / "images", ignore_errors=True)  # empty by now: the parquet files hold the frames
    (partial / RECORD).write_text(json.dumps(arguments, indent=2) + "\n")
    if root.exists():
        root.rmdir()
    partial.rename(root)
    return labeled


def _is_complete(root: Path, arguments: dict[str, Any]) -> bool:
    """Whether ``root`` already holds the demonstrations asked for; raises if it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    mend = "Choose another folder, or delete this one."
    record = root / RECORD
    if not record.is_file():
        raise FileExistsError(f"{root} is not empty and holds no two-way demonstrations. {mend}")
    written = json.loads(record.read_text())
    changed = [f"{k}={written.get(k)} (asked for: {v})" for k, v in arguments.items() if written.get(k) != v]
    if changed:
        raise FileExistsError(f"{root} holds demonstrations with {', '.join(changed)}. {mend}")
    return True


def _features(image_size: int, obs_type: ObsType, with_actions: bool) -> dict[str, dict[str, Any]]:
    image = {"dtype": "image", "shape": (image_size, image_size, 3), "names": ["height", "width", "channels"]}
    vector = {"dtype": "float32", "shape": (2,), "names": ["x", "y"]}
    features = {OBS_IMAGE: image}
    if obs_type == "pixels_agent_pos":
        features[OBS_STATE] = vector
    if with_actions:
        features[ACTION] = vector
    return features


def _add_episode(dataset: LeRobotDataset, demonstration: Demonstration, is_labeled: bool) -> None:
    withheld = np.full(2, np.nan, dtype=np.float32)
    frames = zip(demonstration.images, demonstration.positions, demonstration.actions, strict=True)
    for image, position, action in frames:
        values = {OBS_IMAGE: image, OBS_STATE: position, ACTION: action if is_labeled else withheld}
        dataset.add_frame({"task": TASK} | {key: x for key, x in values.items() if key in dataset.features})
    dataset.save_episode()
