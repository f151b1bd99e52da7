"""A checkpoint run over a dataset: latents, actions, policy samples, and the observations they belong to.

``collect`` takes batches from anywhere; ``dataset_batches`` makes them from a LeRobotDataset.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..configuration_lafp import LAFPConfig
from ..data.opening import load_dataset
from ..frames.serving import with_frame_store
from ..model.latent_action_model import LatentActionModel, VectorQuantized
from ..modeling_lafp import LAFPPolicy
from ..observation.language import TASK
from ..observation.terms import Observation, select_frames
from ..options.constants import Stage
from ..training.batch import TrainingBatch, read_batch

#: Flow times at which IDM latents are sent through the policy (``LatentPolicy.align``).
TAUS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: Side in pixels of the images by which observations are compared where there are no states.
FEATURE_SIZE = 8


@dataclass(frozen=True)
class Collected:
    """What a checkpoint made of N observations; all on the CPU.

    Attributes:
        z_idm: IDM latents, normalised, (N, L, Dz); zero where not valid.
        valid: (N, L), false for latents that reach beyond the episode.
        actions: Of the chunk, (N, H, A), relative to the present state where ``relative``; A = 0 without actions.
        labeled: (N, H), true where the action is known: in any episode, since measuring is not training.
        relative: Whether ``actions`` are.
        changes: Change of the normalised states over the first latent's k frames, (N, V); V = 0 without states.
        episodes: Episode of each observation, (N,).
        features: Observations as vectors, by which they are compared, (N, F): the normalised states of the present
            frame; where there are none, its images averaged down to ``FEATURE_SIZE`` pixels a side.
        samples: S samples of the policy at each observation, (N, S, L, Dz); None if stage 2 is not trained.
        aligned: IDM latents sent through the policy from every flow time of ``taus``, (N, len(taus), L, Dz); or None.
        z_past: Raw latents ``z(o_{t-k}, o_t)`` of all frames with k others before and after, (P, Dz).
        z_future: Raw latents ``z(o_{t+k}, o_t)`` of the same frames, (P, Dz).
        codes: Code of each valid latent in each codebook, (C, heads); None with a continuous bottleneck.
        codebook_size: Codes per codebook; 0 with a continuous bottleneck.
        frame_offset: k.
        taus: Flow times of ``aligned``.
    """

    z_idm: Tensor
    valid: Tensor
    actions: Tensor
    labeled: Tensor
    relative: bool
    changes: Tensor
    episodes: Tensor
    features: Tensor
    samples: Tensor | None
    aligned: Tensor | None
    z_past: Tensor
    z_future: Tensor
    codes: Tensor | None
    codebook_size: int
    frame_offset: int
    taus: tuple[float, ...] = TAUS


def probe_config(config: LAFPConfig) -> LAFPConfig:
    """The frames and actions that ``collect`` wants in a batch, whatever stage ``config`` was saved in.

    ``observation_delta_indices`` and ``action_delta_indices`` of the result are those of stage ``joint``: history,
    0, k, .., Lk and H actions; of at least two latents, for S-PCFC. Every episode's actions may be looked at, and what
    lies beyond an episode's end is left out, even if training held its last frame.
    """
    count = max(2, config.num_latents)
    return config.but(
        stage="joint",
        num_latents=count,
        horizon=count * config.frame_offset,
        labeled_episodes=None,
        hold_last_frame=False,
    )


def dataset_batches(
    config: LAFPConfig,
    repo_id: str,
    root: str | Path | None = None,
    max_frames: int = 4000,
    seed: int = 0,
    batch_size: int = 64,
    wanted: LAFPConfig | None = None,
) -> DataLoader:
    """Batches of a LeRobotDataset, for ``collect``: a seeded choice of frames that have at least one whole latent.

    Args:
        config: The checkpoint's.
        repo_id: The dataset's name.
        root: Its folder; unset: LeRobot's cache, or the Hub.
        max_frames: Frames to take at most, spread over all episodes.
        seed: Of the choice.
        batch_size: Frames a batch.
        wanted: Whose frames and actions a sample has. Unset: ``probe_config``.

    Raises:
        ValueError: The dataset cannot be read, lacks an observation of the checkpoint, or has only short episodes.
    """
    wanted = wanted or probe_config(config)
    dataset = load_dataset(config, repo_id, root, lambda meta: resolve_delta_timestamps(wanted, meta))
    meta = dataset.meta
    starts, ends = meta.episodes["dataset_from_index"], meta.episodes["dataset_to_index"]
    spans = [torch.arange(a, max(a, b - config.frame_offset)) for a, b in zip(starts, ends, strict=True)]
    frames = torch.cat(spans)
    if len(frames) == 0:
        raise ValueError(
            f"Every episode of {repo_id} is shorter than one latent action ({config.frame_offset + 1} frames)."
        )
    chosen = torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))[:max_frames].sort().values
    return DataLoader(Subset(with_frame_store(dataset, config), frames[chosen].tolist()), batch_size=batch_size)


def on_policys_terms(policy: LAFPPolicy, batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of ``dataset_batches`` on the policy's device, under the names and in the order that the policy knows."""
    device = policy.normalizer.image_mean.device
    return policy.in_own_terms({key: x.to(device) if isinstance(x, Tensor) else x for key, x in batch.items()})


