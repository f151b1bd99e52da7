"""``lafp train``: the three stages in order, each a ``lerobot-train`` run that starts from the one before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import draccus
import yaml
from lerobot.configs import PreTrainedConfig
from lerobot.datasets.utils import INFO_PATH
from lerobot.utils.constants import HF_LEROBOT_HOME

from ..checkpoint.download import refuse_missing
from ..configuration_lafp import LAFPConfig
from ..data.validation.soundness import CheckLevel, lines, validate_dataset
from ..errors import UserError, in_one_line
from ..lerobot_patches import apply, unread_optimizer_option
from ..options.constants import STAGES
from ..options.groups import Labels
from .asked import as_option, flat, option_name, with_equal_signs
from .budget import budgets
from .trainings import RunState, Training, carry_out, last_checkpoint, refuse_other_trainings, run_state

#: Options that ``lafp train`` decides itself, or that would leave it without checkpoints -> what to do instead.
_TAKEN = {
    "policy.stage": "lafp train sets it for each stage. To train one stage, use lerobot-train",
    "policy.pretrained_path": "to start from a checkpoint, give --policy.path=CHECKPOINT",
    "policy": "give the options one by one, as --policy.OPTION=VALUE",
    "config_path": "name the folder that holds one configuration file a stage: lafp train FOLDER",
    "reward_model": "lafp train trains no reward model; use lerobot-train",
    "labels": "in a configuration file it is one of the policy, policy: {labels: {repo_id: ..}}",
}
#: Option -> the values that ``lafp train`` can work with, and why no other.
_ONLY = {
    "policy.type": (("lafp",), "lafp train trains LAFP; for another policy, use lerobot-train"),
    "resume": (("false",), "give the same command again, and an interrupted stage is resumed"),
    "save_checkpoint": (("true", "yes", "on", "1"), "each stage starts from the checkpoint of the one before"),
    "job.target": (("local", "null", "none"), "the stages are trained one after the other on this machine"),
}

#: Options of an evaluation while training.
_OF_EVALUATION = ("--env.", "--eval.", "--env_eval_freq=")
_OF_A_STAGE = tuple(f"--{stage}." for stage in STAGES)
#: ``--labels.repo_id`` beside ``--dataset.repo_id``: what is typed for ``--policy.labels.repo_id``.
_LABELS = tuple(f"labels.{field.name}" for field in fields(Labels))


def train_stages(arguments: Sequence[str], until: str = STAGES[-1]) -> Path:
    """Train the stages up to ``until``.

    Args:
        arguments: As ``lafp train`` takes them: a folder, ``--output_dir``, options of ``lerobot-train``.
        until: The last stage that is trained.

    Returns:
        The checkpoint of the last stage, for ``--policy.path``.

    Raises:
        UserError: The arguments do not fit, the folder holds another training, or a training failed.
    """
    apply()  # checkpoints and runs of older formats are read with it
    plans = _read_plans(arguments)
    start = plans[0].start
    if start is not None and run_state(plans[0].output_dir) is RunState.NEW:
        refuse_missing(start)
        _refuse_other_policy(start)
    plans = _with_budgets(plans)
    refuse_other_trainings(list(_trainings(plans)))
    for number, plan in enumerate(plans):
        training = list(_trainings(plans))[number]  # read again, since the stage before has a checkpoint by now
        try:
            carry_out(training)
        except UserError as error:
            raise UserError(f"{error}{_what_ails_the_datasets(plan)}") from error
        if plan.stage == until:
            break
    return last_checkpoint(plan.output_dir)


@dataclass(frozen=True)
class _Plan:
    """What is asked of one stage.

    Attributes:
        stage: Its name.
        output_dir: Where it is saved.
        file: Its configuration file and the options in it, where there is one.
        options: Those of the command line that hold for it.
        start: The checkpoint that it starts from, where that is not of the stage before.
    """

    stage: str
    output_dir: Path
    file: tuple[Path, dict[str, Any]] | None
    options: list[str]
    start: str | None


def _read_plans(arguments: Sequence[str]) -> list[_Plan]:
    """The stages that are asked for, in order.

    Raises:
        UserError: An option is one that ``lafp train`` cannot follow.
    """
    words = [_of_policy(word) for word in with_equal_signs(arguments)]
    folders = [word for word in words if not word.startswith("--")]
    if len(folders) > 1:
        raise UserError(f"{folders[1]} is one argument too many: lafp train takes one folder of configurations.")
    folder = Path(folders[0]) if folders else None
    options = [word for word in words if word.startswith("--") and option_name(word) != "output_dir"]
    given = [Path(word.partition("=")[2]) for word in words if option_name(word) == "output_dir"]
    plans = []
    for stage in STAGES:
        file = _stage_config(folder, stage)
        _refuse_untaken(stage, {} if file is None else file[1], options)
        start = _start(file, options) if stage == STAGES[0] else None
        output_dir = _output_dir(given[-1] if given else None, file, stage)
        plans.append(_Plan(stage, output_dir, file, _options_of(stage, options), start))
    _refuse_one_list_for_two_datasets(plans, options)
    _refuse_unread_beside_labels(plans)
    every_word = [word for plan in plans for word in _words_of_policy(plan)]
    if _value("policy.decoder_input", every_word) == "action_head":
        return plans[:-1]
    labelled = _listed(_value("policy.labeled_episodes", every_word))
    return [*plans[:-1], _with_labelled_alone(plans, labelled, options)]


def _with_labelled_alone(plans: Sequence[_Plan], labelled: list[int] | None, options: Sequence[str]) -> _Plan:
    """The last stage without the episodes that have nothing to teach it, where nobody says which it reads."""
    last = plans[-1]
    own = [*_words_of_dataset(last.file), *_own(last.stage, options)]
    says = any(option_name(word) == "dataset.episodes" for word in own)
    if labelled is None or says or len(_datasets_of((plans[0], last))) > 1:
        return last
    used = _listed(_value("dataset.episodes", last.options))
    episodes = [episode for episode in labelled if used is None or episode in used]
    return replace(last, options=[*last.options, f"--dataset.episodes={episodes}"]) if episodes else last


def _listed(typed: str | None) -> list[int] | None:
    """A list as it was typed; what is none is the training's to refuse."""
    try:
        found = None if typed is None else yaml.safe_load(typed)
    except yaml.YAMLError:
        return None
    return found if isinstance(found, list) else None


