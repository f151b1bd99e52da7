"""``lafp card``."""

from pathlib import Path
from typing import Annotated

import typer

#: Options of ``lerobot-eval`` that belong to ``--evaluation``.
HANDED_TO_EVAL = ("--env.", "--eval.", "--seed=")


def card(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the checkpoint.")],
    repo_id: Annotated[
        str | None,
        typer.Option("--repo_id", show_default="left open", help="Name of the checkpoint's repository on the Hub."),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option("--license", show_default="the checkpoint's", help="License of the weights, such as apache-2.0."),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--evaluation",
            show_default="none",
            help="Add the results in this output folder of lerobot-eval. Also give the options of that evaluation: "
            "--env.type=.. --seed=..",
        ),
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option("--probe", show_default="none", help="Add the lines in this output folder of lafp probe."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a card that somebody wrote.")] = False,
) -> None:
    """Write the model card of a checkpoint.

    The card is the README.md in the checkpoint's folder. It holds what the files of the checkpoint say, and omits what
    is not known. Afterwards you can share the checkpoint: hf upload REPO_ID CHECKPOINT
    """
    from ..checkpoint.card import write_card

    print(write_card(checkpoint, repo_id, license, evaluation, context.args, probe, overwrite))
