"""What a training run knows beyond its batches: what the dataset said, what is still to be checked, how far it got."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from ..checkpoint.fingerprints import encoded_cameras, labels_record, refuse_stale_features, refuse_stale_labels
from ..configuration_lafp import LAFPConfig
from ..model.distributed import sum_of_all
from ..model.latent_policy import update_average
from ..model.stages import Stages
from ..options.constants import Stage
from .angles import take_angles
from .batch import TrainingBatch
from .dataset_checks import (
    check_dataset,
    count_labels,
    default_motion_weight,
    measure_labels,
    measure_states,
    warn_of_blank_cameras,
    warn_of_idle_latents,
    warn_of_ignored_tasks,
)
from .seeding import step_rng


class TrainingRun:
    """One run; nothing of it is saved.

    Args:
        config: Of the policy that is about to be built; what it takes from the dataset is filled in here.
        stats: ``dataset.meta.stats``.
        meta: ``dataset.meta``; None where no dataset is at hand.
        fresh: Whether the policy is new, and no weights follow from a checkpoint.

    Attributes:
        stats: The dataset's statistics, of states those that its tables themselves have.
        labeled_frames: How many frames of the run have actions that may be used; None where no dataset is at hand.
        known_tasks: Of ``config.facts.tasks``, how many were there before this dataset's.

    Raises:
        ValueError: The dataset does not fit the configuration.
    """

    def __init__(
        self, config: LAFPConfig, stats: Mapping[str, dict[str, Any]] | None, meta: Any | None, fresh: bool
    ) -> None:
        if config.motion.weight is not None:
            config.facts.motion_weight = config.motion.weight
        elif config.facts.motion_weight is None:
            config.facts.motion_weight = default_motion_weight(config)
        if fresh:
            config.facts.decoder_per_latent = True
        self.known_tasks = len(config.facts.tasks or [])
        take_angles(config, meta, fresh)
        self.stats = measure_states(config, stats, meta, fresh)
        if meta is not None:
            check_dataset(config, meta)
            warn_of_idle_latents(config)
            tasks = [str(task) for task in meta.tasks.index]
            self.known_tasks = config.take_tasks(tasks)
            warn_of_ignored_tasks(config, tasks)
        self._passes = 0  # forward passes since the last update
        self._weights_seen: int | None = None  # `_changes` of the weights in the last of them
        self._saw_labels = False
        self._blank_cameras: set[str] = set()  # those that were warned of
        # Taken in when training begins: until then a checkpoint's own may follow.
        self._state_to_take = (self.stats or {}).get(OBS_STATE)
        self._commands_to_take = measure_labels(config, meta)
        self.labeled_frames = count_labels(config, meta)
        # Whose latents the dataset brings; told once whether they are this checkpoint's, when its weights are loaded.
        self._labels_to_check = labels_record(config, meta)
        self._features_to_check = encoded_cameras(meta)

    def begin_step(self, stages: Stages, steps: Tensor, batch: Mapping[str, Any]) -> None:
        """Look at a batch that is about to be learnt from.

        Args:
            stages: The policy's.
            steps: Optimiser steps that each stage was trained for, (3,).
            batch: As LeRobot's preprocessor returns it.

        Raises:
            RuntimeError: The stage before this one was never trained.
        """
        self.settle(stages, steps)
        refuse_missing_stages(stages.config, steps)
        depth = stages.config.facts.depth_cameras or ()
        colours = [key for key in stages.normalizer.camera_shapes if key not in depth]
        warn_of_blank_cameras(batch, colours, self._blank_cameras)

    def check_precomputed(self, stages: Stages) -> None:
        """Once, when the weights are there: whether what the dataset brings was made by them.

        Raises:
            ValueError: It was not.
        """
        if self._labels_to_check is not None:
            refuse_stale_labels(stages, self._labels_to_check)
            self._labels_to_check = None
        if self._features_to_check:
            refuse_stale_features(stages, self._features_to_check)
            self._features_to_check = {}

    def randomness(self, steps: Tensor, optimizing: bool) -> AbstractContextManager[None]:
        """What is drawn in this pass: the same in any run of this seed, at this step."""
        if not optimizing:
            return nullcontext()
        self._passes += 1
        return step_rng(int(steps.sum()), self._passes - 1, steps.device)

    def end_pass(self, stages: Stages, data: TrainingBatch) -> None:
        """Take in what the batch showed; an optimiser step follows, after one or, as gradients add up, several."""
        config, limits = stages.config, stages.limits
        # States of both datasets also where no label counts in stage 1: stage 3 sees those of the labels alone.
        sees_both = config.labels.repo_id is not None and config.trains(Stage.LATENT_ACTION)
        if limits is not None and (config.reads_labels or sees_both):
            if self._state_to_take is not None and len(limits.state_deviation):
                limits.take_state(self._state_to_take)
            if self._commands_to_take is not None:
                limits.take_commands(self._commands_to_take)
            self._state_to_take = self._commands_to_take = None
            joints = config.named_joints  # the same in every process, whichever of them saves
            where = None if data.state is None or joints is None else data.state[:, joints]
            limits.update(data.actions, data.labeled, data.state, where)
        self._weights_seen = _changes(stages)
        seen = config.decoder_input != "action_head" and int(sum_of_all(data.labeled.sum())) > 0
        self._saw_labels = self._saw_labels or seen

    def count_step(self, stages: Stages, steps: Tensor) -> None:
        """After an optimiser step: move the average of the weights, count the step in ``steps`` (3,), in place."""
        self._passes, self._weights_seen = 0, None
        if stages.latent_policy in stages.trained and stages.average_policy is not None:
            done = int(steps[Stage.LATENT_POLICY.place])
            update_average(stages.average_policy, stages.latent_policy, stages.config.ema_decay, done)
        if stages.latent_policy in stages.trained and stages.one_call is not None:
            stages.one_call.steps.zero_()  # it learnt from a flow that is another now
        for stage in filter(stages.config.trains, Stage):
            # A decoder that was shown no label is not a trained one.
            if stage is not Stage.ACTION_DECODER or self._saw_labels:
                steps[stage.place] += 1
        self._saw_labels = False
        if (alone := stages.config.only_stage) is not None:
            steps[alone.place + 1 :] = 0  # what was built on the old weights is stale

    def settle(self, stages: Stages, steps: Tensor) -> None:
        """Make up for a ``count_step`` that a training loop other than LeRobot's did not call.

        Where the weights are those of the last pass, gradients still add up, and no step was made.
        """
        if self._weights_seen not in (None, _changes(stages)):
            self.count_step(stages, steps)


def _changes(stages: Stages) -> int:
    """How often anything, such as an optimiser, wrote to the weights in training."""
    return sum(p._version for p in stages.trained_parameters())


def refuse_missing_stages(config: LAFPConfig, steps: Tensor) -> None:
    """Refuse to train a stage on one that was never trained; ``steps`` (3,) is what each was trained for.

    Raises:
        RuntimeError: It would be.
    """
    for earlier in config.only_stage.before if config.only_stage is not None else ():
        if not int(steps[earlier.place]):
            raise RuntimeError(
                f"Stage {config.stage} builds on stage {earlier}, which was never trained in this "
                f"checkpoint. Train it first (--policy.stage={earlier}) and start from its checkpoint with "
                "--policy.path=.../pretrained_model, or train all in one run with --policy.stage=joint."
            )
