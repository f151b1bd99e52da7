"""``lafp train``."""

from collections.abc import Sequence

from ..runs.stages import train_stages

USAGE = """lafp train [FOLDER] [--output_dir=DIR] [--policy.path=CHECKPOINT] [--STAGE.OPTION=VALUE ..] [OPTION ..]

Trains stages latent_action, latent_policy and action_decoder in order, each from the checkpoint of the one before.

FOLDER               One configuration file a stage, such as those in configs/. Without it, give every option on the
                     command line.
--output_dir=DIR     Each stage is saved in DIR/STAGE. Default: the output_dir of each file in FOLDER.
--policy.path=..     Fine-tune this LAFP checkpoint: stage latent_action starts from it. Default: from scratch.
OPTION               Any option of lerobot-train. It holds for all three stages, and wins over FOLDER. Those of an
                     evaluation (--env.*, --eval.*, --env_eval_freq) hold for the last, which alone can act.
--STAGE.OPTION=..    The same for one stage, such as --latent_policy.steps=20000.

Give the same command again to go on after an interruption. A finished stage is skipped, an interrupted one is resumed.
Another command into the same folder is refused before anything is trained; options for logging, saving, loading and
the device may change. With --policy.decoder_input=none there is no stage action_decoder.

    lafp train configs/pusht_keypoints
    lafp train --dataset.repo_id=me/pick --policy.labeled_episodes=[0,1,2] --output_dir=outputs/pick \\
        --policy.push_to_hub=false
"""


def run_train(arguments: Sequence[str]) -> None:
    """Run ``lafp train`` as ``USAGE`` says.

    Raises:
        UserError: See ``train_stages``.
    """
    checkpoint = train_stages(arguments)
    print(f"\nTrained. Try it: lerobot-eval --policy.path={checkpoint} --env.type=..")
