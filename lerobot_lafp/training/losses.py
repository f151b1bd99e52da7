"""What each stage is trained on: the losses over one batch, per sample. LAFP paper, sections 3.1 to 3.3."""

import torch
from torch import Tensor

from ..configuration_lafp import LAFPConfig
from ..model.distributed import sum_while_training
from ..model.latent_policy import LatentPolicy
from ..model.layers import mean_over_valid
from ..model.stages import Stages
from ..observation.terms import Observation, shift_at_random
from ..options.constants import Stage
from .batch import TrainingBatch


def losses(stages: Stages, data: TrainingBatch) -> dict[str, Tensor]:
    """Name -> loss per sample (B,), of the stage that ``stages.config`` says. Statistics take the batch in.

    Args:
        stages: The policy's, in training mode where it trains.
        data: The batch, in the policy's own terms, the task of ``data.history`` included.
    """
    if stages.chunk_moments is not None:
        return _flow_over_actions(stages, data)
    assert stages.latent_action_model is not None
    config = stages.config
    found: dict[str, Tensor] = {}
    z = data.latents
    if config.trains(Stage.LATENT_ACTION):
        z, found = _of_latent_actions(stages, data)
    elif z is None and len(config.boundary_deltas) > 1:
        z = stages.latent_action_model.normalized_latents(data.frames, data.valid)
    if config.trains(Stage.LATENT_POLICY):
        assert z is not None
        tokens = _observe_shifted(stages, stages.latent_policy, data.history)
        learnt = data.valid & data.shows_task.unsqueeze(1)
        found["policy_loss"] = mean_over_valid(stages.latent_policy.loss(z, tokens), learnt.unsqueeze(-1))
    if stages.action_decoder in stages.trained:
        found["decoder_loss"] = _of_decoder(stages, data, z)
    return found


def _shifted(config: LAFPConfig, observation: Observation) -> Observation:
    """``observation``, its images shifted by ``random_shift``."""
    if not config.random_shift:
        return observation
    cameras = {key: shift_at_random(observation[key], config.random_shift) for key in config.camera_shapes}
    return {**observation, **cameras}


def _observe_shifted(stages: Stages, policy: LatentPolicy, history: Observation) -> Tensor:
    """Tokens (B, T, N, D) that ``policy`` makes of images, which are shifted if it is in training."""
    return policy.observe(_shifted(stages.config, history) if policy.training else history)


def _of_latent_actions(stages: Stages, data: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Stage 1. Returns the normalised latents, cut from the graph, and the losses."""
    model, config = stages.latent_action_model, stages.config
    assert model is not None
    frames = _shifted(config, data.frames) if model.training else data.frames
    latents = model.encode(frames, data.valid)
    if model.training:
        model.statistics.update(latents.z[data.valid].detach())
    found = {"reconstruction_loss": model.reconstruction_loss(frames, latents, data.valid)}
    if config.bottleneck == "vq":
        found["vq_loss"] = latents.bottleneck_loss.expand(data.valid.shape[0])
    if model.action_head is not None and config.label_weight:
        actions, labeled = data.actions_per_latent(config.relative_actions)
        found["label_loss"] = config.label_weight * model.action_loss(latents.z, actions, labeled)
    if model.motion_head is not None:
        assert config.facts.motion_weight is not None
        found["motion_loss"] = config.facts.motion_weight * model.motion_head.loss(latents.z, frames, data.valid)
    return model.normalize(latents.z, data.valid), found


def _of_decoder(stages: Stages, data: TrainingBatch, z_idm: Tensor | None) -> Tensor:
    """Stage 3, on the labelled samples of the batch alone."""
    config, decoder = stages.config, stages.action_decoder
    assert decoder is not None
    rows = data.labeled.any(dim=1)
    rows[0] |= ~rows.any()  # no label in this batch: a zero that stays on the graph, for ``backward``
    loss = torch.zeros_like(rows, dtype=data.actions.dtype)
    history = {key: x[rows] for key, x in data.history.items()}
    z, tokens = None if z_idm is None else z_idm[rows], None
    with torch.set_grad_enabled(config.finetune_policy and torch.is_grad_enabled()):
        policy = stages.latent_policy if config.finetune_policy else stages.acting_policy
        measured = decoder.training and _measures_tokens(stages)
        if config.decoder_input != "idm" or config.decoder_observes == "tokens" or measured:
            tokens = _observe_shifted(stages, policy, history)
        if measured:
            assert tokens is not None
            assert stages.limits is not None
            known = data.labeled[rows].any(dim=1)
            stages.limits.tokens.update(tokens[known].flatten(1, 2).mean(dim=1))
        if config.decoder_input != "idm":
            assert tokens is not None
            z = _decoder_input(stages, policy, tokens, z)
    assert z is not None
    observation = stages.decoder_observation(tokens, history)
    actions = data.actions_of_chunk(config.relative_actions)[rows]
    # Weighted so that the batch's mean stays the mean over labelled samples.
    part = decoder.loss(z, observation, actions, data.labeled[rows])
    samples, parts = sum_while_training(torch.stack([torch.ones_like(rows), rows]).sum(dim=1))
    return loss.masked_scatter(rows, part * (samples / parts))


def _measures_tokens(stages: Stages) -> bool:
    """Whether what the policy sees is still to be measured, for it to be told from what is new when it acts."""
    config, limits = stages.config, stages.limits
    # What is seen in another dataset than the policy's tells nothing of that.
    shows_task = config.labels.repo_id is None and not config.finetune_policy
    if limits is None or config.only_stage is not Stage.ACTION_DECODER or not shows_task:
        return False
    return not limits.tokens.is_full


def _decoder_input(stages: Stages, policy: LatentPolicy, tokens: Tensor, z_idm: Tensor | None) -> Tensor:
    """The latents of the policy that the decoder is trained on (``decoder_input``), (B, L, Dz)."""
    config = stages.config
    noise = policy.noise(tokens.shape[0], tokens)
    if not config.decoder_reads_latents:
        return policy.sample(tokens, noise)
    assert z_idm is not None
    low, high = config.interpolation_tau
    tau = low + (high - low) * torch.rand(tokens.shape[0], dtype=tokens.dtype, device=tokens.device)
    return policy.align(tokens, noise, z_idm, tau)


def _flow_over_actions(stages: Stages, data: TrainingBatch) -> dict[str, Tensor]:
    """``latent_source=actions``: the flow on labelled action chunks themselves."""
    moments, policy = stages.chunk_moments, stages.latent_policy
    assert moments is not None
    actions = data.actions_of_chunk(stages.config.relative_actions)
    if policy.training:
        moments.update(actions[data.labeled])
    mask = data.labeled.unsqueeze(-1)
    target = torch.where(mask, moments.normalize(actions), torch.zeros_like(actions))
    tokens = _observe_shifted(stages, policy, data.history)
    return {"policy_loss": mean_over_valid(policy.loss(target, tokens), mask)}
