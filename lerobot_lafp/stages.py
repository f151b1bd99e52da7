"""``lafp train``: the three stages in order, each a ``lerobot-train`` run that starts from the one before."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lerobot.datasets.utils import INFO_PATH
from lerobot.utils.constants import HF_LEROBOT_HOME

from .configuration_lafp import STAGES
from .data.check import lines
from .data.soundness import Depth, look_over
from .runs import CommandError, last_checkpoint, train

USAGE = """lafp train [FOLDER] [--output_dir=DIR] [--STAGE.OPTION=VALUE ..] [lerobot-train options ..]

Trains stages latent_action, latent_policy and action_decoder in order. FOLDER holds one configuration a stage, as
those in configs/; without it every option comes from the command line. Options are those of lerobot-train and hold
for all three stages; written --latent_policy.steps=20000, for that stage alone. A stage that is trained already is
skipped and one that was interrupted is resumed, so the same command goes on where it stopped.

    lafp train configs/pusht_keypoints
    lafp train --dataset.repo_id=me/pick --policy.labeled_episodes=[0,1,2] --output_dir=outputs/pick \\
        --policy.push_to_hub=false
"""


def run_train(arguments: Sequence[str]) -> None:
    """Run ``lafp train`` as ``USAGE`` says.

    Raises:
        CommandError: See ``train_stages``.
    """
    checkpoint = train_stages(arguments)
    print(f"\nTrained. Try it: lerobot-eval --policy.path={checkpoint} --env.type=..")


def train_stages(arguments: Sequence[str], until: str = STAGES[-1]) -> Path:
    """Train the stages up to ``until``, as ``USAGE`` says.

    Returns:
        The checkpoint of the last stage, for ``--policy.path``.

    Raises:
        CommandError: The arguments do not fit, or a training failed.
    """
    parser = argparse.ArgumentParser(prog="lafp train", usage=USAGE, add_help=False)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--output_dir", type=Path)
    words = _with_equal_signs(arguments)
    options = [word for word in words if word.startswith("--") and not word.startswith("--output_dir=")]
    given = parser.parse_args([word for word in words if word not in options])
    configs = {stage: _stage_config(given.folder, stage) for stage in STAGES}
    previous: Path | None = None
    for stage in STAGES[: STAGES.index(until) + 1]:
        output_dir = _output_dir(given.output_dir, configs[stage], stage)
        own = _options_of(stage, options)
        try:
            train(output_dir, [*_stage_arguments(stage, configs[stage], previous), *own])
        except CommandError as error:
            raise CommandError(f"{error}{_what_ails_the_dataset(configs[stage], own)}") from error
        previous = last_checkpoint(output_dir)
    assert previous is not None
    return previous


def _with_equal_signs(arguments: Sequence[str]) -> list[str]:
    """``--option value`` as ``--option=value``, so that every option is one word."""
    joined: list[str] = []
    for word in arguments:
        opens_value = joined and joined[-1].startswith("--") and "=" not in joined[-1]
        if opens_value and not word.startswith("--"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _stage_config(folder: Path | None, stage: str) -> tuple[Path, dict[str, Any]] | None:
    if folder is None:
        return None
    found = sorted(folder.glob(f"*{stage}.yaml"))
    if len(found) != 1:
        raise CommandError(
            f"{folder} must hold one configuration named *{stage}.yaml (see configs/), found {len(found)}."
        )
    return found[0], yaml.safe_load(found[0].read_text())


def _what_ails_the_dataset(config: tuple[Path, dict[str, Any]] | None, options: Sequence[str]) -> str:
    """What may be behind a failure: files or frames of the dataset that are missing or damaged. Empty if none are."""
    dataset = dict((config[1].get("dataset") or {}) if config is not None else {})
    dataset |= dict(word.removeprefix("--dataset.").split("=", 1) for word in options if word.startswith("--dataset."))
    root = Path(dataset["root"]) if dataset.get("root") else HF_LEROBOT_HOME / str(dataset.get("repo_id"))
    if not (root / INFO_PATH).is_file() or not (found := look_over(root, Depth.FRAMES)).faults:
        return ""
    return f"\nThe dataset in {root} is not whole (lafp check {root} looks further):\n" + "\n".join(lines(found))


def _output_dir(given: Path | None, config: tuple[Path, dict[str, Any]] | None, stage: str) -> Path:
    if given is not None:
        return given / stage
    if config is not None and "output_dir" in config[1]:
        return Path(config[1]["output_dir"])
    raise CommandError("--output_dir is missing: say where the checkpoints of the three stages go.")


def _stage_arguments(stage: str, config: tuple[Path, dict[str, Any]] | None, previous: Path | None) -> list[str]:
    arguments = [] if config is None else [f"--config_path={config[0]}"]
    if previous is not None:
        return [*arguments, f"--policy.path={previous}", f"--policy.stage={stage}"]
    return arguments if config is not None else ["--policy.type=lafp", f"--policy.stage={stage}"]


def _options_of(stage: str, options: Sequence[str]) -> list[str]:
    """The options that hold for ``stage``; those for it alone come last, where they win."""
    not_shared = ("--policy.type=", "--policy.path=", *(f"--{name}." for name in STAGES))
    shared = [word for word in options if not word.startswith(not_shared)]
    own = [f"--{word.removeprefix(f'--{stage}.')}" for word in options if word.startswith(f"--{stage}.")]
    both = [*shared, *own]
    labels = [word.partition("=")[2] for word in both if word.startswith("--policy.labeled_episodes=")]
    if stage == "action_decoder" and labels and not any(word.startswith("--dataset.episodes=") for word in both):
        both.append(f"--dataset.episodes={labels[-1]}")  # the other episodes have nothing to teach it
    return both