def _with_budgets(plans: Sequence[_Plan]) -> list[_Plan]:
    """The plans with what the datasets decide of them (`runs/budget.py`)."""
    commands: list[list[str]] = []
    earlier: list[str] = []
    for plan in plans:
        commands.append([*_words_of_new(plan, earlier), *plan.options])
        earlier += _words_of_policy(plan)
    added = budgets(commands, is_new=plans[0].start is None)
    return [replace(plan, options=[*words, *plan.options]) for plan, words in zip(plans, added, strict=True)]


def _words_of_new(plan: _Plan, earlier: Sequence[str]) -> list[str]:
    """What a stage's file says, as if the stage started from no checkpoint but with the policy of ``earlier`` words."""
    file = {} if plan.file is None else plan.file[1]
    begins = ("policy.type", "policy.path", "policy.stage", "output_dir")
    words = [as_option(name, value) for name, value in flat(file) if name not in begins]
    return ["--policy.type=lafp", *earlier, f"--policy.stage={plan.stage}", *words]


def _of_policy(word: str) -> str:
    """A word as it is typed, ``--labels.*`` in LeRobot's terms; perhaps of one stage.

    Raises:
        UserError: There is no such option of labels.
    """
    stage = next((each for each in _OF_A_STAGE if word.startswith(each)), "--")
    rest = word.removeprefix(stage)
    if not word.startswith("--") or not rest.startswith("labels."):
        return word
    if option_name(rest) not in _LABELS:
        known = ", ".join(f"--{name}" for name in _LABELS)
        raise UserError(f"{word} is not an option of lafp train. Of the labels dataset there are {known}.")
    return f"{stage}policy.{rest}"


