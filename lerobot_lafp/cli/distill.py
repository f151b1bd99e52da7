"""``lafp distill``."""

from pathlib import Path
from typing import Annotated

import typer

from ..options.constants import STUDENT_STEPS


def distill(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the checkpoint.")],
    repo_id: Annotated[
        str | None,
        typer.Option("--dataset.repo_id", show_default="the one it was trained on", help="Name of a dataset."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option("--dataset.root", show_default="likewise, LeRobot's cache, or the Hub", help="Its folder."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps.")] = STUDENT_STEPS,
    seed: Annotated[int, typer.Option("--seed", help="Seed for the choice of frames and the noise.")] = 0,
) -> None:
    """Let a checkpoint act in one call of its network, not ten.

    A student of the flow learns where its ten steps end, from observations and no labels, and acts in its place. The
    checkpoint is changed where it lies. The flow stays in it: --policy.num_flow_steps=10 takes its steps as before.
    Evaluate both before you rely on the student; docs/one_call.md says where it is level and where it is not.
    """
    from ..runs.distilling import distill_checkpoint

    error = distill_checkpoint(checkpoint, repo_id, root, steps, seed)
    print(f"{checkpoint} acts in one call, off its ten steps by {error:.2%} of the latents' variance.")
