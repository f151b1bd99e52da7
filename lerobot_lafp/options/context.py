"""What a LeRobot command is about to do with a policy, as far as the policy cannot see it by itself.

LeRobot hands a policy its configuration and a dataset's metadata, not the episodes that a run was given, nor the robot
and the rate of a rollout. ``lerobot_patches`` notes them in ``LAFPConfig.context``.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Self


@dataclass(frozen=True)
class TrainingContext:
    """A run of ``lerobot-train``.

    Attributes:
        episodes: ``--dataset.episodes``; None: all.
        excluded: ``--dataset.exclude_episodes``, which LeRobot has after 0.6.1.
        eval_split: ``--dataset.eval_split``, the share of them that is held out.
        rename_map: ``--rename_map``.
        samples: How many it trains on, each as often as it is drawn, by all processes together.
        of_labels: ``--policy.labels.episodes``, of the other dataset that has the actions; None: all of them.
        evaluates: Whether the policy is evaluated in an environment while it trains.
    """

    episodes: tuple[int, ...] | None = None
    eval_split: float = 0.0
    rename_map: dict[str, str] = field(default_factory=dict)
    evaluates: bool = False
    samples: int = 0
    excluded: tuple[int, ...] = ()
    of_labels: tuple[int, ...] | None = None

    def for_labels(self) -> Self:
        """The same for the other dataset."""
        return replace(self, episodes=self.of_labels, excluded=())

    def trained_on(self, meta: Any) -> list[int]:
        """The episodes that are trained on: LeRobot holds out the last of each task
        (`L/datasets/factory.py: make_train_eval_datasets`).

        Args:
            meta: ``dataset.meta``.
        """
        asked = range(meta.total_episodes) if self.episodes is None else self.episodes
        episodes = [episode for episode in asked if episode not in self.excluded]
        if not self.eval_split:
            return episodes
        tasks = meta.episodes["tasks"]
        of_task: dict[str, list[int]] = {}
        for episode in episodes:
            of_task.setdefault(tasks[episode][0] if tasks[episode] else "", []).append(episode)
        return [e for each in of_task.values() for e in each[: len(each) - math.ceil(len(each) * self.eval_split)]]
