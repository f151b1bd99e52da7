"""Options that nobody set, chosen by the first dataset of a policy: its rate, its cameras, what its actions are.

Each choice has its reason, and all are printed before a training starts. ``benchmarks/real_video.py`` measures what
they are worth on recordings of real robots.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION, OBS_STATE

from ..configuration_lafp import LAFPConfig
from ..options.checks import check
from ..options.features import camera_shape, is_read
from ..options.names import dimension_names, positions_of
from .joined import state_of
from .measuring import measure_commands

logger = logging.getLogger(__name__)

#: How long a chunk lasts: on PushT and the emulated arm, at 10 frames a second, 16 frames measured best.
CHUNK_S = 1.6
LATENTS = 4
#: Longest side, in pixels, of the images that a policy sees.
LONGEST_SIDE = 96
#: How far images are shifted at random, in shares of their longest side.
SHIFT = 1 / 16
#: Actions are places of joints if most are within this share of their own deviation of where the joint is.
NEAR = 0.7


@dataclass(frozen=True)
class Choice:
    """An option's value, and why."""

    name: str
    value: Any
    reason: str

    @property
    def typed(self) -> str:
        """The option as one types it."""
        value = self.value
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, (list, tuple)):
            value = f"[{','.join(map(str, value))}]"
        return f"--policy.{self.name}={value}"


def choose(config: LAFPConfig, meta: Any, of_labels: bool = False) -> list[Choice]:
    """Decide, in place, what is left of ``config.facts.undecided`` and can be told from a dataset.

    Args:
        config: Of the policy that is about to be trained.
        meta: ``dataset.meta``.
        of_labels: Whether the dataset is the one that has the actions, beside a video without (``labels``).

    Returns:
        What was decided, in the order of the options.

    Raises:
        ValueError: It does not go together with what was set by hand.
    """
    undecided = config.facts.undecided
    if not undecided:
        return []
    found: list[Choice] = []
    if not of_labels and config.facts.latent_features is None:
        found += [*_chunk(config, meta), *_camera(config, meta)]
    if of_labels == (config.labels.repo_id is not None):
        found += _actions(config, meta, of_labels)
    found = [choice for choice in found if choice.name in undecided]
    for choice in found:
        setattr(config, choice.name, choice.value)
    config.decide(choice.name for choice in found)
    config.facts.chosen = {**(config.facts.chosen or {}), **{choice.name: choice.reason for choice in found}}
    check(config)
    if found:
        logger.info("Chosen by the dataset; each can be set on the command line:\n%s", as_table(found))
    return found


def as_table(choices: Sequence[Choice]) -> str:
    """One line a choice: the option as it is typed, and why."""
    width = max((len(each.typed) for each in choices), default=0)
    return "\n".join(f"  {each.typed:<{width}}  {each.reason}" for each in choices)


