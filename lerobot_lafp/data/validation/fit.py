"""Whether a policy and a dataset, or a robot, go together: what a training or a rollout would say, said beforehand."""

import contextlib
import copy
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.constants import CONFIG_NAME
from lerobot.configs import FeatureType
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.utils.constants import ACTION, OBS_STATE
from lerobot.utils.feature_utils import dataset_to_policy_features

from ...acting.protections import protections
from ...checkpoint.download import download, refuse_missing
from ...checkpoint.inspection import inspect
from ...configuration_lafp import LAFPConfig
from ...errors import UserError, in_one_line
from ...lerobot_patches import apply
from ...observation.angles import angles_of
from ...options.features import name_axes
from ...options.groups import Labels
from ...options.names import dimension_names
from ...training.choices import Choice, choose
from ...training.dataset_checks import check_dataset
from ...training.joined import fit_together
from .matching import compare_names

#: A state that lies further from the policy's mean than so many of its deviations is not what it was trained on.
FAR = 8.0


@dataclass(frozen=True)
class Checkpoint:
    """What is read of a policy: no network is built.

    Attributes:
        name: As it was given.
        config: Its configuration.
        facts: Of ``lafp inspect``.
        faults: Why it is not whole.
    """

    name: str
    config: LAFPConfig
    facts: Mapping[str, Any]
    faults: tuple[str, ...]


def read_checkpoint(name: str) -> Checkpoint:
    """The checkpoint that ``--policy.path`` names.

    Raises:
        UserError: There is none, or its configuration cannot be read.
    """
    apply()  # checkpoints of older formats are read with it
    refuse_missing(name)
    try:
        folder = download(name)
    except OSError as error:
        raise UserError(in_one_line(error)) from error
    found = inspect(folder)
    if "chunk" not in found.facts:
        raise UserError(f"{name}: {' '.join(found.faults)}")
    config = LAFPConfig.from_pretrained(Path(folder))
    assert isinstance(config, LAFPConfig), CONFIG_NAME
    return Checkpoint(name, config, found.facts, found.faults)


def new_policy(meta: Any) -> tuple[LAFPConfig, list[Choice]]:
    """The configuration of a policy about to be trained on a dataset (``dataset.meta``), and what that chooses of it.

    Raises:
        ValueError: No policy can be trained on it.
    """
    config = LAFPConfig(device="cpu")
    own = copy.deepcopy(dict(meta.features))
    name_axes(own)
    policy_features = dataset_to_policy_features(own)
    config.output_features = {ACTION: policy_features[ACTION]} if ACTION in policy_features else {}
    config.input_features = {
        key: feature for key, feature in policy_features.items() if feature.type is not FeatureType.ACTION
    }
    with _heard():
        chosen = choose(config, meta)
        config.set_dataset_feature_metadata(own)
        config.validate_features()
    return config, chosen


def protections_of(config: LAFPConfig) -> list[dict[str, Any]]:
    """What stands between the policy and a robot, for JSON."""
    return [asdict(each) for each in protections(config)]


def fit_to_dataset(checkpoint: Checkpoint, meta: Any, columns: Mapping[str, Any]) -> dict[str, Any]:
    """A policy against a dataset, for JSON.

    Args:
        checkpoint: Of ``read_checkpoint``.
        meta: ``dataset.meta``.
        columns: Column -> what is known of it (``facts_of_column``).
    """
    config = checkpoint.config
    observed = {**config.camera_shapes, **config.vector_shapes, **config.decoder_vector_shapes}
    tasks = [str(task) for task in meta.tasks.index]
    known = set(config.facts.tasks or ())
    return {
        "checkpoint": checkpoint.name,
        "faults": list(checkpoint.faults),
        "acts": bool(checkpoint.facts.get("acts")),
        **_training(config, meta),
        "observes": {key: list(shape) for key, shape in observed.items()},
        "missing": [key for key in observed if key not in meta.features],
        "not_read": sorted(key for key in meta.features if key.startswith("observation.") and key not in observed),
        "fps": {"policy": config.facts.fps, "dataset": float(meta.fps)},
        "actions": {"policy": config.facts.action_dim, "dataset": _width(meta.features.get(ACTION))},
        "names": names_against(config, meta.features),
        "far": _far_states(config, checkpoint.facts.get("statistics") or {}, meta.features, columns),
        "tasks": {"read": config.reads_task, "new": [task for task in tasks if task and task not in known]},
        "protections": protections_of(config),
    }


