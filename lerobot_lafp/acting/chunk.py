"""Observation -> latents -> actions: one chunk, and which policies can make one."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lerobot.policies.rtc import RTCConfig
from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from ..model.stages import Stages
from ..options.constants import Stage
from .limits import SafetyGuard
from .real_time import CANDIDATES, Chunk, Prefix, nearest, steering


class History:
    """The last ``n_obs_steps`` frames of every observation; before there are so many, the first stands for them.

    Args:
        keys: The observations.
        steps: T.
    """

    def __init__(self, keys: Iterable[str], steps: int) -> None:
        self._steps = steps
        self._frames: dict[str, deque[Tensor]] = {key: deque(maxlen=steps) for key in keys}

    def append(self, batch: Mapping[str, Tensor]) -> None:
        """Take in the present frame of every observation, each (B, ..)."""
        for key, frames in self._frames.items():
            frames.append(batch[key])
            while len(frames) < self._steps:
                frames.appendleft(batch[key])

    def stacked(self) -> dict[str, Tensor]:
        """Every observation (B, T, ..)."""
        return {key: torch.stack(list(frames), dim=1) for key, frames in self._frames.items()}


def as_history(batch: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], steps: int) -> dict[str, Tensor]:
    """Every observation of ``batch``, (B, ..) of one frame or (B, T, ..), as (B, ``steps``, ..): its last frames, where
    there are fewer with the first of them repeated."""
    history = {}
    for key, shape in shapes.items():
        x = batch[key] if batch[key].ndim == len(shape) + 2 else batch[key].unsqueeze(1)
        x = x[:, -steps:]
        history[key] = torch.cat([x[:, :1]] * (steps - x.shape[1]) + [x], dim=1)
    return history


def predict_chunk(
    stages: Stages,
    raw: Mapping[str, Tensor],
    tasks: Any,
    noise: Tensor | None,
    guard: SafetyGuard | None,
    prefix: Prefix | None = None,
    real_time: RTCConfig | None = None,
) -> Chunk:
    """Latents and the actions that they mean.

    Args:
        stages: The policy's.
        raw: Its observations as they come, in its own order, every tensor (B, T, ..).
        tasks: See ``Stages.with_task``.
        noise: Where the flow starts, (B, L, Dz); drawn if unset.
        guard: Told how far observation and latents are from the training's.
        prefix: Where the present chunk is, if the new one has to go on from it.
        real_time: The ``--inference.rtc.*`` of the rollout.
    """
    config, policy = stages.config, stages.acting_policy
    history = stages.with_task(stages.normalizer(raw), tasks)
    tokens = policy.observe(history)
    if noise is None:
        noise = policy.noise(tokens.shape[0], tokens)
    joints = config.joint_of_action
    origin = raw[OBS_STATE][:, -1, joints].to(tokens) if config.relative_actions else None
    seen = stages.decoder_observation(tokens, history)

    def decoded(z: Tensor) -> Tensor:
        return decode(stages, z, origin, seen)

    unit = stages.action_moments().std
    if prefix is not None and config.rtc_guidance == "noise":
        chunk = nearest(_candidates(stages, tokens, noise, origin, seen), prefix, unit)
    else:
        steer = steering(config.rtc_guidance, prefix, config.prediction, decoded, unit, real_time or RTCConfig())
        z = stages.sample(tokens, noise, steer)
        chunk = Chunk(z, decoded(z))
    if guard is not None:
        guard.measure(tokens, chunk.z)
    return chunk


def _candidates(stages: Stages, tokens: Tensor, noise: Tensor, origin: Tensor | None, seen: Tensor | None) -> Chunk:
    """S samples at each observation, from the noise that is given and from more: (B, S, L, Dz) and (B, S, H, A)."""

    def several(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.repeat_interleave(CANDIDATES, dim=0)

    count = len(tokens)
    drawn = stages.acting_policy.noise(count * CANDIDATES, tokens).unflatten(0, (count, CANDIDATES))
    starts = torch.cat([noise.unsqueeze(1), drawn[:, 1:]], dim=1).flatten(0, 1)
    z = stages.sample(tokens.repeat_interleave(CANDIDATES, dim=0), starts)
    actions = decode(stages, z, several(origin), several(seen))
    return Chunk(z.unflatten(0, (count, CANDIDATES)), actions.unflatten(0, (count, CANDIDATES)))


def decode(stages: Stages, z: Tensor, origin: Tensor | None, seen: Tensor | None) -> Tensor:
    """Latents (B, L, Dz) -> actions (B, H, A), on top of ``origin`` (B, A) if given; ``seen`` is for the decoder."""
    if stages.config.decoder_input == "action_head" and stages.latent_action_model is not None:
        return stages.latent_action_model.decode(z, origin)
    if stages.chunk_moments is not None:
        actions = stages.chunk_moments.unnormalize(z)
    else:
        assert stages.action_decoder is not None
        actions = stages.action_decoder(z, seen)
    return actions if origin is None else actions + origin.unsqueeze(1)


def refuse_untrained(stages: Stages, steps: Tensor) -> None:
    """Only a policy with a trained decoder acts; or an untouched one in stage ``joint``, for LeRobot's tests.

    Args:
        stages: The policy's.
        steps: Optimiser steps that each stage was trained for, (3,).

    Raises:
        RuntimeError: It is none of these.
    """
    if _acts_by_head(stages, steps):
        return
    if stages.action_decoder is None and stages.chunk_moments is None:
        raise RuntimeError(
            "This LAFP checkpoint cannot act: it never saw an action. Missing stage: action_decoder. Train it on "
            "labelled demonstrations: lerobot-train --policy.path=<this checkpoint> "
            "--policy.stage=action_decoder --dataset.repo_id=<labelled dataset>."
        )
    fresh = stages.config.only_stage is None and not bool(steps.any())
    if fresh or int(steps[Stage.ACTION_DECODER.place]):
        return
    missing = [stage for stage, done in zip(Stage, steps.tolist(), strict=True) if not done]
    raise RuntimeError(
        f"This LAFP checkpoint cannot act: its last training was stage {stages.config.stage}. Missing: stage "
        f"{', then stage '.join(missing)}. Train with lerobot-train --policy.path=<this checkpoint> "
        f"--policy.stage={missing[0]} (--dataset.repo_id must have actions for stage action_decoder)."
    )


def _acts_by_head(stages: Stages, steps: Tensor) -> bool:
    """Whether the action head of stage 1 decodes, and saw labels (``decoder_input=action_head``)."""
    if stages.config.decoder_input != "action_head" or stages.latent_action_model is None:
        return False
    moments = stages.latent_action_model.action_moments
    if moments is None or not int(moments.count) or not int(steps[Stage.LATENT_POLICY.place]):
        raise RuntimeError(
            "`decoder_input=action_head` decodes with the action head of stage 1, but this checkpoint's saw no "
            "label, or its latent policy was never trained. Train stage latent_action with labels (label_weight > 0), "
            "then stage latent_policy; or train a decoder: --policy.stage=action_decoder "
            "--policy.decoder_input=interpolation."
        )
    return True


def require(batch: Mapping[str, Tensor], stages: Stages) -> None:
    """Refuse a batch that lacks an observation.

    Raises:
        KeyError: It does; the message names what is missing.
    """
    normalizer = stages.normalizer
    if any(key not in batch for key in (*normalizer.camera_shapes, *normalizer.vector_shapes)):
        normalizer(batch)


def present(state: Tensor | None) -> Tensor | None:
    """The last of the frames (B, T, S), or the only one (B, S)."""
    return state[:, -1] if state is not None and state.ndim == 3 else state
