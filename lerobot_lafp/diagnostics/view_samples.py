"""Chunks that a policy samples at the frames of an episode at which it would plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from ..acting.chunk import decode
from ..acting.limits import SafetyGuard
from ..errors import UserError
from ..model.stages import Stages
from ..modeling_lafp import LAFPPolicy

#: Planning moments whose chunks are sampled at once.
MOMENTS = 16


@dataclass(frozen=True)
class Samples:
    """What was sampled at M moments: latents (M, S, L, Dz), chunks (M, S, H, A), and the state there, (M, width)."""

    z: Tensor | None
    chunks: Tensor | None
    state: Tensor | None

    @classmethod
    def nothing(cls) -> "Samples":
        return cls(None, None, None)


class Sampler:
    """Samples chunks at the planning moments of an episode that goes by block by block.

    A moment is observed once, and its tokens are shared by its samples. All else is as in ``predict_action_chunk``,
    which gives the same chunk for the same noise (tests/diagnostics/test_view.py); limits are left out, since it is the
    policy that is looked at.
    """

    def __init__(self, stages: Stages, acts: bool, num_samples: int, generator: torch.Generator) -> None:
        self.stages, self.acts, self.num_samples, self.generator = stages, acts, num_samples, generator
        self._kept: dict[str, Tensor] = {}  # the last frames of the block before
        self._seen = 0  # frames that went by
        self._z: list[Tensor] = []
        self._chunks: list[Tensor] = []
        self._state: list[Tensor] = []

    def take(self, frames: Mapping[str, Tensor], tasks: Sequence[str]) -> None:
        """Take in the next frames of the episode, each (n, ..), and their tasks."""
        config = self.stages.config
        held = {key: torch.cat([self._kept[key], x]) if self._kept else x for key, x in frames.items()}
        before = len(next(iter(held.values()))) - len(tasks)
        history = torch.arange(1 - config.n_obs_steps, 1)
        first = -(-self._seen // config.n_action_steps) * config.n_action_steps
        moments = torch.arange(first, self._seen + len(tasks), config.n_action_steps)
        for some in moments.split(MOMENTS) if len(moments) else ():
            at = (some.unsqueeze(1) + history).clamp(min=0) - self._seen + before
            raw = {key: x[at.to(x.device)] for key, x in held.items()}
            self._sample(raw, [tasks[moment - self._seen] for moment in some.tolist()])
        self._seen += len(tasks)
        if config.n_obs_steps > 1:
            self._kept = {key: x[-(config.n_obs_steps - 1) :] for key, x in held.items()}

    def _sample(self, raw: Mapping[str, Tensor], tasks: Sequence[str]) -> None:
        stages, policy, size = self.stages, self.stages.acting_policy, len(tasks)
        history = stages.with_task(stages.normalizer(raw), tasks)
        tokens = policy.observe(history)
        shape = (self.num_samples, *policy.chunk_shape)  # drawn moment by moment, however many there are at once
        noise = torch.cat([torch.randn(shape, generator=self.generator) for _ in range(size)])
        z = self.stages.sample(self._repeated(tokens), noise.to(tokens))
        self._z.append(z.unflatten(0, (size, -1)).cpu())
        if OBS_STATE in raw:
            self._state.append(raw[OBS_STATE][:, -1].cpu())
        if not self.acts:
            return
        relative = stages.config.relative_actions
        origin = raw[OBS_STATE][:, -1, stages.config.joint_of_action].to(tokens) if relative else None
        seen = stages.decoder_observation(tokens, history)
        actions = decode(stages, z, self._repeated(origin), self._repeated(seen))
        self._chunks.append(actions.unflatten(0, (size, -1)).cpu())

    def _repeated(self, x: Any) -> Any:
        return None if x is None else x.repeat_interleave(self.num_samples, dim=0)

    def found(self) -> Samples:
        """What was sampled so far.

        Raises:
            UserError: It is not finite.
        """
        z, chunks, state = (torch.cat(each) if each else None for each in (self._z, self._chunks, self._state))
        for x in (z, chunks):
            if x is not None and not bool(torch.isfinite(x).all()):
                moment = int((~torch.isfinite(x)).flatten(1).any(dim=1).nonzero()[0])
                raise UserError(
                    "The policy's samples hold NaN or infinite values at frame "
                    f"{moment * self.stages.config.n_action_steps}. Look at this frame's states, and at the loss of "
                    "the checkpoint's training."
                )
        return Samples(z, chunks, state)


def share_limited(policy: LAFPPolicy, found: Samples) -> float | None:
    """Share of the sampled commands that the policy's limits change, as at the start of a rollout there."""
    if policy.limits is None or not policy.config.limits.enabled or found.chunks is None:
        return None
    guard = SafetyGuard(policy.config, policy.limits)
    commands = found.chunks.flatten(0, 1)
    guard.watch({}, None if found.state is None else found.state.repeat_interleave(found.chunks.shape[1], dim=0))
    return float((guard.chunk(commands) != commands).any(dim=-1).float().mean())
