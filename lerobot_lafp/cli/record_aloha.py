"""``lafp record-aloha``: demonstrations of gym-aloha's cube transfer, or how often their expert succeeds."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .arguments import CommandParser

USAGE = """lafp record-aloha --root=FOLDER [--repo_id=NAME] [--episodes=50] [--seed=0] [--size=480x640] [--plain]
                   [--video_only]
lafp record-aloha --evaluate [--episodes=30] [--seed=0]

A scripted expert hands over gym-aloha's cube (AlohaTransferCube-v0), every time at another place and with other wrists,
and is recorded as a LeRobotDataset: the camera observation.images.top, joints and actions, or with --video_only the
camera alone. Train on it as on any other; lerobot-eval --env.type=aloha --env.task=AlohaTransferCube-v0 evaluates.

--seed is that of the first episode; later ones follow it. lerobot-eval's should be others. Smaller pictures are made
from whole ones, as a policy with --policy.resize_shape makes them in an evaluation; --plain renders them small and
without shadows, ten times faster, and no longer quite what an evaluation shows. --evaluate says how many of the
episodes succeed, and renders nothing. Without a screen MuJoCo renders through EGL (MUJOCO_GL=egl, the default here).
"""


def run_record_aloha(arguments: Sequence[str]) -> int:
    """Run ``lafp record-aloha`` as ``USAGE`` says; returns the exit status.

    Raises:
        UserError: An argument does not fit, or gym-aloha is not installed.
        FileExistsError: The folder exists.
    """
    parser = CommandParser("record-aloha", USAGE)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--repo_id")
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", default="480x640")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--video_only", action="store_true")
    parser.add_argument("--evaluate", action="store_true")
    given = parser.parse_args(arguments)
    if (given.root is None) != given.evaluate:
        raise UserError("either --root=FOLDER or --evaluate is needed (lafp record-aloha --help)")
    if given.episodes is not None and given.episodes < 1:
        raise UserError(f"--episodes must be at least 1, got {given.episodes}.")
    height, _, width = given.size.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UserError(f"--size={given.size} must be HEIGHTxWIDTH, as 96x128.")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # before dm_control is imported
    try:
        from ..simulators.aloha.demonstrations import evaluate_expert, write_demonstrations
    except ImportError as error:
        raise UserError(f"gym-aloha is needed ({error}): pip install 'lerobot_policy_lafp[aloha]'.") from error
    if given.evaluate:
        done = evaluate_expert(given.episodes or 30, given.seed)
    else:
        done = write_demonstrations(
            given.root,
            given.repo_id or f"local/{given.root.name}",
            given.episodes or 50,
            given.seed,
            (int(height), int(width)),
            given.plain,
            actions=not given.video_only,
        )
    print(f"The expert handed over the cube in {len(done.succeeded)} of {len(done.tried)} episodes.")
    return 0
