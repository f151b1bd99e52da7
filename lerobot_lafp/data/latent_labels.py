"""``lafp label``: latent actions of a whole dataset as a column of a new one, so that stage 2 need not look at later
frames, nor, with the present ones as images, at video; or the features of a frozen ViT in the place of its cameras, so
that no stage need.

Consecutive episodes make a block, which one process labels and writes; what is written is not done again. When all
blocks are there, the dataset's tables are written anew, some rows at a time, and its media are linked.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Image
from datasets.table import table_cast
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata, aggregate_stats
from lerobot.datasets.compute_stats import DEFAULT_QUANTILES
from lerobot.datasets.feature_utils import get_hf_features_from_features
from lerobot.datasets.io_utils import write_info, write_stats
from lerobot.datasets.utils import EPISODES_DIR
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..checkpoint.fingerprints import FEATURES_RECORD, LABELS_RECORD, feature_fingerprint, labels_identity
from ..frames.dataset import StoredDataset
from ..frames.episode_labels import encode_episode, label_episode, png
from ..frames.serving import with_frame_store
from ..modeling_lafp import LAFPPolicy
from ..options.constants import LATENT_ACTION, LATENT_ACTION_IS_PAD
from .assembly import link
from .opening import load_dataset
from .policies import load_policy

#: Frames after which a block ends, with the episode they are in; and of how many that have images.
BLOCK_FRAMES, BLOCK_IMAGES = 5000, 500
#: How blocks hold their columns; those that another version left behind are begun anew.
LAYOUT = "flat"


@dataclass(frozen=True)
class Columns:
    """What is written, and how it is worked out.

    Attributes:
        features: Name of a column -> what LeRobot calls its feature, of one axis: LeRobot cannot edit a dataset with
            more. One that the dataset has already is replaced.
        measured: Those whose statistics are worked out.
        observed: What is loaded of the dataset.
        block_frames: Frames after which a block ends.
        of_episode: An episode's N frames in order, raw, so many at a time -> the columns, of N rows each.
        record: Whose labels they are, and of what.
        record_file: Where in the dataset that is kept.
    """

    features: dict[str, dict[str, Any]]
    measured: list[str]
    observed: list[str]
    block_frames: int
    of_episode: Callable[[Iterable[Mapping[str, Tensor]]], dict[str, pa.Array]]
    record: dict[str, Any]
    record_file: str


@dataclass(frozen=True)
class Block:
    """Consecutive episodes of a dataset.

    Attributes:
        number: Its place in the dataset.
        episodes: Each one's first frame, and one past its last.
    """

    number: int
    episodes: tuple[tuple[int, int], ...]

    @property
    def first(self) -> int:
        return self.episodes[0][0]

    @property
    def end(self) -> int:
        return self.episodes[-1][1]


def label_dataset(
    checkpoint: str | Path,
    repo_id: str,
    output_dir: Path,
    root: Path | None = None,
    device: str | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    features: bool = False,
    images: bool = False,
) -> None:
    """Write a dataset with latent labels or a ViT's features, in one process or, under ``torchrun``, in several.

    Args:
        checkpoint: What ``--policy.path`` takes.
        repo_id: The dataset's name.
        output_dir: The new dataset's folder.
        root: The dataset's folder; unset: LeRobot's cache, or the Hub.
        device: Of the policy; unset: as it was trained.
        batch_size: Frames encoded at a time; at least 2.
        num_workers: Processes that load them.
        features: Write the features of the policy's frozen ViT in the place of its cameras, and no latents.
        images: Write the cameras, too, as images in the place of video.

    Raises:
        UserError: ``checkpoint`` cannot be read.
        ValueError: The checkpoint has no latents, or no ViT, the dataset cannot be read, or the two do not fit; or
            ``images`` of a dataset without video; or ``output_dir`` lies within the dataset.
        FileExistsError: ``output_dir`` holds something else.
    """
    policy = load_policy(checkpoint, device).eval()
    prepare = _feature_columns if features else partial(_latent_columns, images=images)
    observed = _observed(policy, features)
    count = max(2, batch_size)
    dataset = load_dataset(policy.config, repo_id, root, lambda meta: _runs(observed, meta, count))
    if Path(dataset.meta.root).resolve() in output_dir.resolve().parents:
        raise ValueError(
            f"--output_dir={output_dir} lies within the dataset's own folder, {dataset.meta.root}, which is copied "
            "into it. Choose a folder outside of it."
        )
    if policy.config.resize_shape is None:  # else a store's frames are rounded, and what is written is kept
        dataset = with_frame_store(dataset, policy.config)
    columns = prepare(policy, dataset.meta, observed, str(checkpoint))
    if _is_labelled(output_dir, columns):
        print(f"{output_dir} is labelled by this checkpoint already.")
        return
    work = output_dir.with_name(output_dir.name + ".partial")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    _begin(work, columns.record, rank)
    blocks = _blocks(dataset.meta, columns.block_frames)
    own = [block for block in blocks[rank::world] if not _file_of(work, block).is_file()]
    device_of = policy.normalizer.image_mean.device
    with tqdm(total=sum(b.end - b.first for b in own), desc="label", unit="frame", disable=rank > 0) as bar:
        for block, found in zip(own, _labelled(columns, dataset, own, count, num_workers, device_of, bar), strict=True):
            _write_block(_file_of(work, block), found)
    if rank:
        return
    _wait_for([_file_of(work, block) for block in blocks])
    _write_dataset(dataset.meta, columns, blocks, work)
    if output_dir.exists():
        output_dir.rmdir()  # empty, or `_is_labelled` had refused it
    os.replace(work / "dataset", output_dir)
    shutil.rmtree(work)
    print(f"Labelled {dataset.meta.total_frames} frames of {repo_id}: {output_dir}")


# --- What is written ----------------------------------------------------------------------------------------------


def _observed(policy: LAFPPolicy, features: bool) -> list[str]:
    """What is loaded, of a checkpoint that can label; raises if it cannot."""
    config = policy.config
    if not features:
        _require_latents(policy)
        return [*config.camera_shapes, *config.vector_shapes]
    if policy.normalizer.vit is None:
        raise ValueError(
            "This checkpoint has no frozen ViT whose features could be written: it was trained with "
            f"backbone.encoder={config.backbone.encoder}. Leave --features out, or train with "
            "--policy.backbone.encoder=vit."
        )
    return list(config.camera_shapes)


def _latent_columns(
    policy: LAFPPolicy, meta: LeRobotDatasetMetadata, observed: list[str], checkpoint: str, images: bool
) -> Columns:
    config = policy.config
    videos = [key for key in config.camera_shapes if images and meta.features[key]["dtype"] == "video"]
    if images and not videos:
        raise ValueError(
            f"Dataset {meta.repo_id} has no video that this checkpoint observes: its cameras are images already. Leave "
            "--images out."
        )

    identity = labels_identity(policy.stages)

    def of_episode(blocks: Iterable[Mapping[str, Tensor]]) -> dict[str, pa.Array]:
        pictures: dict[str, list[dict[str, bytes]]] = {key: [] for key in videos}

        def seen() -> Iterator[Mapping[str, Tensor]]:
            for block in blocks:
                for key in videos:
                    pictures[key] += [{"bytes": png(image)} for image in block[key].cpu()]
                yield block

        latents, pad = label_episode(policy, seen())
        return {
            LATENT_ACTION: _flat(latents),
            LATENT_ACTION_IS_PAD: _flat(pad),
            **{key: pa.array(rows, Image().pa_type) for key, rows in pictures.items()},
        }

    return Columns(
        features={
            **{key: {**_without_info(meta.features[key]), "dtype": "image"} for key in videos},
            LATENT_ACTION: {
                "dtype": "float32",
                "shape": (config.num_latents * config.latent_dim,),
                "names": None,
                "info": identity,
            },
            LATENT_ACTION_IS_PAD: {"dtype": "bool", "shape": (config.num_latents,), "names": None},
        },
        measured=[LATENT_ACTION, LATENT_ACTION_IS_PAD],
        observed=observed,
        block_frames=BLOCK_IMAGES if images else BLOCK_FRAMES,
        of_episode=of_episode,
        record={**identity, "images": videos, **_source(meta, checkpoint)},
        record_file=LABELS_RECORD,
    )


def _feature_columns(policy: LAFPPolicy, meta: LeRobotDatasetMetadata, observed: list[str], checkpoint: str) -> Columns:
    vit = feature_fingerprint(policy.stages)
    normalizer = policy.normalizer

    def of_episode(blocks: Iterable[Mapping[str, Tensor]]) -> dict[str, pa.Array]:
        found = encode_episode(policy, blocks)
        return {key: _flat(found[key]) for key in normalizer.patch_shapes}

    return Columns(
        features={
            key: {
                "dtype": "float32",
                "shape": (patches * width,),
                "names": None,
                "info": {
                    "vit": vit,
                    "camera_shape": list(normalizer.camera_shapes[key]),
                    "patch_shape": [patches, width],
                },
            }
            for key, (patches, width) in normalizer.patch_shapes.items()
        },
        measured=[],  # under a camera's name LeRobot takes no other statistics than a camera's
        observed=observed,
        block_frames=BLOCK_FRAMES,
        of_episode=of_episode,
        record={"fingerprint": vit, **_source(meta, checkpoint)},
        record_file=FEATURES_RECORD,
    )


def _without_info(feature: Mapping[str, Any]) -> dict[str, Any]:
    """Without what LeRobot notes of a video's codec."""
    return {name: value for name, value in feature.items() if name != "info"}


