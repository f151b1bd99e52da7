"""A LeRobot batch -> the tensors a stage trains on, checked at the door."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from lerobot.utils.constants import ACTION, OBS_STATE, OBS_STR
from torch import Tensor

from ..configuration_lafp import LAFPConfig
from ..observation.normalizer import ObservationNormalizer
from ..observation.terms import Observation, select_frames
from ..options.constants import FROM_LABELS, LATENT_ACTION, LATENT_ACTION_IS_PAD, Stage


@dataclass
class TrainingBatch:
    """What a stage reads of a batch; B samples.

    Attributes:
        history: The frames the latent policy sees, every tensor (B, T, ..), normalised.
        frames: The frames at 0, k, .. between which latents are inferred, (B, L+1, ..), normalised; zero beyond
            the episode, since a mask on the loss alone would let a NaN into the gradient. Of no frame where none are.
        valid: (B, L), false for latents that reach beyond the episode.
        latents: Normalised latents (B, L, Dz) that the dataset brings (``latent_action``); None: to be inferred.
        actions: (B, H, A) as recorded (stage 1: the first k); empty where there are none.
        labeled: (B, H), true where the action may be used and lies within the episode.
        origins: (B, L+1, A), where the joint of each action is at the frames, for relative actions; None without.
        state: (B, S), ``observation.state`` as it is at the present frame; None without.
        shows_task: (B,), true where the policy is to learn to do as is done; false for samples of a labels dataset.
    """

    history: Observation
    frames: Observation
    valid: Tensor
    latents: Tensor | None
    actions: Tensor
    labeled: Tensor
    origins: Tensor | None
    state: Tensor | None
    shows_task: Tensor

    def actions_of_chunk(self, relative: bool) -> Tensor:
        """Targets of the decoder, (B, H, A): absolute, or relative to the present state."""
        if not relative:
            return self.actions
        assert self.origins is not None
        return self.actions - self.origins[:, :1]

    def actions_per_latent(self, relative: bool) -> tuple[Tensor, Tensor]:
        """Targets of stage 1 and their mask, (B, L, k, A) and (B, L, k): each relative to its latent's first frame."""
        num_latents = self.valid.shape[1]
        actions = rearrange(self.actions, "b (l k) a -> b l k a", l=num_latents)
        labeled = rearrange(self.labeled, "b (l k) -> b l k", l=num_latents) & self.valid.unsqueeze(-1)
        if relative:
            assert self.origins is not None
            actions = actions - self.origins[:, :-1].unsqueeze(2)
        return actions, labeled


def read_batch(batch: Mapping[str, Any], config: LAFPConfig, normalizer: ObservationNormalizer) -> TrainingBatch:
    """Split, normalise and check a preprocessed batch in the policy's own terms. It is left as it is.

    Raises:
        KeyError: An observation is missing.
        ValueError: A shape is wrong, or a value that would be learnt from is NaN or infinite.
    """
    deltas = config.frame_deltas
    history_at = (
        [deltas.index(d) for d in config.history_deltas] if config.only_stage is not Stage.LATENT_ACTION else []
    )
    frames_at = [deltas.index(d) for d in config.boundary_deltas]
    pairs_at = frames_at if len(frames_at) > 1 else []  # latents lie between two frames
    before_decoder = config.only_stage in (Stage.LATENT_ACTION, Stage.LATENT_POLICY)
    states = config.vector_shapes if before_decoder else normalizer.vector_shapes
    batch = normalizer.unpacked(batch)
    observation = normalizer(batch, stored=True, states=states)
    for key, x in observation.items():
        _check_count(key, x.shape[1], deltas, config.stage)
    pad = _observation_padding(batch, next(iter(observation.values())))
    if config.hold_last_frame:
        pad = torch.zeros_like(pad)  # LeRobot repeats the last frame beyond the end
    raw_state = batch.get(OBS_STATE)
    _check_finite({key: batch[key] for key in states}, ~pad, batch)
    _check_statistics({key: observation[key] for key in states}, ~pad)

    labels = _precomputed_latents(batch, config)
    valid = ~(pad[:, frames_at[1:]] | pad[:, frames_at[:-1]]) if labels is None else labels[1]
    actions, labeled = _actions(batch, config, like=pad)
    origins = None
    if config.relative_actions and raw_state is not None and config.facts.action_dim is not None:
        joints = raw_state[..., config.joint_of_action]
        origins = joints[:, frames_at] if joints.ndim == 3 else joints.unsqueeze(1)
    return TrainingBatch(
        history=select_frames(observation, history_at),
        frames=_zero_where(pad[:, pairs_at], select_frames(observation, pairs_at)),
        valid=valid,
        latents=None if labels is None else labels[0],
        actions=actions,
        labeled=labeled,
        origins=origins,
        state=None if raw_state is None else raw_state[:, deltas.index(0)] if raw_state.ndim == 3 else raw_state,
        shows_task=_from_labels(batch, like=pad).logical_not(),
    )


def _from_labels(batch: Mapping[str, Any], like: Tensor) -> Tensor:
    """(B,), true for samples of the labels dataset, where there are two."""
    found = batch.get(FROM_LABELS)
    if found is None:
        return torch.zeros(len(like), dtype=torch.bool, device=like.device)
    return found.reshape(-1).to(like.device, torch.bool)


def _check_count(key: str, count: int, deltas: list[int], stage: str) -> None:
    if count != len(deltas):
        raise ValueError(
            f"`{key}` has {count} frame(s), but stage {stage} trains on {len(deltas)}, at offsets {deltas}. Load the "
            "dataset with the delta_timestamps of this configuration (lerobot-train does)."
        )


