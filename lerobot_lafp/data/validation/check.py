"""All that is known of a dataset before a training: its faults, what it holds, and remarks."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata

from ...acting.robots import robot_features
from ...errors import UserError, in_one_line
from ...training.dataset_formats import refuse_other_format, why_unreadable
from .cameras import Seen
from .fit import fit_to_labels, read_checkpoint
from .fit_lines import labels_lines, policy_lines, robot_lines
from .overview import overview
from .overview_lines import lines as overview_lines
from .overview_lines import unreadable_lines
from .remarks import remarks
from .soundness import TOLERANCE_S, CheckLevel, Soundness, validate_dataset
from .soundness import lines as soundness_lines


@dataclass(frozen=True)
class Checked:
    """What was found of a dataset.

    Attributes:
        dataset: As it was named.
        checkpoint: What it was held against, as it was named, or None.
        soundness: Its faults.
        overview: What it holds, for JSON; empty where not even an episode can be read.
        remarks: What may not be meant.
    """

    dataset: str
    checkpoint: str | None
    soundness: Soundness
    overview: dict[str, Any]
    remarks: list[str]

    @property
    def sound(self) -> bool:
        """Whether there is no fault, and the labels dataset, if one was named, can be trained on beside it."""
        return not self.soundness.faults and self.overview.get("labels_dataset", {"refused": None})["refused"] is None

    def lines(self) -> Iterator[str]:
        """All of it in words."""
        yield self.dataset
        yield from soundness_lines(self.soundness)
        yield from overview_lines(self.overview)
        yield from unreadable_lines(self.overview)
        if self.overview.get("policy"):
            yield from policy_lines(self.overview["policy"])
        if self.overview.get("labels_dataset"):
            yield from labels_lines(self.overview["labels_dataset"])
        if self.overview.get("robot"):
            yield from robot_lines(self.overview["robot"], self.checkpoint or "a policy trained on this dataset")
        yield from (f"REMARK: {remark}" for remark in self.remarks)

    def for_programs(self) -> dict[str, Any]:
        """The same for JSON."""
        found = {
            "sound": self.sound,
            "sound_episodes": self.soundness.sound_episodes,
            "faults": [vars(fault) for fault in self.soundness.faults],
            "overview": self.overview,
            "remarks": self.remarks,
        }
        return _finite(found)


def check(
    dataset: str,
    checkpoint: str | None = None,
    robot_options: Sequence[str] = (),
    decode: bool = False,
    tolerance_s: float = TOLERANCE_S,
    progress: bool = True,
    labels: str | None = None,
) -> Checked:
    """Look a dataset over, and change nothing.

    Args:
        dataset: A folder, or a name on the Hub.
        checkpoint: Of LAFP, to hold it against: a folder, or a name on the Hub.
        robot_options: ``--robot.type=..`` and others, of a robot to hold it against.
        decode: Whether every picture is decoded, not a few of each episode.
        tolerance_s: Seconds that a frame may be away from where it is due.
        progress: Whether there are progress bars.
        labels: Another dataset, whose actions would be learnt beside this one's video: a folder, or a name on the Hub.

    Raises:
        UserError: There is no such dataset, checkpoint or robot.
    """
    policy = None if checkpoint is None else read_checkpoint(checkpoint)
    robot = robot_features(robot_options) if robot_options else None
    here = Path(dataset).exists()
    root = _folder(dataset)
    beside = None if labels is None else _folder(labels)
    level, seen = (CheckLevel.PICTURES, Seen()) if decode else (CheckLevel.FRAMES, None)
    found = validate_dataset(root, level, tolerance_s, progress=progress, seen=seen)
    facts: dict[str, Any] = {}
    if found.episodes:
        facts = overview(root, seen, policy, robot, progress=progress)
        if labels is not None and beside is not None:
            facts["labels_dataset"] = fit_to_labels(None if policy is None else policy.config, root, beside, labels)
    noted = remarks(facts, dataset if here else str(root), found.sound_episodes) if facts else []
    return Checked(dataset, checkpoint, found, facts, noted)


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _folder(dataset: str) -> Path:
    """Where a dataset is on disk: the folder that it names, or what is fetched of the Hub."""
    here = Path(dataset).exists()
    refuse_other_format(dataset if here else None, None if here else dataset)
    if here:
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
