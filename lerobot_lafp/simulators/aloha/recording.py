"""gym-aloha's cube transfer by a scripted expert: recorded, or counted; MuJoCo is set up for machines without a screen.

What does it lies in ``demonstrations``, which cannot be imported without gym-aloha.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError

if TYPE_CHECKING:
    from .demonstrations import Recorded

#: Episodes that are recorded, and that are only counted, unless told otherwise.
NUM_RECORDED, NUM_COUNTED = 50, 30


def record(
    root: Path,
    repo_id: str | None = None,
    episodes: int | None = None,
    seed: int = 0,
    size: str = "480x640",
    plain: bool = False,
    video_only: bool = False,
) -> "Recorded":
    """Write a dataset of demonstrations.

    Args:
        root: Its folder.
        repo_id: Its name. Unset: by the folder's.
        episodes: How many.
        seed: Of the first; later ones count up.
        size: Of the pictures, as ``HEIGHTxWIDTH``.
        plain: Render small pictures without shadows, in place of whole ones that are made smaller.
        video_only: Leave states and actions out.

    Raises:
        UserError: An argument does not fit, or gym-aloha is not installed.
        FileExistsError: ``root`` exists.
    """
    height, _, width = size.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UserError(f"--size={size} must be HEIGHTxWIDTH, as 96x128.")
    count, name = _at_least_one(episodes, NUM_RECORDED), repo_id or f"local/{root.name}"
    shape = (int(height), int(width))
    return _demonstrations().write_demonstrations(root, name, count, seed, shape, plain, actions=not video_only)


def evaluate_expert(episodes: int | None = None, seed: int = 0) -> "Recorded":
    """Play episodes and record nothing. Arguments and errors are those of ``record``."""
    count = _at_least_one(episodes, NUM_COUNTED)
    return _demonstrations().evaluate_expert(count, seed)


def _at_least_one(episodes: int | None, default: int) -> int:
    if episodes is not None and episodes < 1:
        raise UserError(f"--episodes must be at least 1, got {episodes}.")
    return episodes or default


def _demonstrations() -> Any:
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # before dm_control is imported
    try:
        from . import demonstrations
    except ImportError as error:
        raise UserError(f"gym-aloha is needed ({error}): pip install 'lerobot_policy_lafp[aloha]'.") from error
    return demonstrations
