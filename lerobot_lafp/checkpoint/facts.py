"""What a checkpoint is, as plain values: from its configuration and its tensors, without the network."""

import math
from collections.abc import Mapping
from typing import Any

from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from ..acting.limits import SafetyGuard
from ..configuration_lafp import LAFPConfig
from ..model.limits import SafetyLimits
from ..observation.terms import module_key
from ..options.constants import STAGES


def facts_of_config(config: LAFPConfig) -> dict[str, Any]:
    """Chunk, latents, observations and actions, for JSON."""
    flow = config.policy_head == "flow"
    return {
        "chunk": {
            "actions": config.horizon,
            "latents": config.num_latents,
            "frames_per_latent": config.frame_offset,
            "executed": config.n_action_steps,
            "fps": config.fps,
        },
        "latents": {"width": config.latent_dim, "bottleneck": config.bottleneck},
        "policy": {"head": config.policy_head, "steps": config.num_flow_steps if flow else 1},
        "decoder_input": config.decoder_input,
        "cameras": {key: list(shape) for key, shape in config.camera_shapes.items()},
        "states": {key: list(shape) for key, shape in {**config.vector_shapes, **config.decoder_vector_shapes}.items()},
        "actions": {"width": config.action_dim, "names": config.action_names, "relative": config.relative_actions},
        "labeled_episodes": None if config.labeled_episodes is None else len(config.labeled_episodes),
        "tasks": config.tasks,
        "license": config.license,
    }


def facts_of_tensors(config: LAFPConfig, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Steps of each stage, whether it acts, and the limits of its commands where there are any, for JSON.

    Args:
        config: The checkpoint's.
        tensors: Name -> tensor, of a file or of a policy in memory, whose buffers suffice; ``stage_steps`` must be
            there.
    """
    steps = tensors["stage_steps"].tolist()
    head = tensors.get("latent_action_model.action_moments.count")
    with_head = config.decoder_input == "none" and steps[1] and head is not None and int(head)
    facts: dict[str, Any] = {"steps": dict(zip(STAGES, steps, strict=True)), "acts": bool(steps[2] or with_head)}
    facts["statistics"] = _statistics(config, tensors)
    limits = _limits(config, tensors)
    if limits is not None:
        facts["limits"] = limits
    return facts


def facts_of_dataset(meta: Any | None) -> dict[str, Any]:
    """Size, rate and robot of what it was trained on (``dataset.meta``), for JSON; empty where that is not known."""
    if meta is None:
        return {}
    sizes = {"episodes": meta.total_episodes, "frames": meta.total_frames}
    return {**sizes, "fps": meta.fps, "robot_type": meta.robot_type}


def _statistics(config: LAFPConfig, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, list[float]]]:
    """What the model normalises by: state, action -> mean and deviation, as far as they are known."""
    found = {}
    for key in (*config.vector_shapes, *config.decoder_vector_shapes):
        mean, std = (tensors.get(f"normalizer.vectors.{module_key(key)}.{name}") for name in ("mean", "std"))
        if mean is not None and std is not None:
            found[key] = {"mean": mean.tolist(), "std": std.tolist()}
    for prefix in ("action_decoder.moments", "chunk_moments", "latent_action_model.action_moments"):
        count, mean, variance = (tensors.get(f"{prefix}.{name}") for name in ("count", "mean", "variance"))
        if ACTION not in found and mean is not None and variance is not None and count is not None and int(count):
            found[ACTION] = {"mean": mean.tolist(), "std": variance.sqrt().tolist()}
    return found


def _limits(config: LAFPConfig, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Action's name -> the range that its commands are kept in, and its largest change from one to the next."""
    own = {name.removeprefix("limits."): tensor.cpu() for name, tensor in tensors.items() if name.startswith("limits.")}
    if not config.limits or config.action_dim is None or not own:
        return None
    state = (config.input_features or {}).get(OBS_STATE)
    limits = SafetyLimits(config.action_dim, state.shape[0] if state is not None else 0, config.token_dim)
    try:
        limits.load_state_dict(own)
    except RuntimeError:
        return None  # loading says what is wrong
    if not limits.action.seen:
        return None
    guard = SafetyGuard(config, limits)
    return {
        name: {"range": [low, high], "change": change if math.isfinite(change) else None}
        for name, low, high, change in zip(guard.names, *(x.tolist() for x in guard.bounds), strict=True)
    }


def lines(facts: Mapping[str, Any]) -> dict[str, str]:
    """The same in words, a line a subject; what is not known is left out."""
    out: dict[str, str] = {}
    if "steps" in facts:
        trained = ", ".join(f"{stage} {steps}" for stage, steps in facts["steps"].items() if steps) or "nothing"
        out["trained"] = f"{trained} steps; {'it acts' if facts['acts'] else 'it does not act yet'}"
    if "chunk" not in facts:
        return out
    chunk, latents, policy, actions = (facts[name] for name in ("chunk", "latents", "policy", "actions"))
    rate = "" if chunk["fps"] is None else f" at {chunk['fps']:g} Hz"
    shape = f"H {chunk['actions']} = L {chunk['latents']} x k {chunk['frames_per_latent']}"
    out["chunk"] = f"{shape}, {chunk['executed']} executed{rate}"
    out["latents"] = f"Dz {latents['width']}, {latents['bottleneck']}"
    out["policy"] = f"{policy['head']}, K {policy['steps']}; decoder_input {facts['decoder_input']}"
    out["observes"] = ", ".join(f"{k} {tuple(shape)}" for k, shape in {**facts["cameras"], **facts["states"]}.items())
    if actions["width"] is not None:
        names = f": {', '.join(actions['names'])}" if actions["names"] else ""
        out["actions"] = f"{actions['width']}{names}{', relative to the state' if actions['relative'] else ''}"
    if facts["labeled_episodes"] is not None:
        out["labels"] = f"{facts['labeled_episodes']} episodes of its dataset"
    if facts["tasks"]:
        out["tasks"] = "; ".join(facts["tasks"])
    return out


def statistics_lines(facts: Mapping[str, Any]) -> list[str]:
    """What the model normalises by, in words, a line a state or action."""
    numbers = {
        key: [f"{mean:.4g} ({std:.3g})" for mean, std in zip(of["mean"], of["std"], strict=True)]
        for key, of in facts.get("statistics", {}).items()
    }
    return [f"{key}: {', '.join(each[:8])}{', ..' if len(each) > 8 else ''}" for key, each in numbers.items()]


def limit_lines(facts: Mapping[str, Any]) -> list[str]:
    """The limits in words, a line an action."""
    out = []
    for name, limit in facts.get("limits", {}).items():
        (low, high), change = limit["range"], limit["change"]
        out.append(f"{name}: {low:.4g} to {high:.4g}{'' if change is None else f', changing by {change:.4g} at most'}")
    return out
