"""A dataset of video and another one that has the actions (``--policy.labels.*``): whether they go together, and what
LeRobot asks of the metadata of one, of both."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.datasets.compute_stats import aggregate_stats
from lerobot.utils.constants import ACTION, DEFAULT_FEATURES, OBS_PREFIX, OBS_STATE

from ..configuration_lafp import LAFPConfig
from ..errors import in_one_line
from ..options.features import camera_shape, encoded_camera, is_depth, is_read, same_picture
from ..options.names import dimension_names, listed, positions_of
from .dataset_formats import why_unreadable

logger = logging.getLogger(__name__)

Features = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Fit:
    """How two datasets go together.

    Attributes:
        observations: Columns that are read of both.
        order: Column -> where each dimension, as the video has them, is in the labels; those in another order alone.
    """

    observations: tuple[str, ...]
    order: Mapping[str, list[int]]


@dataclass(frozen=True)
class Part:
    """One of the datasets that a run trains on.

    Attributes:
        meta: ``dataset.meta``.
        episodes: Those that are trained on; None: not known, and all are taken for them.
        labeled: Of these, those whose actions may be used.
        orders: Column -> where each dimension of the policy is in it; those in another order alone.
    """

    meta: Any
    episodes: list[int] | None
    labeled: list[int]
    orders: Mapping[str, Sequence[int]]


class JoinedMetadata(LeRobotDatasetMetadata):
    """Metadata of two datasets as of one: those of the video, but with the actions of the labels, and with the
    episodes of both that are loaded.

    Args:
        video: Of the dataset that the policy learns to do as.
        labels: Of the one that has the actions.
        fit: How they go together.
        first: Row of each episode's first frame, of both datasets, in order.
        end: One past its last.
    """

    def __init__(
        self,
        video: LeRobotDatasetMetadata,
        labels: LeRobotDatasetMetadata,
        fit: Fit,
        first: Sequence[int],
        end: Sequence[int],
    ) -> None:
        self.__dict__.update(video.__dict__)
        self.video, self.labels, self.fit = video, labels, fit
        kept = {k: x for k, x in video.features.items() if k in fit.observations or k in DEFAULT_FEATURES}
        self.info = copy.copy(video.info)
        self.info.features = {**copy.deepcopy(kept), ACTION: copy.deepcopy(labels.features[ACTION])}
        self.stats = _statistics(video, labels, fit)
        self.episodes = {"dataset_from_index": list(first), "dataset_to_index": list(end)}


def _statistics(video: LeRobotDatasetMetadata, labels: LeRobotDatasetMetadata, fit: Fit) -> dict[str, Any]:
    """LeRobot's of both datasets, every frame counting alike; of pictures those of the video, which nothing reads."""
    found, others = dict(video.stats or {}), dict(labels.stats or {})
    for key in fit.observations:
        feature = video.features[key]
        if key not in found or key not in others or (feature["dtype"] in ("image", "video") and not is_depth(feature)):
            continue
        order = fit.order.get(key)
        both = [
            {name: np.asarray(x) for name, x in found[key].items()},
            {
                name: np.asarray(x)[order] if order and name != "count" else np.asarray(x)
                for name, x in others[key].items()
            },
        ]
        if all({"mean", "std", "min", "max", "count"} <= set(each) for each in both):
            shared = set(both[0]) & set(both[1])
            found |= aggregate_stats([{key: {name: each[name] for name in shared}} for each in both])
    found.pop(ACTION, None)
    return {**found, **({ACTION: others[ACTION]} if ACTION in others else {})}


def parts(config: LAFPConfig, meta: Any) -> list[Part]:
    """The datasets behind ``dataset.meta`` of a run; the last is the one with the actions."""
    context = config.context
    columns = columns_of(config)
    orders = {columns.get(key, key): order for key, order in config.orders.items()}
    if not isinstance(meta, JoinedMetadata):
        trained = None if context is None else context.trained_on(meta)
        return [Part(meta, trained, _labeled(config, meta, trained), orders)]
    video, labels, order = meta.video, meta.labels, meta.fit.order
    of_video = None if context is None else context.trained_on(video)
    of_labels = None if context is None else context.for_labels().trained_on(labels)
    own = {**orders, **order}
    own |= {key: [order[key][place] for place in orders[key]] for key in orders.keys() & order.keys()}
    known = list(range(labels.total_episodes)) if of_labels is None else of_labels
    return [Part(video, of_video, [], orders), Part(labels, of_labels, known, own)]


