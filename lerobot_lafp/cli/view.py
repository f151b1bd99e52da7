"""``lafp view``."""

from pathlib import Path
from typing import Annotated

import typer


def view(
    checkpoint: Annotated[str, typer.Option("--policy.path", help="LAFP checkpoint, of any stage.")],
    repo_id: Annotated[str, typer.Option("--dataset.repo_id", help="Name of the dataset.")],
    root: Annotated[
        Path | None,
        typer.Option("--dataset.root", show_default="LeRobot's cache, or the Hub", help="Folder of the dataset."),
    ] = None,
    episode: Annotated[int, typer.Option("--episode", help="Episode of the dataset to show.")] = 0,
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Save the recording (.rrd) and the video (.mp4) here.")
    ] = Path("outputs/view"),
    samples: Annotated[
        int, typer.Option("--samples", help="Number of chunks to sample each time the policy plans.")
    ] = 16,
    seed: Annotated[int, typer.Option("--seed", help="Seed for the policy's noise.")] = 0,
    device: Annotated[
        str | None,
        typer.Option("--policy.device", show_default="the checkpoint's", help="Device to run the checkpoint on."),
    ] = None,
) -> None:
    """Show what a policy samples along one recorded episode.

    Use it when the loss is low and the success rate is zero. The command writes a recording for rerun and a video. They
    show the cameras, the recorded actions, and the chunks that the policy samples from every frame at which it would
    plan; the latents of the inverse model and of the policy; and the moments where the samples split into two modes.
    The command also prints how far the samples are from the recorded actions.

    The dataset needs no actions. A checkpoint without a trained decoder shows latents only.

    \b
        lafp view --policy.path=CHECKPOINT --dataset.repo_id=me/pick --episode=3
        rerun outputs/view/me_pick_episode_3.rrd
    """
    from ..diagnostics.view import view as show

    print("\n".join(show(checkpoint, repo_id, root, episode, output_dir, samples, seed, device)))
