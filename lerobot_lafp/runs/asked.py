"""What a training command asks for, and how that differs from what a checkpoint was trained with.

A command is read as ``lerobot-train`` reads it, so that values are compared by what they mean: ``1e-3`` is 0.001, and
an option that is left out has its default.
"""

import contextlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import draccus
import yaml
from lerobot.configs import PreTrainedConfig, parser
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig
from lerobot.utils.constants import HF_LEROBOT_HOME, PRETRAINED_MODEL_DIR
from safetensors import safe_open

from ..configuration_lafp import LAFPConfig
from ..errors import in_one_line
from ..options.constants import FLOW_STEPS
from ..options.fields import named_fields, read
from ..options.groups import Labels
from ..options.migration import migrate_config

#: Options of ``lerobot-train`` that leave the trained weights as they are: logging, saving, loading, evaluation.
NEUTRAL = {
    *("output_dir", "job_name", "resume", "checkpoint_path", "job", "wandb", "log_freq"),
    *("save_checkpoint", "save_freq", "save_checkpoint_to_hub"),
    *("num_workers", "prefetch_factor", "persistent_workers", "dataloader_multiprocessing_context", "tolerance_s"),
    *("env", "eval", "env_eval_freq", "eval_steps", "max_eval_samples"),
}
#: Options of a policy that are of the machine, or of sharing a checkpoint.
_NEUTRAL_OF_POLICY = {"device", "use_amp", "frame_store", "push_to_hub", "repo_id", "private", "tags", "license"}
_NEUTRAL_OF_DATASET = {"video_backend"}
#: Stage -> prefixes of the weights that it leaves as the stage before trained them.
_LEFT_AS_THEY_ARE = {
    "latent_policy": tuple(f"latent_action_model.{part}." for part in ("encoder", "idm", "bottleneck", "statistics")),
    "action_decoder": ("latent_policy.", "average_policy."),
}


@dataclass(frozen=True)
class Asked:
    """A training command, read.

    Attributes:
        config: What ``train_config.json`` would say, before the dataset fills in the rest.
        given: The options that the command or its configuration file names: ``policy.latent_dim``.
        pipeline: The same as LeRobot reads it.
    """

    config: dict[str, Any]
    given: frozenset[str]
    pipeline: TrainPipelineConfig


@dataclass(frozen=True)
class Difference:
    """An option that was trained with one value and is asked for with another."""

    name: str
    then: Any
    now: Any


