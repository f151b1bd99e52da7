"""``lafp label``: latent actions of a whole dataset as a column of a new one, so that stage 2 need not look at video.

Consecutive episodes make a block, which one process labels and writes; what is written is not done again. When all
blocks are there, the dataset's tables are written anew, row group by row group, and its media are linked.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
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

from ..checkpoint import LABELS_RECORD, latent_fingerprint
from ..command_line import CommandParser, load_dataset, load_policy
from ..configuration_lafp import LATENT_ACTION, LATENT_ACTION_IS_PAD, LAFPConfig
from ..modeling_lafp import LAFPPolicy
from .assembly import link
from .labels import label_episode

USAGE = """lafp label --policy.path=CHECKPOINT --dataset.repo_id=NAME [--dataset.root=FOLDER] --output_dir=DIR
           [--policy.device=DEVICE] [--batch_size=N] [--num_workers=N]

Writes the dataset anew into DIR with a column latent_action: for every frame the latents (L, Dz) of the chunk that
begins there, as stage latent_policy would infer them from video again and again. The checkpoint must have been through
stage latent_action. Tables are rewritten; videos are linked, or copied where that cannot be. N frames (default: 64) are
encoded at a time, loaded by so many workers (default: 0, this process). The same command goes on where an interrupted
one stopped. Several processes share the work:

    torchrun --nproc_per_node=4 -m lerobot_lafp.cli label ..

Then train on it, of every sample loading no frame but the present ones:

    lerobot-train --policy.path=CHECKPOINT --policy.stage=latent_policy --policy.latent_labels=true \\
        --dataset.repo_id=NAME --dataset.root=DIR ..
"""

#: Frames after which a block ends, with the episode they are in.
BLOCK_FRAMES = 5000


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
) -> None:
    """Write a dataset with latent labels, in one process or, under ``torchrun``, in several.

    Args:
        checkpoint: What ``--policy.path`` takes.
        repo_id: The dataset's name.
        output_dir: The new dataset's folder.
        root: The dataset's folder; unset: LeRobot's cache, or the Hub.
        device: Of the policy; unset: as it was trained.
        batch_size: Frames encoded at a time; at least 2.
        num_workers: Processes that load them.

    Raises:
        CommandError: ``checkpoint`` cannot be read.
        ValueError: The checkpoint has no latents, the dataset cannot be read, or the two do not fit.
        FileExistsError: ``output_dir`` holds something else.
    """
    policy = load_policy(checkpoint, device).eval()
    _require_latents(policy)
    count = max(2, batch_size)
    dataset = load_dataset(policy.config, repo_id, root, lambda meta: _runs(policy.config, meta, count))
    record = _record(policy, dataset.meta, str(checkpoint))
    if _is_labelled(output_dir, record):
        print(f"{output_dir} is labelled by this checkpoint already.")
        return
    partial = output_dir.with_name(output_dir.name + ".partial")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    _begin(partial, record, rank)
    blocks = _blocks(dataset.meta)
    own = [block for block in blocks[rank::world] if not _file_of(partial, block).is_file()]
    with tqdm(total=sum(b.end - b.first for b in own), desc="label", unit="frame", disable=rank > 0) as bar:
        for block, parts in zip(own, _labelled(policy, dataset, own, count, num_workers, bar), strict=True):
            _write_block(_file_of(partial, block), *parts)
    if rank:
        return
    _wait_for([_file_of(partial, block) for block in blocks])
    _write_dataset(dataset.meta, policy.config, record, blocks, partial)
    if output_dir.exists():
        output_dir.rmdir()  # empty, or `_is_labelled` had refused it
    os.replace(partial / "dataset", output_dir)
    shutil.rmtree(partial)
    print(f"Labelled {dataset.meta.total_frames} frames of {repo_id}: {output_dir}")


def _require_latents(policy: LAFPPolicy) -> None:
    if policy.latent_action_model is None or not int(policy.stage_steps[0]):
        raise ValueError(
            "This checkpoint has no latents to label with: stage latent_action was never trained in it. Train it first "
            "(lerobot-train --policy.type=lafp --policy.stage=latent_action)."
        )


def _runs(config: LAFPConfig, meta: LeRobotDatasetMetadata, count: int) -> dict[str, list[float]]:
    """A sample is ``count`` frames in a row, so that a video is decoded forwards."""
    keys = (*config.camera_shapes, *config.vector_shapes)
    return {key: [i / meta.fps for i in range(count)] for key in keys if key in meta.features}


def _record(policy: LAFPPolicy, meta: LeRobotDatasetMetadata, checkpoint: str) -> dict[str, Any]:
    return {
        "fingerprint": latent_fingerprint(policy),
        "num_latents": policy.config.num_latents,
        "latent_dim": policy.config.latent_dim,
        "frame_offset": policy.config.frame_offset,
        "checkpoint": checkpoint,
        "dataset": meta.repo_id,
        "frames": meta.total_frames,
    }


def _same(written: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether two records are of the same labels; a checkpoint may have moved."""
    return all(written.get(name) == record[name] for name in ("fingerprint", "dataset", "frames"))


