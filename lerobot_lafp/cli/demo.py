"""``lafp demo``."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[Path, typer.Argument(help="Configurations of the trainings.")] = Path("configs/two_way"),
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Save demonstrations, trainings and results here.")
    ] = Path("outputs/two_way"),
    episodes: Annotated[int, typer.Option("--episodes", help="Evaluate each method on this many episodes.")] = 100,
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="Train for two steps only. This tests the pipeline; the results mean nothing."),
    ] = False,
) -> None:
    """Compare LAFP with behaviour cloning on a small task.

    In the task a point reaches a goal and passes an obstacle on the left or on the right. The demo writes
    demonstrations, trains LAFP and the methods it is compared with, evaluates all of them on the same episodes, and
    prints one table. Numbers, a figure and a video are saved in the output folder.

    Run the same command again to continue after an interruption.
    """
    from ..runs.demo import run_demo

    run_demo(folder, output_dir, episodes, smoke)
