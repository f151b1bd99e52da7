"""Trainings by ``lerobot-train``: started, resumed or skipped as their folders say."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from lerobot.configs.train import TRAIN_CONFIG_NAME
from lerobot.utils.constants import (
    LAST_CHECKPOINT_LINK,
    OPTIMIZER_PARAM_GROUPS,
    PRETRAINED_MODEL_DIR,
    SCHEDULER_STATE,
    TRAINING_STATE_DIR,
    TRAINING_STEP,
)

from ..errors import UserError
from ..lerobot_patches import apply
from .asked import another_start, as_option, differences, is_built_on, neutral_options, read_command
from .commands import run_command


class RunState(Enum):
    """How far a training run got, by what lies in its output folder."""

    NEW = "new"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"


def last_checkpoint(output_dir: Path) -> Path:
    """The folder that ``--policy.path`` takes, of the newest whole checkpoint of a run; there may be none yet.

    LeRobot replaces the link that names it in two steps, and a run may be killed between them.
    """
    checkpoints = output_dir / "checkpoints"
    last = checkpoints / LAST_CHECKPOINT_LINK
    if not last.is_dir():
        last = max((each for each in checkpoints.glob("*") if _is_whole(each)), default=last)
    return last / PRETRAINED_MODEL_DIR


def _is_whole(checkpoint: Path) -> bool:
    """Whether all of a checkpoint was written (`L/common/train_utils.py`): the last is the state of the schedule in
    LeRobot 0.6.1, and that of the optimiser in later versions."""
    try:
        for name in (SCHEDULER_STATE, OPTIMIZER_PARAM_GROUPS):
            json.loads((checkpoint / TRAINING_STATE_DIR / name).read_text())
    except (OSError, ValueError):
        return False
    return True


def run_state(output_dir: Path) -> RunState:
    """Whether a run has yet to start, can be resumed from a checkpoint, or is done."""
    checkpoint = last_checkpoint(output_dir)
    if not checkpoint.is_dir():
        return RunState.NEW
    step = json.loads((checkpoint.parent / TRAINING_STATE_DIR / TRAINING_STEP).read_text())["step"]
    steps = json.loads((checkpoint / TRAIN_CONFIG_NAME).read_text())["steps"]
    return RunState.FINISHED if step >= steps else RunState.INTERRUPTED


@dataclass(frozen=True)
class Training:
    """One ``lerobot-train`` run of several.

    Attributes:
        output_dir: Where it goes.
        arguments: Those of ``lerobot-train`` but ``--output_dir``.
        start: The ``output_dir`` of the run whose last checkpoint ``--policy.path`` names, where there is one.
    """

    output_dir: Path
    arguments: Sequence[str]
    start: Path | None = None


def refuse_other_trainings(trainings: Sequence[Training]) -> None:
    """Refuse folders that hold something else than these trainings would put there; called before any of them starts.

    Args:
        trainings: In the order in which they run.

    Raises:
        UserError: A run was trained with other options, or was not built on the run before it, or one that is
            still to be trained has others built on what lay there before.
    """
    for training in trainings:
        state = run_state(training.output_dir)
        built_on_it = [each.output_dir for each in _built_on(training, trainings) if _holds_checkpoints(each)]
        if state is not RunState.FINISHED and built_on_it:
            raise UserError(
                f"{training.output_dir} is {_UNFINISHED[state]}, but {_and(built_on_it)} "
                f"{'was' if len(built_on_it) == 1 else 'were'} built on an earlier training of it. Move or delete "
                f"{_and(built_on_it)}, or choose another --output_dir."
            )
        if state is not RunState.NEW:
            _refuse_another(training, state, built_on_it)


_UNFINISHED = {RunState.NEW: "not trained yet", RunState.INTERRUPTED: "not trained to its end"}


def _built_on(training: Training, trainings: Sequence[Training]) -> list[Training]:
    """The trainings that start from this one, or from one that does."""
    found: list[Training] = []
    for each in trainings:
        if each.start in {training.output_dir, *(one.output_dir for one in found)}:
            found.append(each)
    return found


def _holds_checkpoints(training: Training) -> bool:
    return run_state(training.output_dir) is not RunState.NEW


def _refuse_another(training: Training, state: RunState, built_on_it: Sequence[Path]) -> None:
    """Refuse a folder that holds another training than the one asked for."""
    folder, checkpoint = training.output_dir, last_checkpoint(training.output_dir)
    mend = f"Choose another --output_dir, or move or delete {_and([folder, *built_on_it])} to train anew."
    trained = json.loads((checkpoint / TRAIN_CONFIG_NAME).read_text())
    try:
        asked = read_command(training.arguments, trained)
    except ValueError as error:
        raise UserError(f"The options for {folder} cannot be read: {error}") from error
    found = differences(asked, trained)
    if training.start is None and (start := another_start(asked, trained, folder)):
        found.append(start)
    if found:
        then, now = (", ".join(_option(each.name, getattr(each, when)) for each in found) for when in ("then", "now"))
        begun = "was trained" if state is RunState.FINISHED else "was begun"
        longer = any(each.name == "steps" and each.now > each.then for each in found)
        steps = " A run cannot be made longer, since its learning rate falls over all of its steps." if longer else ""
        raise UserError(f"{folder} {begun} with {then}, and this command asks for {now}.{steps} {mend}")
    if training.start is not None:
        start_of_it = last_checkpoint(training.start)
        if not is_built_on(checkpoint, start_of_it, trained["policy"]):
            raise UserError(
                f"{folder} was not built on the weights in {start_of_it}: {training.start} was trained again since. "
                f"{mend}"
            )


def _option(name: str, value: Any) -> str:
    word = "no --policy.path" if name == "policy.path" and value is None else as_option(name, value)
    return word if len(word) <= 120 else f"{word[:117]}..."


def _and(folders: Sequence[Path]) -> str:
    return " and ".join(
        [", ".join(map(str, folders[:-1])), str(folders[-1])] if len(folders) > 1 else map(str, folders)
    )


def train(output_dir: Path, arguments: Sequence[str], start: Path | None = None) -> None:
    """``lerobot-train`` into ``output_dir``: skipped where that run is finished, resumed where it was interrupted.

    Args:
        output_dir: The run's folder.
        arguments: See ``Training``.
        start: See ``Training``.

    Raises:
        UserError: The training failed, or the folder holds something else.
    """
    apply()  # runs of older formats are read with it
    training = Training(output_dir, arguments, start)
    refuse_other_trainings([training])
    carry_out(training)


def carry_out(training: Training) -> None:
    """What ``train`` does once ``refuse_other_trainings`` has passed.

    Raises:
        UserError: See ``train``.
    """
    output_dir = training.output_dir
    state = run_state(output_dir)
    if state is RunState.FINISHED:
        print(f"{output_dir}: already trained, skipped.", flush=True)
        _tell_of_push(training)
        return
    if state is RunState.INTERRUPTED:
        print(f"{output_dir}: interrupted before, resumed.", flush=True)
        config = last_checkpoint(output_dir) / TRAIN_CONFIG_NAME
        options = [f"--config_path={config}", "--resume=true", *neutral_options(training.arguments)]
    else:
        _clear(output_dir)
        options = list(training.arguments)
    run_command("lerobot-train", [*options, f"--output_dir={output_dir}"])
    if run_state(output_dir) is not RunState.FINISHED:
        raise UserError(f"lerobot-train left no checkpoint of its last step in {output_dir}: see what it printed.")


def _tell_of_push(training: Training) -> None:
    """A run that is skipped is not pushed either."""
    checkpoint = last_checkpoint(training.output_dir)
    policy = json.loads((checkpoint / TRAIN_CONFIG_NAME).read_text()).get("policy") or {}
    if "--policy.push_to_hub=true" in neutral_options(training.arguments) and not policy.get("push_to_hub"):
        print(f"It is not pushed to the Hub. To do so: hf upload REPO_ID {checkpoint}", flush=True)


def _clear(output_dir: Path) -> None:
    """Remove what a run leaves that is cut off while it writes its first checkpoint; LeRobot would not start again."""
    if not output_dir.exists():
        return
    shutil.rmtree(output_dir / "checkpoints", ignore_errors=True)
    try:
        output_dir.rmdir()
    except OSError as error:
        raise UserError(
            f"{output_dir} exists, but holds no checkpoint to go on from. Move it away, or choose another folder with "
            "--output_dir."
        ) from error
