"""``lafp label``: latent actions of a whole dataset as a column of a new one, so that stage 2 need not look at video;
or the features of a frozen ViT in the place of its cameras, so that no stage need.

Consecutive episodes make a block, which one process labels and writes; what is written is not done again. When all
blocks are there, the dataset's tables are written anew, row group by row group, and its media are linked.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets.table import table_cast
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.datasets.feature_utils import get_hf_features_from_features
from lerobot.datasets.io_utils import write_info
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..checkpoint.fingerprints import FEATURES_RECORD, LABELS_RECORD, feature_fingerprint, latent_fingerprint
from ..command_line import CommandParser, load_policy
from ..configuration_lafp import LATENT_ACTION, LATENT_ACTION_IS_PAD
from ..modeling_lafp import LAFPPolicy
from .assembly import link
from .labels import encode_episode, label_episode
from .opening import load_dataset

USAGE = """lafp label --policy.path=CHECKPOINT --dataset.repo_id=NAME [--dataset.root=FOLDER] --output_dir=DIR
           [--features] [--policy.device=DEVICE] [--batch_size=N] [--num_workers=N]

Writes the dataset anew into DIR with a column latent_action: for every frame the latents (L, Dz) of the chunk that
begins there, as stage latent_policy would infer them from video again and again. The checkpoint must have been through
stage latent_action. Tables are rewritten; videos are linked, or copied where that cannot be. N frames (default: 64) are
encoded at a time, loaded by so many workers (default: 0, this process). The same command goes on where an interrupted
one stopped. Several processes share the work:

    torchrun --nproc_per_node=4 -m lerobot_lafp.cli label ..

Then train on it, of every sample loading no frame but the present ones:

    lerobot-train --policy.path=CHECKPOINT --policy.stage=latent_policy --policy.latent_labels=true \\
        --dataset.repo_id=NAME --dataset.root=DIR ..

--features, for a checkpoint with a frozen ViT (vision_encoder=vit), trained or not: in place of each camera that it
observes DIR has its patch tokens, as the policy averages them, and no video. Every stage of that policy trains on it.
"""

#: Frames after which a block ends, with the episode they are in.
BLOCK_FRAMES = 5000


@dataclass(frozen=True)
class Columns:
    """What is written, and how it is worked out.

    Attributes:
        features: Name of a column -> what LeRobot calls its feature. One that the dataset has already is replaced.
        observed: What is loaded of the dataset.
        of_episode: An episode's frames in order, raw, so many at a time -> the columns, (N, ..) each.
        record: Whose labels they are, and of what.
        record_file: Where in the dataset that is kept.
    """

    features: dict[str, dict[str, Any]]
    observed: list[str]
    of_episode: Callable[[Iterable[Mapping[str, Tensor]]], dict[str, Tensor]]
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


def run_label(arguments: Sequence[str]) -> None:
    """Run ``lafp label`` as ``USAGE`` says.

    Raises:
        CommandError: An argument is missing or does not fit.
        ValueError, FileExistsError: See ``label_dataset``.
    """
    parser = CommandParser("label", USAGE)
    parser.add_argument("--policy.path", dest="checkpoint", required=True)
    parser.add_argument("--policy.device", dest="device")
    parser.add_argument("--dataset.repo_id", dest="repo_id", required=True)
    parser.add_argument("--dataset.root", dest="root", type=Path)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--features", action="store_true")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--num_workers", type=int, default=0)
    label_dataset(**vars(parser.parse_args(arguments)))


def label_dataset(
    checkpoint: str | Path,
    repo_id: str,
    output_dir: Path,
    root: Path | None = None,
    device: str | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    features: bool = False,
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

    Raises:
        CommandError: ``checkpoint`` cannot be read.
        ValueError: The checkpoint has no latents, or no ViT, the dataset cannot be read, or the two do not fit.
        FileExistsError: ``output_dir`` holds something else.
    """
    policy = load_policy(checkpoint, device).eval()
    prepare = _feature_columns if features else _latent_columns
    observed = _observed(policy, features)
    count = max(2, batch_size)
    dataset = load_dataset(policy.config, repo_id, root, lambda meta: _runs(observed, meta, count))
    columns = prepare(policy, dataset.meta, observed, str(checkpoint))
    if _is_labelled(output_dir, columns):
        print(f"{output_dir} is labelled by this checkpoint already.")
        return
    partial = output_dir.with_name(output_dir.name + ".partial")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    _begin(partial, columns.record, rank)
    blocks = _blocks(dataset.meta)
    own = [block for block in blocks[rank::world] if not _file_of(partial, block).is_file()]
    device_of = policy.normalizer.image_mean.device
    with tqdm(total=sum(b.end - b.first for b in own), desc="label", unit="frame", disable=rank > 0) as bar:
        for block, found in zip(own, _labelled(columns, dataset, own, count, num_workers, device_of, bar), strict=True):
            _write_block(_file_of(partial, block), found)
    if rank:
        return
    _wait_for([_file_of(partial, block) for block in blocks])
    _write_dataset(dataset.meta, columns, blocks, partial)
    if output_dir.exists():
        output_dir.rmdir()  # empty, or `_is_labelled` had refused it
    os.replace(partial / "dataset", output_dir)
    shutil.rmtree(partial)
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
            f"vision_encoder={config.vision_encoder}. Leave --features out, or train with --policy.vision_encoder=vit."
        )
    return list(config.camera_shapes)


