"""The three stages together: built as a configuration says, which of them trains, and what they share.

None of them knows another but as tensors.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from lerobot.utils.constants import OBS_STATE
from torch import Tensor, nn

from ..configuration_lafp import LAFPConfig
from ..observation.encoders import ObservationEncoder
from ..observation.language import TASK, TaskEncoder, encode_tasks
from ..observation.normalizer import ObservationNormalizer
from ..observation.terms import Observation
from ..observation.vit import FrozenViT, build_vit, load_vit
from ..options.constants import Stage
from .action_decoder import ActionDecoder, weight_decay
from .flow import Steering
from .latent_action_model import LatentActionModel
from .latent_policy import BehaviorCloningPolicy, FlowPolicy, LatentPolicy
from .limits import SafetyLimits
from .motion import FLOW_CELLS
from .one_call import OneCall
from .running_statistics import RunningMoments


@dataclass(frozen=True)
class Stages:
    """The three stages of one policy, and what all of them see through: references to its modules, and no state.

    Attributes:
        config: The policy's.
        normalizer: What turns raw observations into the policy's own terms.
        task_encoder: What reads the task in words; None where nothing does.
        latent_action_model: Stage 1; None where the flow runs over actions themselves (``latent_source=actions``).
        latent_policy: Stage 2.
        average_policy: The moving average of its weights; None where none is kept.
        one_call: What goes in one call where the flow goes in several; None where ``lafp distill`` has added none.
        action_decoder: Stage 3; None without stage 1, and as long as no dataset had an action.
        chunk_moments: Of the action chunks that the flow runs over in place of latents.
        limits: What the demonstrations did; None as long as no dataset had an action.
    """

    config: LAFPConfig
    normalizer: ObservationNormalizer
    task_encoder: TaskEncoder | None
    latent_action_model: LatentActionModel | None
    latent_policy: LatentPolicy
    average_policy: LatentPolicy | None
    one_call: OneCall | None
    action_decoder: ActionDecoder | None
    chunk_moments: RunningMoments | None
    limits: SafetyLimits | None

    @property
    def acting_policy(self) -> LatentPolicy:
        """What acts: the average of the weights that training goes through, where one is kept."""
        return self.latent_policy if self.average_policy is None else self.average_policy

    @property
    def acts_in_one_call(self) -> bool:
        """Whether the student of the flow acts in its place: where it has learnt, and nobody asked for steps."""
        return self.config.num_flow_steps is None and self.one_call is not None and self.one_call.is_ready

    def sample(self, tokens: Tensor, noise: Tensor, steer: Steering | None = None) -> Tensor:
        """Latents to act on, (B, L, Dz), from ``noise`` of that shape; where ``steer`` is given, by a flow's steps."""
        if steer is None and self.acts_in_one_call:
            assert self.one_call is not None
            return cast(Tensor, self.one_call(noise, tokens))
        return self.acting_policy.sample(tokens, noise, steer)

    @property
    def trained(self) -> list[nn.Module]:
        """The modules that the configuration's stage trains; the others stay as they are."""
        config = self.config
        modules: list[nn.Module | None] = []
        if config.trains(Stage.LATENT_ACTION):
            modules.append(self.latent_action_model)
        finetuned = config.trains(Stage.ACTION_DECODER) and config.finetune_policy
        if config.trains(Stage.LATENT_POLICY) or finetuned:
            modules.append(self.latent_policy)
        if config.trains(Stage.ACTION_DECODER) and config.decoder_input != "action_head":
            modules.append(self.action_decoder)
        return [module for module in modules if module is not None]

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Their parameters, but for those that stay as they are within them."""
        for module in self.trained:
            yield from module.trained_parameters() if isinstance(module, LatentActionModel) else module.parameters()

    def parameter_groups(self, labeled_frames: int | None) -> list[dict[str, Any]]:
        """The same for an optimiser: those of the decoder, which few labels teach, have a weight decay of their own."""
        decoder = self.action_decoder if self.action_decoder in self.trained else None
        decays = {id(p) for p in decoder.parameters()} if decoder is not None else set()
        decay = weight_decay(labeled_frames)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.trained_parameters() if id(p) not in decays]},
            {"params": [p for p in self.trained_parameters() if id(p) in decays], "weight_decay": decay},
        ]
        return [group for group in groups if group["params"]]

    def with_task(self, history: Observation, tasks: Any) -> Observation:
        """``history`` and the vector of each sample's task in words, if the policy reads it (``language``).

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

    def decoder_observation(self, tokens: Tensor | None, history: Observation) -> Tensor | None:
        """What the decoder reads beside latents, (B, O); ``tokens`` may be missing where it reads none."""
        read = []
        if self.config.decoder_observes == "tokens":
            assert tokens is not None
            read.append(tokens.flatten(1))
        read += [history[key][:, -1] for key in self.config.decoder_states]
        return torch.cat(read, dim=-1) if read else None

    def action_moments(self) -> RunningMoments:
        """Of the actions, as what decodes knows them."""
        if self.chunk_moments is not None:
            return self.chunk_moments
        model = self.latent_action_model
        if self.config.decoder_input == "action_head" and model is not None and model.action_moments is not None:
            return model.action_moments
        assert self.action_decoder is not None
        return self.action_decoder.moments


