"""``lafp check``: whether a dataset is whole, and all that one would want to know of it before training."""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata

from ..acting.robots import robot_features
from ..data.validation.cameras import Seen
from ..data.validation.fit import read_checkpoint
from ..data.validation.fit_lines import policy_lines, robot_lines
from ..data.validation.overview import overview
from ..data.validation.overview_lines import lines as overview_lines
from ..data.validation.overview_lines import unreadable_lines
from ..data.validation.remarks import remarks
from ..data.validation.soundness import TOLERANCE_S, Depth, Soundness, lines, look_over
from ..errors import UserError, in_one_line
from ..training.dataset_formats import refuse_other_format, why_unreadable
from .arguments import CommandParser

USAGE = """lafp check DATASET [--policy.path=CHECKPOINT] [--robot.type=ROBOT [--robot...]]
                [--decode] [--tolerance_s=S] [--json]

Says what a LeRobotDataset holds (a folder, or a name on the Hub), and what of it does not look right.

Faults, which would stop a training: tables and videos that are missing or damaged, frames that are missing, out of
order or further than S seconds (default: 0.0001, LeRobot's) from where they are due, NaN and infinite numbers. If there
are any, it says which episodes can be used all the same.

Then an overview: names, order, range and likely unit of every number, what actions are to the state, cameras, labels,
tasks, statistics, and what would protect a robot from a policy trained on it. Remarks say what may not be meant:
cameras that are black, frozen or copies of another, joints that never moved, names that do not fit.

--policy.path  holds a LAFP checkpoint against it: what it observes, names, order, rate, ranges, tasks, protections.
--robot.type   likewise a robot, by its names, as lerobot-rollout would use it. It is not connected to; --robot.cameras
               and other options are as for lerobot-rollout, and a port may be left out.
--decode       decodes every picture, not a few of each episode.
--json         prints the same for programs.

Nothing is changed. Ends with status 0 if there is no fault and with 1 if there is one.
"""


def run_check(arguments: Sequence[str]) -> int:
    """Run ``lafp check`` as ``USAGE`` says; returns the exit status.

    Raises:
        UserError: There is no such dataset, checkpoint or robot.
    """
    parser = CommandParser("check", USAGE)
    parser.add_argument("dataset")
    parser.add_argument("--policy.path", dest="policy")
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--tolerance_s", type=float, default=TOLERANCE_S)
    parser.add_argument("--json", action="store_true")
    robot_options = [word for word in arguments if word.startswith("--robot.")]
    given = parser.parse_args([word for word in arguments if word not in robot_options])
    checkpoint = None if given.policy is None else read_checkpoint(given.policy)
    robot = robot_features(robot_options) if robot_options else None
    here = Path(given.dataset).exists()
    refuse_other_format(given.dataset if here else None, None if here else given.dataset)
    root = _folder(given.dataset)
    depth, seen = (Depth.PICTURES, Seen()) if given.decode else (Depth.FRAMES, None)
    found = look_over(root, depth, given.tolerance_s, progress=not given.json, seen=seen)
    facts: dict[str, Any] = {}
    if found.episodes:
        facts = overview(root, seen, checkpoint, robot, progress=not given.json)
    folder = given.dataset if here else str(root)
    noted = remarks(facts, folder, found.sound_episodes) if facts else []
    if given.json:
        print(json.dumps(_finite(_for_programs(found, facts, noted))))
    else:
        print("\n".join([str(given.dataset), *lines(found), *_further_lines(facts, noted, given.policy)]))
    return 1 if found.faults else 0


def _for_programs(found: Soundness, facts: dict[str, Any], noted: list[str]) -> dict[str, Any]:
    faults = [vars(fault) for fault in found.faults]
    return {
        "sound": not faults,
        "sound_episodes": found.sound_episodes,
        "faults": faults,
        "overview": facts,
        "remarks": noted,
    }


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _further_lines(facts: dict[str, Any], noted: list[str], policy: str | None) -> Iterator[str]:
    yield from overview_lines(facts)
    yield from unreadable_lines(facts)
    if facts.get("policy"):
        yield from policy_lines(facts["policy"])
    if facts.get("robot"):
        yield from robot_lines(facts["robot"], policy or "a policy trained on this dataset")
    yield from (f"REMARK: {remark}" for remark in noted)


def _folder(dataset: str) -> Path:
    if Path(dataset).exists():
        return Path(dataset).resolve()
    try:
        root = Path(LeRobotDatasetMetadata(dataset).root)
    except Exception as error:  # the Hub's client, LeRobot and datasets have no common base for what can go wrong
        raise UserError(
            why_unreadable(error, dataset)
            or f"{dataset} cannot be read ({in_one_line(error)}). Name a folder with meta/info.json, or one of the Hub."
        ) from error
    with contextlib.suppress(Exception):  # what cannot be fetched is missing, and what cannot be read is looked at
        LeRobotDataset(dataset)
    return root
