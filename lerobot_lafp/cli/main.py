"""``lafp``: thin commands over LeRobot's own."""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from ..errors import UserError
from .arguments import handing_on
from .bench import bench
from .card import HANDED_TO_EVAL, card
from .check import HANDED_TO_THE_ROBOT, check
from .demo import demo
from .distill import distill
from .import_datasets import import_datasets
from .import_videos import import_videos
from .inspect import inspect
from .label import label
from .probe import probe
from .record_aloha import record_aloha
from .serve import serve
from .sim_arm import sim_arm
from .store import store
from .train import TrainCommand, train
from .view import view

_AGAIN = " The same command goes on where this one stopped."
_RESUME = " Go on with it: add --resume."
#: What the parser raises over a word that it does not take; of which package it is, depends on typer's version.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class Command(NamedTuple):
    """A command of ``lafp``.

    Attributes:
        name: What is typed.
        run: Its function; the docstring is its help, the returned number the exit status (None: 0).
        if_interrupted: Said after Ctrl-C.
        parser: Reads its command line.
    """

    name: str
    run: Callable[..., int | None]
    if_interrupted: str = ""
    parser: type[TyperCommand] = TyperCommand


COMMANDS = (
    Command("demo", demo, _AGAIN),
    Command("import-videos", import_videos, _RESUME),
    Command("import-datasets", import_datasets, _RESUME),
    Command("check", check, parser=handing_on(*HANDED_TO_THE_ROBOT)),
    Command("store", store, _AGAIN),
    Command("label", label, _AGAIN),
    Command("train", train, _AGAIN, TrainCommand),
    Command("distill", distill),
    Command("probe", probe),
    Command("bench", bench),
    Command("view", view),
    Command("inspect", inspect),
    Command("card", card, parser=handing_on(*HANDED_TO_EVAL)),
    Command("serve", serve),
    Command("record-aloha", record_aloha),
    Command("sim-arm", sim_arm),
)


class LafpParser(TyperGroup):
    """The parser of ``lafp``, up to the command's name."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        for each in params:  # --help, --install-completion, --show-completion
            if isinstance(each, TyperOption) and each.is_flag:
                each.default = False  # off, not unset: what is unset goes through pydantic, which is slow to import
        return params


app = typer.Typer(
    cls=LafpParser,
    epilog="Evaluation and robots are LeRobot's: lerobot-eval, lerobot-rollout.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text, and no import of rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def lafp() -> None:
    """LAFP, the Latent Action Flow Policy for LeRobot: data, training, diagnostics and checkpoints.

    lafp COMMAND --help explains a command.
    """


@app.command("help", hidden=True)
def show_help(context: typer.Context) -> None:
    """Show this help."""
    assert context.parent is not None
    print(context.parent.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names.

    Args:
        arguments: What follows ``lafp``. Unset: those of this process.

    Returns:
        The exit status: 0 if all went well, 1 after an error, 2 if the command line cannot be read, 130 after Ctrl-C.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _PARSER.main(words, "lafp", standalone_mode=False) or 0
    except _UsageError as error:
        print(_in_one_line(error) if words else error, file=sys.stderr)  # without words it is the help
        return 2


def _in_one_line(error: Any) -> str:
    command = "lafp" if error.ctx is None else error.ctx.command_path
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{command}: {message} ({command} --help lists what there is)"


def _with_errors_in_words(command: Command) -> Callable[..., int]:
    """Its function; an error that the user can mend becomes one line and a status."""

    @wraps(command.run)
    def run(*args: Any, **kwargs: Any) -> int:
        try:
            return command.run(*args, **kwargs) or 0
        except (UserError, ValueError, OSError) as error:
            print(f"lafp {command.name}: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"\nlafp {command.name}: interrupted.{command.if_interrupted}", file=sys.stderr)
            return 130

    return run


for _command in COMMANDS:
    app.command(_command.name, cls=_command.parser)(_with_errors_in_words(_command))
_PARSER = typer.main.get_command(app)
