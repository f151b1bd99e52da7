"""Options of older versions: a ``config.json`` of any format as the newest has it, and what an old name is now."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .constants import CHECKPOINT_FORMAT


@dataclass(frozen=True)
class Gone:
    """An option of an older format.

    Attributes:
        now: What to type in its place.
        to: Where its value is now; None: nowhere.
        turned: What its value is there.
    """

    now: str
    to: str | None = None
    turned: Callable[[Any], Any] = lambda value: value


def _moved(to: str, **values: Any) -> Gone:
    """To another name, some of its values to others."""
    return Gone(f"--policy.{to}", to, lambda value: values.get(str(value), value))


def _known(name: str) -> Gone:
    """To what is filled in."""
    return Gone("nothing: it is filled in by the first dataset", f"facts.{name}")


_NAMES = "--policy.names='{\"%s\": [..]}'"
_OF_THE_DATASET = "nothing: latents that a dataset brings (lafp label) are read from it"
_OWN_OPTIMIZER = "--use_policy_training_preset=false with --optimizer.* and --scheduler.*"

#: What format 3 still had of these.
_UNTIL_3 = ("precomputed_latents",)
#: Old name -> what became of it.
GONE: dict[str, Gone] = {
    "vision_encoder": _moved("backbone.encoder"),
    "pretrained_backbone_weights": _moved("backbone.weights"),
    "backbone_grid": _moved("backbone.grid"),
    "text_model": Gone("--policy.language=FOLDER"),
    "task_encoder": Gone("--policy.language=words, none, or the folder of a text model"),
    "bottleneck": Gone("--policy.codebook.size=64 (0: continuous)"),
    "codebook_size": Gone("--policy.codebook.size"),
    "codebook_heads": _moved("codebook.heads"),
    "idm_network": Gone("--policy.latent_tokens=M (0: a perceptron)"),
    "motion_weight": Gone("--policy.motion.weight"),
    "motion_target": _moved("motion.target", moments="centroid"),
    "motion_grid": Gone("nothing: optical flow is averaged over 4 x 4 cells"),
    "decoder_observation": Gone("--policy.decoder_observes=tokens"),
    "decoder_state": Gone("--policy.decoder_observes=state"),
    "interpolation_tau_min": Gone("--policy.interpolation_tau=[MIN,MAX]"),
    "interpolation_tau_max": Gone("--policy.interpolation_tau=[MIN,MAX]"),
    "interpolation_idm_share": Gone("nothing: it gained nothing (docs/method.md)"),
    "interpolation_steps": Gone("nothing: one call of the network, which does better than the remaining steps"),
    "image_target": Gone("nothing: pixels of images of up to 128 a side, else features"),
    "flow_loss": Gone("nothing: --policy.prediction says which error counts"),
    "joint_latent_share": Gone("nothing: stage 1 of a joint run learns until its end"),
    "frame_offset": Gone("--policy.horizon and --policy.num_latents: each latent covers horizon / num_latents frames"),
    "frame_offset_s": Gone("--policy.horizon and --policy.num_latents, in frames of the dataset"),
    "frame_offset_range": Gone("nothing: each latent covers horizon / num_latents frames"),
    "latent_labels": Gone(_OF_THE_DATASET),
    "precomputed_latents": Gone(_OF_THE_DATASET),
    "allow_short_episodes": Gone("nothing: they are taken, with a warning"),
    "limits": _moved("limits.enabled"),
    "limit_margin": _moved("limits.margin"),
    "limit_range": _moved("limits.range"),
    "limit_change": _moved("limits.change"),
    "limit_change_per_s": _moved("limits.change_per_s"),
    "limit_smoothing": _moved("limits.smoothing"),
    "limit_frozen_s": Gone("nothing: a run is stopped after two seconds of a frozen camera, or of a joint that stays"),
    "limit_held_steps": Gone("nothing: a run is stopped after ten commands held in a row"),
    "limit_distance": Gone("nothing: it is warned from four deviations on"),
    "optimizer_weight_decay": Gone(_OWN_OPTIMIZER),
    "optimizer_grad_clip_norm": Gone(_OWN_OPTIMIZER),
    "scheduler_warmup_steps": Gone(_OWN_OPTIMIZER),
    "latent_features": Gone("--policy.observations", "facts.latent_features"),
    "action_names": Gone(_NAMES % "action", "facts.action_names"),
    "state_names": Gone(_NAMES % "observation.state", "facts.state_names"),
    "vector_names": Gone(_NAMES % "observation.KEY", "facts.vector_names"),
    **{
        name: _known(name) for name in ("fps", "labels_repo_id", "feature_order", "action_dim", "actions_are_positions")
    },
    **{name: _known(name) for name in ("depth_cameras", "backbone_config", "tasks", "text_dim")},
}


def successor(word: str) -> str | None:
    """The mend for an option as it is typed, ``--policy.limit_margin=0.2`` or ``limit_margin``; None if it is not one
    of an older version."""
    name, equals, value = word.removeprefix("--").removeprefix("policy.").partition("=")
    if name not in GONE or (name == "limits" and not (equals and re.fullmatch(r"true|false", value.lower()))):
        return None
    return f"`{name}` is an option of an older lerobot_policy_lafp. In its place: {GONE[name].now}."


def format_of(saved: Mapping[str, Any]) -> int:
    """The format of a ``config.json``; 0 where it says none, or something that is none."""
    try:
        return int(saved.get("checkpoint_format") or 0)
    except (TypeError, ValueError):
        return 0  # which LeRobot's parser then refuses


def migrate_config(saved: Mapping[str, Any]) -> dict[str, Any]:
    """What a ``config.json`` says, as ``CHECKPOINT_FORMAT`` has it; one of a newer format is left as it is."""
    if format_of(saved) >= CHECKPOINT_FORMAT:
        return dict(saved)
    now = _from_before_3(saved) if is_before_3(saved) else saved
    return {name: value for name, value in now.items() if name not in _UNTIL_3}


def _from_before_3(saved: Mapping[str, Any]) -> dict[str, Any]:
    new = {name: value for name, value in saved.items() if name not in GONE}
    for name, value in saved.items():
        if name in GONE and (to := GONE[name].to) is not None:
            _put(new, to, GONE[name].turned(value))
    old = saved.get
    _put(new, "codebook.size", old("codebook_size", 64) if old("bottleneck") == "vq" else 0)
    new["latent_tokens"] = old("latent_tokens", 1) if old("idm_network") == "transformer" else 0
    new["decoder_input"] = {"direct": "samples", "none": "action_head"}.get(*[old("decoder_input", "idm")] * 2)
    observes = "tokens" if old("decoder_observation") else "state" if old("decoder_state") else "nothing"
    new["decoder_observes"] = observes
    new["interpolation_tau"] = [old("interpolation_tau_min", 0.75), old("interpolation_tau_max", 1.0)]
    # What was settled is a fact; what was typed cannot be told from it any more, and is not asked for again.
    _put(new, "facts.motion_weight", old("motion_weight"))
    _put(new, "motion.weight", old("motion_weight"))
    settled = old("task_encoder", "none")
    new["language"] = (old("text_model") or "auto") if settled in ("model", "auto") else settled
    _put(new, "facts.task_encoder", settled if settled in ("none", "words") else None)
    new["optimizer_lr"] = old("optimizer_lr") or 5e-4
    return new


def is_before_3(saved: Mapping[str, Any]) -> bool:
    """Whether there are options of formats 0 to 2; the file of an edited checkpoint may say no format."""
    before_3 = {name for name in GONE if name not in _UNTIL_3}
    old = (name in before_3 and (name != "limits" or isinstance(value, bool)) for name, value in saved.items())
    return format_of(saved) < 3 and any(old)


def _put(options: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        options = options.setdefault(part, {})
    options[last] = value
