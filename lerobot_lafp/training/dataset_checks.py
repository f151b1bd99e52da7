"""What a configuration takes from the dataset that it is about to be trained on, and what both must agree on."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from lerobot.utils.constants import ACTION, OBS_STATE

from ..acting.protections import protections
from ..configuration_lafp import LAFPConfig
from ..observation.angles import angles_of
from ..observation.pictures import shows_nothing
from ..options.constants import Stage
from ..options.fields import read
from ..options.groups import Limits
from ..options.names import dimension_names, listed, positions_of
from .joined import Part, columns_of, parts, state_of
from .measuring import Statistics, episodes_with_gaps, measure_commands, measure_together

logger = logging.getLogger(__name__)

#: Episodes that a message names.
FEW = 20
#: Samples of a batch that are looked at for cameras that show nothing.
LOOKED_AT = 8


def default_motion_weight(config: LAFPConfig) -> float:
    """Motion stands in for labels. Beside them it helps where a camera tells it; with a ViT that is not measured."""
    if not config.labels_in_stage_1:
        return 1.0
    return 0.1 if config.camera_shapes and config.backbone.encoder != "vit" else 0.0


def warn_of_idle_latents(config: LAFPConfig) -> None:
    """Say so if nothing but reconstruction holds the latents: they may then tell what is seen, not what was done."""
    held = (
        config.labels_in_stage_1
        or config.facts.motion_weight
        or config.idm_input == "difference"
        or config.bottleneck == "vq"
    )
    if config.only_stage is Stage.LATENT_ACTION and not held:
        logger.warning(
            "Stage latent_action trains without labels, and nothing stands in for them: its latents may describe what "
            "the later frame looks like, not what was done. Leave --policy.motion.weight=0 out."
        )


def measure_states(
    config: LAFPConfig, stats: Mapping[str, Mapping[str, Any]] | None, meta: Any | None, fresh: bool
) -> dict[str, Mapping[str, Any]] | None:
    """The dataset's statistics, of states those that its tables themselves have, in the policy's order. Of a dataset of
    video and one of labels, those of both: every frame counts alike, as it does where they are trained on together.

    Args:
        config: Of the policy that is about to be trained.
        stats: ``dataset.meta.stats``.
        meta: ``dataset.meta``; None where no dataset is at hand, and ``stats`` are taken as they are.
        fresh: Whether the policy is new, and no statistics follow from a checkpoint.

    Raises:
        ValueError: There are none of an observation that needs them.
    """
    if meta is None:
        return None if stats is None else dict(stats)
    states = {*config.vector_shapes, *config.decoder_vector_shapes, OBS_STATE}
    renamed = columns_of(config)
    columns = {key: renamed.get(key, key) for key in states if renamed.get(key, key) in meta.features}
    among = [(part.meta, part.episodes, part.orders) for part in parts(config, meta)]
    angles = {columns[key]: of for key, of in angles_of(config.facts).items() if key in columns}
    measured = measure_together(among, list(columns.values()), angles)
    found = {**(stats or {})}
    for key, column in columns.items():
        if column in measured:
            found[key] = measured[column]
        elif (of_column := (stats or {}).get(column)) is not None:
            order = config.orders.get(key)
            found[key] = (
                of_column if order is None else {n: x[order] if n != "count" else x for n, x in of_column.items()}
            )
    needed = (
        {*config.vector_shapes, *(config.facts.depth_cameras or ())} if fresh else set(config.decoder_vector_shapes)
    )
    for key in sorted(key for key in needed if renamed.get(key, key) in meta.features):
        if not {"mean", "std"} <= set(found.get(key, ())):
            raise ValueError(
                f"{meta.repo_id} has no statistics of `{key}` (meta/stats.json), and its tables are not here to be "
                "measured: its numbers would go into the networks as they are. Train on a copy of the dataset on this "
                "machine, or compute them: lerobot-edit-dataset --operation.type=recompute_stats."
            )
    return found


def measure_labels(config: LAFPConfig, meta: Any | None) -> Statistics | None:
    """What the labelled commands that the run trains on did, in the policy's order (``measuring.measure_commands``);
    None where the stage learns from none, or the tables are not here."""
    if meta is None or not config.reads_labels or ACTION not in meta.features:
        return None
    part = parts(config, meta)[-1]
    state, joints = state_of(config), config.named_joints
    if joints is not None and (order := part.orders.get(state)) is not None:
        joints = [order[joint] for joint in joints]
    own = config.orders.get(ACTION)
    angles = angles_of(config.facts).get(ACTION, ())
    return measure_commands(part.meta, ACTION, part.labeled, own, state, joints, angles)


def count_labels(config: LAFPConfig, meta: Any | None) -> int | None:
    """How many frames that the run trains on have actions that may be used."""
    if meta is None:
        return None
    part = parts(config, meta)[-1]
    lengths = part.meta.episodes["length"]
    return int(sum(lengths[episode] for episode in part.labeled))


def check_dataset(config: LAFPConfig, meta: Any) -> None:
    """Check rate, labels, chunk and names against the dataset about to be trained on, before the first step.

    Raises:
        ValueError: The dataset has another rate than those before it; ``labeled_episodes`` belongs to another dataset,
            is out of range, or none of it is trained on; an episode that is trained on is too short; the run is to be
            evaluated, and cannot act.
    """
    of_run = parts(config, meta)
    _check_rate(config, meta)
    _check_labels(config, meta, of_run[0].episodes)
    for part in of_run:
        _check_lengths(config, part, decodes=len(of_run) > 1 and part is of_run[-1])
    _check_actions(config, meta)
    for part in of_run:
        _check_numbers(config, part)
    warnings = (*_remarks_on_names(config, meta.features), *_remarks_on_labels(config), *idle_options(config))
    for warning in warnings:
        logger.warning(warning)


def _check_rate(config: LAFPConfig, meta: Any) -> None:
    if config.facts.fps is None:
        config.facts.fps = float(meta.fps)
    if config.facts.fps != meta.fps:
        raise ValueError(
            f"{meta.repo_id} has {meta.fps} frames per second, but `fps` is {config.facts.fps}, the rate this policy "
            "is trained at: a latent action would cover another time. Resample the video (lafp import-datasets --fps), "
            "or train from the start on this one."
        )


def _check_labels(config: LAFPConfig, meta: Any, episodes: Sequence[int] | None) -> None:
    if config.labeled_episodes is None:
        return
    if config.facts.labels_repo_id is None and not config.reads_labels:
        return
    if config.facts.labels_repo_id is None:
        config.facts.labels_repo_id = meta.repo_id
    if config.facts.labels_repo_id != meta.repo_id and config.only_stage is not Stage.LATENT_POLICY:
        raise ValueError(
            f"`labeled_episodes` was chosen for dataset {config.facts.labels_repo_id}, but this is {meta.repo_id}. If "
            "all of its episodes are labelled, pass --policy.labeled_episodes=null; else pass a list for it."
        )
    if config.facts.labels_repo_id != meta.repo_id:
        return
    if max(config.labeled_episodes) >= meta.total_episodes:
        raise ValueError(
            f"`labeled_episodes` names episode {max(config.labeled_episodes)}, but {meta.repo_id} has "
            f"{meta.total_episodes} episodes (0 to {meta.total_episodes - 1}). Correct the list."
        )
    if not config.reads_labels or episodes is None:
        return
    left_out = sorted(set(config.labeled_episodes) - set(episodes))
    if len(left_out) == len(config.labeled_episodes):
        raise ValueError(
            f"No action would be learnt from: `labeled_episodes` is {config.labeled_episodes}, and the run trains on "
            f"{_few(episodes)} (--dataset.episodes, less what --dataset.eval_split holds out). Add a labelled episode "
            "to those, or name others in --policy.labeled_episodes."
        )
    if left_out:
        logger.warning(
            "Episodes %s are labelled and not trained on (--dataset.episodes, --dataset.eval_split): their actions are "
            "not learnt from.",
            _few(left_out),
        )


def _check_lengths(config: LAFPConfig, part: Part, decodes: bool) -> None:
    """``decodes``: whether the decoder will be trained on it, too, so that a whole chunk is needed."""
    meta = part.meta
    lengths = [int(n) for n in meta.episodes["length"]]
    among = range(len(lengths)) if part.episodes is None else part.episodes
    name = "frame_offset" if config.only_stage is Stage.LATENT_ACTION and not decodes else "horizon"
    needed = getattr(config, name)
    short = [episode for episode in among if lengths[episode] < needed]
    if not short:
        return
    what = "a latent action, horizon / num_latents," if name == "frame_offset" else "`horizon`"
    least = min(short, key=lambda episode: lengths[episode])
    mend = "Shorten the chunk (--policy.horizon, --policy.num_latents)"
    if len(short) == len(among):
        raise ValueError(
            f"{what} ({needed} frames) is longer than every episode of {meta.repo_id} (episode {least} has "
            f"{lengths[least]}). {mend}, or use longer episodes."
        )
    logger.warning(
        "%s (%d frames) is longer than %d of %d episodes of %s (%s; episode %d has %d): what lies beyond their end is "
        "masked out. %s, or leave them out (--dataset.episodes), if that is not meant.",
        what,
        needed,
        len(short),
        len(among),
        meta.repo_id,
        _few(short),
        least,
        lengths[least],
        mend,
    )


def _check_actions(config: LAFPConfig, meta: Any) -> None:
    if config.only_stage is not None or ACTION in meta.features or config.latent_source == "actions":
        return
    if config.context is not None and config.context.evaluates:
        raise ValueError(
            f"{meta.repo_id} has no `action`, so this run gives a policy that cannot act, and it is to be evaluated in "
            "an environment. Add --env_eval_freq=0, or train on demonstrations with actions."
        )
    logger.warning(
        "%s has no `action`: this run trains the latent actions and the policy over them, and no decoder. It gives a "
        "checkpoint that cannot act until it has been through stage action_decoder on demonstrations (lerobot-train "
        "--policy.path=.. --policy.stage=action_decoder).",
        meta.repo_id,
    )


def _check_numbers(config: LAFPConfig, part: Part) -> None:
    """What training would stumble on when it draws that frame, perhaps hours later."""
    renamed, features = columns_of(config), part.meta.features
    looked_at: dict[str, Sequence[int] | None] = dict.fromkeys(config.vector_shapes, part.episodes)
    if config.reads_labels and part.labeled:
        looked_at[ACTION] = part.labeled
    for key, wanted in looked_at.items():
        bad = episodes_with_gaps(part.meta, column, wanted) if (column := renamed.get(key, key)) in features else []
        if bad:
            own = "labels.episodes" if config.labels.repo_id == part.meta.repo_id else "labeled_episodes"
            mend = f", or leave it out of --policy.{own}" if key == ACTION else ""
            raise ValueError(
                f"`{key}` holds NaN or infinite values in episode {_few(bad)[1:-1]} of {part.meta.repo_id}. Repair "
                f"that episode, or delete it with lerobot-edit-dataset --operation.type=delete_episodes{mend}; then "
                "train again."
            )


def warn_of_ignored_tasks(config: LAFPConfig, tasks: Sequence[str]) -> None:
    """Say so if the dataset tells several tasks apart in words, and the policy does not read them."""
    told = [task for task in tasks if task]
    if len(told) > 1 and not config.reads_task and config.only_stage is not Stage.LATENT_ACTION:
        logger.warning(
            "The dataset has %d tasks in words (%s), and this policy does not read the task: it does the same whatever "
            "--task says. To have it read them, train stage latent_policy on data with these tasks and "
            "--policy.language=words, and stage action_decoder after it.",
            len(told),
            listed([repr(task) for task in told], 3),
        )


def warn_of_blank_cameras(batch: Mapping[str, Any], cameras: Iterable[str], told: set[str]) -> None:
    """Say once of each camera if it shows nothing in the first samples of a batch: black, or of one colour.

    Args:
        batch: Cameras (B, C, H, W) or (B, T, C, H, W), and ``episode_index``.
        cameras: Those that are looked at.
        told: Those that were told of; added to.
    """
    for key in cameras:
        images = batch.get(key)
        if key in told or images is None or images.ndim not in (4, 5):
            continue
        first = (images if images.ndim == 4 else images[:, 0])[:LOOKED_AT]
        blank = shows_nothing(first)
        if bool(blank.any()):
            told.add(key)
            episode = batch.get("episode_index")
            where = "" if episode is None else f" of episode {int(episode.flatten()[int(blank.nonzero()[0])])}"
            logger.warning(
                "Camera `%s` shows nothing in a frame%s: it is black, or of one colour. `lafp check` says in which "
                "episodes; leave them out with --dataset.episodes.",
                key,
                where,
            )


def _remarks_on_names(config: LAFPConfig, features: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for key in (OBS_STATE, ACTION):
        names = features.get(key, {}).get("names")
        if names and dimension_names(features[key]) is None:
            width = features[key]["shape"][0]
            yield (
                f"The names of `{key}` ({names}) are not one for each of its {width} dimensions: these are numbered. "
                f"Write {width} names into meta/info.json of the dataset to have them known by name."
            )
    if ACTION not in features or OBS_STATE not in features or not config.limits.enabled:
        return
    off = [each for each in protections(config) if not each.on and each.needs_names]
    if off:
        yield (
            f"Off, for want of names that `action` and `observation.state` share: {'; '.join(e.name for e in off)}. If "
            "an action says where a joint is to be, give both the same names in the dataset's meta/info.json."
        )
    actions, joints = config.names_of(ACTION), config.names_of(OBS_STATE)
    if config.relative_actions and actions and joints and positions_of(actions, joints) is None:
        yield (
            f"`relative_actions` subtracts the state ({listed(joints)}) from the action ({listed(actions)}) in this "
            "order: they share no names."
        )


def _remarks_on_labels(config: LAFPConfig) -> Iterator[str]:
    reads_policy = config.decoder_input in ("interpolation", "samples")
    if config.labels.repo_id is not None and config.trains(Stage.ACTION_DECODER) and reads_policy:
        yield (
            f"With decoder_input={config.decoder_input} the decoder is trained on what the policy would do in the "
            f"frames of {config.labels.repo_id} (`labels.repo_id`). If these are not of the task, something else was "
            "done there. Use --policy.decoder_input=idm."
        )


def idle_options(config: LAFPConfig) -> list[str]:
    """What was asked of options that nothing reads with the others as they are, a sentence each."""
    default = LAFPConfig()
    flow, decodes = (
        config.policy_head == "flow",
        config.latent_source == "idm" and config.decoder_input != "action_head",
    )
    interpolates = decodes and config.decoder_input == "interpolation" and flow
    motion = config.facts.motion_weight is None or config.facts.motion_weight > 0
    cameras = bool(config.camera_shapes)
    cameras_only = ("resize_shape", "backbone.encoder", "random_shift", "pixel_target_size")
    idle = {
        ("codebook.heads",): not config.codebook.size and "codebook.size=0",
        ("interpolation_tau",): (
            not interpolates and f"decoder_input={config.decoder_input}, policy_head={config.policy_head}"
        ),
        ("motion.target",): not (motion and cameras) and "no camera's motion is told",
        ("prediction", "num_flow_steps", "flow_draws"): not flow and f"policy_head={config.policy_head}",
        cameras_only: not cameras and "there is no camera",
        ("decoder_dim", "decoder_observes"): not decodes and "there is no decoder",
        ("label_weight",): (
            config.only_stage is Stage.LATENT_ACTION and config.facts.action_dim is None and "there is no action"
        ),
        tuple(f"limits.{each.name}" for each in fields(Limits) if each.name != "enabled"): (
            not config.limits.enabled and "limits.enabled=false"
        ),
    }
    return [
        f"--policy.{name}={read(config, name)} has no effect here ({why})."
        for names, why in idle.items()
        if why
        for name in names
        if read(config, name) != read(default, name)
    ]


def _few(episodes: Sequence[int]) -> str:
    return f"[{','.join(map(str, episodes[:FEW]))}{',..' if len(episodes) > FEW else ''}]"
