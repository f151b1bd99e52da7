"""Pictures of logged episodes of the two-way task: trajectories over the scene, and a video of all methods."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from lerobot.utils.io_utils import write_video
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from numpy.typing import NDArray

from .two_way import FPS, GOAL, GOAL_COLOR, GOAL_RADIUS, OBSTACLE, OBSTACLE_COLOR, START, Episode, Layout, draw_scene

matplotlib.use("Agg")

_OUTCOME_COLORS = {"success": "#0072b2", "touched the obstacle": "#d55e00", "out of time": "#999999"}


def draw_trajectories(episodes: Mapping[str, Sequence[Episode]], path: Path) -> None:
    """One panel a method, every episode a line, drawn relative to its obstacle (whose place varies a little)."""
    figure, axes = plt.subplots(
        1, len(episodes), figsize=(3.2 * len(episodes), 4.1), squeeze=False, layout="constrained"
    )
    mean = Layout(START, OBSTACLE, GOAL)
    for axis, (method, of_method) in zip(axes[0], episodes.items(), strict=True):
        # Where the robot's centre touches is what its trajectory can be compared with.
        for radius, alpha in ((mean.obstacle_radius, 1.0), (mean.contact_distance, 0.25)):
            axis.add_patch(Circle(OBSTACLE, radius, color=np.divide(OBSTACLE_COLOR, 255), alpha=alpha, lw=0))
        axis.add_patch(Circle(GOAL, GOAL_RADIUS, color=np.divide(GOAL_COLOR, 255), alpha=0.8, lw=0))
        for episode in of_method:
            trail = np.array(episode.trail) - episode.layout.obstacle + OBSTACLE
            axis.plot(trail[:, 0], trail[:, 1], color=_OUTCOME_COLORS[_outcome(episode)], lw=0.8, alpha=0.6)
        success = sum(episode.is_success for episode in of_method) / len(of_method)
        axis.set(
            title=f"{method}\n{success:.0%} success", xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[]
        )
    lines = [Line2D([], [], color=color, label=label) for label, color in _OUTCOME_COLORS.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


def _outcome(episode: Episode) -> str:
    if episode.is_success:
        return "success"
    return "touched the obstacle" if episode.touched else "out of time"


def write_side_by_side_video(
    episodes: Mapping[str, Sequence[Episode]], path: Path, num_episodes: int = 8, size: int = 256
) -> None:
    """The first episodes one after another, all methods side by side, (size, size) pixels each."""
    frames: list[NDArray[np.uint8]] = []
    for same_seed in zip(*(of_method[:num_episodes] for of_method in episodes.values()), strict=True):
        length = max(len(episode.trail) for episode in same_seed) + FPS // 2  # a moment to see how it ended
        frames += [np.concatenate([_frame(e, step, size) for e in same_seed], axis=1) for step in range(length)]
    write_video(str(path), np.stack(frames), FPS)


def _frame(episode: Episode, step: int, size: int) -> NDArray[np.uint8]:
    trail = episode.trail[: step + 1]
    return draw_scene(episode.layout, trail[-1], size, trail)
