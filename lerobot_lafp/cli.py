"""``lafp``: thin commands over LeRobot's own."""

import sys
from collections.abc import Sequence

USAGE = """usage: lafp COMMAND ..

    lafp demo     LAFP against behaviour cloning on an embedded two-way task, from demonstrations to a table
    lafp train    the three stages in order, from one folder of configurations or from options
    lafp label    latent actions of a dataset as a column, so that stage 2 need not decode video
    lafp probe    what the latents of a checkpoint are worth on a dataset: three lines, numbers and a figure

lafp COMMAND --help says more. Evaluation and robots are LeRobot's: lerobot-eval, lerobot-rollout.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command named by the first argument; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if command not in ("demo", "train", "label", "probe"):
        asked_for = command in ("-h", "--help", "help")
        print(USAGE, end="", file=sys.stdout if asked_for else sys.stderr)
        return 0 if asked_for else 2
    # What follows imports torch and LeRobot, which takes a while.
    from .data.label_dataset import USAGE as LABEL_USAGE
    from .data.label_dataset import run_label
    from .demo import USAGE as DEMO_USAGE
    from .demo import run_demo
    from .diagnostics.report import USAGE as PROBE_USAGE
    from .diagnostics.report import run_probe
    from .runs import CommandError
    from .stages import USAGE as TRAIN_USAGE
    from .stages import train_stages

    if "-h" in rest or "--help" in rest:
        usages = {"demo": DEMO_USAGE, "train": TRAIN_USAGE, "label": LABEL_USAGE, "probe": PROBE_USAGE}
        print(usages[command])
        return 0
    try:
        if command == "demo":
            run_demo(rest)
        elif command == "label":
            run_label(rest)
        elif command == "probe":
            run_probe(rest)
        else:
            checkpoint = train_stages(rest)
            print(f"\nTrained. Try it: lerobot-eval --policy.path={checkpoint} --env.type=..")
    except (CommandError, ValueError, FileExistsError) as error:
        print(f"lafp {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        goes_on = "" if command == "probe" else " The same command goes on where this one stopped."
        print(f"\nlafp {command}: interrupted.{goes_on}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