def _labeled(config: LAFPConfig, meta: Any, trained: Sequence[int] | None) -> list[int]:
    """Of the episodes that are trained on, those whose actions may be used."""
    if config.labels.repo_id is not None and not config.learns_from_labels_alone:
        return []  # which are not this dataset's
    chosen = None if config.labeled_episodes is None else set(config.labeled_episodes)
    among = range(meta.total_episodes) if trained is None else trained
    return [episode for episode in among if chosen is None or episode in chosen]


def columns_of(config: LAFPConfig) -> dict[str, str]:
    """What the policy calls a feature -> the dataset's column, where ``rename_map`` makes them differ."""
    return {new: old for old, new in (config.context.rename_map if config.context else {}).items()}


def state_of(config: LAFPConfig) -> str:
    """The dataset's column of ``observation.state``."""
    return columns_of(config).get(OBS_STATE, OBS_STATE)


def open_metadata(dataset: Any, option: str) -> LeRobotDatasetMetadata:
    """Metadata of a dataset, as LeRobot opens it.

    Args:
        dataset: LeRobot's ``DatasetConfig``.
        option: What its name and folder are typed as, such as ``dataset``.

    Raises:
        ValueError: It cannot be read.
    """
    name = dataset.repo_id
    try:
        return LeRobotDatasetMetadata(name, dataset.root, dataset.revision, repo_type=dataset.repo_type)
    except Exception as error:  # the Hub's client, LeRobot and datasets have no common base for what can go wrong
        raise ValueError(
            why_unreadable(error, name)
            or f"Dataset {name} cannot be read ({in_one_line(error)}). Correct --{option}.repo_id, or name its folder "
            f"with --{option}.root."
        ) from error


# --- Whether they go together --------------------------------------------------------------------------------


def check_labels(config: LAFPConfig, labels: Any) -> None:
    """Check that a dataset has the actions that ``labels`` say it has.

    Args:
        config: Of the policy that is about to be trained.
        labels: Its metadata.

    Raises:
        ValueError: It has none, or not those episodes.
    """
    if ACTION not in labels.features:
        raise ValueError(
            f"The labels dataset {labels.repo_id} has no `action` column, and it is there for its actions. Name one "
            "that has: --policy.labels.repo_id (of lafp train --labels.repo_id). It has "
            f"{listed(sorted(set(labels.features) - set(DEFAULT_FEATURES)))}."
        )
    chosen = config.labels.episodes
    if chosen is not None and max(chosen) >= labels.total_episodes:
        raise ValueError(
            f"`labels.episodes` names episode {max(chosen)}, but {labels.repo_id} has {labels.total_episodes} episodes "
            f"(0 to {labels.total_episodes - 1}). Correct the list."
        )
    needs_state = "relative_actions" if config.relative_actions else "decoder_observes"
    if (config.relative_actions or config.decoder_observes == "state") and state_of(config) not in labels.features:
        raise ValueError(
            f"`{needs_state}` reads `{OBS_STATE}`, and the labels dataset {labels.repo_id} has none. Record it with "
            f"the actions, or leave --policy.{needs_state} out."
        )


def fit_together(config: LAFPConfig, video: Any, labels: Any) -> Fit:
    """Check that a dataset of video and the one that has the actions can be trained on together.

    Args:
        config: Of the policy that is about to be trained, before or after it took its observations from a dataset.
        video: Metadata of ``--dataset.repo_id``; of its action nothing is read.
        labels: Metadata of ``--policy.labels.repo_id``.

    Raises:
        ValueError: They cannot: one lacks something that the policy reads, or has it at another rate, in another shape
            or with other names.
    """
    check_labels(config, labels)
    if video.fps != labels.fps:
        raise ValueError(
            f"{labels.repo_id} has {labels.fps} frames per second and {video.repo_id} {video.fps}: a latent action "
            "would cover another time in each. Bring one to the rate of the other (lafp import-datasets "
            f"--fps={min(labels.fps, video.fps)})."
        )
    read = [key for key, feature in video.features.items() if _is_observed(config, key, feature)]
    missing = [key for key in read if key not in labels.features]
    if missing:
        raise ValueError(
            f"The labels dataset {labels.repo_id} has no {listed([f'`{key}`' for key in missing])}, which the policy "
            f"reads of {video.repo_id}. {_without(config, read, missing)}"
        )
    order: dict[str, list[int]] = {}
    for key in read:
        _check_shape(config, key, video, labels)
        found = _order(key, video, labels)
        if found is not None and found != list(range(len(found))):
            order[key] = found
            logger.info("`%s` of %s comes in another order; it is matched by name.", key, labels.repo_id)
    return Fit(tuple(read), order)