def _latent_columns(policy: LAFPPolicy, meta: LeRobotDatasetMetadata, observed: list[str], checkpoint: str) -> Columns:
    config = policy.config
    chunk = (config.num_latents, config.latent_dim)

    def of_episode(blocks: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        latents, pad = label_episode(policy, blocks)
        return {LATENT_ACTION: latents, LATENT_ACTION_IS_PAD: pad}

    return Columns(
        features={
            LATENT_ACTION: {"dtype": "float32", "shape": chunk, "names": None},
            LATENT_ACTION_IS_PAD: {"dtype": "bool", "shape": chunk[:1], "names": None},
        },
        observed=observed,
        of_episode=of_episode,
        record={
            "fingerprint": latent_fingerprint(policy),
            "num_latents": config.num_latents,
            "latent_dim": config.latent_dim,
            "frame_offset": config.frame_offset,
            **_source(meta, checkpoint),
        },
        record_file=LABELS_RECORD,
    )


def _feature_columns(policy: LAFPPolicy, meta: LeRobotDatasetMetadata, observed: list[str], checkpoint: str) -> Columns:
    vit = feature_fingerprint(policy)
    normalizer = policy.normalizer
    return Columns(
        features={
            key: {
                "dtype": "float32",
                "shape": shape,
                "names": ["patch", "feature"],
                "info": {"vit": vit, "camera_shape": list(normalizer.camera_shapes[key])},
            }
            for key, shape in normalizer.patch_shapes.items()
        },
        observed=observed,
        of_episode=lambda blocks: encode_episode(policy, blocks),
        record={"fingerprint": vit, **_source(meta, checkpoint)},
        record_file=FEATURES_RECORD,
    )


def _source(meta: LeRobotDatasetMetadata, checkpoint: str) -> dict[str, Any]:
    return {"checkpoint": checkpoint, "dataset": meta.repo_id, "frames": meta.total_frames}


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
    return all(written.get(name) == record[name] for name in ("fingerprint", "dataset", "frames"))


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


def _begin(partial: Path, record: dict[str, Any], rank: int) -> None:
    """A folder for the blocks; one that holds those of another checkpoint or dataset is begun anew."""
    file = partial / "record.json"
    if rank == 0 and not (file.is_file() and _same(json.loads(file.read_text()), record)):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_text(file, json.dumps(record))
    while not (file.is_file() and _same(json.loads(file.read_text()), record)):
        time.sleep(0.2)  # the first process writes it


def _blocks(meta: LeRobotDatasetMetadata) -> list[Block]:
    spans = list(zip(meta.episodes["dataset_from_index"], meta.episodes["dataset_to_index"], strict=True))
    blocks: list[Block] = []
    taken: list[tuple[int, int]] = []
    for first, end in spans:
        taken.append((int(first), int(end)))
        if end - taken[0][0] >= BLOCK_FRAMES:
            blocks.append(Block(len(blocks), tuple(taken)))
            taken = []
    return [*blocks, Block(len(blocks), tuple(taken))] if taken else blocks


def _file_of(partial: Path, block: Block) -> Path:
    return partial / f"block-{block.number:06d}.safetensors"


def _labelled(
    columns: Columns,
    dataset: LeRobotDataset,
    blocks: Sequence[Block],
    count: int,
    num_workers: int,
    device: torch.device,
    bar: tqdm,
) -> Iterator[dict[str, Tensor]]:
    """Columns of each block, (N, ..)."""
    starts = [i for block in blocks for first, end in block.episodes for i in range(first, end, count)]
    loader = iter(DataLoader(Subset(dataset, starts), batch_size=None, num_workers=num_workers))

    def frames(first: int, end: int) -> Iterator[dict[str, Tensor]]:
        for start in range(first, end, count):
            sample, there = next(loader), min(count, end - start)
            yield {key: sample[key][:there].to(device) for key in columns.observed}
            bar.update(there)

    for block in blocks:
        parts = [columns.of_episode(frames(*span)) for span in block.episodes]
        yield {name: torch.cat([part[name] for part in parts]).cpu() for name in columns.features}


def _wait_for(files: Sequence[Path]) -> None:
    """Until the other processes have written theirs; ``torchrun`` ends all if one of them fails."""
    if not all(file.is_file() for file in files):
        print("Waiting for the other processes.", flush=True)
    while not all(file.is_file() for file in files):
        time.sleep(1)


def _write_block(file: Path, columns: dict[str, Tensor]) -> None:
    fresh = file.with_suffix(f".new{os.getpid()}")
    save_file(columns, fresh)
    os.replace(fresh, file)


def _write_text(file: Path, text: str) -> None:
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(text + "\n")
    os.replace(fresh, file)


# --- The new dataset ----------------------------------------------------------------------------------------------


def _write_dataset(meta: LeRobotDatasetMetadata, columns: Columns, blocks: Sequence[Block], partial: Path) -> None:
    target = partial / "dataset"
    shutil.rmtree(target, ignore_errors=True)  # of an interrupted run
    shutil.copytree(meta.root, target, ignore=shutil.ignore_patterns("data", "videos", ".cache"))
    for folder in sorted(meta.root.glob("videos/*")):
        if folder.name not in columns.features:
            shutil.copytree(folder, target / "videos" / folder.name, copy_function=link)
    _leave_out_statistics(target / "meta" / "stats.json", set(columns.features))
    meta.info.features = {**meta.info.features, **columns.features}
    write_info(meta.info, target)
    _write_text(target / columns.record_file, json.dumps(columns.record, indent=1))
    schema = get_hf_features_from_features(meta.info.features).arrow_schema
    labels = _Labels(list(columns.features), blocks, partial)
    for file in tqdm(sorted(meta.root.glob("data/*/*.parquet")), desc="tables", unit="file"):
        fresh = target / file.relative_to(meta.root)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        old = pq.ParquetFile(file)
        with pq.ParquetWriter(fresh, schema, compression="snappy", use_dictionary=True) as writer:
            for group in range(old.num_row_groups):
                writer.write_table(table_cast(labels.added_to(old.read_row_group(group)), schema))


def _leave_out_statistics(file: Path, names: set[str]) -> None:
    """Statistics of what is replaced are those of something else."""
    if file.is_file():
        _write_text(
            file, json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k not in names}, indent=4)
        )