def build(
    config: LAFPConfig, stats: Mapping[str, Mapping[str, Any]] | None, known_tasks: int, load_backbone: bool
) -> Stages:
    """The modules of a policy, as its configuration says.

    Args:
        config: The policy's; ``facts.motion_weight`` and the like are settled.
        stats: The dataset's, by which states are normalised.
        known_tasks: Of ``config.facts.tasks``, how many have their vectors in the checkpoint that is loaded next.
        load_backbone: As in ``LAFPPolicy``.
    """
    # The order in which they are built decides what a seed draws for each.
    task_encoder = build_task_encoder(config, 0 if load_backbone else known_tasks)
    normalizer = build_normalizer(config, stats, load_backbone)
    model, decoder, moments, policy = _build_stages(config, normalizer, task_encoder, load_backbone)
    limits = build_limits(config)
    average = copy.deepcopy(policy) if config.ema_decay else None
    student = OneCall(policy) if config.facts.one_call and isinstance(policy, FlowPolicy) else None
    return Stages(config, normalizer, task_encoder, model, policy, average, student, decoder, moments, limits)


def build_normalizer(
    config: LAFPConfig, stats: Mapping[str, Mapping[str, Any]] | None, load_backbone: bool
) -> ObservationNormalizer:
    """What all stages see observations through; ``stats`` are the dataset's, ``load_backbone`` as in ``LAFPPolicy``."""
    return ObservationNormalizer(
        config.camera_shapes,
        {**config.vector_shapes, **config.decoder_vector_shapes},
        stats,
        config.resize_shape,
        imagenet=config.backbone.weights is not None,
        vit=_vit(config, load_backbone) if config.backbone.encoder == "vit" and config.camera_shapes else None,
        keep_pixels=bool(config.facts.motion_weight) and config.trains(Stage.LATENT_ACTION),
        depth=config.facts.depth_cameras or (),
    )


def _build_stages(
    config: LAFPConfig, normalizer: ObservationNormalizer, task_encoder: TaskEncoder | None, load_backbone: bool
) -> tuple[LatentActionModel | None, ActionDecoder | None, RunningMoments | None, LatentPolicy]:
    """The three stages over what ``normalizer`` hands them; stage 2 reads the task, too, if there is what encodes it.

    Raises:
        ValueError: ``latent_source=actions``, and no action is known.
    """
    vectors = {key: int(torch.Size(shape).numel()) for key, shape in config.vector_shapes.items()}
    task = {} if task_encoder is None else {TASK: task_encoder.width}

    def encoder(more: Mapping[str, int]) -> ObservationEncoder:
        return ObservationEncoder(
            normalizer.image_shapes,
            {**vectors, **more},
            config.token_dim,
            config.backbone.encoder,
            config.backbone.weights,
            load_backbone,
            normalizer.patch_shapes,
        )

    if config.latent_source == "actions":
        if config.facts.action_dim is None:
            raise ValueError("`latent_source=actions` needs a dataset with an `action` column.")
        policy = _latent_policy(config, encoder(task), (config.horizon, config.facts.action_dim))
        return None, None, RunningMoments(config.facts.action_dim), policy
    model = _latent_action_model(config, encoder({}), normalizer, vectors)
    decoder = None
    if config.facts.action_dim is not None:
        seen = _decoder_obs_dim(config, model.encoder.num_tokens + len(task))
        shape = (config.num_latents, config.latent_dim, config.horizon, config.facts.action_dim)
        whole = not config.facts.decoder_per_latent
        decoder = ActionDecoder(*shape, config.decoder_dim, seen, config.relative_actions, whole)
    return model, decoder, None, _latent_policy(config, encoder(task), (config.num_latents, config.latent_dim))


