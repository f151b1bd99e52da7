"""The overview of a dataset in words, a line a subject."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lerobot.utils.constants import ACTION, OBS_STATE

from ...options.names import listed
from .matching import in_words

#: Dimensions of a column that get a line of their own.
MOST_ROWS = 32

Facts = Mapping[str, Any]


def lines(facts: Facts) -> list[str]:
    """What the dataset is, a line a subject; parts that could not be read are left out."""
    return [
        *_of_dataset(facts),
        *_of_columns(facts),
        *_of_action(facts),
        *_of_cameras(facts),
        *_of_statistics(facts),
        *_of_new_policy(facts),
    ]


def line(name: str, value: str) -> str:
    return f"  {name:<12} {value}"


def some(items: Sequence[Any], most: int = 10) -> str:
    """Numbers in words, cut after ``most``."""
    return ", ".join(map(str, items[:most])) + (f", .. ({len(items)})" if len(items) > most else "")


def in_episodes(episodes: Sequence[int], total: int) -> str:
    """``episode 3``, ``episodes 1, 4`` or ``every episode``."""
    if len(episodes) == total and total > 1:
        return f"all {total} episodes"
    if len(episodes) == 1:
        return f"episode {episodes[0]}"
    return f"{len(episodes)} of {total} episodes ({', '.join(map(str, episodes[:10]))}{', ..' * (len(episodes) > 10)})"


def _of_dataset(facts: Facts) -> Iterator[str]:
    found = facts.get("dataset")
    if not found:
        return
    minutes = found["frames"] / found["fps"] / 60 if found["fps"] else 0.0
    robot = f"robot {found['robot_type']}" if found["robot_type"] else "robot type not given"
    yield line("format", f"LeRobotDataset {found['format']}, {robot}")
    yield line(
        "size",
        f"{found['episodes']} episodes of {found['shortest_episode']} to {found['longest_episode']} frames; "
        f"{found['frames']:,} frames at {found['fps']:g} Hz, {minutes:.1f} min",
    )
    tasks = facts.get("tasks")
    if tasks:
        named = ", ".join(repr(_cut(task, 48)) for task in tasks["tasks"][:3])
        yield line("tasks", f"{tasks['count']}: {named}{', ..' if tasks['count'] > 3 else ''}")
    labels = facts.get("labels")
    if labels:
        without = labels["unlabelled_episodes"]
        yield line(
            "labels",
            "no `action`: video only"
            if not labels["action"]
            else f"{found['episodes'] - len(without)} of {found['episodes']} episodes have actions",
        )


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 2]}.."


# --- Numbers ----------------------------------------------------------------------------------------------------


def _of_columns(facts: Facts) -> Iterator[str]:
    columns = facts.get("columns", {})
    state, action = columns.get(OBS_STATE), columns.get(ACTION)
    together = bool(state and action and _named_units(state) == _named_units(action) and state["dimensions"])
    for key, column in columns.items():
        if together and key == ACTION:
            continue
        both = {OBS_STATE: column, ACTION: action} if together and key == OBS_STATE else {key: column}
        for name, each in both.items():
            yield _head(name, each)
        yield from _rows({name: each["dimensions"] for name, each in both.items()}, column)
    for key, dtype in facts.get("ignored", {}).items():
        yield f"  {key}: {dtype}, not read"


def _named_units(column: Facts) -> list[tuple[str, str]]:
    return [(row["name"], row["unit"]) for row in column["dimensions"]]


def _head(key: str, column: Facts) -> str:
    shape = " x ".join(map(str, column["shape"])) or "1"
    read = "" if column["read"] else ", not read by a policy"
    return f"  {key}: {shape} {column['dtype']}{_names_note(column)}{read}"


def _rows(columns: Mapping[str, Sequence[Facts]], column: Facts) -> Iterator[str]:
    """A line a dimension: its range in each of ``columns``, which share names and units, and the unit."""
    if "unreadable" in column:
        yield f"    cannot be measured: {column['unreadable']}"
        return
    rows = column["dimensions"]
    if len(column["shape"]) > 1 and len(rows) > MOST_ROWS:
        low, high = min(row["min"] for row in rows), max(row["max"] for row in rows)
        yield f"    {len(rows)} numbers a frame, from {low:.4g} to {high:.4g}"
        return
    width = max((len(row["name"]) for row in rows), default=0)
    if len(columns) > 1:
        yield f"    {'':<{width}}" + "".join(f"  {key:<20}" for key in columns) + "  unit (guessed)"
    units = _units(rows, guessed="" if len(columns) > 1 else "likely ")
    for i, (row, said) in enumerate(zip(rows[:MOST_ROWS], units, strict=False)):
        ranges = (f"  {_number(each[i]['min']):>8} .. {_number(each[i]['max']):<8}" for each in columns.values())
        yield f"    {row['name']:<{width}}{''.join(ranges)}  {said}"
    if len(rows) > MOST_ROWS:
        yield f"    and {len(rows) - MOST_ROWS} more (--json has all)"


def _names_note(column: Facts) -> str:
    if column["names"] is not None:
        return ""
    given = column["names_given"]
    if not given:
        return ", no names: numbered"
    return f", names do not fit, so they are numbered: {_cut(str(given), 60)}"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1e5 else f"{value:.3g}"


def _units(rows: Sequence[Facts], guessed: str) -> list[str]:
    """A unit a row; its reason where it was not just told."""
    said: list[str] = []
    told: set[tuple[str, str]] = set()
    for row in rows:
        unit, now = row["unit"], (row["unit"], row["reason"])
        still = ", held still" if row["still"] and unit != "constant" else ""
        sure = "" if unit in ("constant", "on/off", "unknown") else guessed
        said.append(f"{sure}{unit}{still}" + ("" if now in told else f" ({row['reason']})"))
        told.add(now)
    return said


def _of_action(facts: Facts) -> Iterator[str]:
    found = facts.get("action") or {}
    if not found:
        return
    follows = "; LAFP matches them by name" if found["names"]["relation"] == "order" else ""
    yield line("names", f"`action` and `{OBS_STATE}`: {in_words(found['names'], '`action`', 'the state')}{follows}")
    relation = found["relation"]
    if relation:
        yield line("actions are", _relation(relation))


def _relation(relation: Facts) -> str:
    rows = [row for row in relation["dimensions"] if row["kind"] == relation["kind"]]
    others = [row["name"] for row in relation["dimensions"] if row["kind"] not in (relation["kind"], "still")]
    but = f"; not clear or otherwise: {listed(others, 6)}" if others and rows else ""
    if relation["equals_next_state"] > 0.99:
        return "positions: action[t] is the state at t + 1, number for number"
    if relation["equals_state"] > 0.99:
        return "positions: action[t] is the state at t, number for number"
    if not rows or relation["kind"] == "unclear":
        return "not clear: they follow neither the state nor its change"
    next_state, change = (sum(row[k] for row in rows) / len(rows) for k in ("next_state", "change"))
    return {
        "positions": f"positions: near the state at t + 1 (correlation {next_state:.2f})",
        "scaled": f"positions, in another unit or shifted (correlation {next_state:.2f} with the state at t + 1)",
        "steps": f"steps: the state's change from frame to frame (correlation {change:.2f})",
        "velocities": f"velocities: the state's change in a second (correlation {change:.2f})",
        "driving": f"velocities or steps, in another unit than the state's (correlation {change:.2f} with its change)",
    }[relation["kind"]] + but


# --- Cameras, statistics ------------------------------------------------------------------------------------------


def _of_cameras(facts: Facts) -> Iterator[str]:
    cameras = facts.get("cameras") or {}
    for key, camera in cameras.items():
        shape = " x ".join(map(str, camera["shape"]))
        axes = f" ({', '.join(camera['axes'])})" if camera["axes"] else " (axes not named)"
        codec = f", {camera['codec']}" if camera["codec"] else ""
        depth = ", depth" if camera["depth"] else ""
        yield f"  {key}: {camera['dtype']}, {shape}{axes}{codec}{depth}"
    pictures = facts.get("pictures")
    if pictures:
        total = (facts.get("dataset") or {}).get("episodes", pictures["episodes"])
        all_of = "each episode" if pictures["episodes"] == total else f"each of {pictures['episodes']} episodes"
        looked = "every picture" if pictures["decoded"] else f"{pictures['per_episode']} pictures"
        more = "" if pictures["decoded"] else " (--decode looks at all)"
        wrong = len({(each["camera"], each["kind"]) for each in pictures["findings"]})
        said = f"{wrong} findings, see the remarks" if wrong else "no camera is black, frozen or a copy"
        yield line("pictures", f"{looked} of {all_of} looked at{more}: {said}")


def _of_statistics(facts: Facts) -> Iterator[str]:
    found = facts.get("statistics")
    if not found:
        return
    if not found["there"]:
        said = "meta/stats.json is not there"
    elif found["missing"] or found["apart"]:
        wrong = [*(f"lacks {key}" for key in found["missing"]), *(f"{key} is otherwise" for key in found["apart"])]
        said = f"meta/stats.json: {listed(wrong, 6)}"
    else:
        said = "meta/stats.json agrees with the tables"
    yield line("statistics", said)


def _of_new_policy(facts: Facts) -> Iterator[str]:
    found = facts.get("new_policy")
    if not found:
        return
    if not found["trains"]:
        yield line("a policy", f"cannot be trained on it as it is: {found['refused']}")
    if found["chosen"]:
        yield line("a policy", "would be trained on it with these options, if none is typed:")
        yield from (line("", f"{each['option']}  ({each['reason']})") for each in found["chosen"])
    if found["trains"] and (facts.get("labels") or {}).get("action"):
        yield line("on a robot", "a policy that is trained on this dataset would have these protections:")
        yield from of_protections(found["protections"])


def of_protections(protections: Sequence[Facts]) -> Iterator[str]:
    """What stands between a policy and the robot: on, and off with the reason."""
    for each in sorted(protections, key=lambda each: not each["on"]):
        on = "on " if each["on"] else "OFF"
        yield line("", f"{on} {each['name']}{'' if each['on'] else f' ({each["why"]})'}")


def unreadable_lines(facts: Facts) -> list[str]:
    """Parts that could not be read, and why."""
    parts = {**facts.get("unreadable_parts", {})}
    if "unreadable" in facts:
        parts["the dataset"] = facts["unreadable"]
    return [line("not read", f"{part}: {why}") for part, why in parts.items()]