@torch.no_grad()
def collect(
    policy: LAFPPolicy,
    batches: Iterable[Mapping[str, Any]],
    num_samples: int = 16,
    seed: int = 0,
    taus: tuple[float, ...] = TAUS,
) -> Collected:
    """Run ``policy`` over ``batches``, with a progress bar. It is put into evaluation mode, else left as it is.

    Args:
        policy: With a trained stage 1; its policy is sampled if stage 2 is trained too.
        batches: As LeRobot's data loader gives them, with the frames of ``probe_config(policy.config)`` and an
            ``episode_index``. Actions that are NaN count as not known.
        num_samples: S.
        seed: Of the policy's noise.
        taus: Flow times from which IDM latents are sent through the policy.

    Raises:
        ValueError: There are no latents to measure, or nothing to measure them on.
    """
    model = _trained_model(policy)
    policy.eval()
    has_policy = bool(policy.stage_steps[Stage.LATENT_POLICY.place])
    generator = torch.Generator().manual_seed(seed)
    rows: list[dict[str, Tensor]] = []
    relative = False
    for batch in tqdm(batches, desc="probe", unit="batch", leave=False):
        data, relative = _read(policy, batch)
        parts = _latents(policy, model, data)
        if has_policy:
            data.history = policy.stages.with_task(data.history, batch.get(TASK))
            parts |= _policy_latents(policy, data, parts["z_idm"], num_samples, generator, taus)
        parts["episodes"] = batch["episode_index"].reshape(-1)
        rows.append({name: x.cpu() for name, x in parts.items()})
    if not rows:
        raise ValueError("There is not one batch to probe.")
    found = {name: torch.cat([part[name] for part in rows]) for name in rows[0]}
    return Collected(
        **{"samples": None, "aligned": None, "codes": None, **found},  # type: ignore[arg-type]
        relative=relative,
        codebook_size=policy.config.codebook.size if policy.config.bottleneck == "vq" else 0,
        frame_offset=policy.config.frame_offset,
        taus=taus,
    )


def _trained_model(policy: LAFPPolicy) -> LatentActionModel:
    if policy.latent_action_model is None:
        raise ValueError(
            "This checkpoint has no latents to probe: it was trained with --policy.latent_source=actions, a flow on "
            "the actions themselves. Probe a checkpoint of latent_source=idm."
        )
    if not int(policy.stage_steps[0]):
        raise ValueError(
            "This checkpoint has no latents to probe: stage latent_action was never trained in it. Train it first "
            "(lerobot-train --policy.type=lafp --policy.stage=latent_action)."
        )
    return policy.latent_action_model


