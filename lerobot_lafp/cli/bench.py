"""``lafp bench``."""

from typing import Annotated

import typer


def bench(
    checkpoint: Annotated[str, typer.Argument(help="Folder of the checkpoint, or its repository on the Hub.")],
    device: Annotated[
        str | None,
        typer.Option("--policy.device", show_default="the checkpoint's", help="Device to run the checkpoint on."),
    ] = None,
    calls: Annotated[int, typer.Option("--calls", min=10, help="Number of chunks to time.")] = 200,
) -> None:
    """Time a checkpoint on this machine, from frame to command.

    The command prints medians, and what one call in a hundred exceeds: for a whole chunk and its parts, and for single
    commands with the policy's processors. The observations are noise.
    """
    from ..diagnostics.bench import bench as measure

    print("\n".join(measure(checkpoint, device, calls).lines()))