def _refuse_unread_beside_labels(plans: Sequence[_Plan]) -> None:
    """What the last stage would not read, or would refuse after hours, where another dataset has the actions."""
    of_stages = [dict(_options_in(plan)) for plan in plans]
    first, last = of_stages[0], of_stages[-1]
    labels = last.get("policy.labels.repo_id")
    if labels in (None, "null"):
        return
    if any(given.get("policy.labeled_episodes") not in (None, "null") for given in of_stages):
        raise UserError(
            f"`labeled_episodes` names episodes of --dataset.repo_id, and the actions are those of {labels} "
            "(--labels.repo_id). To choose among its episodes use --labels.episodes=[..]; where the list is in a "
            "configuration file, add --policy.labeled_episodes=null."
        )
    if (own := last.get("dataset.repo_id")) not in (first.get("dataset.repo_id"), labels):
        raise UserError(
            f"Stage {plans[-1].stage} reads nothing of --dataset.repo_id={own}; it learns from --labels.repo_id="
            f"{labels} alone. Leave one of the two out."
        )
    if str(last.get("policy.finetune_policy", "false")).lower() in ("true", "yes", "on", "1"):
        raise UserError(
            f"--policy.finetune_policy=true would teach the policy to do what is done in {labels} (--labels.repo_id). "
            "Leave it out."
        )


def _options_in(plan: _Plan) -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every option of a stage, its file included; the last of two wins."""
    yield from flat({} if plan.file is None else plan.file[1])
    for word in plan.options:
        yield option_name(word), word.partition("=")[2]


def _refuse_one_list_for_two_datasets(plans: Sequence[_Plan], options: Sequence[str]) -> None:
    """A list of labelled episodes that is given for all stages belongs to one dataset."""
    shared = [word for word in options if option_name(word) == "policy.labeled_episodes"]
    names = _datasets_of((plans[0], plans[-1]))
    if shared and len(names) > 1:
        raise UserError(
            f"{shared[-1]} is given for every stage, and and {plans[0].stage} and {plans[-1].stage} have two datasets "
            f"({' and '.join(sorted(map(str, names)))}). Give each stage its own, as "
            f"--{plans[-1].stage}.policy.labeled_episodes=[..], or null where all are labelled."
        )


def _datasets_of(plans: Sequence[_Plan]) -> set[str | None]:
    """Names of their datasets."""
    return {_value("dataset.repo_id", [*_words_of_dataset(plan.file), *plan.options]) for plan in plans}


def _words_of_dataset(file: tuple[Path, dict[str, Any]] | None) -> list[str]:
    dataset = {} if file is None else file[1].get("dataset") or {}
    return [as_option(f"dataset.{name}", value) for name, value in dataset.items()]


def _start(file: tuple[Path, dict[str, Any]] | None, options: Sequence[str]) -> str | None:
    """The checkpoint that the first stage starts from."""
    own = f"{STAGES[0]}.policy.path"
    found = [word.partition("=")[2] for word in options if option_name(word) in ("policy.path", own)]
    in_file = None if file is None else (file[1].get("policy") or {}).get("path")
    return found[-1] if found else in_file


def _refuse_untaken(stage: str, file: Mapping[str, Any], options: Sequence[str]) -> None:
    """Refuse the options of one stage that ``lafp train`` decides itself, or that nothing would read."""
    unread = ("output_dir", "policy", "policy.path")
    in_file = [as_option(name, value) for name, value in flat(file) if name not in unread]
    if f"--policy.stage={stage}" in in_file:
        in_file.remove(f"--policy.stage={stage}")
    shared = [word for word in options if not word.startswith(_OF_A_STAGE)]
    own = _own(stage, options)
    for word in [*in_file, *shared]:
        _refuse_word(word, word)
    for word in own:
        typed = f"--{stage}.{word.removeprefix('--')}"
        if option_name(word) == "output_dir":
            raise UserError(f"{typed} is not read: give --output_dir=DIR, and each stage is saved in DIR/STAGE.")
        if option_name(word) == "policy.path" and stage != STAGES[0]:
            raise UserError(
                f"{typed} is not read: stage {stage} starts from the stage before. To train it from another "
                f"checkpoint, use lerobot-train --policy.path=CHECKPOINT --policy.stage={stage}."
            )
        _refuse_word(word, typed)
    _refuse_unread_optimizer([*in_file, *shared, *own])


def _refuse_word(word: str, typed: str) -> None:
    name, _, value = word.removeprefix("--").partition("=")
    for taken, mend in _TAKEN.items():
        if name == taken or (name.startswith(f"{taken}.") and taken != "policy"):
            raise UserError(f"{typed} is not an option of lafp train: {mend}.")
    values, why = _ONLY.get(name, ((), ""))
    if values and value.lower() not in values:
        raise UserError(f"{typed} is not possible: {why}.")


def _refuse_unread_optimizer(words: Sequence[str]) -> None:
    if (_value("use_policy_training_preset", words) or "true").lower() == "false":
        return
    if (unread := unread_optimizer_option(words)) is not None:
        raise UserError(unread)


def _value(name: str, words: Sequence[str]) -> str | None:
    """The last value of an option."""
    return next((word.partition("=")[2] for word in reversed(words) if option_name(word) == name), None)


def _refuse_other_policy(checkpoint: str) -> None:
    """Refuse to fine-tune a checkpoint of another policy type."""
    try:
        config = PreTrainedConfig.from_pretrained(checkpoint)
    except (OSError, ValueError, draccus.ParsingError) as error:
        raise UserError(f"--policy.path={checkpoint} cannot be read ({in_one_line(error)}).") from error
    if not isinstance(config, LAFPConfig):
        raise UserError(f"--policy.path={checkpoint} is no LAFP checkpoint, but one of policy type {config.type}.")


def _trainings(plans: Sequence[_Plan]) -> Iterator[Training]:
    """The runs of ``lerobot-train``."""
    before: Path | None = None
    for plan in plans:
        arguments = [] if plan.file is None else [f"--config_path={plan.file[0]}"]
        start = plan.start if before is None else last_checkpoint(before)
        if start is None:
            arguments.append("--policy.type=lafp")
        else:
            # Beside a path LeRobot reads nothing of a file's policy, or no lists.
            arguments += [f"--policy.path={start}", *_words_of_file(plan.file)]
        yield Training(plan.output_dir, [*arguments, f"--policy.stage={plan.stage}", *plan.options], before)
        before = plan.output_dir


def _words_of_policy(plan: _Plan) -> list[str]:
    """What a stage says of the policy; the stages after it have it from its checkpoint."""
    return [*_words_of_file(plan.file), *(word for word in plan.options if word.startswith("--policy."))]


def _words_of_file(file: tuple[Path, dict[str, Any]] | None) -> list[str]:
    """The options of a file's policy, as words of the command line."""
    policy = {} if file is None else file[1].get("policy") or {}
    return [as_option(f"policy.{k}", v) for k, v in policy.items() if k not in ("type", "path", "stage")]