def _is_observed(config: LAFPConfig, key: str, feature: Mapping[str, Any]) -> bool:
    renamed = {} if config.context is None else config.context.rename_map
    known = config.facts.latent_features or config.observations
    return key.startswith(OBS_PREFIX) and is_read(feature) and (known is None or renamed.get(key, key) in known)


def _without(config: LAFPConfig, read: Sequence[str], missing: Sequence[str]) -> str:
    """What to do about observations that the labels lack."""
    shared = [key for key in read if key not in missing]
    if config.facts.latent_features is not None or not shared:
        return "Name a dataset of the same robot and cameras."
    return (
        "Name a dataset of the same robot and cameras, or have the policy read what both have: "
        f"--policy.observations=[{','.join(shared)}]."
    )


def _check_shape(config: LAFPConfig, key: str, video: Any, labels: Any) -> None:
    one, other = video.features[key], labels.features[key]
    whose = f"in {video.repo_id} and", f"in {labels.repo_id}"
    seen = [each["dtype"] in ("image", "video") for each in (one, other)]
    kinds = [_kind(each) for each in (one, other)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"`{key}` is {kinds[0]} {whose[0]} {kinds[1]} {whose[1]}. Both must hold the same: rename the one that is "
            "another, or leave it out (--policy.observations); if both are distances, say so in meta/info.json "
            "(`is_depth_map`); features of a ViT are written by lafp label --features, of both datasets."
        )
    if not all(seen):
        if tuple(one["shape"]) != tuple(other["shape"]):
            raise ValueError(
                f"`{key}` has shape {tuple(one['shape'])} {whose[0]} {tuple(other['shape'])} {whose[1]}. Name a "
                "dataset of the same robot, or leave it out (--policy.observations)."
            )
        return
    shapes = camera_shape(one), camera_shape(other)
    if shapes[0] == shapes[1] or (config.resize_shape is not None and same_picture(shapes[1], shapes[0], True)):
        return
    says = f"`{key}` has pictures of {shapes[0]} (channels, height, width) {whose[0]} {shapes[1]} {whose[1]}."
    if same_picture(shapes[1], shapes[0], True):
        least = min((shape[1:] for shape in shapes), key=prod)
        raise ValueError(f"{says} Have both resized: --policy.resize_shape=[{least[0]},{least[1]}], or smaller.")
    raise ValueError(
        f"{says} Record them alike, or bring one to the aspect of the other (lafp import-datasets), or leave the "
        "camera out (--policy.observations)."
    )


def _kind(feature: Mapping[str, Any]) -> str:
    if encoded_camera(dict(feature)) is not None:
        return f"features of the ViT {feature['info'].get('vit')}"
    if feature["dtype"] not in ("image", "video"):
        return "numbers"
    return "a camera that tells distances" if is_depth(feature) else "a camera"


def _order(key: str, video: Any, labels: Any) -> list[int] | None:
    """Where each dimension of the video's state is in that of the labels, by name; None where there is no telling."""
    one, other = video.features[key], labels.features[key]
    own, theirs = dimension_names(one), dimension_names(other)
    if one["dtype"] in ("image", "video") or own is None or theirs is None or len(one["shape"]) != 1:
        return None
    found = positions_of(own, theirs)
    if found is None or len(found) != len(theirs):
        raise ValueError(
            f"`{key}` is {listed(own)} in {video.repo_id} and {listed(theirs)} in {labels.repo_id}: not the same "
            "names. If they are the same joints in the same order, give them the same names in meta/info.json of one "
            "of the two. Else name a dataset of the same robot."
        )
    return found