def _read(policy: LAFPPolicy, batch: Mapping[str, Any]) -> tuple[TrainingBatch, bool]:
    """The batch as tensors on the policy's device, and whether its actions are taken relative to the state.

    They are where the policy's are; and where it has seen none yet, if they can be, since latents describe motion.
    """
    batch = on_policys_terms(policy, batch)
    actions, state = batch.get(ACTION), batch.get(OBS_STATE)
    width = None if actions is None else actions.shape[-1]  # another robot's actions can be told as well as one's own
    as_motion = policy.config.relative_actions or policy.config.facts.action_dim is None
    relative = as_motion and state is not None and state.shape[-1] == width
    config = probe_config(policy.config).but(relative_actions=relative)
    config.facts.action_dim = width
    if actions is not None:
        unknown = ~torch.isfinite(actions).flatten(2).all(dim=-1)
        batch[f"{ACTION}_is_pad"] = unknown | batch.get(f"{ACTION}_is_pad", torch.zeros_like(unknown))
    normalizer = copy.copy(policy.normalizer)
    normalizer.vector_shapes = policy.config.vector_shapes  # states for the decoder alone need not be there
    return read_batch(batch, config, normalizer), relative


def _latents(policy: LAFPPolicy, model: LatentActionModel, data: TrainingBatch) -> dict[str, Tensor]:
    config, frames = policy.config, data.frames
    count, offset = config.num_latents, config.frame_offset
    raw = model.encode(frames, data.valid).z
    pairs = data.valid[:, :2].all(dim=1)
    backwards = model.encode(select_frames(frames, [2, 1]), pairs.unsqueeze(1)).z
    actions = data.actions_of_chunk(data.origins is not None)
    present = {key: x[:, -1] for key, x in data.history.items()}
    changes = [frames[key][:, 1] - frames[key][:, 0] for key in config.vector_shapes]
    parts = {
        "z_idm": model.normalize(raw, data.valid)[:, :count],
        "valid": data.valid[:, :count],
        "actions": actions[:, : count * offset],
        "labeled": data.labeled[:, : count * offset],
        "changes": torch.cat([raw.new_zeros(len(raw), 0), *changes], dim=1),
        "features": _features(present, list(config.vector_shapes)),
        "z_past": raw[pairs, 0],
        "z_future": backwards[pairs, 0],
    }
    if isinstance(model.bottleneck, VectorQuantized):
        parts["codes"] = _codes(model.bottleneck, raw[data.valid])
    return parts


def _codes(bottleneck: VectorQuantized, z: Tensor) -> Tensor:
    """Codes (C, heads) that the quantised latents ``z`` (C, Dz) consist of."""
    codebook = bottleneck.quantize.codebook  # (heads, size, Dz / heads)
    parts = z.unflatten(-1, (codebook.shape[0], -1)).transpose(0, 1)
    return torch.cdist(parts, codebook).argmin(dim=-1).T


def _features(present: Observation, states: list[str]) -> Tensor:
    """The present frame's normalised states as one vector; where there are none, small versions of its images, or the
    mean patch token of each."""
    if states:
        return torch.cat([present[key] for key in states], dim=1)
    small = [x.mean(dim=1) if x.ndim == 3 else F.adaptive_avg_pool2d(x, FEATURE_SIZE) for x in present.values()]
    return torch.cat([x.flatten(1) for x in small], dim=1)


def _policy_latents(
    policy: LAFPPolicy,
    data: TrainingBatch,
    z_idm: Tensor,
    num_samples: int,
    generator: torch.Generator,
    taus: tuple[float, ...],
) -> dict[str, Tensor]:
    acting, size = policy.stages.acting_policy, len(z_idm)
    tokens = acting.observe(data.history)

    def draw(count: int) -> Tensor:
        """Noise (count, L, Dz), the same whatever the device."""
        return torch.randn(count, *acting.chunk_shape, generator=generator).to(tokens)

    samples = policy.stages.sample(tokens.repeat_interleave(num_samples, dim=0), draw(size * num_samples))
    aligned = [acting.align(tokens, draw(size), z_idm, tokens.new_full((size,), tau)) for tau in taus]
    return {"samples": samples.unflatten(0, (size, num_samples)), "aligned": torch.stack(aligned, dim=1)}
