"""``lafp probe``."""

from pathlib import Path
from typing import Annotated

import typer


def probe(
    checkpoint: Annotated[
        str, typer.Option("--policy.path", help="LAFP checkpoint. It needs stage latent_action only.")
    ],
    repo_id: Annotated[str, typer.Option("--dataset.repo_id", help="Name of the dataset.")],
    root: Annotated[
        Path | None,
        typer.Option("--dataset.root", show_default="LeRobot's cache, or the Hub", help="Folder of the dataset."),
    ] = None,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Save probe.json and probe.png here.")] = Path(
        "outputs/probe"
    ),
    modes: Annotated[
        Path | None,
        typer.Option(
            "--modes",
            show_default="clusters of latents",
            help='JSON list with the mode of every episode, such as ["left", "right", null, ..].',
        ),
    ] = None,
    max_frames: Annotated[int, typer.Option("--max_frames", help="Use at most this many frames.")] = 4000,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed for the choice of frames, the held-out episodes and the noise.")
    ] = 0,
) -> None:
    """Measure what a checkpoint's latent actions are worth.

    The command prints three lines: how well the latents predict the actions, whether the policy preserves the structure
    of the latents, and whether the latents describe motion or appearance. It saves the numbers and a figure.

    You can probe a checkpoint on another dataset than the one it was trained on. The dataset needs no actions.
    """
    from ..diagnostics.report import probe as measure

    print("\n".join(measure(checkpoint, repo_id, root, output_dir, modes, max_frames, seed).lines))