def _nested(rows: Tensor) -> pa.Array:
    """``rows`` (N, ..) as N nested lists."""
    array = pa.array(rows.reshape(-1).numpy())
    for length in reversed(rows.shape[1:]):
        array = pa.ListArray.from_arrays(pa.array(range(0, len(array) + 1, length), pa.int32()), array)
    return array


class _Labels:
    """Columns by frame, of which one block is in memory at a time."""

    def __init__(self, names: Sequence[str], blocks: Sequence[Block], partial: Path) -> None:
        self.names = names
        self.blocks = blocks
        self.partial = partial
        self.open: tuple[Block, dict[str, Tensor]] | None = None

    def added_to(self, table: pa.Table) -> pa.Table:
        """``table`` with the columns, in the place of any it had."""
        rows = [self._of(index) for index in table["index"].to_pylist()]
        for name in self.names:
            if name in table.column_names:
                table = table.drop_columns(name)
            table = table.append_column(name, _nested(torch.stack([row[name] for row in rows])))
        return table

    def _of(self, index: int) -> dict[str, Tensor]:
        if self.open is None or not self.open[0].first <= index < self.open[0].end:
            block = next(b for b in self.blocks if b.first <= index < b.end)
            self.open = block, load_file(_file_of(self.partial, block))
        block, found = self.open
        return {name: x[index - block.first] for name, x in found.items()}
