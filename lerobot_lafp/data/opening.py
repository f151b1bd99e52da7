"""A dataset opened for a checkpoint, with errors in words."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.datasets.utils import INFO_PATH

from ..configuration_lafp import LAFPConfig
from ..errors import in_one_line
from ..training.dataset_formats import refuse_other_format, why_unreadable
from .validation.soundness import CheckLevel, validate_dataset


def load_dataset(
    config: LAFPConfig,
    repo_id: str,
    root: str | Path | None,
    deltas: Callable[[LeRobotDatasetMetadata], Mapping[str, Any] | None],
) -> LeRobotDataset:
    """A LeRobotDataset with all that a checkpoint observes.

    Args:
        config: The checkpoint's.
        repo_id: The dataset's name.
        root: Its folder; unset: LeRobot's cache, or the Hub.
        deltas: Its metadata -> the frames of a sample, as LeRobot's ``delta_timestamps``.

    Raises:
        ValueError: The dataset cannot be read, has another format, or lacks an observation of the checkpoint.
    """
    refuse_other_format(root, repo_id)
    mend = "Correct --dataset.repo_id, or name the dataset's folder with --dataset.root."
    if root is not None and not (Path(root) / INFO_PATH).is_file():
        raise ValueError(f"{root} holds no LeRobotDataset (no {INFO_PATH}). {mend}")
    try:
        meta = LeRobotDatasetMetadata(repo_id, root=root)
        dataset = LeRobotDataset(repo_id, root=root, delta_timestamps=deltas(meta), return_uint8=True)
    except Exception as error:  # the Hub's client, LeRobot and datasets have no common base for what can go wrong
        if (problem := why_unreadable(error, repo_id)) is not None:
            raise ValueError(problem) from error
        faults = () if root is None else validate_dataset(Path(root), CheckLevel.FILES).faults
        why = " ".join(map(str, faults)) or f"{in_one_line(error)}."
        raise ValueError(f"Dataset {repo_id} cannot be read: {why} {mend}") from error
    for key in (*config.camera_shapes, *config.vector_shapes):
        if key not in meta.features:
            raise ValueError(
                f"Dataset {repo_id} has no `{key}`, which this checkpoint observes. It has "
                f"{sorted(k for k in meta.features if k.startswith('observation'))}."
            )
    config.match_names({key: meta.features[key] for key in config.vector_shapes})
    return dataset
