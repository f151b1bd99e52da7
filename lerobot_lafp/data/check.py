"""``lafp check``: whether a dataset is whole, and which of its episodes can be used if it is not."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata

from ..command_line import CommandParser
from ..messages import in_one_line
from ..runs import CommandError
from .soundness import TOLERANCE_S, Depth, Soundness, look_over

USAGE = """lafp check DATASET [--decode] [--tolerance_s=S] [--json]

Looks for what a training would stumble on in a LeRobotDataset (a folder, or a name on the Hub): tables and videos that
are missing or damaged, frames that are missing, out of order or further than S seconds (default: 0.0001, LeRobot's)
from where they are due, NaN and infinite numbers. It reads the tables, and of videos the times of their pictures;
--decode decodes every picture, too. Nothing is changed. Ends with status 0 if the dataset is sound and with 1 if it is
not, and says which episodes can be used all the same. --json prints the same for programs.
"""


def run_check(arguments: Sequence[str]) -> int:
    """Run ``lafp check`` as ``USAGE`` says; returns the exit status.

    Raises:
        CommandError: There is no such dataset.
    """
    parser = CommandParser("check", USAGE)
    parser.add_argument("dataset")
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--tolerance_s", type=float, default=TOLERANCE_S)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    root = _folder(given.dataset)
    depth = Depth.PICTURES if given.decode else Depth.FRAMES
    found = look_over(root, depth, given.tolerance_s, progress=not given.json)
    if given.json:
        faults = [vars(fault) for fault in found.faults]
        print(json.dumps({"sound": not faults, "sound_episodes": found.sound_episodes, "faults": faults}))
    else:
        print("\n".join([str(given.dataset), *lines(found)]))
    return 1 if found.faults else 0


def lines(found: Soundness) -> list[str]:
    """What was found, in words, with the mend."""
    total, sound = len(found.episodes), found.sound_episodes
    if not found.faults:
        return [f"  {total} episodes, all sound"]
    said = [f"  {fault}" for fault in found.faults]
    if any(fault.lost for fault in found.faults):
        said.append("  Copy or download again what is missing or cannot be read.")
    if sound:
        first = "move the tables away that cannot be read, and " * any(
            fault.lost and fault.file.startswith("data/") for fault in found.faults
        )
        those = json.dumps(sound, separators=(",", ":"))
        said.append(
            f"  {len(sound)} of {total} episodes are sound. To go on with those, {first}add --dataset.episodes={those}"
        )
    return said


def _folder(dataset: str) -> Path:
    if Path(dataset).exists():
        return Path(dataset).resolve()
    try:
        root = Path(LeRobotDatasetMetadata(dataset).root)
    except Exception as error:  # the Hub's client, LeRobot and datasets have no common base for what can go wrong
        raise CommandError(
            f"{dataset} cannot be read ({in_one_line(error)}). Name a folder with meta/info.json, or a name on the Hub."
        ) from error
    with contextlib.suppress(Exception):  # what cannot be fetched is missing, and what cannot be read is looked at
        LeRobotDataset(dataset)
    return root
