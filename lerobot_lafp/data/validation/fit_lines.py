"""How a policy or a robot goes with a dataset, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

from lerobot.utils.constants import ACTION, OBS_STATE

from ...options.names import listed
from .matching import in_words
from .overview_lines import line, of_protections

Facts = Mapping[str, Any]


def policy_lines(found: Facts) -> list[str]:
    """A policy against the dataset (``fit_to_dataset``)."""
    return [f"{found['checkpoint']} on this dataset", *_of_policy(found)]


def _of_policy(found: Facts) -> Iterator[str]:
    for fault in found["faults"]:
        yield line("not whole", fault)
    if found["trains"]:
        yield line("training", f"stage {found['stage']} can go on from it on this dataset")
    else:
        yield line("training", f"stage {found['stage']} is REFUSED: {found['refused']}")
    yield line("acting", "it acts" if found["acts"] else "it does not act yet")
    read = ", ".join(f"{key} {tuple(shape)}" for key, shape in found["observes"].items())
    lacks = f"; this dataset lacks {', '.join(found['missing'])}" if found["missing"] else ", all there"
    yield line("observes", f"{read}{lacks}")
    if found["not_read"]:
        yield line("not read", ", ".join(found["not_read"]))
    yield from _of_rate(found["fps"])
    widths = found["actions"]
    if widths["policy"] is not None and widths["dataset"] is not None:
        same = "the same" if widths["policy"] == widths["dataset"] else f"NOT the same: {widths['dataset']} here"
        yield line("actions", f"{widths['policy']} wide, {same}")
    yield from _of_names(found["names"], "the dataset", found["refused"])
    for each in found["far"]:
        low, high = each["range"]
        yield line(
            "range",
            f"{each['key']} {each['name']} is {low:.4g} to {high:.4g} here, far from the training's {each['mean']:.4g} "
            f"(deviation {each['std']:.3g})",
        )
    if not found["far"]:
        yield line("range", "states lie where the policy's training had them")
    new, read_tasks = found["tasks"]["new"], found["tasks"]["read"]
    if read_tasks:
        said = "known, all of them" if not new else f"{len(new)} are new to it: {listed([repr(t) for t in new], 3)}"
        yield line("tasks", said)
    else:
        yield line("tasks", "it does not read the task")
    for warning in found["warnings"]:
        yield line("warning", warning)
    yield line("on a robot", "it has these protections:")
    yield from of_protections(found["protections"])


def _of_rate(fps: Facts) -> Iterator[str]:
    if fps["policy"] is not None:
        same = "the same" if fps["policy"] == fps["dataset"] else f"NOT the same: {fps['dataset']:g} Hz here"
        yield line("rate", f"{fps['policy']:g} Hz, {same}")


def _of_names(names: Mapping[str, Facts], whose: str, told: str | None = None) -> Iterator[str]:
    """Names of states and actions; a refusal that was told already is not told again."""
    for key, each in names.items():
        if each["refused"] is not None:
            why = "" if each["refused"] == told else f" {each['refused']}"
            yield line("names", f"`{key}`: REFUSED.{why}")
        elif each["relation"] == "order":
            yield line("names", f"`{key}`: the same in another order; they are put in order by name")
        else:
            yield line("names", f"`{key}`: {in_words(dict(each), 'the policy', whose)}")


def labels_lines(found: Facts) -> Iterator[str]:
    """Another dataset that has the actions, beside the dataset's video (``fit_to_labels``)."""
    yield f"{found['dataset']} as the labels of this dataset's video (lafp train --labels.repo_id)"
    if found["refused"] is not None:
        yield line("training", f"REFUSED: {found['refused']}")
        return
    names = found["action"]["names"]
    actions = f"{found['action']['width']}{f': {listed(names)}' if names else ''}"
    yield line("size", f"{found['episodes']} episodes; {found['frames']:,} frames")
    yield line("actions", f"{actions}; of this dataset's own none are read")
    yield line("training", "both can be trained on together: the same rate, observations and names")


def robot_lines(found: Facts, policy: str) -> list[str]:
    """A robot against the dataset and the policy (``overview``).

    Args:
        found: The facts.
        policy: How the policy is called.
    """
    return [f"{found['type']}, as lerobot-rollout would use it", *_of_robot(found, policy)]


def _of_robot(found: Facts, policy: str) -> Iterator[str]:
    for key, names in found["names"].items():
        yield line("state" if key == OBS_STATE else key, f"{len(names)}: {listed(names)}" if names else "none")
    yield line("cameras", ", ".join(found["cameras"]) or "none (give them with --robot.cameras)")
    if found["left_out"]:
        yield line("left out", f"{listed(found['left_out'])}: a rollout uses what ends in .pos or .vel")
    for key, each in found["dataset"].items() if found["checkpoint"] else ():
        yield line("dataset", f"`{key}`: {in_words(each, 'the dataset', 'the robot')}")
    against = found["policy"]
    if against is None:
        return
    for said in _of_names(against["names"], "the robot"):
        yield said.replace("names  ", "policy ", 1)
    for what, key in (("state", OBS_STATE), ("actions", ACTION)):
        widths = against[what]
        if widths["policy"] and widths["robot"] and widths["policy"] != widths["robot"]:
            yield line(
                "policy", f"`{key}` is {widths['policy']} wide in {policy}, and {widths['robot']} on the robot: REFUSED"
            )
        elif widths["policy"] and not widths["robot"]:
            yield line("policy", f"{policy} needs `{key}`, and the robot has none that a rollout uses")
    if against["missing_cameras"]:
        yield line(
            "policy",
            f"{policy} sees {', '.join(against['missing_cameras'])}, which the robot has not: name its cameras so "
            "(--robot.cameras), or map them with --rename_map",
        )
