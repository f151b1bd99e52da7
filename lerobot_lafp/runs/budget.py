"""How long ``lafp train`` trains where nobody says: steps and batches by the size of the dataset, in one table with
what the dataset decides of the policy (`training/choices.py`)."""

import copy
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from lerobot.configs.train import TrainPipelineConfig

from ..configuration_lafp import LAFPConfig
from ..lerobot_patches import labels_alone
from ..options.constants import Stage
from ..training.choices import Choice, cameras_of, choose
from ..training.joined import open_metadata
from .asked import read_command

logger = logging.getLogger(__name__)

BATCH = 64


@dataclass(frozen=True)
class Amount:
    """How much a stage is trained: each frame so often, within limits.

    Attributes:
        epochs: How often each frame is drawn.
        least: Steps of a small dataset.
        most: Steps of a large one.
        most_epochs: How often each frame of the smallest is drawn, where ``least`` would have it learnt by heart.
    """

    epochs: float
    least: int
    most: int
    most_epochs: float = math.inf

    def steps(self, frames: int, batch_size: int) -> int:
        """In round numbers."""
        epoch = max(1, frames) / batch_size
        wanted = min(max(self.epochs * epoch, self.least), self.most_epochs * epoch, self.most)
        return 100 * max(1, round(wanted / 100))


#: Where there is a camera, whose encoder takes nearly all of a step's time.
AMOUNTS = {
    Stage.LATENT_ACTION: Amount(epochs=6, least=1500, most=20_000),
    Stage.LATENT_POLICY: Amount(epochs=8, least=4000, most=40_000, most_epochs=120),
    Stage.ACTION_DECODER: Amount(epochs=20, least=2000, most=5000),
}
#: Of states alone, where a step takes little.
AMOUNTS_OF_STATES = {
    Stage.LATENT_ACTION: Amount(epochs=6, least=6000, most=20_000),
    Stage.LATENT_POLICY: Amount(epochs=60, least=6000, most=40_000),
    Stage.ACTION_DECODER: AMOUNTS[Stage.ACTION_DECODER],
}


def budgets(commands: Sequence[Sequence[str]], is_new: bool) -> list[list[str]]:
    """Decide what nobody has set, and print it in one table with the reasons.

    Args:
        commands: Of the stages in order, arguments of ``lerobot-train`` without ``--policy.path``.
        is_new: Whether the first stage starts from no checkpoint, so that the dataset decides of the policy, too.

    Returns:
        The options to add to each, ``--steps=3000``; none where a command or its dataset cannot be read.
    """
    lines: list[tuple[str, str]] = []
    added = []
    datasets = _Datasets()
    for arguments in commands:
        try:
            asked = read_command(arguments, {})
            cfg = asked.pipeline
            assert isinstance(cfg.policy, LAFPConfig)
            stage = Stage(cfg.policy.stage)
            frames = _frames(stage, cfg, datasets)
            if is_new and stage is Stage.LATENT_ACTION:
                lines += _of_policy(cfg, datasets)
        except Exception as error:  # the Hub's client and LeRobot have no common base; the training says what it is
            logger.debug("%s cannot be read: %s", " ".join(arguments), error)
            return [[] for _ in commands]
        choices = _amount(stage, cfg, asked.given, frames, bool(cameras_of(cfg.policy, datasets.video(cfg))))
        lines += [(f"--{stage}.{each.name}={each.value}", each.reason) for each in choices]
        added.append([f"--{each.name}={each.value}" for each in choices])
    if lines:
        width = max(len(word) for word, _ in lines)
        print("\nChosen by the dataset. To choose otherwise, add the option to the command:", flush=True)
        print("\n".join(f"  {word:<{width}}  {reason}" for word, reason in lines), flush=True)
    return added


class _Datasets:
    """Metadata of the datasets of a training, each opened once: that asks the Hub, and reads tables."""

    def __init__(self) -> None:
        self._opened: dict[tuple[Any, ...], Any] = {}

    def video(self, cfg: TrainPipelineConfig) -> Any:
        """Of ``--dataset.*``."""
        return self._open(cfg.dataset, "dataset")

    def labels(self, cfg: TrainPipelineConfig) -> Any:
        """Of ``--policy.labels.*``."""
        return self._open(labels_alone(cfg).dataset, "policy.labels")

    def _open(self, dataset: Any, option: str) -> Any:
        key = (dataset.repo_id, dataset.root, dataset.revision)
        if key not in self._opened:
            self._opened[key] = open_metadata(dataset, option)
        return self._opened[key]


def _of_policy(cfg: TrainPipelineConfig, datasets: _Datasets) -> list[tuple[str, str]]:
    """What the dataset decides of the policy: decided in a copy, since the training does it itself."""
    policy = copy.deepcopy(cfg.policy)
    found = choose(policy, datasets.video(cfg))
    if policy.labels.repo_id is not None:
        found += choose(policy, datasets.labels(cfg), of_labels=True)
    return [(each.typed, each.reason) for each in found]


def _amount(stage: Stage, cfg: TrainPipelineConfig, given: Collection[str], frames: int, sees: bool) -> list[Choice]:
    """Steps, batch and checkpoints of one stage."""
    found, batch_size, steps = [], cfg.batch_size, cfg.steps
    if "batch_size" not in given:
        batch_size = BATCH
        found.append(Choice("batch_size", BATCH, "samples a step"))
    if "steps" not in given:
        amount = (AMOUNTS if sees else AMOUNTS_OF_STATES)[stage]
        steps = amount.steps(frames, batch_size)
        of = "labelled frames" if stage is Stage.ACTION_DECODER else "frames"
        often = steps * batch_size / max(1, frames)
        found.append(Choice("steps", steps, f"{frames:,} {of}, each about {often:.2g} times"))
    if "save_freq" not in given:
        found.append(Choice("save_freq", max(1, -(-steps // 4)), "an interrupted run loses a quarter at most"))
    return found


def _frames(stage: Stage, cfg: TrainPipelineConfig, datasets: _Datasets) -> int:
    """Frames that a stage learns from."""
    policy = cfg.policy
    assert isinstance(policy, LAFPConfig)
    count = 0
    if policy.labels.repo_id is None or stage is not Stage.ACTION_DECODER:
        episodes = cfg.dataset.episodes
        if stage is Stage.ACTION_DECODER and policy.labeled_episodes is not None:
            episodes = [each for each in policy.labeled_episodes if episodes is None or each in episodes]
        count += _count(datasets.video(cfg), episodes)
    if policy.labels.repo_id is not None and stage is not Stage.LATENT_POLICY:
        count += _count(datasets.labels(cfg), policy.labels.episodes)
    return count


def _count(meta: Any, episodes: Sequence[int] | None) -> int:
    lengths = meta.episodes["length"]
    return int(sum(lengths) if episodes is None else sum(lengths[e] for e in episodes if e < len(lengths)))
