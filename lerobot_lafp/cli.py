"""``lafp``: thin commands over LeRobot's own."""

import sys
from collections.abc import Sequence

USAGE = """usage: lafp COMMAND ..

    lafp demo     LAFP against behaviour cloning on an embedded two-way task, from demonstrations to a table
    lafp train    the three stages in order, from one folder of configurations or from options

lafp COMMAND --help says more. Evaluation and robots are LeRobot's: lerobot-eval, lerobot-rollout.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command named by the first argument; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if command not in ("demo", "train"):
        asked_for = command in ("-h", "--help", "help")
        print(USAGE, end="", file=sys.stdout if asked_for else sys.stderr)
        return 0 if asked_for else 2
    # What follows imports torch and LeRobot, which takes a while.
    from .demo import USAGE as DEMO_USAGE
    from .demo import run_demo
    from .runs import CommandError
    from .stages import USAGE as TRAIN_USAGE
    from .stages import train_stages

    if "-h" in rest or "--help" in rest:
        print(DEMO_USAGE if command == "demo" else TRAIN_USAGE)
        return 0
    try:
        if command == "demo":
            run_demo(rest)
        else:
            checkpoint = train_stages(rest)
            print(f"\nTrained. Try it: lerobot-eval --policy.path={checkpoint} --env.type=..")
    except (CommandError, ValueError, FileExistsError) as error:
        print(f"lafp {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nlafp {command}: interrupted. The same command goes on where this one stopped.", file=sys.stderr)
        return 130
    return 0