def _is_labelled(output_dir: Path, record: dict[str, Any]) -> bool:
    """Whether ``output_dir`` holds these labels already; raises if it holds anything else."""
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return False
    file = output_dir / LABELS_RECORD
    if not file.is_file() or not _same(json.loads(file.read_text()), record):
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
    policy: LAFPPolicy, dataset: LeRobotDataset, blocks: Sequence[Block], count: int, num_workers: int, bar: tqdm
) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels of each block: (N, L, Dz) and (N, L)."""
    starts = [i for block in blocks for first, end in block.episodes for i in range(first, end, count)]
    loader = iter(DataLoader(Subset(dataset, starts), batch_size=None, num_workers=num_workers))
    keys = [*policy.config.camera_shapes, *policy.config.vector_shapes]
    device = policy.normalizer.image_mean.device

    def frames(first: int, end: int) -> Iterator[dict[str, Tensor]]:
        for start in range(first, end, count):
            sample, there = next(loader), min(count, end - start)
            yield {key: sample[key][:there].to(device) for key in keys}
            bar.update(there)

    for block in blocks:
        parts = [label_episode(policy, frames(*span)) for span in block.episodes]
        latents, pad = zip(*parts, strict=True)
        yield torch.cat(latents).cpu(), torch.cat(pad).cpu()


def _wait_for(files: Sequence[Path]) -> None:
    """Until the other processes have written theirs; ``torchrun`` ends all if one of them fails."""
    if not all(file.is_file() for file in files):
        print("Waiting for the other processes.", flush=True)
    while not all(file.is_file() for file in files):
        time.sleep(1)


def _write_block(file: Path, latents: Tensor, pad: Tensor) -> None:
    fresh = file.with_suffix(f".new{os.getpid()}")
    save_file({LATENT_ACTION: latents, LATENT_ACTION_IS_PAD: pad}, fresh)
    os.replace(fresh, file)


def _write_text(file: Path, text: str) -> None:
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(text + "\n")
    os.replace(fresh, file)


# --- The new dataset ----------------------------------------------------------------------------------------------


def _write_dataset(
    meta: LeRobotDatasetMetadata,
    config: LAFPConfig,
    record: dict[str, Any],
    blocks: Sequence[Block],
    partial: Path,
) -> None:
    target = partial / "dataset"
    shutil.rmtree(target, ignore_errors=True)  # of an interrupted run
    shutil.copytree(meta.root, target, ignore=shutil.ignore_patterns("data", "videos", ".cache"))
    if (meta.root / "videos").is_dir():
        shutil.copytree(meta.root / "videos", target / "videos", copy_function=link)
    chunk = (config.num_latents, config.latent_dim)
    meta.info.features = {
        **meta.info.features,
        LATENT_ACTION: {"dtype": "float32", "shape": chunk, "names": None},
        LATENT_ACTION_IS_PAD: {"dtype": "bool", "shape": chunk[:1], "names": None},
    }
    write_info(meta.info, target)
    _write_text(target / LABELS_RECORD, json.dumps(record, indent=1))
    schema = get_hf_features_from_features(meta.info.features).arrow_schema
    labels = _Labels(blocks, partial)
    for file in tqdm(sorted(meta.root.glob("data/*/*.parquet")), desc="tables", unit="file"):
        fresh = target / file.relative_to(meta.root)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        old = pq.ParquetFile(file)
        with pq.ParquetWriter(fresh, schema, compression="snappy", use_dictionary=True) as writer:
            for group in range(old.num_row_groups):
                writer.write_table(table_cast(labels.added_to(old.read_row_group(group)), schema))


class _Labels:
    """Labels by frame, of which one block is in memory at a time."""

    def __init__(self, blocks: Sequence[Block], partial: Path) -> None:
        self.blocks = blocks
        self.partial = partial
        self.open: tuple[Block, dict[str, Tensor]] | None = None

    def added_to(self, table: pa.Table) -> pa.Table:
        """``table`` with the two columns, in the place of any it had."""
        rows = [self._of(index) for index in table["index"].to_pylist()]
        for name, kind in (
            (LATENT_ACTION, pa.list_(pa.list_(pa.float32()))),
            (LATENT_ACTION_IS_PAD, pa.list_(pa.bool_())),
        ):
            if name in table.column_names:
                table = table.drop_columns(name)
            table = table.append_column(name, pa.array([row[name].tolist() for row in rows], kind))
        return table

    def _of(self, index: int) -> dict[str, Tensor]:
        if self.open is None or not self.open[0].first <= index < self.open[0].end:
            block = next(b for b in self.blocks if b.first <= index < b.end)
            self.open = block, load_file(_file_of(self.partial, block))
        block, found = self.open
        return {name: x[index - block.first] for name, x in found.items()}
