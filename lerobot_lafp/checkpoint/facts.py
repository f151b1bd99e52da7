"""What a checkpoint is, as plain values: from its configuration and a few of its tensors, without torch or LeRobot.

The configuration is plain, as ``config.json`` has it, with every option in it; tensors are NumPy arrays.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..acting.bounds import by_place, changes_per_command, largest_change, range_of_commands
from ..options.constants import FLOW_STEPS, Stage
from ..options.names import numbered

ACTION, OBS_STATE = "action", "observation.state"
#: What the names of the tensors begin with that facts are told from.
TENSORS = (
    *("stage_steps", "one_call.steps", "limits.", "normalizer.vectors."),
    *("action_decoder.moments.", "chunk_moments.", "latent_action_model.action_moments."),
)
Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class _Configuration:
    """What is read of a configuration, and nothing else is."""

    horizon: int
    num_latents: int
    n_action_steps: int
    fps: float | None
    latent_dim: int
    codebook_size: int
    policy_head: str
    num_flow_steps: int | None
    decoder_input: str
    #: That the policy reads; and states, after them those that the decoder alone may read.
    cameras: dict[str, list[int]]
    states: dict[str, list[int]]
    state_dim: int
    token_dim: int
    action_dim: int | None
    action_names: list[str] | None
    relative_actions: bool
    labeled_episodes: list[int] | None
    #: Another dataset that the actions came from: ``repo_id``, ``root``, ``episodes``.
    labels: Mapping[str, Any]
    tasks: list[str] | None
    license: str | None
    limits: Mapping[str, Any]
    #: State, ``action`` -> names of its dimensions that wrap around.
    angles: dict[str, list[str]]
    #: Options that a dataset decided -> (value, reason).
    chosen: dict[str, tuple[Any, str]]

    @property
    def flow_steps(self) -> int:
        """``K``."""
        return FLOW_STEPS if self.num_flow_steps is None else self.num_flow_steps

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "_Configuration":
        """Read it of a ``config.json`` of the newest format, in which no option is missing."""
        facts, latent = saved["facts"], saved["facts"]["latent_features"]
        features = _in_order(saved.get("input_features") or {}, facts["feature_order"])
        cameras, states = (
            {key: list(ft["shape"]) for key, ft in features.items() if ft["type"] in kinds}
            for kinds in (("VISUAL",), ("STATE", "ENV"))
        )
        seen_in_video = {key for key in features if latent is None or key in latent}
        return cls(
            horizon=saved["horizon"],
            num_latents=saved["num_latents"],
            n_action_steps=saved["n_action_steps"],
            fps=facts["fps"],
            latent_dim=saved["latent_dim"],
            codebook_size=saved["codebook"]["size"],
            policy_head=saved["policy_head"],
            num_flow_steps=saved["num_flow_steps"],
            decoder_input=saved["decoder_input"],
            cameras={key: shape for key, shape in cameras.items() if key in seen_in_video},
            states=dict(sorted(states.items(), key=lambda each: each[0] not in seen_in_video)),
            state_dim=features[OBS_STATE]["shape"][0] if OBS_STATE in features else 0,
            token_dim=saved["token_dim"],
            action_dim=facts["action_dim"],
            action_names=(saved["names"] or {}).get(ACTION) or facts["action_names"],
            relative_actions=saved["relative_actions"],
            labeled_episodes=saved["labeled_episodes"],
            labels=saved["labels"],
            tasks=facts["tasks"],
            license=saved.get("license"),
            limits=saved["limits"],
            angles=_angles(saved),
            chosen={name: (saved[name], reason) for name, reason in (facts["chosen"] or {}).items() if name in saved},
        )


def _angles(saved: Mapping[str, Any]) -> dict[str, list[str]]:
    facts = saved["facts"]
    known = {**(facts["vector_names"] or {}), OBS_STATE: facts["state_names"], ACTION: facts["action_names"]}
    known |= saved["names"] or {}
    found = {}
    for key, angles in (facts["angles"] or {}).items():
        if angles:
            places = [int(each[0]) for each in angles]
            names = known.get(key) or numbered("dimension", max(places) + 1)
            found[key] = [names[place] for place in places]
    return found


def _in_order(features: Mapping[str, Any], order: list[str] | None) -> dict[str, Any]:
    """Features in ``order``; what is not in it after that by name."""
    if order is None:
        return dict(features)
    places = {key: (order.index(key) if key in order else len(order), key) for key in features}
    return {key: features[key] for key in sorted(features, key=places.__getitem__)}


def facts_of_config(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Chunk, latents, observations and actions, for JSON.

    Args:
        saved: What ``config.json`` says, in the newest format and with every option; or a configuration, encoded so.
    """
    config = _Configuration.of(saved)
    names = config.action_names
    return {
        "chunk": {
            "actions": config.horizon,
            "latents": config.num_latents,
            "frames_per_latent": config.horizon // config.num_latents,
            "executed": config.n_action_steps,
            "fps": config.fps,
        },
        "latents": {"width": config.latent_dim, "bottleneck": "vq" if config.codebook_size else "continuous"},
        "policy": {
            "head": config.policy_head,
            "steps": config.flow_steps if config.policy_head == "flow" else 1,
        },
        "decoder_input": config.decoder_input,
        "cameras": config.cameras,
        "states": config.states,
        "actions": {"width": config.action_dim, "names": names, "relative": config.relative_actions},
        "labeled_episodes": None if config.labeled_episodes is None else len(config.labeled_episodes),
        "labels_dataset": config.labels["repo_id"],
        "labels_episodes": None if config.labels["episodes"] is None else len(config.labels["episodes"]),
        "tasks": config.tasks,
        "license": config.license,
        "angles": config.angles,
        "chosen": {name: {"value": value, "reason": why} for name, (value, why) in config.chosen.items()},
    }


