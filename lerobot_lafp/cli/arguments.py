"""What the ``lafp`` commands share: their arguments, and checkpoints opened with errors in words."""

import argparse
from typing import NoReturn

from ..errors import UserError


class CommandParser(argparse.ArgumentParser):
    """Arguments of ``lafp COMMAND``; errors in one line.

    Args:
        command: Its name.
        usage: What ``--help`` prints.
    """

    def __init__(self, command: str, usage: str) -> None:
        super().__init__(prog=f"lafp {command}", usage=usage, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} ({self.prog} --help says what there is)")