def _source(meta: LeRobotDatasetMetadata, checkpoint: str) -> dict[str, Any]:
    return {"checkpoint": checkpoint, "dataset": meta.repo_id, "frames": meta.total_frames, "layout": LAYOUT}


def _require_latents(policy: LAFPPolicy) -> None:
    if policy.latent_action_model is None or not int(policy.stage_steps[0]):
        raise ValueError(
            "This checkpoint has no latents to label with: stage latent_action was never trained in it. Train it first "
            "(lerobot-train --policy.type=lafp --policy.stage=latent_action)."
        )


def _runs(observed: Sequence[str], meta: LeRobotDatasetMetadata, count: int) -> dict[str, list[float]]:
    """A sample is ``count`` frames in a row, so that a video is decoded forwards."""
    return {key: [i / meta.fps for i in range(count)] for key in observed if key in meta.features}


# --- Blocks -------------------------------------------------------------------------------------------------------


def _same(written: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether two records are of the same labels; a checkpoint may have moved."""
    names = ("fingerprint", "dataset", "frames")
    return all(written.get(name) == record[name] for name in names) and (
        written.get("images", []) == record.get("images", [])
    )


def _is_labelled(output_dir: Path, columns: Columns) -> bool:
    """Whether ``output_dir`` holds these labels already; raises if it holds anything else."""
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return False
    file = output_dir / columns.record_file
    if not file.is_file() or not _same(json.loads(file.read_text()), columns.record):
        raise FileExistsError(
            f"{output_dir} is not empty and holds something else than this dataset labelled by this checkpoint. Choose "
            "another --output_dir, or delete it."
        )
    return True


def _begin(work: Path, record: dict[str, Any], rank: int) -> None:
    """A folder for the blocks; one that holds those of another checkpoint or dataset is begun anew."""
    file = work / "record.json"

    def is_begun() -> bool:
        written = json.loads(file.read_text()) if file.is_file() else {}
        return _same(written, record) and written.get("layout") == record["layout"]

    if rank == 0 and not is_begun():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        _write_text(file, json.dumps(record))
    while not is_begun():
        time.sleep(0.2)  # the first process writes it


def _blocks(meta: LeRobotDatasetMetadata, count: int) -> list[Block]:
    spans = list(zip(meta.episodes["dataset_from_index"], meta.episodes["dataset_to_index"], strict=True))
    blocks: list[Block] = []
    taken: list[tuple[int, int]] = []
    for first, end in spans:
        taken.append((int(first), int(end)))
        if end - taken[0][0] >= count:
            blocks.append(Block(len(blocks), tuple(taken)))
            taken = []
    return [*blocks, Block(len(blocks), tuple(taken))] if taken else blocks


def _file_of(work: Path, block: Block) -> Path:
    return work / f"block-{block.number:06d}.parquet"


def _labelled(
    columns: Columns,
    dataset: LeRobotDataset,
    blocks: Sequence[Block],
    count: int,
    num_workers: int,
    device: torch.device,
    bar: tqdm,
) -> Iterator[pa.Table]:
    """Columns of each block."""
    if isinstance(dataset, StoredDataset):
        for block in blocks:
            yield pa.concat_tables(
                pa.table(columns.of_episode(_stored_frames(dataset, columns, first, count, device, bar)))
                for first, _ in block.episodes
            )
        return
    starts = [i for block in blocks for first, end in block.episodes for i in range(first, end, count)]
    loader = iter(DataLoader(Subset(dataset, starts), batch_size=None, num_workers=num_workers))

    def frames(first: int, end: int) -> Iterator[dict[str, Tensor]]:
        for start in range(first, end, count):
            sample, there = next(loader), min(count, end - start)
            yield {key: sample[key][:there].to(device) for key in columns.observed}
            bar.update(there)

    for block in blocks:
        yield pa.concat_tables(pa.table(columns.of_episode(frames(*span))) for span in block.episodes)


def _stored_frames(
    dataset: StoredDataset, columns: Columns, first: int, count: int, device: torch.device, bar: tqdm
) -> Iterator[dict[str, Tensor]]:
    """The frames of the episode that begins at frame ``first``, ``count`` at a time."""
    for block in dataset.frames_of(dataset.episode_at(first), columns.observed, count):
        yield {key: x.to(device) for key, x in block.items()}
        bar.update(len(next(iter(block.values()))))


def _wait_for(files: Sequence[Path]) -> None:
    """Until the other processes have written theirs; ``torchrun`` ends all if one of them fails."""
    if not all(file.is_file() for file in files):
        print("Waiting for the other processes.", flush=True)
    while not all(file.is_file() for file in files):
        time.sleep(1)


def _write_block(file: Path, columns: pa.Table) -> None:
    fresh = file.with_suffix(f".new{os.getpid()}")
    pq.write_table(columns, fresh)
    os.replace(fresh, file)


def _write_text(file: Path, text: str) -> None:
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(text + "\n")
    os.replace(fresh, file)


# --- The new dataset ----------------------------------------------------------------------------------------------


def _write_dataset(meta: LeRobotDatasetMetadata, columns: Columns, blocks: Sequence[Block], work: Path) -> None:
    target = work / "dataset"
    shutil.rmtree(target, ignore_errors=True)  # of an interrupted run
    shutil.copytree(meta.root, target, ignore=shutil.ignore_patterns("data", "videos", ".cache"))
    for folder in sorted(meta.root.glob("videos/*")):
        if folder.name not in columns.features:
            shutil.copytree(folder, target / "videos" / folder.name, copy_function=link)
    _write_statistics(meta, columns, blocks, work)
    meta.info.features = {**meta.info.features, **columns.features}
    write_info(meta.info, target)
    _write_text(target / columns.record_file, json.dumps(columns.record, indent=1))
    schema = get_hf_features_from_features(meta.info.features).arrow_schema
    labels = _Labels(blocks, work)
    for file in tqdm(sorted(meta.root.glob("data/*/*.parquet")), desc="tables", unit="file"):
        fresh = target / file.relative_to(meta.root)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(fresh, schema, compression="snappy", use_dictionary=True) as writer:
            for rows in pq.ParquetFile(file).iter_batches(columns.block_frames):
                writer.write_table(table_cast(labels.added_to(pa.Table.from_batches([rows])), schema))


def _write_statistics(meta: LeRobotDatasetMetadata, columns: Columns, blocks: Sequence[Block], work: Path) -> None:
    """Statistics of the columns, the dataset's and each episode's, in the place of what they replace."""
    replaced = {key for key, feature in columns.features.items() if feature["dtype"] != "image"}
    labels = _Labels(blocks, work, columns.measured)
    whole: dict[str, Any] = {}
    for file in sorted((meta.root / EPISODES_DIR).glob("*/*.parquet")):
        table = pq.read_table(file).replace_schema_metadata()  # which may list columns that are not there any more
        table = table.drop_columns([name for name in table.column_names if _feature_of(name) in replaced])
        if columns.measured and len(table):
            spans = zip(table["dataset_from_index"].to_pylist(), table["dataset_to_index"].to_pylist(), strict=True)
            found = [_statistics(labels.of(np.arange(*span)), columns.measured) for span in spans]
            for name, kinds in found[0].items():
                for kind in kinds:
                    values = pa.array([episode[name][kind].tolist() for episode in found])
                    table = table.append_column(f"stats/{name}/{kind}", values)
            whole = aggregate_stats([whole, *found] if whole else found)
        pq.write_table(table, work / "dataset" / file.relative_to(meta.root))
    if meta.stats is not None:
        write_stats({**{k: v for k, v in meta.stats.items() if k not in replaced}, **whole}, work / "dataset")


def _feature_of(column: str) -> str | None:
    """The feature whose statistic a column of the episodes' table is: ``stats/FEATURE/KIND``."""
    name, _, kind = column.removeprefix("stats/").rpartition("/")
    return name if kind and column.startswith("stats/") else None


def _statistics(rows: pa.Table, names: Sequence[str]) -> dict[str, dict[str, NDArray[Any]]]:
    """Of an episode's ``rows`` what LeRobot keeps of each of the columns ``names``."""
    found = {}
    for name in names:
        values = rows[name].combine_chunks()
        values = values.flatten() if pa.types.is_nested(values.type) else values
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(rows), -1)
        quantiles = np.quantile(numbers, DEFAULT_QUANTILES, axis=0)
        found[name] = {
            "min": numbers.min(axis=0),
            "max": numbers.max(axis=0),
            "mean": numbers.mean(axis=0),
            "std": numbers.std(axis=0),
            "count": np.array([len(rows)]),
            **{f"q{int(100 * q):02d}": values for q, values in zip(DEFAULT_QUANTILES, quantiles, strict=True)},
        }
    return found


