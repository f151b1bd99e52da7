"""The modules of a policy, built as its configuration says; none of them knows another but as tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lerobot.utils.constants import OBS_STATE

from .action_decoder import ActionDecoder
from .configuration_lafp import LAFPConfig
from .latent_action_model import LatentActionModel
from .latent_policy import BehaviorCloningPolicy, FlowPolicy, LatentPolicy
from .limits import SafetyLimits
from .observation import ObservationEncoder, ObservationNormalizer
from .statistics import RunningMoments
from .task import TASK, TaskEncoder, encode_tasks
from .vit import FrozenViT, build_vit, load_vit


@dataclass(frozen=True)
class Stages:
    """What the three stages train.

    Attributes:
        latent_action_model: Stage 1; None where the flow runs over actions themselves (``latent_source=actions``).
        action_decoder: Stage 3; None there, and as long as no dataset had an action.
        chunk_moments: Of the action chunks that the flow runs over in their place.
        latent_policy: Stage 2.
    """

    latent_action_model: LatentActionModel | None
    action_decoder: ActionDecoder | None
    chunk_moments: RunningMoments | None
    latent_policy: LatentPolicy


def build_normalizer(
    config: LAFPConfig, stats: Mapping[str, Mapping[str, Any]] | None, load_backbone: bool
) -> ObservationNormalizer:
    """What all stages see observations through; ``stats`` are the dataset's, ``load_backbone`` as in ``LAFPPolicy``."""
    return ObservationNormalizer(
        config.camera_shapes,
        {**config.vector_shapes, **config.decoder_vector_shapes},
        stats,
        config.resize_shape,
        imagenet=config.pretrained_backbone_weights is not None,
        vit=_vit(config, load_backbone) if config.vision_encoder == "vit" and config.camera_shapes else None,
        keep_pixels=bool(config.motion_weight) and config.stage in ("joint", "latent_action"),
        depth=config.depth_cameras or (),
    )


def build_stages(
    config: LAFPConfig, normalizer: ObservationNormalizer, task_encoder: TaskEncoder | None, load_backbone: bool
) -> Stages:
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
            config.vision_encoder,
            config.pretrained_backbone_weights,
            load_backbone,
            normalizer.patch_shapes,
        )

    if config.latent_source == "actions":
        if config.action_dim is None:
            raise ValueError("`latent_source=actions` needs a dataset with an `action` column.")
        policy = _latent_policy(config, encoder(task), (config.horizon, config.action_dim))
        return Stages(None, None, RunningMoments(config.action_dim), policy)
    model = _latent_action_model(config, encoder({}), normalizer, vectors)
    decoder = None
    if config.action_dim is not None:
        seen = _decoder_obs_dim(config, model.encoder.num_tokens + len(task))
        shape = (config.num_latents, config.latent_dim, config.horizon, config.action_dim)
        decoder = ActionDecoder(*shape, config.decoder_dim, seen)
    return Stages(model, decoder, None, _latent_policy(config, encoder(task), (config.num_latents, config.latent_dim)))


def build_limits(config: LAFPConfig) -> SafetyLimits | None:
    """What no command exceeds; None as long as no dataset had an action."""
    if config.action_dim is None:
        return None
    state = (config.input_features or {}).get(OBS_STATE)
    return SafetyLimits(config.action_dim, state.shape[0] if state is not None else 0, config.token_dim)


def build_task_encoder(config: LAFPConfig, known: int) -> TaskEncoder | None:
    """What reads ``config.tasks``, of which the vectors of the first ``known`` are still to be loaded."""
    if not config.reads_task:
        return None
    tasks = list(config.tasks or [])
    table = None
    if config.task_encoder == "model":
        assert config.text_model is not None
        new = encode_tasks(config.text_model, tasks[known:]) if len(tasks) > known else None
        if new is not None:
            config.text_dim = new.shape[1]
        assert config.text_dim is not None
        rows = torch.zeros(known, config.text_dim)
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
        action_dim=config.action_dim,
        bottleneck=config.bottleneck,
        codebook_size=config.codebook_size,
        codebook_heads=config.codebook_heads,
        image_target=config.image_target,
        pixel_target_size=config.pixel_target_size,
        idm_input=config.idm_input,
        motion_grid=config.motion_grid if config.motion_weight else 0,
        motion_target=config.motion_target,
        patch_shapes=normalizer.patch_shapes,
        idm_network=config.idm_network,
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
        num_steps=config.num_flow_steps,
        draws=config.flow_draws,
        error_of=config.flow_loss,
    )


def _decoder_obs_dim(config: LAFPConfig, num_tokens: int) -> int:
    """Width of what the decoder reads beside latents: the history's tokens, and states."""
    tokens = config.n_obs_steps * num_tokens * config.token_dim if config.decoder_observation else 0
    return tokens + sum(torch.Size(shape).numel() for shape in config.decoder_states.values())


def _vit(config: LAFPConfig, load: bool) -> FrozenViT:
    """The frozen ViT of ``config``, with the weights it was published with or without any; its own configuration
    becomes part of ``config``."""
    if load or config.backbone_config is None:
        assert config.pretrained_backbone_weights is not None
        config.backbone_config, model = load_vit(config.pretrained_backbone_weights)
    else:
        model = build_vit(config.backbone_config)
    return FrozenViT(model, config.backbone_config, config.backbone_grid)
