"""``lafp import-datasets``."""

from typing import Annotated

import typer

from .import_options import Camera, Fit, Fps, MaxSeconds, MinFrames, RepoId, Resume, Root, Size, Workers


def import_datasets(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders of LeRobot datasets, or names on the Hub. Name one of several cameras after a comma: "
            "me/pick,observation.images.front"
        ),
    ],
    root: Root,
    repo_id: RepoId = None,
    size: Size = "224",
    fps: Fps = 10,
    fit: Fit = "pad",
    camera: Camera = "observation.image",
    max_seconds: MaxSeconds = None,
    min_frames: MinFrames = 2,
    workers: Workers = None,
    resume: Resume = False,
) -> int:
    """Join datasets with different cameras and frame rates.

    LeRobot cannot merge datasets that differ in cameras, frame rate or robot. This command joins one camera of each
    into a dataset without actions, for stages latent_action and latent_policy. Tasks are kept. The column source names
    the dataset of each frame.

    The exit status is 1 if the import is incomplete.
    """
    from ..data.importing.imports import ImportOptions
    from ..data.importing.imports import import_datasets as run

    options = ImportOptions(root, repo_id, size, fps, fit, camera, max_seconds, min_frames, workers, resume)
    found = run(sources, options)
    print(found.summary)
    return 0 if found.is_whole else 1