def _chunk(config: LAFPConfig, meta: Any) -> list[Choice]:
    """How long a chunk lasts, how many latents tell it, and how much of it is executed."""
    undecided = config.facts.undecided or ()
    found = []
    horizon, latents = config.horizon, config.num_latents
    if "horizon" in undecided:
        latents = LATENTS if "num_latents" in undecided else latents
        horizon, whole = chunk_of(meta, latents)
        what = "half of an episode" if not whole else f"at {meta.fps:g} frames a second"
        found.append(Choice("horizon", horizon, f"{horizon / meta.fps:.3g} s, {what}"))
    if "num_latents" in undecided:
        latents = config.nearest_latents(horizon, LATENTS)
        found.append(Choice("num_latents", latents, f"each covers {horizon / latents / meta.fps:.2g} s"))
    if "n_action_steps" in undecided:
        found.append(Choice("n_action_steps", max(1, horizon // 2), "half of the chunk, then a new one is predicted"))
    return found


def chunk_of(meta: Any, latents: int = LATENTS) -> tuple[int, bool]:
    """Frames of a chunk of ``CHUNK_S``, at most half of an episode of usual length; and whether it is as long as that.

    Args:
        meta: ``dataset.meta``.
        latents: L, which divides them.
    """
    frames = max(1, round(CHUNK_S * meta.fps / latents))
    longest = int(np.median(meta.episodes["length"])) // 2 // latents
    return latents * max(1, min(frames, longest)), frames <= longest


def _camera(config: LAFPConfig, meta: Any) -> list[Choice]:
    """At which size cameras are seen, and by how much they are shifted while a policy trains."""
    shapes = cameras_of(config, meta)
    if not shapes or config.backbone.encoder == "vit":
        return []
    found = []
    height, width = max((shape[1:] for shape in shapes), key=prod)
    scale = LONGEST_SIDE / max(height, width)
    undecided = config.facts.undecided or ()
    seen = config.resize_shape or (height, width)
    if "resize_shape" in undecided and scale < 1 and config.backbone.encoder != "resnet18":
        seen = (8 * max(1, round(height * scale / 8)), 8 * max(1, round(width * scale / 8)))
        reason = f"cameras of {width} x {height} pixels, smaller: it is the encoder that takes the time"
        found.append(Choice("resize_shape", seen, reason))
    shift = max(1, round(max(seen) * SHIFT))
    found.append(Choice("random_shift", shift, "a policy that never sees the same image twice learns fewer by heart"))
    return found


def cameras_of(config: LAFPConfig, meta: Any) -> list[tuple[int, ...]]:
    """Shapes (C, H, W) of a dataset's cameras that a policy would see."""
    renamed = {} if config.context is None else config.context.rename_map
    return [
        camera_shape(feature)
        for key, feature in meta.features.items()
        if feature["dtype"] in ("image", "video")
        and (config.observations is None or renamed.get(key, key) in config.observations)
    ]


def _actions(config: LAFPConfig, meta: Any, of_labels: bool) -> list[Choice]:
    """Whether actions are places of the joints, and whether the decoder sees where these are."""
    features, undecided = meta.features, config.facts.undecided or ()
    if ACTION not in features or config.stage == "latent_policy":
        return []
    if not {"relative_actions", "decoder_observes"} & set(undecided):
        return []  # the tables need not be read
    episodes = config.labels.episodes if config.labels.repo_id is not None else config.labeled_episodes
    state = state_of(config)
    joints = _joints(config, features, state)
    commands = None if joints is None else measure_commands(meta, ACTION, episodes, None, state, joints)
    seen = [Choice("decoder_observes", "state", "what a command does depends on where the joints are")]
    if not (_reads_state(config, of_labels) and state in features and is_read(features[state])):
        seen = []
    if commands is None:
        return [Choice("relative_actions", False, "no joint of `observation.state` for each action"), *seen]
    moved = commands["max"] > commands["min"]
    near = commands["usual_lead"][moved] < NEAR * commands["std"][moved]
    share = float(near.mean()) if moved.any() else 0.0
    if share < 0.5:
        return [Choice("relative_actions", False, "actions are not places of the joints"), *seen]
    return [
        Choice("relative_actions", True, f"actions are places of the joints, {share:.0%} of them near by"),
        Choice("decoder_observes", "state", "a command depends on where its joint is"),
    ]


def _reads_state(config: LAFPConfig, of_labels: bool) -> bool:
    """Whether the policy is shown ``observation.state`` in any case, so that the decoder asks for nothing more."""
    if of_labels or config.facts.latent_features is not None:
        return OBS_STATE in (config.facts.latent_features or ())
    return config.observations is None or OBS_STATE in config.observations


def _joints(config: LAFPConfig, features: Any, state: str) -> list[int] | None:
    """For each action the dimension of column ``state`` of its name or, without names, of its place."""
    if state not in features or not all(is_read(features[key]) for key in (ACTION, state)):
        return None
    widths = [prod(features[key]["shape"]) for key in (ACTION, state)]
    typed = config.names or {}
    names = [
        typed.get(key) or dimension_names(features[column]) for key, column in ((ACTION, ACTION), (OBS_STATE, state))
    ]
    if names[0] and names[1]:
        return positions_of(names[0], names[1])
    return list(range(widths[0])) if widths[0] == widths[1] else None