def _precomputed_latents(batch: Mapping[str, Any], config: LAFPConfig) -> tuple[Tensor, Tensor] | None:
    """Latents (B, L, Dz) that the dataset brings to stage latent_policy, or the frame store to a later one, too; zero
    where not valid (B, L); None without."""
    if config.only_stage is not Stage.LATENT_POLICY and not config.reads_given_latents:
        return None
    latents, pad = batch.get(LATENT_ACTION), batch.get(LATENT_ACTION_IS_PAD)
    if latents is None or pad is None:
        return None
    latents, pad = latents.reshape(len(latents), -1), pad.reshape(len(pad), -1)  # older datasets hold (B, L, Dz)
    chunk = (config.num_latents, config.latent_dim)
    if latents.shape[1] != chunk[0] * chunk[1] or pad.shape[1] != chunk[0]:
        raise ValueError(
            f"`{LATENT_ACTION}` holds {pad.shape[1]} latents a frame, {latents.shape[1]} numbers, but this policy has "
            f"num_latents={chunk[0]} and latent_dim={chunk[1]}. Label the dataset again with this checkpoint (lafp "
            "label)."
        )
    latents, valid = latents.unflatten(1, chunk), ~pad.bool()
    _check_finite({LATENT_ACTION: latents}, valid, batch)
    return torch.where(valid.unsqueeze(-1), latents, torch.zeros_like(latents)), valid


def _zero_where(pad: Tensor, observation: Observation) -> Observation:
    """Every tensor (B, T, ..) with zeros where ``pad`` (B, T)."""
    if not bool(pad.any()):
        return observation
    masks = {key: pad.reshape(*pad.shape, *[1] * (x.ndim - 2)) for key, x in observation.items()}
    return {key: torch.where(masks[key], torch.zeros_like(x), x) for key, x in observation.items()}


def _paddings(batch: Mapping[str, Any]) -> list[str]:
    """Where a batch says which frames lie beyond the episode: by names that ``rename_map`` leaves as they were."""
    return [name for name in batch if name.startswith(OBS_STR) and name.endswith("_is_pad")]


def _observation_padding(batch: Mapping[str, Any], like: Tensor) -> Tensor:
    """(B, T), true for frames beyond the episode; the same for every key, since all share one list of offsets."""
    for name in _paddings(batch):
        return batch[name].bool()
    return torch.zeros(like.shape[:2], dtype=torch.bool, device=like.device)


def _actions(batch: Mapping[str, Any], config: LAFPConfig, like: Tensor) -> tuple[Tensor, Tensor]:
    size, deltas = like.shape[0], config.action_delta_indices
    actions = batch.get(ACTION)
    if actions is None or deltas is None or config.facts.action_dim is None:
        count = len(deltas or [])
        nothing = torch.zeros(size, count, config.facts.action_dim or 0, device=like.device)
        return nothing, torch.zeros(size, count, dtype=torch.bool, device=like.device)
    expected = (size, len(deltas), config.facts.action_dim)
    if actions.ndim == 2 and expected[1:] == (1, 1):  # one action of one number
        actions = actions.unsqueeze(-1)
    if tuple(actions.shape) != expected:
        raise ValueError(
            f"`action` has shape {tuple(actions.shape)}, expected {expected} (batch, actions, width) in stage "
            f"{config.stage}. Load the dataset with the delta_timestamps of this configuration (lerobot-train does)."
        )
    labeled = ~batch.get(f"{ACTION}_is_pad", torch.zeros(expected[:2], dtype=torch.bool, device=actions.device)).bool()
    if config.labeled_episodes is not None:
        if "episode_index" not in batch:
            raise ValueError(
                "`labeled_episodes` is set, but the batch has no `episode_index` to tell which samples are labelled."
            )
        chosen = torch.tensor(config.labeled_episodes, device=actions.device)
        labeled = labeled & torch.isin(batch["episode_index"].reshape(-1).to(actions.device), chosen).unsqueeze(1)
    _check_finite({ACTION: actions}, labeled, batch)
    return actions, labeled


def _check_finite(tensors: Mapping[str, Tensor], used: Tensor, batch: Mapping[str, Any]) -> None:
    """Raise if an entry that will be learnt from, ``used`` (B, T), is NaN or infinite."""
    for key, x in tensors.items():
        bad = _not_finite(x, used)
        if bool(bad.any()):
            row = int(bad.any(dim=1).nonzero()[0])
            index = batch.get("episode_index")
            where = f" in episode {int(index.reshape(-1)[row])}" if index is not None else ""
            where += " of the labels dataset" if bool(_from_labels(batch, used)[row]) else ""
            if key == LATENT_ACTION:
                raise ValueError(f"`{key}` holds NaN or infinite values{where}. Label the dataset again (lafp label).")
            mend = ", or leave it out of --policy.labeled_episodes" if key == ACTION else ""
            raise ValueError(
                f"`{key}` holds NaN or infinite values{where}. Repair that episode, or delete it with "
                f"lerobot-edit-dataset --operation.type=delete_episodes{mend}; then train again."
            )


def _check_statistics(normalized: Mapping[str, Tensor], used: Tensor) -> None:
    """Raise if finite states became NaN by their normalisation: one bad episode spoils a dataset's statistics."""
    for key, x in normalized.items():
        if bool(_not_finite(x, used).any()):
            raise ValueError(
                f"The dataset's statistics of `{key}` are NaN or infinite, because some episode is. Delete that "
                "episode with lerobot-edit-dataset --operation.type=delete_episodes, which computes them anew."
            )


def _not_finite(x: Tensor, used: Tensor) -> Tensor:
    """(B, T), true where a frame of ``x`` (B, T, ..), or (B, ..) of one frame, is used and not finite."""
    return (~torch.isfinite(x)).reshape(*used.shape, -1).any(dim=-1) & used
