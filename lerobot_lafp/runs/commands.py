"""LeRobot's own commands, run one after the other.

Each command is a process of its own. Where the platform allows, they are forked from a server that has imported
LeRobot already, which takes a while.
"""

import importlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError

#: Command -> the module whose ``main`` it calls.
_COMMANDS = {
    "lerobot-train": "lerobot.scripts.lerobot_train",
    "lerobot-eval": "lerobot.scripts.lerobot_eval",
    "lerobot-rollout": "lerobot.scripts.lerobot_rollout",
    "lerobot-edit-dataset": "lerobot.scripts.lerobot_edit_dataset",
}


def run_command(command: str, arguments: Sequence[str], log: Path | None = None) -> None:
    """Run one of LeRobot's commands in a child process.

    Args:
        command: Its name, as in ``lerobot-train``.
        arguments: What follows the name on the command line.
        log: File that its output is appended to. Unset: the terminal, progress bars included.

    Raises:
        UserError: It failed.
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
        raise UserError(f"{command} failed with status {child.exitcode}: {where}.")


def _call_main(command: str, arguments: list[str], log: Path | None) -> None:
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, sys.stdout.fileno())
        os.dup2(file, sys.stderr.fileno())
    from ..lerobot_patches import refuse_old_options_of_the_command_line

    sys.argv = [command, *arguments]
    refuse_old_options_of_the_command_line()  # the server has imported the plugin, before there was a command line
    importlib.import_module(_COMMANDS[command]).main()


def evaluate(
    checkpoint: Path, output_dir: Path, num_episodes: int, seed: int, environment: Sequence[str], together: int = 50
) -> None:
    """``lerobot-eval`` of ``checkpoint`` on the episodes of ``seed`` onwards, in one process.

    Args:
        checkpoint: What ``--policy.path`` takes.
        output_dir: Gets ``eval_info.json`` and videos.
        num_episodes: How many.
        seed: Of the first episode.
        environment: The ``--env.*`` options.
        together: Environments that are stepped together until the last of them is done.

    Raises:
        UserError: It failed.
    """
    run_command(
        "lerobot-eval",
        [
            f"--policy.path={checkpoint}",
            *environment,
            f"--eval.n_episodes={num_episodes}",
            f"--eval.batch_size={min(num_episodes, together)}",
            "--eval.use_async_envs=false",  # LeRobot's asynchronous environments do not know plain gym.make ones
            f"--seed={seed}",
            f"--output_dir={output_dir}",
        ],
    )