def _flat(rows: Tensor) -> pa.Array:
    """``rows`` (N, ..) as N lists of numbers; as N numbers if each is one, which LeRobot keeps without a list."""
    numbers, width = pa.array(rows.reshape(-1).cpu().numpy()), rows[0].numel()
    if width == 1:
        return numbers
    return pa.ListArray.from_arrays(pa.array(range(0, len(numbers) + 1, width), pa.int32()), numbers)


class _Labels:
    """Columns by frame, all or those ``names``, of which one block is in memory at a time."""

    def __init__(self, blocks: Sequence[Block], work: Path, names: list[str] | None = None) -> None:
        self.blocks = blocks
        self.work = work
        self.names = names
        self.open: tuple[Block, pa.Table] | None = None

    def added_to(self, table: pa.Table) -> pa.Table:
        """``table`` with the columns, in the place of any it had."""
        found = self.of(table["index"].to_numpy())
        for name, column in zip(found.column_names, found.columns, strict=True):
            if name in table.column_names:
                table = table.drop_columns(name)
            table = table.append_column(name, column)
        return table

    def of(self, index: NDArray[np.int64]) -> pa.Table:
        """The columns of the frames ``index``."""
        parts: list[pa.Table] = []
        while (done := sum(map(len, parts))) < len(index):
            block, found = self._block_of(int(index[done]))
            inside = (block.first <= index[done:]) & (index[done:] < block.end)
            count = int(np.argmin(inside)) or len(inside)  # the first is inside
            parts.append(found.take(index[done : done + count] - block.first))
        return pa.concat_tables(parts)

    def _block_of(self, index: int) -> tuple[Block, pa.Table]:
        if self.open is None or not self.open[0].first <= index < self.open[0].end:
            block = next(b for b in self.blocks if b.first <= index < b.end)
            self.open = block, pq.read_table(_file_of(self.work, block), columns=self.names)
        return self.open
