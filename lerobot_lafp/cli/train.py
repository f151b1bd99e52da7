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
) -> None:
    """Train the three stages in order.

    The stages are latent_action, latent_policy and action_decoder. Each starts from the checkpoint of the stage before.

    You can add any option of lerobot-train. It holds for all three stages and overrides the configuration files. To
    set an option for one stage, put the stage first: --latent_policy.steps=20000. Options of an evaluation (--env.*,
    --eval.*, --env_eval_freq) hold for the last stage, because only that stage can act. With
    --policy.decoder_input=action_head there is no stage action_decoder.

    Run the same command again to continue after an interruption. Finished stages are skipped and an interrupted stage
    is resumed. If the folder holds another training, the command stops before it trains anything. Only options for
    logging, saving, loading and the device may change.

    \b
        lafp train configs/pusht_keypoints
        lafp train --dataset.repo_id=me/pick --policy.labeled_episodes=[0,1,2] \\
            --output_dir=outputs/pick --policy.push_to_hub=false
    """
    from ..runs.stages import train_stages

    print(f"\nTrained. Try it: lerobot-eval --policy.path={train_stages(context.args)} --env.type=..")
