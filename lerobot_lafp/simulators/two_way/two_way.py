"""The two-way task: reach the goal, passing the obstacle on the left or on the right.

Both ways are equally good, and their mean runs into the obstacle: a policy that averages its demonstrations fails
by construction, and which way an episode went is known without a judge. Plain NumPy, no LeRobot.

Lengths are in sides of the unit square; ``x`` points right, ``y`` up. In an image, row 0 is ``y = 1``.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

ObsType = Literal["pixels", "pixels_agent_pos"]
Side = Literal["left", "right"]
Mode = Literal["left", "right", "none"]
Point = tuple[float, float]
Color = tuple[int, int, int]

TASK = "Reach the goal without touching the obstacle."
FPS = 10
MAX_EPISODE_STEPS = 60
MAX_STEP = 0.05  # distance covered in one step by an action of norm 1

ROBOT_RADIUS = 0.07  # 4.5 pixels across in an image of 32
OBSTACLE_RADIUS = 0.17
GOAL_RADIUS = 0.09  # success: the robot's centre is within it

# Means and half-widths of the uniform draws, each (x, y).
START, START_JITTER = (0.5, 0.10), (0.06, 0.02)
OBSTACLE, OBSTACLE_JITTER = (0.5, 0.50), (0.03, 0.03)
GOAL, GOAL_JITTER = (0.5, 0.90), (0.12, 0.02)

MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 32, 64

BACKGROUND_COLOR: Color = (240, 240, 240)
ROBOT_COLOR: Color = (213, 94, 0)
OBSTACLE_COLOR: Color = (60, 60, 60)
GOAL_COLOR: Color = (0, 158, 115)
_TRAIL_RADIUS, _TRAIL_OPACITY = 0.008, 0.6


@dataclass(frozen=True)
class Layout:
    """Where everything is at the start of an episode."""

    start: Point
    obstacle: Point
    goal: Point
    robot_radius: float = ROBOT_RADIUS
    obstacle_radius: float = OBSTACLE_RADIUS
    goal_radius: float = GOAL_RADIUS

    @property
    def contact_distance(self) -> float:
        """Distance of the centres of robot and obstacle at which they touch."""
        return self.robot_radius + self.obstacle_radius


@dataclass(frozen=True)
class Episode:
    """What happened in one episode.

    Attributes:
        seed: What ``reset`` was given; None after an automatic reset.
        layout: Where everything was.
        trail: The robot's centre at the start and after every step.
        mode: The side on which it first rose past the height of the obstacle's centre; "none" if it never did.
        is_success: Whether it reached the goal.
        touched: Whether it touched the obstacle.
    """

    seed: int | None
    layout: Layout
    trail: tuple[Point, ...]
    mode: Mode
    is_success: bool
    touched: bool


def sample_layout(rng: np.random.Generator) -> Layout:
    """Draw a layout. Nothing in it favours a side."""

    def around(mean: Point, half_width: Point) -> Point:
        return (
            mean[0] + half_width[0] * float(rng.uniform(-1, 1)),
            mean[1] + half_width[1] * float(rng.uniform(-1, 1)),
        )

    return Layout(around(START, START_JITTER), around(OBSTACLE, OBSTACLE_JITTER), around(GOAL, GOAL_JITTER))


def contact_fraction(start: Point, end: Point, centre: Point, distance: float) -> float | None:
    """Where along the segment ``start -> end``, in [0, 1], ``distance`` from ``centre`` is first reached.

    The smaller root of ``|start + u (end - start) - centre|^2 = distance^2``; 0 if ``start`` is already nearer,
    None if the segment stays clear.
    """
    dx, dy = end[0] - start[0], end[1] - start[1]
    fx, fy = start[0] - centre[0], start[1] - centre[1]
    a, b, c = dx * dx + dy * dy, fx * dx + fy * dy, fx * fx + fy * fy - distance * distance
    if c <= 0:
        return 0.0
    discriminant = b * b - a * c
    if b >= 0 or discriminant < 0:
        return None
    u = (-b - math.sqrt(discriminant)) / a
    return u if u <= 1 else None


def draw_disc(canvas: NDArray[np.float32], centre: Point, radius: float, color: Color, opacity: float = 1.0) -> None:
    """Blend an anti-aliased disc into ``canvas`` (S, S, 3), in place.

    A pixel's coverage is its signed distance to the rim, clipped to one pixel, so that motion by a fraction of a
    pixel shows.
    """
    size = canvas.shape[0]
    column, row, r = centre[0] * size - 0.5, (1 - centre[1]) * size - 0.5, radius * size
    left, right = max(0, math.floor(column - r)), min(size, math.ceil(column + r) + 1)
    top, bottom = max(0, math.floor(row - r)), min(size, math.ceil(row + r) + 1)
    if left >= right or top >= bottom:
        return
    dx = np.arange(left, right, dtype=np.float32) - column
    dy = np.arange(top, bottom, dtype=np.float32) - row
    coverage = np.clip(r + 0.5 - np.sqrt(dy[:, None] ** 2 + dx[None, :] ** 2), 0, 1) * opacity
    window = canvas[top:bottom, left:right]
    window += coverage[:, :, None] * (np.asarray(color, dtype=np.float32) - window)


def draw_backdrop(layout: Layout, size: int) -> NDArray[np.float32]:
    """Goal and obstacle without the robot, (size, size, 3), values 0 to 255."""
    canvas = np.empty((size, size, 3), dtype=np.float32)
    canvas[:] = BACKGROUND_COLOR
    draw_disc(canvas, layout.goal, layout.goal_radius, GOAL_COLOR)
    draw_disc(canvas, layout.obstacle, layout.obstacle_radius, OBSTACLE_COLOR)
    return canvas


def draw_scene(layout: Layout, robot: Point, size: int, trail: Iterable[Point] = ()) -> NDArray[np.uint8]:
    """The whole scene as an RGB image (size, size, 3), with a dot at every point of ``trail``."""
    return _add_robot(draw_backdrop(layout, size), layout, robot, trail)


def _add_robot(
    canvas: NDArray[np.float32], layout: Layout, robot: Point, trail: Iterable[Point] = ()
) -> NDArray[np.uint8]:
    for point in trail:
        draw_disc(canvas, point, _TRAIL_RADIUS, ROBOT_COLOR, _TRAIL_OPACITY)
    draw_disc(canvas, robot, layout.robot_radius, ROBOT_COLOR)
    return (canvas + 0.5).astype(np.uint8)


class TwoWayEnv(gym.Env):
    """A disc-shaped robot in the unit square, moved by its velocity.

    Action: (2,), the velocity (x, y) as a fraction of ``MAX_STEP`` per step; longer than norm 1 is shortened to it.
    Observation: ``pixels`` (image_size, image_size, 3) uint8, and with ``obs_type="pixels_agent_pos"`` the robot's
    position ``agent_pos`` (2,). Reward: 1 on success, else 0.

    The episode ends in success when the robot's centre enters the goal, in failure when the robot touches the
    obstacle anywhere along a step, and is truncated after ``max_episode_steps``. Walls stop the robot.

    ``info`` of every reset and step: ``is_success``, ``touched`` and ``mode``, as in ``Episode``.

    Args:
        obs_type: What is observed (gym-pusht's names).
        image_size: Side of the observed image in pixels, 32 to 64.
        render_mode: Only ``rgb_array``.
        render_size: Side in pixels of what ``render`` returns.
        max_episode_steps: Steps until an episode is cut off.
        episode_log: File to which every episode that was started with a seed is appended when it ends, for
            ``read_episodes``. LeRobot's evaluation keeps success and drops the rest of ``info``. Vectorised
            environments begin episodes of their own while others of the batch still run: those have no seed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012 (Gymnasium's own signature)
    task = "two_way"
    task_description = TASK

    def __init__(
        self,
        obs_type: ObsType = "pixels",
        image_size: int = 32,
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
        max_episode_steps: int = MAX_EPISODE_STEPS,
        episode_log: str | Path | None = None,
    ) -> None:
        if obs_type not in get_args(ObsType):
            raise ValueError(f"`obs_type` must be one of {get_args(ObsType)}, got {obs_type!r}.")
        if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
            raise ValueError(f"`image_size` must be {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels, got {image_size}.")
        if max_episode_steps < 1:
            raise ValueError(f"`max_episode_steps` must be at least 1, got {max_episode_steps}.")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"`render_mode` must be 'rgb_array', got {render_mode!r}.")
        self.obs_type = obs_type
        self.image_size = image_size
        self.render_mode = render_mode
        self.render_size = render_size
        self._max_episode_steps = max_episode_steps
        spaces: dict[str, gym.Space] = {"pixels": gym.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)}
        if obs_type == "pixels_agent_pos":
            spaces["agent_pos"] = gym.spaces.Box(0.0, 1.0, (2,), np.float32)
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.episode_log = None if episode_log is None else Path(episode_log)
        self._layout: Layout | None = None

    @property
    def layout(self) -> Layout:
        """Where everything is in the present episode."""
        if self._layout is None:
            raise RuntimeError("There is no layout before the first `reset`.")
        return self._layout

    @property
    def position(self) -> Point:
        """The robot's centre."""
        return self._trail[-1]

    @property
    def episode(self) -> Episode:
        """The present episode so far, or the last one if it has ended."""
        return Episode(self._seed, self.layout, tuple(self._trail), self._mode, self._is_success, self._touched)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray], dict[str, Any]]:
        """Start an episode; the same ``seed`` gives the same layout, ``options={"layout": ..}`` a given one."""
        super().reset(seed=seed)
        layout = (options or {}).get("layout") or sample_layout(self.np_random)
        self._layout = layout
        self._seed = seed
        self._trail: list[Point] = [layout.start]
        self._mode: Mode = "none"
        self._touched = False
        self._is_success = False
        self._backdrops: dict[int, NDArray[np.float32]] = {}
        return self._observation(), self._info()

    def step(self, action: NDArray) -> tuple[dict[str, NDArray], float, bool, bool, dict[str, Any]]:
        layout, (x, y) = self.layout, self.position
        vx, vy = self._velocity(action)
        low, high = layout.robot_radius, 1 - layout.robot_radius
        end = (min(max(x + vx, low), high), min(max(y + vy, low), high))
        contact = contact_fraction((x, y), end, layout.obstacle, layout.contact_distance)
        if contact is not None:
            self._touched = True
            end = (x + contact * (end[0] - x), y + contact * (end[1] - y))
        self._note_mode((x, y), end)
        self._trail.append(end)
        self._is_success = not self._touched and math.dist(end, layout.goal) <= layout.goal_radius

        terminated = self._touched or self._is_success
        truncated = not terminated and len(self._trail) > self._max_episode_steps
        if (terminated or truncated) and self.episode_log is not None and self._seed is not None:
            _append_episode(self.episode_log, self.episode)
        return self._observation(), float(self._is_success), terminated, truncated, self._info()

    def render(self) -> NDArray[np.uint8] | None:
        """The scene and the robot's trail, (render_size, render_size, 3) uint8."""
        if self.render_mode is None:
            return None
        return _add_robot(self._backdrop(self.render_size), self.layout, self.position, self._trail)

    def _velocity(self, action: NDArray) -> Point:
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"An action is two finite numbers, got {action}.")
        vx, vy = float(action[0]), float(action[1])
        scale = MAX_STEP / max(1.0, math.hypot(vx, vy))
        return vx * scale, vy * scale

    def _note_mode(self, start: Point, end: Point) -> None:
        x, y = self.layout.obstacle
        if self._mode == "none" and start[1] < y <= end[1]:
            crossing = start[0] + (end[0] - start[0]) * (y - start[1]) / (end[1] - start[1])
            self._mode = "left" if crossing < x else "right"

    def _backdrop(self, size: int) -> NDArray[np.float32]:
        if size not in self._backdrops:
            self._backdrops[size] = draw_backdrop(self.layout, size)
        return self._backdrops[size].copy()

    def _observation(self) -> dict[str, NDArray]:
        observation: dict[str, NDArray] = {
            "pixels": _add_robot(self._backdrop(self.image_size), self.layout, self.position)
        }
        if self.obs_type == "pixels_agent_pos":
            observation["agent_pos"] = np.array(self.position, dtype=np.float32)
        return observation

    def _info(self) -> dict[str, Any]:
        return {"is_success": self._is_success, "touched": self._touched, "mode": self._mode}


def _append_episode(log: Path, episode: Episode) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:  # one write a line: several workers may share the file
        file.write(json.dumps(asdict(episode)) + "\n")


def read_episodes(log: str | Path) -> list[Episode]:
    """The episodes of an ``episode_log``, in the order of their seeds; of those with one seed, the last.

    No file, no episodes.
    """
    log = Path(log)
    episodes: dict[int, Episode] = {}
    for line in log.read_text().splitlines() if log.is_file() else []:
        fields = json.loads(line)
        layout: dict[str, Any] = {
            key: tuple(x) if isinstance(x, list) else x for key, x in fields.pop("layout").items()
        }
        trail = tuple((x, y) for x, y in fields.pop("trail"))
        episodes[fields["seed"]] = Episode(layout=Layout(**layout), trail=trail, **fields)
    return [episodes[seed] for seed in sorted(episodes)]