def _stage_config(folder: Path | None, stage: str) -> tuple[Path, dict[str, Any]] | None:
    if folder is None:
        return None
    found = sorted(folder.glob(f"*{stage}.yaml"))
    if len(found) != 1:
        raise UserError(f"{folder} must hold one configuration named *{stage}.yaml (see configs/), found {len(found)}.")
    options = yaml.safe_load(found[0].read_text())
    if not isinstance(options, dict):
        raise UserError(f"{found[0]} holds no options. See configs/ for what a configuration file looks like.")
    return found[0], options


def _what_ails_the_datasets(plan: _Plan) -> str:
    """What may be behind a failure: files or frames of a dataset that are missing or damaged. Empty if none are."""
    given, found = dict(_options_in(plan)), ""
    for whose in ("dataset", "policy.labels"):
        root = Path(given.get(f"{whose}.root") or HF_LEROBOT_HOME / str(given.get(f"{whose}.repo_id")))
        if (root / INFO_PATH).is_file() and (soundness := validate_dataset(root, CheckLevel.FRAMES)).faults:
            found += f"\nThe dataset in {root} is not whole (lafp check {root} looks further):\n"
            found += "\n".join(lines(soundness))
    return found


def _output_dir(given: Path | None, config: tuple[Path, dict[str, Any]] | None, stage: str) -> Path:
    if given is not None:
        return given / stage
    if config is not None and "output_dir" in config[1]:
        return Path(config[1]["output_dir"])
    raise UserError("--output_dir is missing: say where the checkpoints of the three stages go.")


def _own(stage: str, options: Sequence[str]) -> list[str]:
    """The options that are typed for ``stage`` alone, as ``lerobot-train`` takes them."""
    return [f"--{word.removeprefix(f'--{stage}.')}" for word in options if word.startswith(f"--{stage}.")]


def _options_of(stage: str, options: Sequence[str]) -> list[str]:
    """The options that hold for ``stage``; those for it alone come last, where they win."""
    shared = [word for word in options if not word.startswith(_OF_A_STAGE)]
    last = STAGES[1] if _value("policy.decoder_input", options) == "action_head" else STAGES[2]
    if stage != last:
        shared = [word for word in shared if not word.startswith(_OF_EVALUATION)]
    own = _own(stage, options)
    return [word for word in [*shared, *own] if option_name(word) not in ("policy.type", "policy.path")]
