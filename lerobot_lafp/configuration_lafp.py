"""``LAFPConfig``: what LeRobot asks of a policy configuration. Every option is in `options/policy.py`."""

import logging
from dataclasses import dataclass, field

from lerobot.configs import FeatureType, NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig
from lerobot.optim.schedulers import DiffuserSchedulerConfig
from lerobot.utils.constants import OBS_STATE

from .options.checks import check
from .options.constants import Stage
from .options.observed import ObservedOptions

logger = logging.getLogger(__name__)

#: Optimiser steps over which the learning rate rises.
WARMUP_STEPS = 100


@PreTrainedConfig.register_subclass("lafp")
@dataclass
class LAFPConfig(ObservedOptions):
    """Configuration of the Latent Action Flow Policy.

    Raises:
        ValueError: Options that cannot be, or not together.
    """

    # Normalisation happens inside the model, from buffers: a frozen network must see the same inputs for ever,
    # whatever statistics the next dataset brings. LeRobot's processors do nothing.
    normalization_mapping: dict[str, NormalizationMode] = field(
        init=False, default_factory=lambda: {kind.value: NormalizationMode.IDENTITY for kind in FeatureType}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frame_store.lower() in ("false", "no"):
            self.frame_store = "off"  # of which YAML makes these
        try:
            check(self)
        except ValueError as error:
            # LeRobot's parser replaces the message by "Couldn't instantiate class LAFPConfig".
            logger.error("%s", error)
            raise

    @property
    def history_deltas(self) -> list[int]:
        """Frames the latent policy sees, relative to the present one: ``n_obs_steps`` up to 0."""
        return list(range(1 - self.n_obs_steps, 1))

    @property
    def boundary_deltas(self) -> list[int]:
        """Frames between which latent actions are inferred: 0, k, .. (stage 1 needs but one pair)."""
        if not self.learns_from_latents or self.reads_given_latents:
            return [0]
        last = 1 if self.only_stage is Stage.LATENT_ACTION else self.num_latents
        return [i * self.frame_offset for i in range(last + 1)]

    @property
    def reads_given_latents(self) -> bool:
        """Whether the stage in training is given the latents that it learns from, and no frames to infer them from."""
        return self.given_latents and self.only_stage in (Stage.LATENT_POLICY, Stage.ACTION_DECODER)

    @property
    def learns_from_latents(self) -> bool:
        """Whether the stage in training learns from latents, its own or those of a stage before."""
        return self.latent_source == "idm" and (
            self.only_stage is not Stage.ACTION_DECODER or self.decoder_reads_latents
        )

    @property
    def decoder_reads_latents(self) -> bool:
        """Whether training the decoder needs the latents of the inverse model.

        Behaviour cloning has no flow time to start from, so its decoder sees what it will see when it acts.
        """
        return self.decoder_input == "idm" or (self.decoder_input == "interpolation" and self.policy_head == "flow")

    @property
    def labels_in_stage_1(self) -> bool:
        """Whether actions help to train the latents (``L_ad``)."""
        return self.facts.action_dim is not None and self.label_weight > 0

    @property
    def learns_from_both(self) -> bool:
        """Whether the stage trains on ``--dataset.*`` and on another dataset that has the actions (``labels``)."""
        return self.labels.repo_id is not None and self.only_stage in (None, Stage.LATENT_ACTION)

    @property
    def learns_from_labels_alone(self) -> bool:
        """Whether the stage trains on that other dataset in place of ``--dataset.*``."""
        return self.labels.repo_id is not None and self.only_stage is Stage.ACTION_DECODER

    @property
    def reads_labels(self) -> bool:
        """Whether the stage learns from actions."""
        first = self.only_stage is Stage.LATENT_ACTION and self.labels_in_stage_1
        return first or self.trains(Stage.ACTION_DECODER)

    @property
    def frame_deltas(self) -> list[int]:
        """Offsets of the frames that a training sample has of each observation."""
        deltas = set(self.boundary_deltas)
        if self.only_stage is not Stage.LATENT_ACTION:
            deltas |= set(self.history_deltas)
        return sorted(deltas)

    @property
    def observation_delta_indices(self) -> list[int] | None:
        """``frame_deltas``; None where that is the present frame, which LeRobot's loader then reads but once.

        A feature of one number would then lose its axis, and LeRobot's pipeline take the batch for one sample.
        """
        of_one_number = any(tuple(shape) == (1,) for shape in self._vector_features.values())
        return None if self.frame_deltas == [0] and not of_one_number else self.frame_deltas

    @property
    def action_delta_indices(self) -> list[int] | None:
        if self.only_stage is Stage.LATENT_POLICY:
            return None
        return list(range(self.frame_offset if self.only_stage is Stage.LATENT_ACTION else self.horizon))

    @property
    def reward_delta_indices(self) -> None:
        return None

    @property
    def drop_n_last_frames(self) -> int:
        """Frames at an episode's end that have no future to learn from: not one whole latent action, unless held."""
        return self.frame_offset if self.learns_from_latents and not self.hold_last_frame else 0

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(lr=self.optimizer_lr, weight_decay=1e-6, grad_clip_norm=10.0)

    def get_scheduler_preset(self) -> DiffuserSchedulerConfig:
        return DiffuserSchedulerConfig(name="cosine", num_warmup_steps=WARMUP_STEPS)

    def validate_features(self) -> None:
        """Check the features a policy is about to be built for.

        Raises:
            ValueError: There is nothing to observe, or the actions do not fit the options.
        """
        if not self.camera_shapes and not self.vector_shapes:
            raise ValueError(
                "LAFP needs something to observe: at least one camera (`observation.image*`), "
                "`observation.state` or `observation.environment_state` in `input_features`. "
                "Check the feature names of the dataset (`rename_map` can map them)."
            )
        width = self.action_feature.shape[0] if self.action_feature is not None else None
        if width is not None and self.facts.action_dim is not None and width != self.facts.action_dim:
            raise ValueError(
                f"`action` has width {width} here, but this policy was trained with width {self.facts.action_dim}"
                f"{f' ({self.facts.action_names})' if self.facts.action_names else ''}. Use the dataset or environment "
                "that it was trained for, or train stage action_decoder from a checkpoint of stage latent_policy that "
                "has seen no actions."
            )
        needs_state = self.decoder_observes == "state" and self.trains(Stage.ACTION_DECODER)
        if needs_state and OBS_STATE not in self._vector_features:
            raise ValueError(
                f"`decoder_observes=state` needs `{OBS_STATE}`, and the dataset has none. Set "
                "--policy.decoder_observes=nothing."
            )
        if self.relative_actions:
            self._check_relative_actions(width if width is not None else self.facts.action_dim)

    def _check_relative_actions(self, width: int | None) -> None:
        state = (self.input_features or {}).get(OBS_STATE)
        if width is None:
            return  # No actions yet: the dataset that brings them is checked.
        if state is None or tuple(state.shape) != (width,):
            raise ValueError(
                f"`relative_actions` needs `{OBS_STATE}` of the action's width ({width}), got "
                f"{tuple(state.shape) if state is not None else 'no such feature'}. "
                "Set --policy.relative_actions=false."
            )
