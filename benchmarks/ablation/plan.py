"""What is to be run: a variant is a chain of trainings, and chains share the trainings they have in common."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lerobot_lafp.options.constants import STAGES

from .tasks import EVALUATION_SEED, TASKS, Budget, Task

#: Variants that LeRobot's own policies or our flow train in one go, on the labelled episodes alone.
RIVALS = ("diffusion", "act", "flow_on_actions")
SMOKE = Budget(2, 8)


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: As in the results.
        stages: What is trained, in this order: ``STAGES``, the first two of them, ``("joint",)``, or one of ``RIVALS``.
        options: Stage -> ``LAFPConfig`` options beside the task's, from that stage on. A training depends on its own
            and earlier ones alone, so variants that part in a later stage share the earlier ones.
        acting: Options that matter only when it acts, such as the sampler's steps.
        budgets: Stage -> how much it is trained, where not as much as the task says.
        labels: Labelled episodes. Unset: the task's.
        episodes: Evaluation episodes. Unset: the task's.
        last_run_by: The commit that could run it last, where an option of it is gone since; its results stay.
    """

    name: str
    stages: tuple[str, ...] = STAGES
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    acting: Mapping[str, Any] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    labels: int | None = None
    episodes: int | None = None
    last_run_by: str | None = None


@dataclass(frozen=True)
class Training:
    """One training run: what it depends on, and nothing else. No ``labeled_episodes``: it reads no action."""

    task: Task
    stage: str
    seed: int
    options: Mapping[str, Any]
    labeled_episodes: tuple[int, ...]
    budget: Budget
    parent: "Training | None"

    @property
    def configuration(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "options": dict(self.options),
            "steps": self.budget.steps,
            "batch_size": self.budget.batch_size,
            **({"bf16": True} if self.budget.bf16 else {}),
            "seed": self.seed,
            "labeled_episodes": list(self.labeled_episodes),
        }

    @property
    def digest(self) -> str:
        return digest([self.task.name, *(training.configuration for training in chain(self))])


def chain(last: Training) -> list[Training]:
    """``last`` and all it builds on, in the order of training."""
    return [*([] if last.parent is None else chain(last.parent)), last]


def digest(content: Any) -> str:
    """Twelve hexadecimal digits that change when ``content`` does."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Run:
    """A variant of a task with one training seed: its last training, and how it is evaluated."""

    task: Task
    variant: Variant
    seed: int
    training: Training
    episodes: int
    first_seed: int = EVALUATION_SEED

    @property
    def configuration(self) -> dict[str, Any]:
        return {
            "labels": len(self.training.labeled_episodes),
            "trainings": [training.configuration for training in chain(self.training)],
            "acting": dict(self.variant.acting),
        }

    @property
    def digest(self) -> str:
        return digest([self.task.name, self.configuration, self.first_seed, self.episodes])


def plan(task_name: str, variant: Variant, seed: int, first_seed: int = EVALUATION_SEED, smoke: bool = False) -> Run:
    """The run of ``variant`` with training seed ``seed``, which also draws the labelled episodes.

    With ``smoke`` it trains for two steps and acts in two episodes: the path is the same, the numbers mean nothing.
    """
    task = TASKS[task_name]
    if smoke and "diffusion" in variant.stages:  # a hundred calls of the published network take minutes on a CPU
        variant = replace(variant, acting={**variant.acting, "num_inference_steps": 2})
    labels = task.labels if variant.labels is None else variant.labels
    labeled = tuple(task.labeled_episodes(labels, seed))
    options: dict[str, Any] = dict(task.options)
    training: Training | None = None
    for stage in variant.stages:
        if stage in task.rivals:
            options = dict(task.rivals[stage])
        options = {**options, **variant.options.get(stage, {})}
        budget = SMOKE if smoke else variant.budgets.get(stage, task.budgets[stage])
        reads_labels = stage not in STAGES[:2] or options.get("label_weight") != 0.0
        training = Training(task, stage, seed, options, labeled if reads_labels else (), budget, training)
    assert training is not None
    return Run(task, variant, seed, training, 2 if smoke else variant.episodes or task.episodes, first_seed)
