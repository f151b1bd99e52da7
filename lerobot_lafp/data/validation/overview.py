"""All that can be said of a dataset beforehand, as plain values: what it holds, and what does not look right."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.utils.constants import ACTION, OBS_STATE

from ...configuration_lafp import LAFPConfig
from ...errors import in_one_line
from ...options.names import numbered
from ...training.choices import chunk_of
from ...training.measuring import Statistics, measure_columns
from .cameras import PICTURES, Seen, evenly
from .columns import Recorded, facts_of_column, is_text, number_columns, read_columns, wrapped
from .fit import Checkpoint, fit_to_dataset, fit_to_robot, new_policy, protections_of
from .matching import compare_names
from .relation import paired_dimensions, relate
from .statistics_file import compare_statistics
from .watching import MOST_EPISODES, by_camera, findings, look_at

Facts = dict[str, Any]


def overview(
    root: Path,
    seen: Seen | None = None,
    checkpoint: Checkpoint | None = None,
    robot: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Facts:
    """What the dataset in folder ``root`` is, for JSON. A part that cannot be read says so in ``unreadable``.

    Args:
        root: With ``meta/info.json`` in it.
        seen: What every picture looks like, where all were decoded; unset: a few of each episode are.
        checkpoint: A policy to hold it against (``read_checkpoint``).
        robot: A robot, likewise (``robot_features``).
        progress: Whether a bar is shown.
    """
    facts: Facts = {}
    try:
        meta = LeRobotDatasetMetadata(root.name, root=root)
        few = evenly(meta.total_episodes, MOST_EPISODES)
    except Exception as error:  # LeRobot, datasets and pandas have no common base for what can go wrong
        return {"unreadable": in_one_line(error)}
    keys = number_columns(meta.features)
    measured: dict[str, Statistics] = _part(facts, "measured", lambda: _measure(meta, keys), {})
    recorded: Recorded = _part(facts, "recorded", lambda: read_columns(meta, keys, few), Recorded())
    facts = {"unreadable_parts": facts.get("unreadable_parts", {})}

    def columns() -> Facts:
        return {key: facts_of_column(key, meta.features[key], measured.get(key), recorded) for key in keys}

    facts["dataset"] = _part(facts, "dataset", lambda: _dataset(meta, recorded), {})
    facts["columns"] = _part(facts, "columns", columns, {})
    for key, column in facts["columns"].items():
        column["wraps"] = _part(facts, key, lambda: wrapped(key, column["dimensions"], recorded), {})  # noqa: B023
    facts["ignored"] = {key: ft["dtype"] for key, ft in meta.features.items() if is_text(ft)}
    facts["action"] = _part(facts, "action", lambda: _action(meta, facts["columns"], recorded), {})
    facts["labels"] = _part(facts, "labels", lambda: _labels(meta, recorded), {})
    facts["tasks"] = _part(facts, "tasks", lambda: _tasks(meta), {})
    facts["statistics"] = _part(facts, "statistics", lambda: _statistics(meta, measured, facts["columns"]), {})
    facts["cameras"] = _part(facts, "cameras", lambda: _cameras(meta), {})
    facts["pictures"] = _part(
        facts, "pictures", lambda: _pictures(meta, seen, few, recorded, facts["columns"], progress), {}
    )
    _against(facts, meta, checkpoint, robot)
    return facts


def _part(facts: Facts, name: str, build: Callable[[], Any], default: Any) -> Any:
    """What ``build`` gives; where it fails, that is noted in place of it."""
    try:
        return build()
    except Exception as error:  # other people's datasets: whatever is odd about one part, the others are told
        facts.setdefault("unreadable_parts", {})[name] = in_one_line(error)
        return default


def _against(facts: Facts, meta: Any, checkpoint: Checkpoint | None, robot: Mapping[str, Any] | None) -> None:
    """What a policy and a robot make of it. Without a checkpoint: a new policy that is trained on it."""
    config: LAFPConfig | None = None
    if checkpoint is not None:
        config = checkpoint.config
        facts["policy"] = _part(facts, "policy", lambda: fit_to_dataset(checkpoint, meta, facts["columns"]), {})
    else:
        try:
            config, chosen = new_policy(meta)
            facts["new_policy"] = {
                "trains": True,
                "refused": None,
                "chosen": [{"option": each.typed, "reason": each.reason} for each in chosen],
                "protections": protections_of(config),
            }
        except (ValueError, KeyError, TypeError, IndexError) as error:
            facts["new_policy"] = {"trains": False, "refused": in_one_line(error), "chosen": [], "protections": []}
    if robot is not None:
        compared = {
            key: compare_names(
                (facts["columns"].get(key) or {}).get("names"), robot["features"].get(key, {}).get("names")
            )
            for key in (OBS_STATE, ACTION)
        }
        cameras = [key for key in robot["features"] if key.startswith("observation.images.")]
        facts["robot"] = {
            "type": robot["type"],
            "names": {key: robot["features"].get(key, {}).get("names") for key in (OBS_STATE, ACTION)},
            "cameras": cameras,
            "left_out": robot["left_out"],
            "dataset": compared,
            "checkpoint": None if checkpoint is None else checkpoint.name,
            "policy": None if config is None else _part(facts, "robot", lambda: fit_to_robot(config, robot), None),
        }


def _measure(meta: Any, keys: Sequence[str]) -> dict[str, Statistics]:
    """One column at a time, so that one that cannot be measured does not cost the others."""
    found: dict[str, Statistics] = {}
    for key in keys:
        try:
            found |= measure_columns(meta, [key])
        except (ValueError, TypeError, KeyError, OSError):
            continue
    return found


def _dataset(meta: Any, recorded: Recorded) -> Facts:
    lengths = [int(n) for n in meta.episodes["length"]]
    chunk = chunk_of(meta)[0] if lengths else 0
    return {
        "format": str(meta.info.codebase_version),
        "episodes": int(meta.total_episodes),
        "frames": int(meta.total_frames),
        "fps": float(meta.fps),
        "measured_fps": _measured_fps(recorded),
        "robot_type": meta.robot_type,
        "shortest_episode": min(lengths, default=0),
        "longest_episode": max(lengths, default=0),
        "shorter_than_a_chunk": [i for i, n in enumerate(lengths) if n < chunk],
        "chunk": chunk,
    }


def _measured_fps(recorded: Recorded) -> float | None:
    """By the median of the time from frame to frame."""
    steps = [np.diff(values["timestamp"][:, 0]) for values in recorded.values.values() if "timestamp" in values]
    joined = np.concatenate(steps) if steps else np.zeros(0)
    joined = joined[np.isfinite(joined) & (joined > 0)]
    return float(1 / np.median(joined)) if len(joined) else None


def _action(meta: Any, columns: Mapping[str, Facts], recorded: Recorded) -> Facts:
    """Actions beside the state: whose names they share, and what they are to it."""
    action, state = columns.get(ACTION), columns.get(OBS_STATE)
    if action is None or state is None:
        return {}
    widths = prod(action["shape"]), prod(state["shape"])
    pairs = paired_dimensions(action["names"], state["names"], widths)
    still = [{i for i, row in enumerate(column["dimensions"]) if row["still"]} for column in (action, state)]
    pairs = {i: j for i, j in pairs.items() if i not in still[0] and j not in still[1]}
    names = action["names"] or numbered("action", widths[0])
    return {
        "names": compare_names(action["names"], state["names"]),
        "relation": relate(recorded, pairs, names, float(meta.fps)),
    }


def _labels(meta: Any, recorded: Recorded) -> Facts:
    return {"action": ACTION in meta.features, "unlabelled_episodes": recorded.unlabelled}


def _tasks(meta: Any) -> Facts:
    tasks = [str(task) for task in meta.tasks.index]
    return {"count": len(tasks), "empty": sum(not task.strip() for task in tasks), "tasks": tasks}


def _statistics(meta: Any, measured: Mapping[str, Statistics], columns: Mapping[str, Facts]) -> Facts:
    return compare_statistics(meta.stats, measured, [key for key, column in columns.items() if column["read"]])


def _cameras(meta: Any) -> dict[str, Facts]:
    return {key: _camera(key, meta.features[key], key in meta.depth_keys) for key in meta.camera_keys}


def _camera(key: str, feature: Mapping[str, Any], depth: bool) -> Facts:
    info = feature.get("info") or feature.get("video_info") or {}
    names = feature.get("names")
    codec, rate = info.get("video.codec"), info.get("video.fps")
    return {
        "dtype": feature["dtype"],
        "shape": [int(n) for n in feature["shape"]],
        "axes": [str(name) for name in names] if isinstance(names, (list, tuple)) else None,
        "depth": depth,
        "codec": codec,
        "fps": rate,
    }


def _pictures(
    meta: Any,
    seen: Seen | None,
    few: Sequence[int],
    recorded: Recorded,
    columns: Mapping[str, Facts],
    progress: bool,
) -> Facts:
    if not meta.camera_keys:
        return {}
    decoded = seen is not None
    if seen is None:
        seen = look_at(meta, few, progress)
    elif missing := sorted(set(seen) - set(recorded.values)):
        states = [key for key in (OBS_STATE,) if key in columns]
        recorded.values |= read_columns(meta, states, missing).values
    return {
        "decoded": decoded,
        "per_episode": None if decoded else PICTURES,
        "episodes": len(seen),
        "findings": by_camera(findings(seen, recorded, columns)),
    }


def left_out(facts: Mapping[str, Any]) -> list[int]:
    """Episodes in which a camera shows nothing, through all of it or a part."""
    found = facts.get("pictures", {}).get("findings") or []
    return sorted({episode for each in found if each["kind"] != "same" for episode in each["episodes"]})
