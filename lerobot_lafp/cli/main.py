"""``lafp``: thin commands over LeRobot's own."""

import importlib
import sys
from collections.abc import Sequence

#: Command -> the module that has its ``USAGE``, the function that runs it, and what it is for.
COMMANDS = {
    "demo": (
        "demo",
        "run_demo",
        "LAFP against behaviour cloning on an embedded two-way task, from demonstrations to a table",
    ),
    "import-videos": (
        "import_videos",
        "run_import_videos",
        "folders of video files as one dataset without actions",
    ),
    "import-datasets": (
        "import_datasets",
        "run_import_datasets",
        "datasets of different cameras and rates as one",
    ),
    "check": (
        "check",
        "run_check",
        "whether a dataset is whole, what it holds, and whether a checkpoint or a robot fits it",
    ),
    "label": (
        "label",
        "run_label",
        "latent actions of a dataset as a column, so that stage 2 need not decode video",
    ),
    "train": ("train", "run_train", "the three stages in order, from one folder of configurations or from options"),
    "probe": (
        "probe",
        "run_probe",
        "what the latents of a checkpoint are worth on a dataset: lines, numbers, a figure",
    ),
    "inspect": ("inspect", "run_inspect", "what a checkpoint is, and whether it is whole"),
    "card": ("card", "run_card", "the model card of a checkpoint, to share it with"),
    "serve": ("serve", "run_serve", "LeRobot's policy server for robots elsewhere, which knows LAFP"),
    "record-aloha": (
        "record_aloha",
        "run_record_aloha",
        "demonstrations of gym-aloha's cube transfer, by a scripted expert",
    ),
    "sim-arm": ("sim_arm", "run_sim_arm", "an emulated SO-100 on a port, to try a checkpoint on"),
}
USAGE = f"""usage: lafp COMMAND ..

{"".join(f"    lafp {name:<16} {what}" + chr(10) for name, (_, _, what) in COMMANDS.items())}
lafp COMMAND --help says more. Evaluation and robots are LeRobot's: lerobot-eval, lerobot-rollout.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command named by the first argument; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if command not in COMMANDS:
        asked_for = command in ("-h", "--help", "help")
        print(USAGE, end="", file=sys.stdout if asked_for else sys.stderr)
        return 0 if asked_for else 2
    name, function, _ = COMMANDS[command]
    module = importlib.import_module(f"lerobot_lafp.cli.{name}")  # torch and LeRobot, which takes a while
    from ..errors import UserError

    if "-h" in rest or "--help" in rest:
        print(module.USAGE)
        return 0
    try:
        status = getattr(module, function)(rest)
    except (UserError, ValueError, OSError) as error:
        print(f"lafp {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        goes_on = {
            "probe": "",
            "check": "",
            "serve": "",
            "record-aloha": "",
            "import-videos": " Go on with it: add --resume.",
            "import-datasets": " Go on with it: add --resume.",
        }.get(command, " The same command goes on where this one stopped.")
        print(f"\nlafp {command}: interrupted.{goes_on}", file=sys.stderr)
        return 130
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
