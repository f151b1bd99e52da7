"""Remarks on a dataset: what one would want to know before training on it, a sentence or two each, with the fix."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lerobot.utils.constants import ACTION, OBS_STATE

from ...options.names import listed
from .overview_lines import in_episodes, some

Facts = Mapping[str, Any]

#: How LeRobot writes statistics anew. Those of cameras it leaves as they are (`L/datasets/dataset_tools.py`).
RECOMPUTE = (
    "lerobot-edit-dataset --repo_id=local/dataset --root={root} --new_root={root} --operation.type=recompute_stats "
    "--operation.overwrite=true"
)


def remarks(facts: Facts, root: str, sound: Sequence[int]) -> list[str]:
    """All there are, the gravest first.

    Args:
        facts: Of ``overview``.
        root: The dataset's folder, as a command names it.
        sound: Episodes that no fault touches.
    """
    return [
        *_of_cameras(facts, sound),
        *_of_rates(facts),
        *_of_labels(facts),
        *_of_columns(facts),
        *_of_still(facts),
        *_of_wraps(facts),
        *_of_actions(facts),
        *_of_statistics(facts, root),
    ]


# --- Cameras ------------------------------------------------------------------------------------------------------

_SAYS = {
    "black": "is black",
    "plain": "shows one plain colour",
    "frozen": "is frozen: it shows the same picture, to the bit, while something moved",
}


def _of_cameras(facts: Facts, sound: Sequence[int]) -> Iterator[str]:
    pictures, total = facts.get("pictures") or {}, (facts.get("dataset") or {}).get("episodes", 0)
    bad: set[int] = set()
    for each in pictures.get("findings") or []:
        where = in_episodes(each["episodes"], total)
        if each["kind"] == "same":
            yield (
                f"Cameras {each['other']} and {each['camera']} show the same pictures in {where}. Leave one of them "
                f"out: {_without(facts, each['camera'])}."
            )
            continue
        much = "" if each["whole"] else f"through {100 * each['part']:.0f} % of "
        yield f"Camera {each['camera']} {_SAYS[each['kind']]} in {much}{where}.{_leave(facts, each, total)}"
        if len(each["episodes"]) <= total / 2:
            bad |= set(each["episodes"])
    good = [episode for episode in sound if episode not in bad]
    if bad and good:
        yield f"To train without these episodes, add --dataset.episodes={json.dumps(good, separators=(',', ':'))}."


def _leave(facts: Facts, finding: Facts, total: int) -> str:
    """A camera that shows nothing in most episodes is better left out than they."""
    if len(finding["episodes"]) <= total / 2:
        return ""
    return f" Leave it out: {_without(facts, finding['camera'])}."


def _without(facts: Facts, camera: str) -> str:
    states = [key for key, column in facts.get("columns", {}).items() if column["read"] and key != ACTION]
    rest = [*(key for key in facts.get("cameras", {}) if key != camera), *states]
    return f"--policy.observations='{json.dumps(rest)}'"


# --- Times and labels ---------------------------------------------------------------------------------------------


def _of_rates(facts: Facts) -> Iterator[str]:
    found = facts.get("dataset") or {}
    measured, fps = found.get("measured_fps"), found.get("fps")
    if measured and fps and abs(measured - fps) > 0.02 * fps:
        yield (
            f"meta/info.json says {fps:g} frames per second, and the timestamps run at {measured:.3g}. Correct `fps` "
            "in meta/info.json, or convert the dataset again."
        )
    for key, camera in facts.get("cameras", {}).items():
        if camera["fps"] and fps and abs(float(camera["fps"]) - fps) > 1e-6:
            yield f"The video of {key} has {camera['fps']:g} frames per second, and the dataset {fps:g}."
        if camera["axes"] is None or len(camera["shape"]) != 3:
            yield (
                f"The axes of {key} are not named in meta/info.json, and LeRobot's other policies need them: add "
                '"names": ["height", "width", "channels"] there.'
            )
    short = found.get("shorter_than_a_chunk") or []
    if short:
        yield (
            f"Shorter than a chunk of {found['chunk']} frames: episode {some(short, 5)}. What lies beyond their end is "
            "not learnt from; to do without them, shorten the chunk (--policy.horizon, --policy.num_latents)."
        )


def _of_labels(facts: Facts) -> Iterator[str]:
    labels, total = facts.get("labels") or {}, (facts.get("dataset") or {}).get("episodes", 0)
    without = labels.get("unlabelled_episodes") or []
    if without:
        others = [episode for episode in range(total) if episode not in set(without)]
        named = f": --policy.labeled_episodes={json.dumps(others, separators=(',', ':'))}" if others else ""
        yield (
            f"Without actions: {in_episodes(without, total)}. LAFP learns its latents from them as video, and the "
            f"actions from the others{named}."
        )
    tasks = facts.get("tasks") or {}
    if tasks.get("empty"):
        yield (
            f"{tasks['empty']} of {tasks['count']} tasks are empty. A policy that reads tasks cannot tell them apart; "
            "lerobot-edit-dataset --operation.type=modify_tasks names them."
        )


# --- Numbers ------------------------------------------------------------------------------------------------------


def _of_columns(facts: Facts) -> Iterator[str]:
    total = (facts.get("dataset") or {}).get("episodes", 0)
    for key, column in facts.get("columns", {}).items():
        if not column["read"]:
            continue
        if column["names"] is None and column["names_given"]:
            yield (
                f"The names of `{key}` are not one for each of its dimensions, so these are numbered. Write "
                f"{_width(column)} names into meta/info.json to have them known by name."
            )
        partly = column["partly_missing_episodes"]
        if partly:
            yield (
                f"`{key}` is missing (NaN or infinite) in some frames of {in_episodes(partly, total)}: "
                f"{column['missing_frames']:,} frames of the dataset."
            )


def _of_wraps(facts: Facts) -> Iterator[str]:
    """One remark for the columns that jump in the same episodes, as actions do with the state."""
    total = (facts.get("dataset") or {}).get("episodes", 0)
    told: dict[str, list[str]] = {}
    for key, column in facts.get("columns", {}).items():
        wraps = column["wraps"] if column["read"] else {}
        if wraps:
            where = in_episodes(sorted({e for episodes in wraps.values() for e in episodes}), total)
            told.setdefault(where, []).append(f"`{key}` {listed(list(wraps))}")
    for where, columns in told.items():
        yield (
            f"{', '.join(columns)}: an angle that jumps from one end of its range to the other in {where}, though the "
            "robot turned but little. LAFP takes it for the angle that it is; other policies may want it unwrapped."
        )


def _of_still(facts: Facts) -> Iterator[str]:
    still = {
        key: [row["name"] for row in column["dimensions"] if row["still"]]
        for key, column in facts.get("columns", {}).items()
        if column["read"]
    }
    told = "; ".join(f"`{key}` {listed(names)}" for key, names in still.items() if names)
    if told:
        yield f"Held still in all episodes, but for noise: {told}. A policy cannot learn to move them."


def _width(column: Facts) -> int:
    return max(len(column["dimensions"]), 1)


def _of_actions(facts: Facts) -> Iterator[str]:
    found = facts.get("action") or {}
    relation = found.get("relation") or {}
    columns = facts.get("columns", {})
    kind = relation.get("kind")
    moves = kind in ("velocities", "steps", "driving")
    if relation.get("equals_state", 0) > 0.99:
        yield (
            "action[t] equals the state at t: a policy learns to stay where it is. Record the commands, or shift the "
            "actions by a frame."
        )
    if moves and found["names"]["relation"] in ("same", "order"):
        yield (
            f"`action` has the names of `{OBS_STATE}`, but holds {kind}, not positions: the protections that compare "
            "a command with a joint would be wrong. Name the actions otherwise in meta/info.json, such as joint.vel."
        )
    motion = [row["name"] for row in columns.get(OBS_STATE, {}).get("dimensions", []) if row["unit"] == _MOTION]
    if moves and motion:
        yield (
            f"`{OBS_STATE}` is named as velocities ({listed(motion, 3)}), but the actions drive its change: it holds "
            "positions. Correct the names in meta/info.json."
        )
    actions = {row["name"]: row["unit"] for row in columns.get(ACTION, {}).get("dimensions", [])}
    positions = [row["name"] for row in relation.get("dimensions", []) if row["kind"] == "positions"]
    wrong = [name for name in positions if actions.get(name) == _MOTION]
    if wrong:
        yield f"`action` is named as velocities or steps ({listed(wrong, 3)}), but it holds positions."


_MOTION = "velocity or step"


def _of_statistics(facts: Facts, root: str) -> Iterator[str]:
    found = facts.get("statistics") or {}
    if not found or (found["there"] and not found["missing"] and not found["apart"]):
        return
    if not found["there"]:
        what = "meta/stats.json is not there"
    else:
        lacks = [f"it lacks `{key}`" for key in found["missing"]]
        what = f"meta/stats.json is not of these tables: {'; '.join([*lacks, *_apart(found['apart'])])}"
    yield (
        f"{what}. LAFP measures states and actions itself; LeRobot's other policies do not. To write it anew: "
        f"{RECOMPUTE.format(root=root)}"
    )


def _apart(apart: Mapping[str, str]) -> list[str]:
    return [f"`{key}` {why}" for key, why in apart.items()]
