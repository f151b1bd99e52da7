"""``lafp check``."""

import json
from typing import Annotated

import typer

#: Options of a robot, as ``lerobot-rollout`` takes them.
HANDED_TO_THE_ROBOT = ("--robot.",)


def check(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Folder, or name on the Hub.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--policy.path",
            show_default="none",
            help="Compare the dataset with this LAFP checkpoint: observations, names, order, rate, ranges, tasks.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            show_default="none",
            help="Folder, or name on the Hub, of another dataset: say whether its actions can be learnt beside this "
            "one's video (lafp train --labels.repo_id).",
        ),
    ] = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every frame of every video, not only a few per episode.")
    ] = False,
    tolerance_s: Annotated[
        float,
        typer.Option("--tolerance_s", help="Seconds that a frame may be away from its timestamp. LeRobot's default."),
    ] = 1e-4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> int:
    """Check a dataset for faults before you train on it.

    Faults would stop a training: tables and videos that are missing or damaged, frames that are missing, out of order
    or at the wrong time, NaN and infinite values. The command lists them and says which episodes you can use. It
    changes nothing. The exit status is 0 if there is no fault (and --labels, if given, goes with it), else 1.

    An overview follows: names, order, range and likely unit of every number, how actions relate to states, cameras,
    labels, tasks, statistics, and the protections that a policy trained on the dataset would have on a robot.

    Remarks name what may be a mistake: cameras that are black, frozen or copies of another, joints that never move,
    names that do not match.

    To compare the dataset, or the checkpoint, with a robot, add its options as for lerobot-rollout: --robot.type=..
    --robot.cameras=.. The command compares names and does not connect to the robot. You can leave the port out.
    """
    from ..data.validation.check import check as look_at

    found = look_at(dataset, checkpoint, context.args, decode, tolerance_s, progress=not as_json, labels=labels)
    print(json.dumps(found.for_programs()) if as_json else "\n".join(found.lines()))
    return 0 if found.sound else 1
