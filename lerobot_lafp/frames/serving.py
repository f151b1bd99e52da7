"""Which columns of a dataset a training reads, and the dataset that gives them; or LeRobot's loader, and why."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata

from ..configuration_lafp import LAFPConfig
from ..errors import UserError
from .building import fill
from .dataset import WIDE, StoredDataset, refuse_disorder
from .joined import JoinedDataset
from .sources import CannotStoreError, source_of
from .store import FrameStore

logger = logging.getLogger(__name__)

#: The metadata of what is trained on, which is all of it that LeRobot gives a policy -> all datasets of the training.
_MADE: WeakKeyDictionary[LeRobotDatasetMetadata, list[ref[StoredDataset]]] = WeakKeyDictionary()


def with_frame_store(
    dataset: LeRobotDataset, config: LAFPConfig, required: bool = False, unread: Collection[str] = ()
) -> LeRobotDataset:
    """``dataset`` with its batches from memory and from frame stores, which are built if they are not there yet.

    Args:
        dataset: Loaded, with the frames that the policy trains on.
        config: The policy's; ``frame_store`` says how much room there is.
        required: Raise an error where LeRobot's loader would have to do.
        unread: Columns that nothing reads, whatever the policy's options say.

    Returns:
        A ``StoredDataset``; or ``dataset`` itself where it cannot be one, and a line of the log says why.

    Raises:
        ValueError: The dataset is not whole; the message names the mend.
        UserError: No store can be made, and it is ``required``.
    """
    if config.frame_store_gb == 0 or not isinstance(dataset, LeRobotDataset):
        return dataset
    try:
        stored = _stored(dataset, config, unread)
    except CannotStoreError as error:
        if required:
            raise UserError(f"No frame store of {dataset.repo_id}: {error}.") from error
        logger.warning("LeRobot's loader reads %s: %s.", dataset.repo_id, error)
        return dataset
    return stored


def of_a_training(
    made: Sequence[LeRobotDataset | JoinedDataset | None], config: LAFPConfig
) -> tuple[LeRobotDataset | JoinedDataset | None, ...]:
    """What LeRobot made for a training, the dataset that is trained on first, each ``with_frame_store``."""
    found = tuple(_with_frame_stores(dataset, config) for dataset in made)
    stored = [dataset for dataset in found if isinstance(dataset, StoredDataset)]
    if stored and len(stored) == len([dataset for dataset in found if dataset is not None]):
        _MADE[stored[0].meta] = [ref(dataset) for dataset in stored]
    return found


def _with_frame_stores(
    dataset: LeRobotDataset | JoinedDataset | None, config: LAFPConfig
) -> LeRobotDataset | JoinedDataset | None:
    if dataset is None:
        return None
    if isinstance(dataset, JoinedDataset):
        video, labels = (
            with_frame_store(each, config, unread=dataset.unread(each)) for each in (dataset.video, dataset.labels)
        )
        return JoinedDataset(video, labels, dataset.fit, dataset.size)
    return with_frame_store(dataset, config)


def stored_datasets(meta: Any) -> list[StoredDataset]:
    """The datasets of the training whose first has this metadata; none where one of them has no store."""
    found = (each() for each in (_MADE.get(meta, ()) if isinstance(meta, LeRobotDatasetMetadata) else ()))
    return [dataset for dataset in found if dataset is not None]


def _stored(dataset: LeRobotDataset, config: LAFPConfig, left_out: Collection[str]) -> StoredDataset:
    if dataset.meta.has_language_columns:
        raise CannotStoreError("it has columns of language")
    refuse_disorder(dataset)
    read, unread = columns_on_disk(dataset.meta.features, config)
    read, unread = [key for key in read if key not in left_out], [*unread, *left_out]
    size = None if dataset.image_transforms is not None else config.resize_shape
    episodes = dataset.episodes if dataset.episodes is not None else range(dataset.meta.total_episodes)
    stores: dict[str, FrameStore] = {}
    for key in read:
        stores[key] = fill(source_of(dataset, key, size), list(episodes), config.frame_store_gb)
    return StoredDataset.of(dataset, stores, unread)


def columns_on_disk(features: Mapping[str, Mapping[str, Any]], config: LAFPConfig) -> tuple[list[str], list[str]]:
    """Cameras, and other columns of so many numbers that they are not kept in memory: those that the policy reads, and
    those that it does not.

    Args:
        features: Of the dataset.
        config: The policy's, before or after it took its observations from a dataset.
    """
    renamed = {} if config.context is None else config.context.rename_map
    known: Sequence[str] | None = config.facts.latent_features or config.observations
    read: list[str] = []
    unread: list[str] = []
    for key, feature in features.items():
        wide = 4 * np.prod(feature["shape"], dtype=np.int64) > WIDE and feature["dtype"] != "string"
        if feature["dtype"] in ("image", "video") or wide:
            (read if known is None or renamed.get(key, key) in known else unread).append(key)
    return read, unread
