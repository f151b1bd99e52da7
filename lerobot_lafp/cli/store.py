"""``lafp store``."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def store(
    action: Annotated[
        Literal["list", "build", "remove"], typer.Argument(help="What to do with the frame stores.")
    ] = "list",
    repo_id: Annotated[
        str | None,
        typer.Option(
            "--dataset.repo_id", show_default="all, where stores are listed", help="Name of the dataset of a store."
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option("--dataset.root", show_default="LeRobot's cache, or the Hub", help="Folder of the dataset."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--policy.path",
            show_default="all cameras, as they are",
            help="Build what this LAFP checkpoint reads: its cameras, at its resize_shape.",
        ),
    ] = None,
    resize_shape: Annotated[
        str | None,
        typer.Option(
            "--policy.resize_shape", show_default="as they are", help="Build cameras of this size, such as [96,128]."
        ),
    ] = None,
    room: Annotated[
        str,
        typer.Option("--policy.frame_store", help="GB that all stores may take. auto: a fifth of what is free."),
    ] = "auto",
    every: Annotated[bool, typer.Option("--all", help="With remove: the stores of all datasets.")] = False,
) -> None:
    """List, build or remove frame stores.

    A frame store holds the cameras of a dataset, decoded, at the size that the policy sees. Training makes it the
    first time it reads a dataset, and reads it from then on. It can be removed at any time: the next training makes it
    again. Stores lie in $HF_LEROBOT_HOME/frame_store.

    \b
        lafp store
        lafp store build --dataset.repo_id=me/pick --policy.resize_shape=[96,128]
        lafp store remove --dataset.repo_id=me/pick
    """
    from ..data import frame_stores

    if action == "build":
        print("\n".join(frame_stores.build(repo_id, root, checkpoint, resize_shape, room)))
    elif action == "remove":
        print("\n".join(frame_stores.remove(repo_id, root, every)))
    else:
        print("\n".join(frame_stores.overview(repo_id, root)))
