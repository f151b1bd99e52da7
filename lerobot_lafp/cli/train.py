"""``lafp train``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand


class TrainCommand(TyperCommand):
    """Leaves all words in ``Context.args`` as they were typed: most are options of ``lerobot-train``, which reads them.

    Those that are declared are declared for help and completion.
    """

    ignore_unknown_options = True
    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        typed = list(args)
        super().parse_args(ctx, args)
        ctx.args = typed
        return ctx.args


def train(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(
            show_default=False,
            help="Holds one configuration file per stage, such as the folders in configs/. Without it, give every "
            "option on the command line.",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output_dir",
            show_default="the output_dir of each configuration file",
            help="Save each stage in OUTPUT_DIR/STAGE.",
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--policy.path",
            show_default="train from scratch",
            help="Fine-tune this LAFP checkpoint: stage latent_action starts from it.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels.repo_id",
            show_default="the actions are those of --dataset.repo_id",
            help="Take the actions from this dataset, and none from --dataset.repo_id.",
        ),
    ] = None,
    labels_root: Annotated[
        Path | None,
        typer.Option("--labels.root", show_default="LeRobot's cache, or the Hub", help="Folder of the labels dataset."),
    ] = None,
    labels_episodes: Annotated[
        str | None,
        typer.Option("--labels.episodes", show_default="all", help="Its episodes to train on, such as [0,1,2]."),
    ] = None,
) -> None:
    """Train the three stages in order.

    The stages are latent_action, latent_policy and action_decoder. Each starts from the checkpoint of the stage before.

    You can add any option of lerobot-train. It holds for all three stages and overrides the configuration files. To
    set an option for one stage, put the stage first: --latent_policy.steps=20000. Options of an evaluation (--env.*,
    --eval.*, --env_eval_freq) hold for the last stage, because only that stage can act. With
    --policy.decoder_input=action_head there is no stage action_decoder.

    If your video has no actions, name a second dataset that has them with --labels.repo_id, of the same robot and
    cameras. It may be play: motion of any kind. Stage latent_action learns from both datasets, latent_policy from
    --dataset.repo_id alone, action_decoder from --labels.repo_id alone.

    Run the same command again to continue after an interruption. Finished stages are skipped and an interrupted stage
    is resumed. If the folder holds another training, the command stops before it trains anything. Only options for
    logging, saving, loading and the device may change.

    \b
        lafp train configs/pusht_keypoints
        lafp train --dataset.repo_id=me/pick --policy.labeled_episodes=[0,1,2] \\
            --output_dir=outputs/pick --policy.push_to_hub=false
        lafp train --dataset.repo_id=me/video --labels.repo_id=me/play --output_dir=outputs/pick
    """
    from ..runs.stages import train_stages

    print(f"\nTrained. Try it: lerobot-eval --policy.path={train_stages(context.args)} --env.type=..")
