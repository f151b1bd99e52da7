"""``LAFPPolicy``: LeRobot's policy contract over the three stages, and nothing else.

The only place where LeRobot's batch keys meet the tensors of the stage modules. The stages themselves are
``latent_action_model``, ``latent_policy`` and ``action_decoder``; ``building`` makes them as the configuration says.
"""

import copy
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from huggingface_hub import ModelCard
from lerobot.configs.train import TrainPipelineConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.rtc import RTCConfig
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor, nn

from .agreement import (
    check_dataset,
    default_motion_weight,
    measure_labels,
    measure_states,
    warn_of_blank_cameras,
    warn_of_idle_latents,
    warn_of_ignored_tasks,
)
from .batch import TrainingBatch, read_batch
from .building import build_limits, build_normalizer, build_stages, build_task_encoder
from .checkpoint.card import model_card, save_beside
from .checkpoint.facts import facts_of_config, facts_of_dataset, facts_of_tensors
from .checkpoint.fetching import fetched
from .checkpoint.fingerprints import encoded_cameras, labels_record, refuse_stale_features, refuse_stale_labels
from .checkpoint.history import runs_before
from .checkpoint.integrity import SEALS, installed_versions, saved_whole
from .checkpoint.loading import load_weights, refuse_resume_of_another_stage
from .checkpoint.processors import refuse_processors
from .configuration_lafp import STAGES, LAFPConfig
from .distributed import sum_of_all, sum_while_training
from .latent_action_model import LatentActionModel
from .latent_policy import LatentPolicy, update_average
from .limits import SafetyGuard, SafetyLimits
from .networks import mean_over_valid
from .observation import Observation, in_own_terms, shift_at_random
from .randomness import of_step
from .real_time import Chunk, Continuation, continuation, steering
from .statistics import RunningMoments
from .task import TASK

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
        load_backbone: Fetch ``pretrained_backbone_weights``. Off when a checkpoint's own weights follow.
    """

    config_class = LAFPConfig
    name = "lafp"
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
        config.feature_order = config.feature_order or list(config.input_features)
        if config.action_dim is None and config.action_feature is not None:
            config.action_dim = config.action_feature.shape[0]
        if config.motion_weight is None:
            config.motion_weight = default_motion_weight(config)
        known_tasks = len(config.tasks or [])
        stats = measure_states(config, dataset_stats, dataset_meta, load_backbone)
        if dataset_meta is not None:
            check_dataset(config, dataset_meta)
            warn_of_idle_latents(config)
            tasks = [str(task) for task in dataset_meta.tasks.index]
            known_tasks = config.take_tasks(tasks)
            warn_of_ignored_tasks(config, tasks)
        # Of the tasks of a checkpoint the vectors follow with its weights.
        self.task_encoder = build_task_encoder(config, 0 if load_backbone else known_tasks)
        self.normalizer = build_normalizer(config, stats, load_backbone)
        stages = build_stages(config, self.normalizer, self.task_encoder, load_backbone)
        self.latent_action_model, self.action_decoder = stages.latent_action_model, stages.action_decoder
        self.chunk_moments, self.limits = stages.chunk_moments, build_limits(config)
        self.latent_policy = stages.latent_policy
        self.average_policy = copy.deepcopy(self.latent_policy) if config.ema_decay else None
        # Optimiser steps that each stage of ``STAGES`` has been trained for: who may act, who may build on whom.
        self.register_buffer("stage_steps", torch.zeros(len(STAGES), dtype=torch.long))
        self._freeze()
        self._update_due = False
        self._passes = 0  # forward passes since the last update
        self._blank_cameras: set[str] = set()  # those that were warned of
        self._saw_labels = False
        # Taken in when training begins: until then a checkpoint's own may follow.
        self._state_to_take = (stats or {}).get(OBS_STATE)
        self._commands_to_take = measure_labels(config, dataset_meta)
        # Whose latents the dataset brings; told once whether they are this checkpoint's, when its weights are loaded.
        self._labels_to_check = labels_record(config, dataset_meta)
        self._features_to_check = encoded_cameras(dataset_meta)
        self.reset()

    @property
    def _no_split_modules(self) -> list[str]:
        """What accelerate's FSDP shards as one: names of classes, which it wants to find here."""
        return sorted({type(m).__name__ for m in self.modules()} & _FSDP_UNITS)

    @property
    def acting_policy(self) -> LatentPolicy:
        """What acts: the average of the weights that training goes through, where one is kept."""
        return self.latent_policy if self.average_policy is None else self.average_policy

    # --- What trains, and what stays as it is --------------------------------------------------------------

    def _trained_modules(self) -> list[nn.Module]:
        stage = self.config.stage
        modules: list[nn.Module | None] = []
        if stage in ("joint", "latent_action"):
            modules.append(self.latent_action_model)
        if stage in ("joint", "latent_policy") or (stage == "action_decoder" and self.config.finetune_policy):
            modules.append(self.latent_policy)
        if stage in ("joint", "action_decoder") and self.config.decoder_input != "none":
            modules.append(self.action_decoder)
        return [m for m in modules if m is not None]

    def _freeze(self) -> None:
        trainable = {id(p) for p in self._trained_parameters()}
        for p in self.parameters():
            p.requires_grad_(id(p) in trainable)

    def _trained_parameters(self) -> Iterator[nn.Parameter]:
        for module in self._trained_modules():
            yield from module.trained_parameters() if isinstance(module, LatentActionModel) else module.parameters()

    def get_optim_params(self) -> list[dict[str, list[nn.Parameter]]]:
        """The parameters of the stage in training, one group a share of ``LAFPConfig.get_scheduler_preset``."""
        parameters = list(self._trained_parameters())
        if self.config.stage != "joint" or self.latent_action_model is None:
            return [{"params": parameters}]
        first = list(self.latent_action_model.trained_parameters())
        return [{"params": first}, {"params": parameters[len(first) :]}]

    def train(self, mode: bool = True) -> Self:
        """Put only what this stage trains into training mode (LeRobot calls this before every step)."""
        if not mode:
            self._settle_update()
        super().train(False)
        self.training = mode
        for module in self._trained_modules():
            module.train(mode)
        return self

    # --- Training ------------------------------------------------------------------------------------------

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
        if optimizing:
            self._settle_update()
            self._require_earlier_stages()
            colours = [key for key in self.normalizer.camera_shapes if key not in (self.config.depth_cameras or ())]
            warn_of_blank_cameras(batch, colours, self._blank_cameras)
        if self._labels_to_check is not None:
            refuse_stale_labels(self, self._labels_to_check)
            self._labels_to_check = None
        if self._features_to_check:
            refuse_stale_features(self, self._features_to_check)
            self._features_to_check = {}
        randomness: AbstractContextManager[None] = nullcontext()
        if optimizing:
            randomness = of_step(int(self.stage_steps.sum()), self._passes, self.stage_steps.device)
            self._passes += 1
        with randomness:
            data = read_batch(self.in_own_terms(batch), self.config, self.normalizer)
            data.history = self.with_task(data.history, batch.get(TASK))
            losses = self._action_flow_losses(data) if self.chunk_moments is not None else self._stage_losses(data)
        if optimizing:
            if self.limits is not None and self.config.reads_labels:
                self._update_limits(self.limits, data)
            self._update_due = True
            self._saw_labels = self.config.decoder_input != "none" and int(sum_of_all(data.labeled.sum())) > 0
        total = torch.stack(list(losses.values())).sum(dim=0)
        report = {name: loss.mean().item() for name, loss in losses.items()}
        return (total if reduction == "none" else total.mean()), report

    def in_own_terms(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """``batch`` with states and actions in this policy's order and of its type (`observation.in_own_terms`)."""
        features = self.config.input_features or {}
        shapes = {**self.normalizer.vector_shapes, **{k: features[k].shape for k in (OBS_STATE,) if k in features}}
        if self.config.action_dim is not None:
            shapes[ACTION] = (self.config.action_dim,)
        return in_own_terms(batch, shapes, self.config.orders)

    def _update_limits(self, limits: SafetyLimits, data: TrainingBatch) -> None:
        if self._state_to_take is not None and len(limits.state_deviation):
            limits.take_state(self._state_to_take)
        if self._commands_to_take is not None:
            limits.take_commands(self._commands_to_take)
        self._state_to_take = self._commands_to_take = None
        joints = self.config.named_joints  # the same in every process, whichever of them saves
        where = None if data.state is None or joints is None else data.state[:, joints]
        limits.update(data.actions, data.labeled, data.state, where)

    def _stage_losses(self, data: TrainingBatch) -> dict[str, Tensor]:
        assert self.latent_action_model is not None
        config, stage = self.config, self.config.stage
        losses: dict[str, Tensor] = {}
        z = data.latents
        if stage in ("joint", "latent_action"):
            z, losses = self._latent_action_losses(data)
        elif z is None and len(config.boundary_deltas) > 1:
            z = self.latent_action_model.normalized_latents(data.frames, data.valid)
        if stage in ("joint", "latent_policy"):
            assert z is not None
            tokens = self._observe_shifted(self.latent_policy, data.history)
            losses["policy_loss"] = mean_over_valid(self.latent_policy.loss(z, tokens), data.valid.unsqueeze(-1))
        if self.action_decoder in self._trained_modules():
            losses["decoder_loss"] = self._decoder_loss(data, z)
        return losses

    def _observe_shifted(self, policy: LatentPolicy, history: Observation) -> Tensor:
        """Tokens (B, T, N, D) that ``policy``, if it is in training, makes of images shifted by ``random_shift``."""
        if policy.training and self.config.random_shift:
            cameras = {k: shift_at_random(history[k], self.config.random_shift) for k in self.config.camera_shapes}
            history = {**history, **cameras}
        return policy.observe(history)

    def _latent_action_losses(self, data: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Stage 1. Returns the normalised latents, cut from the graph, and the losses."""
        model = self.latent_action_model
        assert model is not None
        latents = model.encode(data.frames, data.valid)
        if model.training:
            model.statistics.update(latents.z[data.valid].detach())
        losses = {"reconstruction_loss": model.reconstruction_loss(data.frames, latents, data.valid)}
        if self.config.bottleneck == "vq":
            losses["vq_loss"] = latents.bottleneck_loss.expand(data.valid.shape[0])
        if model.action_head is not None and self.config.label_weight:
            actions, labeled = data.actions_per_latent(self.config.relative_actions)
            losses["label_loss"] = self.config.label_weight * model.action_loss(latents.z, actions, labeled)
        if model.motion_head is not None:
            assert self.config.motion_weight is not None
            motion = model.motion_head.loss(latents.z, data.frames, data.valid)
            losses["motion_loss"] = self.config.motion_weight * motion
        return model.normalize(latents.z, data.valid), losses

    def _decoder_loss(self, data: TrainingBatch, z_idm: Tensor | None) -> Tensor:
        """Stage 3, on the labelled samples of the batch alone."""
        decoder = self.action_decoder
        assert decoder is not None
        rows = data.labeled.any(dim=1)
        rows[0] |= ~rows.any()  # no label in this batch: a zero that stays on the graph, for ``backward``
        loss = torch.zeros_like(rows, dtype=data.actions.dtype)
        history = {key: x[rows] for key, x in data.history.items()}
        with torch.set_grad_enabled(self.config.finetune_policy and torch.is_grad_enabled()):
            policy = self.latent_policy if self.config.finetune_policy else self.acting_policy
            tokens = self._observe_shifted(policy, history)
            if self.training and self.config.stage == "action_decoder" and not self.config.finetune_policy:
                assert self.limits is not None
                known = data.labeled[rows].any(dim=1)
                self.limits.tokens.update(tokens[known].flatten(1, 2).mean(dim=1))
            z = self._decoder_latents(policy, tokens, None if z_idm is None else z_idm[rows])
        observation = self._decoder_observation(tokens, history)
        actions = data.actions_of_chunk(self.config.relative_actions)[rows]
        # Weighted so that the batch's mean stays the mean over labelled samples.
        part = decoder.loss(z, observation, actions, data.labeled[rows])
        samples, parts = sum_while_training(torch.stack([torch.ones_like(rows), rows]).sum(dim=1))
        return loss.masked_scatter(rows, part * (samples / parts))

    def _decoder_latents(self, policy: LatentPolicy, tokens: Tensor, z_idm: Tensor | None) -> Tensor:
        """The latents that the decoder is trained on (``decoder_input``)."""
        config = self.config
        noise = policy.noise(tokens.shape[0], tokens)
        if not config.decoder_reads_latents:
            return policy.sample(tokens, noise)
        assert z_idm is not None
        if config.decoder_input == "idm":
            return z_idm
        low, high = config.interpolation_tau_min, config.interpolation_tau_max
        tau = low + (high - low) * torch.rand(tokens.shape[0], dtype=tokens.dtype, device=tokens.device)
        aligned = policy.align(tokens, noise, z_idm, tau, config.interpolation_steps == "remaining")
        if not config.interpolation_idm_share:
            return aligned
        as_it_is = torch.rand_like(tau) < config.interpolation_idm_share
        return torch.where(as_it_is[:, None, None], z_idm, aligned)

    def _decoder_observation(self, tokens: Tensor, history: Observation) -> Tensor | None:
        """What the decoder reads beside latents, (B, O)."""
        read = [tokens.flatten(1)] if self.config.decoder_observation else []
        read += [history[key][:, -1] for key in self.config.decoder_states]
        return torch.cat(read, dim=-1) if read else None

    def _action_flow_losses(self, data: TrainingBatch) -> dict[str, Tensor]:
        """``latent_source=actions``: the flow on labelled action chunks themselves."""
        moments = self.chunk_moments
        assert moments is not None
        actions = data.actions_of_chunk(self.config.relative_actions)
        if self.training:
            moments.update(actions[data.labeled])
        mask = data.labeled.unsqueeze(-1)
        target = torch.where(mask, moments.normalize(actions), torch.zeros_like(actions))
        tokens = self._observe_shifted(self.latent_policy, data.history)
        return {"policy_loss": mean_over_valid(self.latent_policy.loss(target, tokens), mask)}

    def update(self) -> None:
        """After an optimiser step: move the average of the weights, count the step (LeRobot calls this)."""
        self._update_due = False
        self._passes = 0
        stage, config = self.config.stage, self.config
        if self.latent_policy in self._trained_modules() and self.average_policy is not None:
            done = int(self.stage_steps[STAGES.index("latent_policy")])
            update_average(self.average_policy, self.latent_policy, config.ema_decay, done)
        trained = STAGES if stage == "joint" else (stage,)
        for index in map(STAGES.index, trained):
            # A decoder that was shown no label is not a trained one.
            if STAGES[index] != "action_decoder" or self._saw_labels:
                self.stage_steps[index] += 1
        if stage != "joint":
            self.stage_steps[STAGES.index(stage) + 1 :] = 0  # what was built on the old weights is stale

    def _settle_update(self) -> None:
        """Make up for an ``update`` that a training loop other than LeRobot's did not call."""
        if self._update_due:
            self.update()

    def _require_earlier_stages(self) -> None:
        if self.config.stage == "joint":
            return
        for index in range(STAGES.index(self.config.stage)):
            if not int(self.stage_steps[index]):
                raise RuntimeError(
                    f"Stage {self.config.stage} builds on stage {STAGES[index]}, which was never trained in this "
                    f"checkpoint. Train it first (--policy.stage={STAGES[index]}) and start from its checkpoint with "
                    "--policy.path=.../pretrained_model, or train all in one run with --policy.stage=joint."
                )

    # --- Acting --------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the history and the rest of the chunk. LeRobot calls this at the start of an episode."""
        self._history: dict[str, deque[Tensor]] = {
            key: deque(maxlen=self.config.n_obs_steps) for key in self._observed_keys()
        }
        self._chunk: deque[Tensor] = deque()
        self._present: Chunk | None = None
        self._following: SafetyGuard | None = None

    @property
    def _guard(self) -> SafetyGuard | None:
        """What bounds the commands of this run; made when the first one is asked for, of the limits then known."""
        if self._following is None and self.config.limits and self.limits is not None:
            self._following = SafetyGuard(self.config, self.limits)
        return self._following

    def _observed_keys(self) -> list[str]:
        return [*self.normalizer.camera_shapes, *self.normalizer.vector_shapes]

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], noise: Tensor | None = None) -> Tensor:
        """One action (B, A) for the present observation; a new chunk every ``n_action_steps`` calls.

        Args:
            batch: The present observation, every tensor (B, ..). Left as it is.
            noise: Where the flow starts, (B, L, Dz); drawn if unset.
        """
        self._require_acting()
        batch = self.in_own_terms(batch)
        for key, frames in self._history.items():
            if key not in batch:
                self.normalizer(batch)  # raises, naming what is missing
            frames.append(batch[key])
            while len(frames) < self.config.n_obs_steps:
                frames.appendleft(batch[key])
        if not self._chunk:
            history = {key: torch.stack(list(frames), dim=1) for key, frames in self._history.items()}
            _, actions = self._act(history, batch.get(TASK), noise)
            self._chunk.extend(actions[:, : self.config.n_action_steps].unbind(dim=1))
        action = self._chunk.popleft()
        if (guard := self._guard) is not None:
            guard.watch({key: batch[key] for key in self.normalizer.camera_shapes}, _present(batch.get(OBS_STATE)))
            action = guard.command(action)
        return self._in_their_order(action)

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
            inference_delay: Of real-time chunking (`real_time.py`): how many actions will be sent before this chunk is.
            prev_chunk_left_over: Likewise: the actions of the chunk before that are not sent yet, (n, A) or (B, n, A).
        """
        self._require_acting()
        batch = self.in_own_terms(batch)
        steps = self.config.n_obs_steps
        shapes = {**self.normalizer.camera_shapes, **self.normalizer.vector_shapes}
        history = {}
        for key, shape in shapes.items():
            if key not in batch:
                self.normalizer(batch)  # raises, naming what is missing
            x = batch[key] if batch[key].ndim == len(shape) + 2 else batch[key].unsqueeze(1)
            x = x[:, -steps:]
            history[key] = torch.cat([x[:, :1]] * (steps - x.shape[1]) + [x], dim=1)
        going_on = self._going_on(prev_chunk_left_over, inference_delay or 0)
        z, actions = self._act(history, batch.get(TASK), noise, going_on)
        if going_on is not None:
            actions[:, : going_on.committed] = going_on.left[:, : going_on.committed]
        if (guard := self._guard) is not None:
            images = {key: history[key][:, -1] for key in self.normalizer.camera_shapes}
            guard.watch(images, _present(batch.get(OBS_STATE)))
            actions = guard.chunk(actions, going_on)
        self._present = Chunk(z, actions)
        return self._in_their_order(actions)

    def _in_their_order(self, actions: Tensor) -> Tensor:
        """Actions (.., A) in the order of the robot's or the dataset's names."""
        order = self.config.orders.get(ACTION)
        return actions if order is None else actions[..., torch.tensor(order).argsort()]

    def supports_rtc(self) -> bool:
        """Whether the next chunk can be made to go on from the present one: it takes a flow to be steered."""
        return self.config.policy_head == "flow"

    @property
    def _rtc_options(self) -> RTCConfig:
        """The ``--inference.rtc.*`` of a rollout, which LeRobot hands over in the configuration."""
        return getattr(self.config, "rtc_config", None) or RTCConfig()

    def _going_on(self, left_over: Tensor | None, delay: int) -> Continuation | None:
        """Where the present chunk is, if LeRobot's ``rtc`` inference runs and replaces chunks before their end."""
        if left_over is None or self._present is None or not self._rtc_options.enabled:
            return None
        if (order := self.config.orders.get(ACTION)) is not None:
            left_over = left_over[..., order]
        return continuation(self._present, left_over, delay, self._rtc_options)

    def with_task(self, history: Observation, tasks: Any) -> Observation:
        """``history`` and the vector of each sample's task in words, if the policy reads it (``task_encoder``).

        Args:
            history: Every tensor (B, T, ..).
            tasks: One for all, one a sample, or None, which counts as a task without words.
        """
        if self.task_encoder is None or not history:
            return history
        like = next(iter(history.values()))
        words = [tasks or ""] * len(like) if tasks is None or isinstance(tasks, str) else list(tasks)
        vectors = self.task_encoder(words, self.normalizer.image_mean)
        return {**history, TASK: vectors.unsqueeze(1).expand(-1, like.shape[1], -1)}

    def _act(
        self, raw: dict[str, Tensor], tasks: Any, noise: Tensor | None, going_on: Continuation | None = None
    ) -> tuple[Tensor, Tensor]:
        """Latents (B, L, Dz) and the actions (B, H, A) that they mean."""
        history = self.with_task(self.normalizer(raw), tasks)
        tokens = self.acting_policy.observe(history)
        if noise is None:
            noise = self.acting_policy.noise(tokens.shape[0], tokens)
        joints = self.config.joint_of_action
        origin = raw[OBS_STATE][:, -1, joints].to(tokens) if self.config.relative_actions else None
        seen = self._decoder_observation(tokens, history)

        def decode(z: Tensor) -> Tensor:
            return self._decode(z, origin, seen)

        config, unit = self.config, self._action_moments().std
        steer = steering(config.rtc_guidance, going_on, config.prediction, decode, unit, self._rtc_options)
        z = self.acting_policy.sample(tokens, noise, steer)
        if (guard := self._guard) is not None:
            guard.measure(tokens, z)
        return z, decode(z)

    def _decode(self, z: Tensor, origin: Tensor | None, seen: Tensor | None) -> Tensor:
        """Latents to actions (B, H, A): relative to ``origin`` (B, A) if given, with ``seen`` for the decoder."""
        if self.config.decoder_input == "none" and self.latent_action_model is not None:
            return self.latent_action_model.decode(z, origin)
        if self.chunk_moments is not None:
            actions = self.chunk_moments.unnormalize(z)
        else:
            assert self.action_decoder is not None
            actions = self.action_decoder(z, seen)
        return actions if origin is None else actions + origin.unsqueeze(1)

    def _action_moments(self) -> RunningMoments:
        """Of the actions, as what decodes knows them."""
        if self.chunk_moments is not None:
            return self.chunk_moments
        model = self.latent_action_model
        if self.config.decoder_input == "none" and model is not None and model.action_moments is not None:
            return model.action_moments
        assert self.action_decoder is not None
        return self.action_decoder.moments

    def _require_acting(self) -> None:
        """Only a policy with a trained decoder acts; or an untouched one in stage ``joint``, for LeRobot's tests."""
        if self._acts_by_head():
            return
        if self.action_decoder is None and self.chunk_moments is None:
            raise RuntimeError(
                "This LAFP checkpoint cannot act: it never saw an action. Missing stage: action_decoder. Train it on "
                "labelled demonstrations: lerobot-train --policy.path=<this checkpoint> "
                "--policy.stage=action_decoder --dataset.repo_id=<labelled dataset>."
            )
        fresh = self.config.stage == "joint" and not bool(self.stage_steps.any())
        if fresh or int(self.stage_steps[2]):
            return
        missing = [stage for stage, steps in zip(STAGES, self.stage_steps.tolist(), strict=True) if not steps]
        raise RuntimeError(
            f"This LAFP checkpoint cannot act: its last training was stage {self.config.stage}. Missing: stage "
            f"{', then stage '.join(missing)}. Train with lerobot-train --policy.path=<this checkpoint> "
            f"--policy.stage={missing[0]} (--dataset.repo_id must have actions for stage action_decoder)."
        )

    def _acts_by_head(self) -> bool:
        """Whether the action head of stage 1 decodes, and saw labels (``decoder_input=none``)."""
        if self.config.decoder_input != "none" or self.latent_action_model is None:
            return False
        moments = self.latent_action_model.action_moments
        if moments is None or not int(moments.count) or not int(self.stage_steps[1]):
            raise RuntimeError(
                "`decoder_input=none` decodes with the action head of stage 1, but this checkpoint's saw no label, or "
                "its latent policy was never trained. Train stage latent_action with labels (label_weight > 0), then "
                "stage latent_policy; or train a decoder: --policy.stage=action_decoder "
                "--policy.decoder_input=interpolation."
            )
        return True

    # --- Loading -------------------------------------------------------------------------------------------

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
        if config is not None:
            refuse_resume_of_another_stage(pretrained_name_or_path, config)
        of_hub = {name: kwargs.pop(name) for name in _HUB_OPTIONS if name in kwargs}
        folder = fetched(pretrained_name_or_path, **of_hub)
        refuse_processors(folder)
        return cast(Self, super().from_pretrained(folder, config=config, load_backbone=False, **kwargs))

    @classmethod
    def _load_as_safetensor(cls, model: Self, model_file: str, map_location: str, strict: bool) -> Self:
        load_weights(model, model_file)
        # True of that file, and no longer of a policy that may be trained further.
        for name in SEALS:
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
        return self._card(license, tags or (), runs, facts_of_dataset(dataset_meta))

    def _card(
        self,
        license: str | None,
        tags: Sequence[str] = (),
        runs: Sequence[Mapping[str, Any]] = (),
        dataset: Mapping[str, Any] | None = None,
    ) -> ModelCard:
        # FSDP leaves buffers whole, while ``state_dict`` would wait for the other processes.
        facts = {**facts_of_config(self.config), **facts_of_tensors(self.config, dict(self.named_buffers()))}
        made = {"made_with": installed_versions()}
        return model_card({**facts, **made}, self.config.repo_id, license, tags, runs, dataset)

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        if self.limits is not None and not self.config.relative_actions and self.config.named_joints is not None:
            self.config.actions_are_positions = self.limits.shows_positions
        with saved_whole(save_directory) as fresh:
            super()._save_pretrained(fresh, state_dict=state_dict)
        save_beside(self._card(self.config.license, self.config.tags or ()), save_directory)


def _present(state: Tensor | None) -> Tensor | None:
    """The last of the frames (B, T, S), or the only one (B, S)."""
    return state[:, -1] if state is not None and state.ndim == 3 else state
