"""``LAFPPolicy``: LeRobot's policy contract over the three stages, and nothing else.

What trains is in ``training``, what acts in ``acting``, what is saved in ``checkpoint``: here LeRobot calls them.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import torch
from draccus import encode
from huggingface_hub import ModelCard
from lerobot.configs.train import TrainPipelineConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.rtc import RTCConfig
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from .acting.chunk import History, as_history, predict_chunk, present, refuse_untrained, require
from .acting.limits import SafetyGuard
from .acting.real_time import Chunk, Prefix, find_prefix
from .checkpoint.card import model_card, save_beside
from .checkpoint.download import download
from .checkpoint.facts import TENSORS, facts_of_config, facts_of_dataset, facts_of_tensors
from .checkpoint.history import runs_before
from .checkpoint.integrity import SEALS, atomic_save, has_written, installed_versions
from .checkpoint.loading import as_array, load_weights, renew_decoder
from .checkpoint.processors import refuse_processors
from .configuration_lafp import LAFPConfig
from .model.stages import Stages, build
from .observation.angles import angles_of, turned
from .observation.language import TASK
from .observation.terms import in_own_terms
from .options.constants import STAGES
from .training.batch import read_batch
from .training.losses import losses
from .training.run import TrainingRun

#: Of ``from_pretrained``: what says which files of the Hub, and how they come here.
_HUB_OPTIONS = ("revision", "cache_dir", "force_download", "token", "local_files_only")
#: Repeated blocks, ours and those of ViTs; and what a latent policy consists of, so that the average of its weights is
#: cut into the same shards as the weights themselves.
_FSDP_UNITS = {
    "ObservationEncoder",
    "ResidualMLP",
    "LatentTransformer",
    "ResidualBlock",
    "TransformerDecoderLayer",
    "Dinov2Layer",
    "Dinov2WithRegistersLayer",
    "DINOv3ViTLayer",
}


class LAFPPolicy(PreTrainedPolicy):
    """Latent Action Flow Policy as a LeRobot policy (arXiv 2606.10517).

    Args:
        config: What to build. ``input_features`` must hold at least one camera or state.
        dataset_stats: ``dataset.meta.stats``; states are normalised by it, once, for the checkpoint's whole life.
        dataset_meta: ``dataset.meta`` of the dataset to train on; labels and chunk length are checked against it.
        load_backbone: Fetch ``backbone.weights``. Off when a checkpoint's own weights follow.
    """

    config_class = LAFPConfig
    name = "lafp"
    #: After LeRobot 0.6.1: what FSDP shards as one, where ``--accelerator.fsdp.wrap_modules`` names nothing else. Of
    #: ``_FSDP_UNITS`` the one that every policy has, since accelerate refuses names that it does not find.
    _fsdp_wrap_modules: ClassVar[list[str]] = ["ObservationEncoder"]
    #: What ``drop_queued_actions`` empties when the task changes; the history and the guard's last command stay.
    _action_queue_attrs: ClassVar[tuple[str, ...]] = ("_chunk",)
    config: LAFPConfig
    stage_steps: Tensor

    def __init__(
        self,
        config: LAFPConfig,
        dataset_stats: Mapping[str, dict[str, Any]] | None = None,
        dataset_meta: Any | None = None,
        load_backbone: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(config)
        config.validate_features()
        config.facts.feature_order = config.facts.feature_order or list(config.input_features)
        if config.facts.action_dim is None and config.action_feature is not None:
            config.facts.action_dim = config.action_feature.shape[0]
        self._run = TrainingRun(config, dataset_stats, dataset_meta, fresh=load_backbone)
        built = build(config, self._run.stats, self._run.known_tasks, load_backbone)
        # In this order they lie in the checkpoint.
        self.task_encoder, self.normalizer = built.task_encoder, built.normalizer
        self.latent_action_model, self.action_decoder = built.latent_action_model, built.action_decoder
        self.chunk_moments, self.limits, self.one_call = built.chunk_moments, built.limits, built.one_call
        self.latent_policy, self.average_policy = built.latent_policy, built.average_policy
        # Optimiser steps that each stage of ``STAGES`` has been trained for: who may act, who may build on whom.
        self.register_buffer("stage_steps", torch.zeros(len(STAGES), dtype=torch.long))
        trained = {id(p) for p in self.stages.trained_parameters()}
        for p in self.parameters():
            p.requires_grad_(id(p) in trained)
        self.reset()

    @property
    def stages(self) -> Stages:
        """The modules, as training, acting and checkpoints know them; read anew, since a wrapper may replace one."""
        return Stages(
            self.config,
            self.normalizer,
            self.task_encoder,
            self.latent_action_model,
            self.latent_policy,
            self.average_policy,
            self.one_call,
            self.action_decoder,
            self.chunk_moments,
            self.limits,
        )

    @property
    def _no_split_modules(self) -> list[str]:
        """What accelerate's FSDP shards as one in LeRobot 0.6.1: names of classes, which it wants to find here."""
        return sorted({type(m).__name__ for m in self.modules()} & _FSDP_UNITS)

    # --- Training ------------------------------------------------------------------------------------------

    def get_optim_params(self) -> list[dict[str, Any]]:
        """The parameters of the stage in training, in groups as an optimiser takes them."""
        return self.stages.parameter_groups(self._run.labeled_frames)

    def train(self, mode: bool = True) -> Self:
        """Put only what this stage trains into training mode (LeRobot calls this before every step)."""
        if not mode:
            self._run.settle(self.stages, self.stage_steps)
        super().train(False)
        self.training = mode
        for module in self.stages.trained:
            module.train(mode)
        return self

    def forward(
        self, batch: dict[str, Tensor], reduction: Literal["mean", "none"] = "mean"
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of the stage in training.

        Args:
            batch: What LeRobot's preprocessor returns. Left as it is.
            reduction: ``mean`` for a scalar, ``none`` for one loss per sample, (B,).

        Returns:
            The loss, and its parts for the log.

        Raises:
            RuntimeError: The stage before this one was never trained.
            ValueError: Wrong shapes, NaN or infinite values in what would be learnt from.
        """
        optimizing = self.training and torch.is_grad_enabled()
        stages = self.stages
        if optimizing:
            self._run.begin_step(stages, self.stage_steps, batch)
        self._run.check_precomputed(stages)
        with self._run.randomness(self.stage_steps, optimizing):
            data = read_batch(self.in_own_terms(batch), self.config, self.normalizer)
            data.history = stages.with_task(data.history, batch.get(TASK))
            parts = losses(stages, data)
        if optimizing:
            self._run.end_pass(stages, data)
        total = torch.stack(list(parts.values())).sum(dim=0)
        report = {name: loss.mean().item() for name, loss in parts.items()}
        return (total if reduction == "none" else total.mean()), report

    def in_own_terms(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """``batch`` with states and actions as this policy knows them (`observation.in_own_terms`)."""
        features = self.config.input_features or {}
        shapes = {**self.normalizer.vector_shapes, **{k: features[k].shape for k in (OBS_STATE,) if k in features}}
        if self.config.facts.action_dim is not None:
            shapes[ACTION] = (self.config.facts.action_dim,)
        return in_own_terms(batch, shapes, self.config.orders, angles_of(self.config.facts))

    def update(self) -> None:
        """After an optimiser step: move the average of the weights, count the step (LeRobot calls this)."""
        self._run.count_step(self.stages, self.stage_steps)

    # --- Acting --------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the history and the rest of the chunk. LeRobot calls this at the start of an episode."""
        normalizer = self.normalizer
        self._history = History([*normalizer.camera_shapes, *normalizer.vector_shapes], self.config.n_obs_steps)
        self._chunk: deque[Tensor] = deque()
        self._present: Chunk | None = None
        self._following: SafetyGuard | None = None

    @property
    def _guard(self) -> SafetyGuard | None:
        """What bounds the commands of this run; made when the first one is asked for, of the limits then known."""
        if self._following is None and self.config.limits.enabled and self.limits is not None:
            self._following = SafetyGuard(self.config, self.limits)
        return self._following

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], noise: Tensor | None = None) -> Tensor:
        """One action (B, A) for the present observation; a new chunk every ``n_action_steps`` calls.

        Args:
            batch: The present observation, every tensor (B, ..). Left as it is.
            noise: Where the flow starts, (B, L, Dz); drawn if unset.
        """
        stages, batch = self._ready_to_act(batch)
        self._history.append(batch)
        if not self._chunk:
            chunk = predict_chunk(stages, self._history.stacked(), batch.get(TASK), noise, self._guard)
            self._chunk.extend(chunk.actions[:, : self.config.n_action_steps].unbind(dim=1))
        action = self._chunk.popleft()
        if (guard := self._guard) is not None:
            guard.watch({key: batch[key] for key in self.normalizer.camera_shapes}, present(batch.get(OBS_STATE)))
            action = guard.command(action)
        return self._in_their_terms(action)

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Tensor],
        noise: Tensor | None = None,
        inference_delay: int | None = None,
        prev_chunk_left_over: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """A whole chunk (B, H, A) for the observation in ``batch``; keeps no history of its own.

        Args:
            batch: Every tensor (B, ..), one frame, which then stands for the whole history, or (B, T, ..).
            noise: Where the flow starts, (B, L, Dz); drawn if unset.
            inference_delay: Of real-time chunking (`acting/real_time.py`): how many actions will be sent before this
                chunk is.
            prev_chunk_left_over: Likewise: the actions of the chunk before that are not sent yet, (n, A) or (B, n, A).
        """
        stages, batch = self._ready_to_act(batch)
        shapes = {**self.normalizer.camera_shapes, **self.normalizer.vector_shapes}
        history = as_history(batch, shapes, self.config.n_obs_steps)
        prefix = self._prefix_of(prev_chunk_left_over, inference_delay or 0)
        made = predict_chunk(stages, history, batch.get(TASK), noise, self._guard, prefix, self._rtc_options)
        actions = made.actions
        if prefix is not None:
            actions[:, : prefix.committed] = prefix.left[:, : prefix.committed]
        if (guard := self._guard) is not None:
            images = {key: history[key][:, -1] for key in self.normalizer.camera_shapes}
            guard.watch(images, present(batch.get(OBS_STATE)))
            actions = guard.chunk(actions, prefix)
        self._present = Chunk(made.z, actions)
        return self._in_their_terms(actions)

    def _ready_to_act(self, batch: Mapping[str, Tensor]) -> tuple[Stages, dict[str, Tensor]]:
        """The stages, if they can act, and the batch in their own terms, if all of it is there."""
        stages = self.stages
        refuse_untrained(stages, self.stage_steps)
        batch = self.in_own_terms(batch)
        require(batch, stages)
        return stages, batch

    def _in_their_terms(self, actions: Tensor) -> Tensor:
        """Actions (.., A) as the robot or the dataset tells them: in the order of its names, angles on its turn."""
        actions = turned(actions, angles_of(self.config.facts).get(ACTION, ()), "theirs")
        order = self.config.orders.get(ACTION)
        return actions if order is None else actions[..., torch.tensor(order).argsort()]

    def supports_rtc(self) -> bool:
        """Whether the next chunk can be made to go on from the present one: it takes a flow to be steered."""
        return self.config.policy_head == "flow"

    @property
    def _rtc_options(self) -> RTCConfig:
        """The ``--inference.rtc.*`` of a rollout, which LeRobot hands over in the configuration."""
        return getattr(self.config, "rtc_config", None) or RTCConfig()

    def _prefix_of(self, left_over: Tensor | None, delay: int) -> Prefix | None:
        """Where the present chunk is, if LeRobot's ``rtc`` inference runs and replaces chunks before their end."""
        if left_over is None or self._present is None or not self._rtc_options.enabled:
            return None
        told = self._in_their_terms(self._present.actions)
        return find_prefix(self._present, told, left_over, delay, self._rtc_options)

    # --- Checkpoints ---------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path, *, config: LAFPConfig | None = None, **kwargs: Any
    ) -> Self:
        """Load a checkpoint (a folder or a Hub repository); see ``PreTrainedPolicy.from_pretrained``.

        Raises:
            FileNotFoundError: There is none of that name or revision.
            ConnectionError: The Hub does not answer.
            ValueError: It is not whole, or does not fit ``config``.
        """
        of_hub = {name: kwargs.pop(name) for name in _HUB_OPTIONS if name in kwargs}
        folder = download(pretrained_name_or_path, **of_hub)
        refuse_processors(folder)
        if config is not None:
            renew_decoder(config, folder)
        return cast(Self, super().from_pretrained(folder, config=config, load_backbone=False, **kwargs))

    @classmethod
    def _load_as_safetensor(cls, model: Self, model_file: str, map_location: str, strict: bool) -> Self:
        load_weights(model, model.config, model_file)
        for name in SEALS:  # true of that file, and no longer of a policy that may be trained further
            setattr(model.config, name, None)
        return model

    def generate_model_card(
        self,
        dataset_repo_id: str,
        model_type: str,
        license: str | None,
        tags: list[str] | None,
        cfg: TrainPipelineConfig | None = None,
        dataset_meta: Any | None = None,
    ) -> ModelCard:
        """The card that goes to the Hub (`checkpoint/card.py`); see ``PreTrainedPolicy.generate_model_card``."""
        runs = [{"dataset": {"repo_id": dataset_repo_id}}] if cfg is None else runs_before(cfg.to_dict())
        return ModelCard(self._card(license, tags or (), runs, facts_of_dataset(dataset_meta)))

    def _card(
        self,
        license: str | None,
        tags: Sequence[str] = (),
        runs: Sequence[Mapping[str, Any]] = (),
        dataset: Mapping[str, Any] | None = None,
    ) -> str:
        # FSDP leaves buffers whole, while ``state_dict`` would wait for the other processes.
        buffers = {name: as_array(x) for name, x in self.named_buffers() if name.startswith(TENSORS)}
        config = encode(self.config)
        facts = {**facts_of_config(config), **facts_of_tensors(config, buffers), "made_with": installed_versions()}
        return model_card(facts, self.config.repo_id, license, tags, runs, dataset)

    def _save_pretrained(self, save_directory: Path, **of_lerobot: Any) -> None:
        """Save weights, configuration and card; see ``PreTrainedPolicy._save_pretrained``.

        After LeRobot 0.6.1 every process calls this, since it gathers shards, and the first of them writes.

        Args:
            save_directory: The checkpoint's folder.
            of_lerobot: LeRobot's own: ``state_dict`` in 0.6.1, where weights are gathered before; nothing after it.
        """
        if self.limits is not None and not self.config.relative_actions and self.config.named_joints is not None:
            self.config.facts.actions_are_positions = self.limits.shows_positions
        with atomic_save(save_directory) as fresh:
            super()._save_pretrained(fresh, **of_lerobot)
            writes = has_written(fresh)
        if writes:
            save_beside(self._card(self.config.license, self.config.tags or ()), save_directory)
