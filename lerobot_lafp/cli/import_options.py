"""Options that ``lafp import-videos`` and ``lafp import-datasets`` have in common."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Root = Annotated[Path, typer.Option("--root", help="Folder of the new dataset.")]
RepoId = Annotated[
    str | None,
    typer.Option("--repo_id", show_default="local/ and the folder's name", help="Name of the new dataset."),
]
Size = Annotated[str, typer.Option("--size", help="Resize frames to this many pixels per side, or to HEIGHTxWIDTH.")]
Fps = Annotated[int, typer.Option("--fps", help="Take this many frames per second.")]
Fit = Annotated[
    Literal["pad", "crop"],
    typer.Option("--fit", help="Keep the aspect ratio by black borders (pad) or by cutting the longer side (crop)."),
]
Camera = Annotated[str, typer.Option("--camera", help="Name of the camera in the new dataset.")]
MaxSeconds = Annotated[
    float | None, typer.Option("--max_seconds", show_default="no limit", help="Split episodes that are longer.")
]
MinFrames = Annotated[int, typer.Option("--min_frames", help="Leave out episodes with fewer frames.")]
Workers = Annotated[
    int | None, typer.Option("--workers", show_default="one per core", help="Number of processes that do the work.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an import that was interrupted.")]
