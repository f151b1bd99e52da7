"""What the ``lafp`` commands share: their arguments, and checkpoints opened with errors in words."""

import argparse
import contextlib
import io
from pathlib import Path
from typing import NoReturn

from .configuration_lafp import LAFPConfig
from .messages import in_one_line
from .modeling_lafp import LAFPPolicy
from .runs import CommandError


class CommandParser(argparse.ArgumentParser):
    """Arguments of ``lafp COMMAND``; errors in one line.

    Args:
        command: Its name.
        usage: What ``--help`` prints.
    """

    def __init__(self, command: str, usage: str) -> None:
        super().__init__(prog=f"lafp {command}", usage=usage, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} ({self.prog} --help says what there is)")


_MEND = "Name a folder that holds config.json and model.safetensors (a run's .../pretrained_model), or a Hub name."


def refuse_missing(checkpoint: str | Path) -> None:
    """Refuse a path where no checkpoint lies, and what cannot be the name of a repository.

    Raises:
        CommandError: It is one of these.
    """
    path = Path(checkpoint)
    if path.exists() and not (path / "config.json").is_file():
        raise CommandError(f"{checkpoint} holds no checkpoint. {_MEND}")
    if not path.exists() and (path.is_absolute() or len(path.parts) != 2):
        raise CommandError(f"{checkpoint} does not exist. {_MEND}")


def load_policy(checkpoint: str | Path, device: str | None = None) -> LAFPPolicy:
    """The policy that ``--policy.path=checkpoint`` names: a folder, or a Hub repository.

    Args:
        checkpoint: What the option takes.
        device: Where it is put. Unset: where it was trained, if that is there.

    Raises:
        CommandError: There is no LAFP checkpoint.
    """
    refuse_missing(checkpoint)
    try:
        config = LAFPConfig.from_pretrained(checkpoint)
        if not isinstance(config, LAFPConfig):
            raise CommandError(f"{checkpoint} is no LAFP checkpoint, but one of policy type {config.type}.")
        if device is not None:
            config.device = device
        with contextlib.redirect_stdout(io.StringIO()):  # LeRobot prints where the weights are from
            return LAFPPolicy.from_pretrained(checkpoint, config=config)
    except OSError as error:
        raise CommandError(f"{checkpoint} cannot be read ({in_one_line(error)}). {_MEND}") from error
