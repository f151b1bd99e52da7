"""``lafp record-aloha``."""

from pathlib import Path
from typing import Annotated

import typer


def record_aloha(
    root: Annotated[Path | None, typer.Option("--root", show_default="none", help="Folder of the new dataset.")] = None,
    repo_id: Annotated[
        str | None,
        typer.Option("--repo_id", show_default="local/ and the folder's name", help="Name of the new dataset."),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option("--episodes", show_default="50, or 30 with --evaluate", help="Number of episodes."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", help="Seed of the first episode; later ones count up. lerobot-eval should use others."),
    ] = 0,
    size: Annotated[str, typer.Option("--size", help="Size of the frames, HEIGHTxWIDTH.")] = "480x640",
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Render small frames without shadows: ten times faster, unlike an evaluation."),
    ] = False,
    video_only: Annotated[
        bool, typer.Option("--video_only", help="Record the camera only, without states and actions.")
    ] = False,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Record nothing. Only count how often the expert succeeds.")
    ] = False,
) -> None:
    """Record demonstrations of gym-aloha's cube transfer.

    A scripted expert hands over the cube of AlohaTransferCube-v0. Cube positions and wrist angles differ in every
    episode. The dataset has the camera observation.images.top, states and actions. Train on it as on any other dataset;
    lerobot-eval --env.type=aloha --env.task=AlohaTransferCube-v0 evaluates the policy.

    Give either --root or --evaluate. On a machine without a screen, MuJoCo renders through EGL (MUJOCO_GL=egl is the
    default).
    """
    from ..errors import UserError

    if (root is None) != evaluate:
        raise UserError("either --root=FOLDER or --evaluate is needed (lafp record-aloha --help)")
    from ..simulators.aloha.recording import evaluate_expert, record

    if root is None:
        done = evaluate_expert(episodes, seed)
    else:
        done = record(root, repo_id, episodes, seed, size, plain, video_only)
    print(f"The expert handed over the cube in {len(done.succeeded)} of {len(done.tried)} episodes.")