def with_equal_signs(arguments: Sequence[str]) -> list[str]:
    """``--option value`` as ``--option=value``, so that every option is one word."""
    joined: list[str] = []
    for word in arguments:
        opens_value = joined and joined[-1].startswith("--") and "=" not in joined[-1]
        if opens_value and not word.startswith("--"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def option_name(word: str) -> str:
    """``policy.latent_dim`` of ``--policy.latent_dim=8``."""
    return word.partition("=")[0].removeprefix("--")


def as_option(name: str, value: Any) -> str:
    """An option with a value of YAML or JSON, as one word of a command line."""
    return f"--{name}={value if isinstance(value, str) else json.dumps(value)}"


def flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every option of a configuration file."""
    for name, value in options.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def neutral_options(arguments: Sequence[str]) -> list[str]:
    """The options of a command and of its configuration file that may change when its run is resumed."""
    words = with_equal_signs(arguments)
    file = parser.parse_arg("config_path", words)
    words = parser._flatten_to_cli_args(_read_file(file) if file else {}) + words
    return [word for word in words if _is_neutral(option_name(word)) and option_name(word) != "resume"]


def _is_neutral(name: str) -> bool:
    first, _, rest = name.partition(".")
    return first in NEUTRAL or (first == "policy" and rest in _NEUTRAL_OF_POLICY)


def read_command(arguments: Sequence[str], trained: Mapping[str, Any]) -> Asked:
    """Read the arguments of ``lerobot-train``, its configuration file and ``--policy.path`` included.

    Args:
        arguments: What follows the command's name.
        trained: ``train_config.json`` of the run. Its policy stands in for the checkpoint of ``--policy.path`` where
            that cannot be read any more.

    Raises:
        ValueError: LeRobot would not take them.
    """
    words = [word for word in with_equal_signs(arguments) if option_name(word).split(".")[0] not in NEUTRAL]
    file = parser.parse_arg("config_path", words)
    words = parser.filter_arg("config_path", words)
    options = {k: v for k, v in (_read_file(file) if file else {}).items() if k not in NEUTRAL}
    policy = options.get("policy") or {}
    given = {option_name(word) for word in words} | {*options, *(f"policy.{name}" for name in policy)}
    start = parser.parse_arg("policy.path", words) or policy.get("path")
    with _errors_in_words():
        if start is None:
            config = _parse(options, words)
        else:
            config = _parse({k: v for k, v in options.items() if k != "policy"}, _without_policy(words))
            flags = parser._flatten_to_cli_args(policy) if "path" in policy else []  # as LeRobot does
            flags += parser.get_cli_overrides("policy", words) or []
            config.policy = _from_checkpoint(str(start), flags, trained["policy"])
            config.policy.pretrained_path = Path(start)
        encoded = json.loads(json.dumps(draccus.encode(config)))
    return Asked(encoded, frozenset(given), config)


def _read_file(file: str) -> dict[str, Any]:
    try:
        options = yaml.safe_load(Path(file).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read ({in_one_line(error)}). Check --config_path.") from error
    return options if isinstance(options, dict) else {}


def _without_policy(words: Sequence[str]) -> list[str]:
    return [word for word in words if not word.startswith("--policy.")]


def _parse(options: Mapping[str, Any], words: Sequence[str]) -> TrainPipelineConfig:
    if not options:
        return draccus.parse(TrainPipelineConfig, args=list(words))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "options.yaml"
        file.write_text(yaml.safe_dump(dict(options)))
        return TrainPipelineConfig.from_pretrained(file, cli_args=list(words))


def _from_checkpoint(start: str, flags: list[str], trained: Mapping[str, Any]) -> PreTrainedConfig:
    try:
        return PreTrainedConfig.from_pretrained(start, cli_overrides=flags)
    except OSError:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(dict(trained)))
            return PreTrainedConfig.from_pretrained(folder, cli_overrides=flags)


@contextlib.contextmanager
def _errors_in_words() -> Iterator[None]:
    """LeRobot's parser prints its usage and exits, or leaves the reason to the log: raise what it was instead."""
    printed, logged = io.StringIO(), _Errors()
    logging.getLogger("lerobot_lafp").addHandler(logged)
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit as error:
        raise ValueError(printed.getvalue().strip().rpartition("error: ")[2]) from error
    except draccus.ParsingError as error:
        raise ValueError(logged.message or in_one_line(error)) from error
    finally:
        logging.getLogger("lerobot_lafp").removeHandler(logged)


class _Errors(logging.Handler):
    """Keeps the last error that is logged."""

    message = ""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        self.message = record.getMessage()


def differences(asked: Asked, trained: Mapping[str, Any]) -> list[Difference]:
    """The options that change what a training gives, and that a run was trained with otherwise.

    What a run fills in, such as the width of the actions, counts where the command names it.

    Args:
        asked: The command.
        trained: ``train_config.json`` of the run.
    """
    found = []
    own_optimizer = not asked.config["use_policy_training_preset"]
    for name in asked.config.keys() & trained.keys() - NEUTRAL - {"policy", "dataset"}:
        is_read = own_optimizer or name not in ("optimizer", "scheduler")
        if is_read and asked.config[name] != trained[name]:
            found.append(Difference(name, trained[name], asked.config[name]))
    found += _differences_of_dataset(asked.config["dataset"], trained.get("dataset") or {})
    found += _differences_of_policy(asked, trained.get("policy") or {})
    return sorted(found, key=lambda difference: difference.name)


def _differences_of_dataset(
    now: Mapping[str, Any], then: Mapping[str, Any], whose: str = "dataset"
) -> Iterator[Difference]:
    for name in now.keys() & then.keys() - _NEUTRAL_OF_DATASET:
        same = _place(now) == _place(then) if name == "root" and (now["root"] or then["root"]) else None
        if not (_equal(name, now[name], then[name]) if same is None else same or now[name] == then[name]):
            yield Difference(f"{whose}.{name}", then[name], now[name])


def _place(dataset: Mapping[str, Any]) -> str:
    return os.path.realpath(dataset["root"] or HF_LEROBOT_HOME / str(dataset.get("repo_id")))


def _differences_of_policy(asked: Asked, then: Mapping[str, Any]) -> Iterator[Difference]:
    now = asked.config["policy"] or {}
    if now.get("type") != then.get("type"):
        yield Difference("policy.type", then.get("type"), now.get("type"))
        return
    if now.get("type") == LAFPConfig.get_choice_name(LAFPConfig):
        migrated = migrate_config(then)
        labels = asdict(Labels()) | (migrated.get("labels") or {})  # which a run of an older version had none of
        yield from _differences_of_dataset(now["labels"], labels, "policy.labels")
        for each in (each for each in named_fields(LAFPConfig) if each.owner is not Labels):
            values = read(migrated, each.name, _ABSENT), read(now, each.name)
            if migrated != then and each.name in _SETTLED and values[1] in (None, "auto"):
                continue
            left = _left_to_the_dataset(then)
            if left is not None and each.name in (read(now, "facts.undecided") or ()):
                if each.name not in left:
                    yield Difference(f"policy.{each.name}", values[0], None)
                continue
            if (
                each.is_option
                and values[0] is not _ABSENT
                and not _equal(each.name, values[1], values[0], each.is_path)
            ):
                yield Difference(f"policy.{each.name}", *values)
        return
    for name in now.keys() & then.keys() - _NEUTRAL_OF_POLICY - {"pretrained_path"}:
        if f"policy.{name}" in asked.given and now[name] is not None and now[name] != then[name]:
            yield Difference(f"policy.{name}", then[name], now[name])


def _left_to_the_dataset(policy: Mapping[str, Any]) -> set[str] | None:
    """The options of a run that nobody had set; None of one that is older than these."""
    undecided = read(policy, "facts.undecided")
    return None if undecided is None else {*undecided, *(read(policy, "facts.chosen") or ())}


#: Of an option that a run is older than.
_ABSENT = object()
#: Options of which the file of a run of an older version says what they came to, asked for or not.
_SETTLED = ("motion.weight", "language")
#: What an option comes to in training where it is unset, and what its default was until format 4.
_UNSET = {"num_flow_steps": FLOW_STEPS}


def _equal(name: str, now: Any, then: Any, is_path: bool = False) -> bool:
    if "episodes" in name and isinstance(now, list) and isinstance(then, list):
        return sorted(now) == sorted(then)
    now, then = (_UNSET.get(name) if value is None else value for value in (now, then))
    if is_path and now and then:
        return now == then or os.path.realpath(now) == os.path.realpath(then)
    return bool(now == then)


def another_start(asked: Asked, trained: Mapping[str, Any], output_dir: Path) -> Difference | None:
    """The checkpoint that a run began from, if it is not the one of the command's ``--policy.path``.

    Args:
        asked: The command.
        trained: ``train_config.json`` of the run's last checkpoint. A run that was resumed says there that it began
            from itself; its earlier checkpoints know better.
        output_dir: Where the run lies now.
    """
    now = (asked.config["policy"] or {}).get("pretrained_path")
    own = Path(str(trained.get("output_dir"))).absolute()
    earlier = sorted(output_dir.glob(f"checkpoints/*/{PRETRAINED_MODEL_DIR}/{TRAIN_CONFIG_NAME}"))
    for config in (trained, *(json.loads(file.read_text()) for file in earlier)):
        then = (config.get("policy") or {}).get("pretrained_path")
        if then is None or not {own, output_dir.absolute()} & set(Path(then).absolute().parents):
            same = now == then or (now and then and os.path.realpath(now) == os.path.realpath(then))
            return None if same else Difference("policy.path", then, now)
    return None


def is_built_on(checkpoint: Path, start: Path, policy: Mapping[str, Any]) -> bool:
    """Whether the weights that a stage does not train are, bit for bit, those of the checkpoint it should start from.

    Args:
        checkpoint: A ``pretrained_model`` folder of the stage.
        start: One of the stage before.
        policy: The policy's options in the stage's ``train_config.json``.
    """
    files = [folder / "model.safetensors" for folder in (checkpoint, start)]
    prefixes = _LEFT_AS_THEY_ARE["latent_policy"] if policy.get("latent_source") != "actions" else ()
    if policy.get("stage") == "action_decoder" and not policy.get("finetune_policy"):
        prefixes += _LEFT_AS_THEY_ARE["action_decoder"]
    if policy.get("stage") not in _LEFT_AS_THEY_ARE or not all(file.is_file() for file in files):
        return True
    with safe_open(files[0], "pt") as later, safe_open(files[1], "pt") as earlier:
        shared = [name for name in set(later.keys()) & set(earlier.keys()) if name.startswith(prefixes)]
        return all(later.get_tensor(name).equal(earlier.get_tensor(name)) for name in shared)