def build_limits(config: LAFPConfig) -> SafetyLimits | None:
    """What no command exceeds; None as long as no dataset had an action."""
    if config.facts.action_dim is None:
        return None
    state = (config.input_features or {}).get(OBS_STATE)
    return SafetyLimits(config.facts.action_dim, state.shape[0] if state is not None else 0, config.token_dim)


def build_task_encoder(config: LAFPConfig, known: int) -> TaskEncoder | None:
    """What reads ``config.facts.tasks``, of which the vectors of the first ``known`` are still to be loaded."""
    if not config.reads_task:
        return None
    tasks = list(config.facts.tasks or [])
    table = None
    if config.task_encoder == "model":
        assert config.text_model is not None
        new = encode_tasks(config.text_model, tasks[known:]) if len(tasks) > known else None
        if new is not None:
            config.facts.text_dim = new.shape[1]
        assert config.facts.text_dim is not None
        rows = torch.zeros(known, config.facts.text_dim)
        table = rows if new is None else torch.cat([rows, new])
    return TaskEncoder(tasks, config.text_model, table)


def _latent_action_model(
    config: LAFPConfig, encoder: ObservationEncoder, normalizer: ObservationNormalizer, vectors: Mapping[str, int]
) -> LatentActionModel:
    return LatentActionModel(
        encoder,
        normalizer.image_shapes,
        vectors,
        latent_dim=config.latent_dim,
        hidden=config.latent_model_dim,
        frame_offset=config.frame_offset,
        action_dim=config.facts.action_dim,
        bottleneck=config.bottleneck,
        codebook_size=config.codebook.size,
        codebook_heads=config.codebook.heads,
        pixel_target_size=config.pixel_target_size,
        idm_input=config.idm_input,
        motion_grid=FLOW_CELLS if config.facts.motion_weight else 0,
        motion_target=config.motion.target,
        patch_shapes=normalizer.patch_shapes,
        latent_tokens=config.latent_tokens,
    )


def _latent_policy(config: LAFPConfig, encoder: ObservationEncoder, chunk_shape: tuple[int, int]) -> LatentPolicy:
    shape = (encoder, config.n_obs_steps, *chunk_shape)
    network = (config.policy_network, config.policy_dim, config.policy_layers)
    if config.policy_head == "bc":
        return BehaviorCloningPolicy(*shape, *network)
    return FlowPolicy(
        *shape,
        *network,
        prediction=config.prediction,
        num_steps=config.flow_steps,
        draws=config.flow_draws,
    )


def _decoder_obs_dim(config: LAFPConfig, num_tokens: int) -> int:
    """Width of what the decoder reads beside latents: the history's tokens, and states."""
    tokens = config.n_obs_steps * num_tokens * config.token_dim if config.decoder_observes == "tokens" else 0
    return tokens + sum(torch.Size(shape).numel() for shape in config.decoder_states.values())


def _vit(config: LAFPConfig, load: bool) -> FrozenViT:
    """The frozen ViT of ``config``, with the weights it was published with or without any; its own configuration
    becomes part of ``config``."""
    if load or config.facts.backbone_config is None:
        assert config.backbone.weights is not None
        config.facts.backbone_config, model = load_vit(config.backbone.weights)
    else:
        model = build_vit(config.facts.backbone_config)
    return FrozenViT(model, config.facts.backbone_config, config.backbone.grid)
