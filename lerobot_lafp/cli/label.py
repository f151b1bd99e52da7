"""``lafp label``."""

from collections.abc import Sequence
from pathlib import Path

from ..data.latent_labels import label_dataset
from .arguments import CommandParser

USAGE = """lafp label --policy.path=CHECKPOINT --dataset.repo_id=NAME [--dataset.root=FOLDER] --output_dir=DIR
           [--images | --features] [--policy.device=DEVICE] [--batch_size=N] [--num_workers=N]

Writes the dataset anew into DIR with a column latent_action: for every frame the L x Dz latents of the chunk that
begins there, as stage latent_policy would infer them from video again and again. The checkpoint must have been through
stage latent_action. Tables are rewritten; videos are linked, or copied where that cannot be. N frames (default: 64) are
encoded at a time, loaded by so many workers (default: 0, this process). The same command goes on where an interrupted
one stopped. Several processes share the work:

    torchrun --nproc_per_node=4 -m lerobot_lafp.cli label ..

Then train on it, of every sample loading no frame but the present ones:

    lerobot-train --policy.path=CHECKPOINT --policy.stage=latent_policy --policy.latent_labels=true \\
        --dataset.repo_id=NAME --dataset.root=DIR ..

lerobot-edit-dataset can delete episodes of DIR, split it, and merge it with others that the same checkpoint labelled.

--images writes the frames, too: each camera that is video and that the checkpoint observes as images (PNG, of the
same pixels) in the tables, which load many times as fast, and take many times the disk.

--features, for a checkpoint with a frozen ViT (vision_encoder=vit), trained or not: in place of each camera that it
observes DIR has its patch tokens, as the policy averages them, and no video. Every stage of that policy trains on it.
"""


def run_label(arguments: Sequence[str]) -> None:
    """Run ``lafp label`` as ``USAGE`` says.

    Raises:
        UserError: An argument is missing or does not fit.
        ValueError, FileExistsError: See ``label_dataset``.
    """
    parser = CommandParser("label", USAGE)
    parser.add_argument("--policy.path", dest="checkpoint", required=True)
    parser.add_argument("--policy.device", dest="device")
    parser.add_argument("--dataset.repo_id", dest="repo_id", required=True)
    parser.add_argument("--dataset.root", dest="root", type=Path)
    parser.add_argument("--output_dir", type=Path, required=True)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--images", action="store_true")
    what.add_argument("--features", action="store_true")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--num_workers", type=int, default=0)
    label_dataset(**vars(parser.parse_args(arguments)))