def fit_to_labels(config: LAFPConfig | None, video: Path, labels: Path, name: str) -> dict[str, Any]:
    """A dataset of video and another one that has the actions, for JSON: whether a training on both would start.

    Args:
        config: Of the policy that would be trained; None: a new one with default options.
        video: Folder of the first.
        labels: Folder of the second.
        name: As the second was named.
    """
    config = LAFPConfig(device="cpu") if config is None else copy.deepcopy(config)
    config.labels = Labels()
    with _heard():
        try:
            metas = [LeRobotDatasetMetadata(root.name, root=root) for root in (video, labels)]
            fit_together(config, *metas)
            config.match_names({ACTION: metas[1].features[ACTION]})
        except Exception as error:  # other people's datasets, of which LeRobot says in many ways what is wrong
            return {"dataset": name, "refused": in_one_line(error)}
    meta = metas[1]
    action = {"width": _width(meta.features[ACTION]), "names": dimension_names(meta.features[ACTION])}
    sizes = {"episodes": int(meta.total_episodes), "frames": int(meta.total_frames)}
    return {"dataset": name, "refused": None, **sizes, "action": action}


def names_against(config: LAFPConfig, features: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Column -> how the policy's names go with a dataset's or robot's, and why they are refused if they are.

    ``relation`` is that of ``compare_names``; ``refused`` the policy's own sentence, or None.
    """
    found = {}
    for key in (OBS_STATE, ACTION):
        if key not in features:
            continue
        own, theirs = config.names_of(key), dimension_names(features[key])
        if own is None and key == OBS_STATE and key not in (config.input_features or {}):
            continue
        refused = _refusal(config, {key: features[key]})
        found[key] = {**compare_names(own, theirs), "policy": own, "theirs": theirs, "refused": refused}
    return found


def _refusal(config: LAFPConfig, features: Mapping[str, Any]) -> str | None:
    with _heard():
        try:
            copy.deepcopy(config).match_names(features)
        except ValueError as error:
            return str(error)
    return None


def _training(config: LAFPConfig, meta: Any) -> dict[str, Any]:
    """Whether a training of the policy on the dataset would start; why not, and what it would warn of."""
    config = copy.deepcopy(config)
    config.labeled_episodes = None  # they are of a dataset by name, and this is a folder
    refused = None
    with _heard() as warnings:
        try:
            config.set_dataset_feature_metadata(copy.deepcopy(meta.features))
            config.validate_features()
            check_dataset(config, meta)
        except (ValueError, KeyError) as error:
            refused = in_one_line(error)
    return {"stage": config.stage, "trains": refused is None, "refused": refused, "warnings": warnings}


def _far_states(
    config: LAFPConfig, statistics: Mapping[str, Any], features: Mapping[str, Any], columns: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Dimensions of states whose range in the dataset lies beyond what the policy was trained on."""
    far = []
    matched = copy.deepcopy(config)
    with _heard(), contextlib.suppress(ValueError):
        matched.match_names(features)
    for key, seen in statistics.items():
        dimensions = columns.get(key, {}).get("dimensions") or []
        if key == ACTION or len(dimensions) != len(seen["mean"]):
            continue
        order = matched.orders.get(key) or range(len(dimensions))
        turn = {angle.dimension for angle in angles_of(config.facts).get(key, ())}
        for i, (mean, std, at) in enumerate(zip(seen["mean"], seen["std"], order, strict=True)):
            here = dimensions[at]
            if i not in turn and max(mean - here["min"], here["max"] - mean) > FAR * max(std, 1e-6):
                where = {"key": key, "name": here["name"], "range": [here["min"], here["max"]]}
                far.append({**where, "mean": mean, "std": std})
    return far


def _width(feature: Mapping[str, Any] | None) -> int | None:
    return None if feature is None else int(feature["shape"][0])


def fit_to_robot(config: LAFPConfig, robot: Mapping[str, Any]) -> dict[str, Any]:
    """A policy against a robot, for JSON: what a rollout would have to go by.

    Args:
        config: Of the policy.
        robot: Of ``robot_features``.
    """
    features = robot["features"]
    cameras = {key: list(shape) for key, shape in config.camera_shapes.items()}
    return {
        "names": names_against(config, features),
        "missing_cameras": [key for key in cameras if key not in features],
        "state": {"policy": _state_width(config), "robot": _width(features.get(OBS_STATE))},
        "actions": {"policy": config.facts.action_dim, "robot": _width(features.get(ACTION))},
    }


def _state_width(config: LAFPConfig) -> int | None:
    feature = (config.input_features or {}).get(OBS_STATE)
    return None if feature is None else int(feature.shape[0])


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """Warnings of the package go into a list, and nothing of it is printed."""

    class _Into(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                heard.append(record.getMessage())

    heard: list[str] = []
    logger, handler = logging.getLogger(__package__.partition(".")[0]), _Into()
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
