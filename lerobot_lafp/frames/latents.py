"""Latents ahead of stages 2 and 3: inferred once a frame, in place of once for every sample that it is drawn for."""

import contextlib
import logging
import tempfile
from collections.abc import Sequence
from typing import IO, Any, cast

import numpy as np
from tqdm import tqdm

from ..model.distributed import process_index
from ..options.constants import LATENT_ACTION, LATENT_ACTION_IS_PAD, Stage
from .dataset import Column, InFile, StoredDataset
from .episode_labels import Labeller, label_episode
from .store import store_root

logger = logging.getLogger(__name__)

#: Frames that are encoded at a time.
AT_A_TIME = 64


def label_ahead(policy: Any, datasets: Sequence[StoredDataset]) -> None:
    """Give ``datasets`` the columns that ``lafp label`` would write, and have them load the present frames alone.

    Stages 2 and 3 learn from them what they would infer, to rounding. They lie in a file without a name, which is gone
    when the training ends.

    Args:
        policy: A ``LAFPPolicy`` about to be trained, with its weights.
        datasets: What it is trained and, while it trains, evaluated on.
    """
    config = policy.config
    later = config.only_stage in (Stage.LATENT_POLICY, Stage.ACTION_DECODER)
    if not later or not config.learns_from_latents or config.given_latents:
        return
    frames = sum(len(dataset) for dataset in datasets)
    drawn = 0 if config.context is None else config.context.samples
    if not frames or frames >= drawn * config.num_latents or not int(policy.stage_steps[0]):
        return
    if any(dataset.image_transforms is not None for dataset in datasets):
        return  # each sample's latents are of pictures that are changed at random
    mode = policy.training
    policy.eval()
    try:
        with tqdm(total=frames, desc="latents", unit="frame", disable=process_index() > 0) as bar:
            found = [infer_latents(cast(Labeller, policy), dataset, bar) for dataset in datasets]
    except OSError as error:
        logger.warning("Latents are inferred while training: %s (%s).", error.strerror, store_root())
        return
    finally:
        policy.train(mode)
    config.given_latents = True
    for dataset, columns in zip(datasets, found, strict=True):
        dataset.columns = {**dataset.columns, **columns}
        dataset.load_observations(config.observation_delta_indices)


def infer_latents(policy: Labeller, dataset: StoredDataset, bar: tqdm) -> dict[str, Column]:
    """The columns of a dataset, a row for each of its frames.

    Args:
        policy: With a trained stage 1, in evaluation mode.
        dataset: Whose frames are encoded.
        bar: Moved on by the frames that are done.

    Raises:
        OSError: The disk is full.
    """
    config = policy.config
    renamed = {} if config.context is None else config.context.rename_map
    read = {*config.camera_shapes, *config.vector_shapes}
    keys = [key for key in dataset.columns if renamed.get(key, key) in read]
    device = policy.normalizer.image_mean.device
    with _file() as latents, _file() as pads:
        for episode in dataset.episodes_there():
            blocks = (
                {renamed.get(key, key): x.to(device) for key, x in block.items()}
                for block in dataset.frames_of(episode, keys, AT_A_TIME)
            )
            z, beyond = label_episode(policy, blocks)
            latents.write(z.flatten(1).float().cpu().numpy().tobytes())
            pads.write(beyond.cpu().numpy().tobytes())
            bar.update(len(z))
        latents.flush()  # a map of what does not fit on the disk would end the process when it is written
        pads.flush()
        return {
            LATENT_ACTION: InFile(
                np.memmap(latents, np.float32, "r", shape=(len(dataset), config.num_latents * config.latent_dim))
            ),
            LATENT_ACTION_IS_PAD: InFile(np.memmap(pads, np.bool_, "r", shape=(len(dataset), config.num_latents))),
        }


def _file() -> IO[bytes]:
    """A file without a name, beside the stores where they can be written."""
    with contextlib.suppress(OSError):
        store_root().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=store_root())
    return tempfile.TemporaryFile()
