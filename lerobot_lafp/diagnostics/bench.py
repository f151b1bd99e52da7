"""``lafp bench``: how long a policy takes on this machine, from frame to command, and where the time goes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType
from lerobot.policies.factory import make_pre_post_processors
from torch import Tensor
from tqdm import tqdm

from ..acting.chunk import as_history, decode
from ..data.policies import load_policy
from ..errors import UserError
from ..modeling_lafp import LAFPPolicy

#: Calls that are made before any is timed.
WARM_UP = 10


@dataclass(frozen=True)
class Bench:
    """Milliseconds of each call, by what is called; observations are noise, one at a time.

    Attributes:
        chunks: ``one call``, ``10 steps``: a whole chunk, by how the policy goes from noise to latents.
        parts: What a chunk consists of.
        waiting: From a frame to its command, processors included, where the present chunk has one.
        predicting: Likewise where a chunk is predicted first.
        fps: Commands a second that the policy was trained for.
    """

    chunks: dict[str, list[float]]
    parts: dict[str, list[float]]
    waiting: list[float]
    predicting: list[float]
    fps: float | None

    def lines(self) -> list[str]:
        """All of it in words: medians, and what one call in a hundred exceeds (p99)."""
        out = [f"chunk    {', '.join(f'{name} {_median(times):.1f} ms' for name, times in self.chunks.items())}"]
        out.append(f"         of it {', '.join(f'{name} {_median(x):.1f}' for name, x in self.parts.items())} ms")
        if self.waiting:
            out.append(f"command  {_both(self.waiting)} from its frame on")
        out.append(f"         {_both(self.predicting)} where a chunk is predicted first")
        if self.fps is not None:
            room = 1000 / self.fps
            slow = _p99(self.predicting) > room
            mend = "; lerobot-rollout --inference.type=rtc predicts beside the robot's motion" if slow else ""
            out.append(f"         {room:.0f} ms are there at {self.fps:g} Hz: {'not ' * slow}always enough{mend}")
        return out


def _median(times: list[float]) -> float:
    return float(np.median(times))


def _p99(times: list[float]) -> float:
    return float(np.percentile(times, 99))


def _both(times: list[float]) -> str:
    return f"{_median(times):.1f} ms (p99 {_p99(times):.1f})"


def bench(checkpoint: str | Path, device: str | None = None, calls: int = 200) -> Bench:
    """Time a checkpoint, with a progress bar.

    Args:
        checkpoint: Its folder, or a repository of the Hub.
        device: Where it runs. Unset: where it was trained, if that is there.
        calls: Of each kind.

    Raises:
        UserError: There is no such checkpoint, or it cannot act.
    """
    policy = load_policy(checkpoint, device).eval()
    pre, post = make_pre_post_processors(policy.config)
    frame = _frame(policy)
    try:
        post(policy.select_action(pre(dict(frame))))
    except RuntimeError as error:
        raise UserError(str(error)) from error

    def command() -> None:
        post(policy.select_action(pre(dict(frame))))

    bar = tqdm(total=3, desc="bench", unit="part", leave=False)
    chunks = timed(policy, _ways(policy, pre(dict(frame))), calls)
    bar.update()
    parts = timed(policy, _parts(policy, pre(dict(frame))), calls)
    bar.update()
    executed = policy.config.n_action_steps
    policy.reset()
    commands = timed(policy, {"command": command}, calls * executed, warm_up=WARM_UP * executed)["command"]
    bar.close()
    predicting = commands[::executed]
    waiting = [each for i, each in enumerate(commands) if i % executed]
    return Bench(chunks, parts, waiting, predicting, policy.config.facts.fps)


def _frame(policy: LAFPPolicy) -> dict[str, Any]:
    """What a robot shows: noise, without an axis for the batch."""
    draw = torch.Generator().manual_seed(0)
    frame: dict[str, Any] = {"task": ""}
    for key, feature in (policy.config.input_features or {}).items():
        noise = torch.rand(feature.shape, generator=draw)
        frame[key] = noise if feature.type is FeatureType.VISUAL else noise - 0.5
    return frame


def _ways(policy: LAFPPolicy, batch: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """Name -> a whole chunk, by each way from noise to latents that the policy has."""
    config, asked = policy.config, policy.config.num_flow_steps

    def chunk(steps: int | None) -> None:
        config.num_flow_steps = steps
        policy.predict_action_chunk(dict(batch))
        config.num_flow_steps = asked

    if config.policy_head != "flow":
        return {"one call": lambda: chunk(None)}
    ways: dict[str, Callable[[], Any]] = {f"{config.flow_steps} steps": lambda: chunk(config.flow_steps)}
    if policy.one_call is not None and policy.one_call.is_ready:
        ways = {"one call": lambda: chunk(None), **ways}
    return ways


def _parts(policy: LAFPPolicy, batch: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """Name -> a part of predicting a chunk."""
    stages = policy.stages
    acting = stages.acting_policy
    batch = policy.in_own_terms(batch)
    shapes = {**policy.normalizer.camera_shapes, **policy.normalizer.vector_shapes}
    raw = as_history(batch, shapes, policy.config.n_obs_steps)
    history = stages.with_task(stages.normalizer(raw), batch.get("task"))
    tokens = acting.observe(history)
    noise = acting.noise(1, tokens)
    z = stages.sample(tokens, noise)
    seen = stages.decoder_observation(tokens, history)
    how = "one call" if stages.acts_in_one_call or policy.config.policy_head == "bc" else "steps of the flow"
    return {
        "normaliser": lambda: stages.normalizer(raw),
        "encoder": lambda: acting.observe(history),
        how: lambda: stages.sample(tokens, noise),
        "decoder": lambda: decode(stages, z, None, seen),
    }


@torch.no_grad()
def timed(
    policy: LAFPPolicy, kinds: Mapping[str, Callable[[], Any]], calls: int, warm_up: int = WARM_UP
) -> dict[str, list[float]]:
    """Milliseconds of every call on the policy's device, the kinds one after the other in turn."""
    device: Tensor = policy.stage_steps
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(-warm_up, calls):
        for name, call in kinds.items():
            begun = perf_counter()
            call()
            if device.is_cuda:
                torch.cuda.synchronize(device.device)
            if number >= 0:
                times[name].append(1000 * (perf_counter() - begun))
    return times