def facts_of_tensors(saved: Mapping[str, Any], tensors: Tensors) -> dict[str, Any]:
    """Steps of each stage, whether it acts, and the limits of its commands where there are any, for JSON.

    Args:
        saved: As in ``facts_of_config``.
        tensors: Name -> array, of a file or of a policy in memory: those whose names begin with ``TENSORS``;
            ``stage_steps`` must be there.

    Raises:
        ValueError: An option of the limits names what is no action.
    """
    config = _Configuration.of(saved)
    steps = tensors["stage_steps"].tolist()
    head = tensors.get("latent_action_model.action_moments.count")
    with_head = config.decoder_input == "action_head" and steps[1] and head is not None and int(head)
    facts: dict[str, Any] = {"steps": dict(zip(Stage, steps, strict=True)), "acts": bool(steps[2] or with_head)}
    if (learnt := tensors.get("one_call.steps")) is not None:
        used = "acts" if config.num_flow_steps is None else "asked for steps"
        facts["one_call"] = used if int(learnt) else "stale"
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


def _statistics(config: _Configuration, tensors: Tensors) -> dict[str, dict[str, list[float]]]:
    """What the model normalises by: state, action -> mean and deviation, as far as they are known."""
    found = {}
    for key in config.states:
        name = f"normalizer.vectors.{key.replace('.', '__')}"
        mean, std = tensors.get(f"{name}.mean"), tensors.get(f"{name}.std")
        if mean is not None and std is not None:
            found[key] = {"mean": mean.tolist(), "std": std.tolist()}
    for prefix in ("action_decoder.moments", "chunk_moments", "latent_action_model.action_moments"):
        count, mean, variance = (tensors.get(f"{prefix}.{name}") for name in ("count", "mean", "variance"))
        if ACTION not in found and mean is not None and variance is not None and count is not None and int(count):
            found[ACTION] = {"mean": mean.tolist(), "std": np.sqrt(variance).tolist()}
    return found


def _limits(config: _Configuration, tensors: Tensors) -> dict[str, Any] | None:
    """Action's name -> the range that its commands are kept in, and its largest change from one to the next."""
    options, count = config.limits, config.action_dim
    own = {name.removeprefix("limits."): tensor for name, tensor in tensors.items() if name.startswith("limits.")}
    if not options["enabled"] or count is None or not own:
        return None
    if {name: tensor.shape for name, tensor in own.items()} != _shapes_of_limits(config, count):
        return None  # loading says what is wrong
    if not bool((own["action.low"] <= own["action.high"]).all()):
        return None
    names = config.action_names
    names = names if names is not None and len(names) == count else numbered(ACTION, count)
    chosen = by_place(options["range"], names, "limits.range")
    demonstrated = own["action.low"], own["action.high"], own["width"]
    low, high = range_of_commands(*demonstrated, options["margin"], chosen)
    change = largest_change(own["change.low"], own["change.high"], options["change"])
    for index, value in changes_per_command(options["change_per_s"], names, config.fps).items():
        change[index] = value
    return {
        name: {"range": [a, b], "change": most if math.isfinite(most) else None}
        for name, a, b, most in zip(names, low.tolist(), high.tolist(), change.tolist(), strict=True)
    }


def _shapes_of_limits(config: _Configuration, count: int) -> dict[str, tuple[int, ...]]:
    """Those of the buffers of ``SafetyLimits`` of a policy of ``count`` actions."""
    of_actions = ("action", "change", *(("lead",) if config.state_dim else ()))
    ranges = {**dict.fromkeys(of_actions, count), "state": config.state_dim}
    return {
        **{f"{name}.{end}": (width,) for name, width in ranges.items() for end in ("low", "high")},
        "width": (count,),
        "state_deviation": (config.state_dim,),
        "tokens.count": (),
        **{f"tokens.{name}": (config.token_dim,) for name in ("mean", "variance")},
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
    steps = f"K {policy['steps']}"
    student = {"acts": f"in one call, learnt from {steps}", "stale": f"{steps} (lafp distill: its student is older)"}
    how = student.get(facts.get("one_call", ""), steps)
    out["policy"] = f"{policy['head']}, {how}; decoder_input {facts['decoder_input']}"
    out["observes"] = ", ".join(f"{k} {tuple(shape)}" for k, shape in {**facts["cameras"], **facts["states"]}.items())
    if actions["width"] is not None:
        names = f": {', '.join(actions['names'])}" if actions["names"] else ""
        out["actions"] = f"{actions['width']}{names}{', relative to the state' if actions['relative'] else ''}"
    if facts["angles"]:
        out["angles"] = "; ".join(f"{key}: {', '.join(names)}" for key, names in facts["angles"].items())
    if facts["labeled_episodes"] is not None:
        out["labels"] = f"{facts['labeled_episodes']} episodes of its dataset"
    if facts["labels_dataset"] is not None:
        which = "all episodes" if facts["labels_episodes"] is None else f"{facts['labels_episodes']} episodes"
        out["labels"] = f"{which} of {facts['labels_dataset']}, another dataset than the video"
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


def chosen_lines(facts: Mapping[str, Any]) -> list[str]:
    """Options that nobody set and the dataset decided, in words, a line an option."""
    return [f"{name} {of['value']}: {of['reason']}" for name, of in facts.get("chosen", {}).items()]


def limit_lines(facts: Mapping[str, Any]) -> list[str]:
    """The limits in words, a line an action."""
    out = []
    for name, limit in facts.get("limits", {}).items():
        (low, high), change = limit["range"], limit["change"]
        out.append(f"{name}: {low:.4g} to {high:.4g}{'' if change is None else f', changing by {change:.4g} at most'}")
    return out
