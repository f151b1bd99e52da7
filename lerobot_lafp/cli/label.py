"""``lafp label``."""

from pathlib import Path
from typing import Annotated

import typer


def label(
    checkpoint: Annotated[
        str, typer.Option("--policy.path", help="LAFP checkpoint that has been through stage latent_action.")
    ],
    repo_id: Annotated[str, typer.Option("--dataset.repo_id", help="Name of the dataset.")],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder of the new dataset.")],
    root: Annotated[
        Path | None,
        typer.Option("--dataset.root", show_default="LeRobot's cache, or the Hub", help="Folder of the dataset."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--policy.device", show_default="the checkpoint's", help="Device to run the checkpoint on."),
    ] = None,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="Also store the frames as PNG images. They load much faster than video and need much more disk space.",
        ),
    ] = False,
    features: Annotated[
        bool,
        typer.Option(
            "--features",
            help="Store the patch tokens of the checkpoint's frozen ViT in place of its cameras, and no latents.",
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch_size", help="Number of frames to encode at a time.")] = 64,
    num_workers: Annotated[
        int, typer.Option("--num_workers", help="Number of processes that load frames. 0 loads them in this process.")
    ] = 0,
) -> None:
    """Precompute the latent actions of a dataset as a column.

    The command writes a copy of the dataset with the column latent_action. For every frame it holds the latents of the
    chunk that begins there. Stage latent_policy then loads only the present frames. Tables are rewritten; videos are
    linked, or copied where the file system has no links.

    Run the same command again to continue after an interruption. Several processes can share the work:

    \b
        torchrun --nproc_per_node=4 -m lerobot_lafp.cli label ..

    Then train on the new dataset:

    \b
        lerobot-train --policy.path=CHECKPOINT --policy.stage=latent_policy \\
            --dataset.repo_id=NAME --dataset.root=OUTPUT_DIR ..

    With --features, every stage of a policy with backbone.encoder=vit trains on the new dataset. The checkpoint may be
    untrained.

    lerobot-edit-dataset can delete episodes of the new dataset, split it, and merge it with other datasets that the
    same checkpoint labelled.
    """
    from ..errors import UserError

    if images and features:
        raise UserError("--images and --features cannot be combined: with --features the new dataset has no cameras.")
    from ..data.latent_labels import label_dataset

    label_dataset(checkpoint, repo_id, output_dir, root, device, batch_size, num_workers, features, images)
