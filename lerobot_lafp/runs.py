"""LeRobot's own commands, run one after the other: a training is started, resumed or skipped as its folder says.

Each command is a process of its own. Where the platform allows, they are forked from a server that has imported
LeRobot already, which takes a while.
"""

import importlib
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from lerobot.utils.constants import (
    LAST_CHECKPOINT_LINK,
    PRETRAINED_MODEL_DIR,
    SCHEDULER_STATE,
    TRAINING_STATE_DIR,
    TRAINING_STEP,
)

#: Command -> the module whose ``main`` it calls.
_COMMANDS = {
    "lerobot-train": "lerobot.scripts.lerobot_train",
    "lerobot-eval": "lerobot.scripts.lerobot_eval",
    "lerobot-rollout": "lerobot.scripts.lerobot_rollout",
    "lerobot-edit-dataset": "lerobot.scripts.lerobot_edit_dataset",
}


class CommandError(RuntimeError):
    """A LeRobot command could not be run, or ended with a non-zero status."""


def run_command(command: str, arguments: Sequence[str], log: Path | None = None) -> None:
    """Run one of LeRobot's commands in a child process.

    Args:
        command: Its name, as in ``lerobot-train``.
        arguments: What follows the name on the command line.
        log: File that its output is appended to. Unset: the terminal, progress bars included.

    Raises:
        CommandError: It failed.
    """
    if log is None:
        print(f"\n$ {command} {' '.join(arguments)}\n", flush=True)
    if sys.platform == "linux":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*_COMMANDS.values(), "lerobot_policy_lafp"])
    else:
        context = multiprocessing.get_context("spawn")
    child = context.Process(target=_call_main, args=(command, list(arguments), log))
    child.start()
    try:
        child.join()
    except KeyboardInterrupt:
        child.terminate()
        child.join()
        raise
    if child.exitcode:
        where = "its message is above" if log is None else f"see {log}"
        raise CommandError(f"{command} failed with status {child.exitcode}: {where}.")


def _call_main(command: str, arguments: list[str], log: Path | None) -> None:
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, sys.stdout.fileno())
        os.dup2(file, sys.stderr.fileno())
    sys.argv = [command, *arguments]
    importlib.import_module(_COMMANDS[command]).main()


def evaluate(checkpoint: Path, output_dir: Path, num_episodes: int, seed: int, environment: Sequence[str]) -> None:
    """``lerobot-eval`` of ``checkpoint`` on the episodes of ``seed`` onwards, stepped together in one process.

    Args:
        checkpoint: What ``--policy.path`` takes.
        output_dir: Gets ``eval_info.json`` and videos.
        num_episodes: How many.
        seed: Of the first episode.
        environment: The ``--env.*`` options.

    Raises:
        CommandError: It failed.
    """
    run_command(
        "lerobot-eval",
        [
            f"--policy.path={checkpoint}",
            *environment,
            f"--eval.n_episodes={num_episodes}",
            f"--eval.batch_size={min(num_episodes, 50)}",
            "--eval.use_async_envs=false",  # LeRobot's asynchronous environments do not know plain gym.make ones
            f"--seed={seed}",
            f"--output_dir={output_dir}",
        ],
    )


class RunState(Enum):
    """How far a training run got, by what lies in its output folder."""

    NEW = "new"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"


def last_checkpoint(output_dir: Path) -> Path:
    """The folder that ``--policy.path`` takes, of the newest whole checkpoint of a run; there may be none yet.

    LeRobot replaces the link that names it in two steps, and a run may be killed between them.
    """
    checkpoints = output_dir / "checkpoints"
    last = checkpoints / LAST_CHECKPOINT_LINK
    if not last.is_dir():
        last = max((each for each in checkpoints.glob("*") if _is_whole(each)), default=last)
    return last / PRETRAINED_MODEL_DIR


def _is_whole(checkpoint: Path) -> bool:
    """Whether all of a checkpoint was written: the state of the schedule comes last (`L/common/train_utils.py`)."""
    try:
        json.loads((checkpoint / TRAINING_STATE_DIR / SCHEDULER_STATE).read_text())
    except (OSError, ValueError):
        return False
    return True


def run_state(output_dir: Path) -> RunState:
    """Whether a run has yet to start, can be resumed from a checkpoint, or is done."""
    checkpoint = last_checkpoint(output_dir)
    if not checkpoint.is_dir():
        return RunState.NEW
    step = json.loads((checkpoint.parent / TRAINING_STATE_DIR / TRAINING_STEP).read_text())["step"]
    steps = json.loads((checkpoint / "train_config.json").read_text())["steps"]
    return RunState.FINISHED if step >= steps else RunState.INTERRUPTED


def train(output_dir: Path, arguments: Sequence[str]) -> None:
    """``lerobot-train`` into ``output_dir``: skipped where that run is finished, resumed where it was interrupted.

    Raises:
        CommandError: The training failed, or the folder holds something else.
    """
    state = run_state(output_dir)
    if state is RunState.FINISHED:
        print(f"{output_dir}: already trained, skipped.", flush=True)
    elif state is RunState.INTERRUPTED:
        print(f"{output_dir}: interrupted before, resumed.", flush=True)
        config = last_checkpoint(output_dir) / "train_config.json"
        run_command("lerobot-train", [f"--config_path={config}", "--resume=true"])
    else:
        _clear(output_dir)
        run_command("lerobot-train", [*arguments, f"--output_dir={output_dir}"])


def _clear(output_dir: Path) -> None:
    """Remove what a run leaves that is cut off while it writes its first checkpoint; LeRobot would not start again."""
    if not output_dir.exists():
        return
    shutil.rmtree(output_dir / "checkpoints", ignore_errors=True)
    try:
        output_dir.rmdir()
    except OSError as error:
        raise CommandError(
            f"{output_dir} exists, but holds no checkpoint to go on from. Move it away, or choose another folder with "
            "--output_dir."
        ) from error
