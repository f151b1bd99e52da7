"""Everything of LeRobot's that is replaced or extended: a table of entries, each with its reason and its versions.

``apply`` puts them in place, once a process; ``apply_to_policy_server`` those of the policy server, which need gRPC.
Other policies see no difference. For each entry, `tests/test_lerobot_patches.py` shows that LeRobot without it still
does what the entry is there for: that test fails when the entry has become needless.
"""

import importlib.metadata
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import wraps
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import yaml
from draccus.utils import DecodingError
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import CONFIG_NAME
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from lerobot.configs import PreTrainedConfig
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig
from lerobot.datasets.utils import INFO_PATH
from lerobot.processor import converters
from lerobot.utils.constants import ACTION, HF_LEROBOT_HOME, OBS_STATE
from packaging.specifiers import SpecifierSet

from .acting.robots import match_robot, match_rollout
from .checkpoint.configurations import as_now, refuse_old_words, run_as_now
from .checkpoint.download import explained
from .checkpoint.files import TYPE
from .checkpoint.integrity import installed_versions, read_config
from .configuration_lafp import LAFPConfig
from .frames.joined import JoinedDataset, without_actions
from .frames.latents import label_ahead
from .frames.serving import of_a_training, stored_datasets
from .options.constants import FROM_LABELS, LATENT_ACTION, LATENT_ACTION_IS_PAD, Stage
from .options.context import TrainingContext
from .options.features import is_read, name_axes
from .training.choices import choose
from .training.dataset_formats import refuse_other_format
from .training.joined import check_labels, fit_together, open_metadata

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patch:
    """One thing of LeRobot's that is replaced or extended.

    Attributes:
        apply: Puts it in place. Called once a process.
        of: What is replaced, by its name in LeRobot.
        without: What LeRobot does by itself, and why that is wrong for LAFP.
        versions: Versions of LeRobot that need it, as a specifier (PEP 440).
    """

    apply: Callable[[], None]
    of: str
    without: str
    versions: str = ">=0.6.1"

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.apply.__name__

    @property
    def is_due(self) -> bool:
        """Whether the LeRobot that is installed needs it."""
        return SpecifierSet(self.versions, prereleases=True).contains(importlib.metadata.version("lerobot"))


def apply() -> None:
    """Put every entry of ``PATCHES`` in place that the installed LeRobot needs. A second call does nothing."""
    _apply(PATCHES)


def apply_to_policy_server() -> None:
    """Put the entries of ``SERVER_PATCHES`` in place, likewise.

    Raises:
        ImportError: gRPC is not installed.
    """
    _apply(SERVER_PATCHES)


_applied: set[str] = set()


def _apply(patches: Sequence[Patch]) -> None:
    for patch in patches:
        if patch.name not in _applied and patch.is_due:
            patch.apply()
            _applied.add(patch.name)


def _replace(module: ModuleType, name: str, by: Callable[..., Any]) -> None:
    """Put ``by`` in the place of a function of LeRobot's, in every module that has imported it by its name."""
    function = getattr(module, name)
    for where, each in list(sys.modules.items()):
        if where.startswith(("lerobot.", "__main__")) and vars(each).get(name) is function:
            vars(each)[name] = by


# --- Checkpoints ---------------------------------------------------------------------------------------------


def refuse_old_options_of_the_command_line() -> None:
    """Name the successor of an option of an older version.

    Raises:
        SystemExit: One is typed beside ``--policy.type=lafp``; LeRobot swallows every other error of a plugin.
    """
    words = sys.argv[1:]
    typed = [f"{one}={two}" for one, two in pairwise(words)] + words
    if f"--policy.type={TYPE}" in typed:
        if (short := next((word for word in words if word.startswith("--labels.")), None)) is not None:
            raise SystemExit(
                f"error: {short} is short for lafp train; LeRobot takes --policy.{short.removeprefix('--')}"
            )
        try:
            refuse_old_words(typed, "policy.")
        except ValueError as error:
            raise SystemExit(f"error: {error}") from error


def explain_unreadable_configurations() -> None:
    """Bring a ``config.json`` of an older version to this version's options, read overrides that are written as YAML,
    and say what mends a file that cannot be read."""
    read = PreTrainedConfig.from_pretrained.__func__

    @wraps(read)
    def from_pretrained(
        cls: type[PreTrainedConfig], pretrained_name_or_path: str | Path, **options: Any
    ) -> PreTrainedConfig:
        overrides = [in_json(each) for each in options.pop("cli_overrides", None) or []]
        folder = None
        try:
            folder = _folder_of_configuration(str(pretrained_name_or_path), options)
            if folder is None:
                return cast(PreTrainedConfig, read(cls, pretrained_name_or_path, cli_overrides=overrides, **options))
            if read_config(folder / CONFIG_NAME).get("type") == TYPE:
                refuse_old_words(overrides)
            with as_now(folder) as now:
                config = cast(PreTrainedConfig, read(cls, now, cli_overrides=overrides, **options))
            if isinstance(config, LAFPConfig):
                _choose_labels_anew(config, overrides)
                config.decide(word.partition("=")[0].removeprefix("--") for word in overrides)
            return config
        except (FileNotFoundError, HFValidationError, LocalEntryNotFoundError) as error:
            of_hub = error if isinstance(error, (HFValidationError, LocalEntryNotFoundError)) else error.__cause__
            if not isinstance(of_hub, (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError)):
                raise
            raise explained(str(pretrained_name_or_path), of_hub, options.get("revision")) from error
        except json.JSONDecodeError as error:
            raise ValueError(
                f"The {CONFIG_NAME} of {pretrained_name_or_path} cannot be read ({error}). Its author has to push it "
                "again, or give a revision where it was whole."
            ) from error
        except DecodingError as error:
            typed = {word.partition("=")[0].removeprefix("--") for word in overrides}
            is_ours = folder is not None and read_config(folder / CONFIG_NAME).get("type") == TYPE
            if ".".join(error.key_path) in typed or not is_ours:
                raise
            mend = (
                f". The config.json of {pretrained_name_or_path} does not fit lerobot_policy_lafp "
                f"{installed_versions()['lerobot_policy_lafp']}: install the version that it was made with, or remove "
                f"what was added by hand. `lafp inspect {pretrained_name_or_path}` says which."
            )
            raise DecodingError(error.key_path, error.message + mend) from error

    PreTrainedConfig.from_pretrained = classmethod(from_pretrained)  # type: ignore[arg-type]


def _choose_labels_anew(config: LAFPConfig, overrides: Sequence[str]) -> None:
    """Labels that are typed beside a checkpoint are for the dataset of this run; folder and episodes are of the labels
    dataset that they were typed with."""
    typed: set[str] = set()
    for word in overrides:
        name, _, value = word.removeprefix("--").partition("=")
        typed |= {f"labels.{each}" for each in json.loads(value)} if name == "labels" and value[:1] == "{" else {name}
    if any(name == "labeled_episodes" or name.startswith("labels.") for name in typed):
        config.facts.labels_repo_id = None
    if "labels.repo_id" in typed:
        for name in {"root", "episodes"} - {name.removeprefix("labels.") for name in typed}:
            setattr(config.labels, name, None)


def _folder_of_configuration(name: str, options: Mapping[str, Any]) -> Path | None:
    """The folder that holds the config.json of a checkpoint, from the Hub if it is a repository; None: none."""
    if Path(name).is_dir():
        return Path(name) if (Path(name) / CONFIG_NAME).is_file() else None
    try:
        return Path(hf_hub_download(repo_id=name, filename=CONFIG_NAME, **options)).parent
    except HfHubHTTPError as error:
        raise FileNotFoundError(f"{CONFIG_NAME} not found in {name}") from error


def in_json(override: str) -> str:
    """``--name={key: value}`` of a command line as strict JSON, which alone LeRobot reads beside ``--policy.path``."""
    name, equals, value = override.partition("=")
    if not equals or value[:1] not in ("{", "["):
        return override
    try:
        json.loads(value)
    except ValueError:
        try:
            return f"{name}={json.dumps(yaml.safe_load(value))}"
        except (yaml.YAMLError, TypeError):
            return override
    return override


def read_runs_of_older_versions() -> None:
    """Bring a run's ``train_config.json`` to this version's options before LeRobot parses it (``--resume=true``), and
    name the successors of old options in a configuration file that somebody wrote."""
    read = TrainPipelineConfig.from_pretrained.__func__

    @wraps(read)
    def from_pretrained(
        cls: type[TrainPipelineConfig], pretrained_name_or_path: str | Path, **options: Any
    ) -> TrainPipelineConfig:
        path = Path(pretrained_name_or_path)
        file = path / TRAIN_CONFIG_NAME if path.is_dir() else path
        if not file.is_file():
            return cast(TrainPipelineConfig, read(cls, pretrained_name_or_path, **options))
        with run_as_now(file, options.get("cli_args") or ()) as now:
            return cast(TrainPipelineConfig, read(cls, now, **options))

    TrainPipelineConfig.from_pretrained = classmethod(from_pretrained)  # type: ignore[arg-type]


def publish_with_the_policys_own_card() -> None:
    """Have ``publish_trained_model`` push the card that ``LAFPPolicy.generate_model_card`` writes."""
    from lerobot.common import train_utils

    publish = getattr(train_utils, "publish_trained_model", None)
    if publish is None:  # numbered later than 0.6.1, and made of earlier sources
        return

    @wraps(publish)
    def publish_with_card(cfg: Any, model: Any, *arguments: Any, **options: Any) -> None:
        if not isinstance(getattr(model, "config", None), LAFPConfig):
            return publish(cfg, model, *arguments, **options)

        def own_card(config: LAFPConfig, cfg: Any = None, dataset_meta: Any = None) -> Any:
            of_dataset = None if cfg is None else cfg.dataset.repo_id
            return model.generate_model_card(of_dataset, config.type, config.license, config.tags, cfg, dataset_meta)

        theirs = train_utils.generate_model_card
        train_utils.generate_model_card = own_card
        try:
            return publish(cfg, model, *arguments, **options)
        finally:
            train_utils.generate_model_card = theirs

    _replace(train_utils, "publish_trained_model", publish_with_card)


# --- Training ------------------------------------------------------------------------------------------------


def tell_policies_of_their_training() -> None:
    """Note in ``LAFPConfig.context`` what ``lerobot-train`` is about to do, and refuse at once what cannot end well.

    ``TrainPipelineConfig.validate`` is the first that it calls, before it opens the dataset.
    """
    validate = TrainPipelineConfig.validate

    @wraps(validate)
    def validate_and_tell(self: TrainPipelineConfig) -> None:
        validate(self)
        if isinstance(self.policy, LAFPConfig):
            _check_training(self, self.policy)
            self.policy.context = _context(self)

    TrainPipelineConfig.validate = validate_and_tell


def _context(cfg: TrainPipelineConfig) -> TrainingContext:
    labels = cfg.policy.labels
    dataset = labels_alone(cfg).dataset if cfg.policy.learns_from_labels_alone else cfg.dataset
    return TrainingContext(
        episodes=None if dataset.episodes is None else tuple(dataset.episodes),
        excluded=tuple(getattr(dataset, "exclude_episodes", None) or ()),  # after LeRobot 0.6.1
        eval_split=dataset.eval_split,
        rename_map=dict(cfg.rename_map or {}),
        of_labels=None if labels.episodes is None else tuple(labels.episodes),
        evaluates=_evaluates(cfg),
        samples=cfg.steps * cfg.batch_size * int(os.environ.get("WORLD_SIZE", 1)),
    )


def _evaluates(cfg: TrainPipelineConfig) -> bool:
    return cfg.env is not None and 0 < cfg.env_eval_freq <= cfg.steps


def _check_training(cfg: TrainPipelineConfig, policy: LAFPConfig) -> None:
    """Refuse a run that cannot end well, before its dataset is opened.

    Raises:
        ValueError: It is such a run; the message names the option that mends it.
    """
    _refuse_resume_of_another_stage(cfg)
    unread = unread_optimizer_option(sys.argv)
    if unread is not None and cfg.use_policy_training_preset and not cfg.resume:
        raise ValueError(unread)
    refuse_other_format(cfg.dataset.root, cfg.dataset.repo_id)
    _check_labels(cfg, policy)
    if _evaluates(cfg) and not acts_after(policy):
        raise ValueError(
            f"Stage {policy.stage} gives a policy that cannot act yet, and it is to be evaluated in an environment "
            f"after {cfg.env_eval_freq} steps. Add --env_eval_freq=0, and evaluate stage action_decoder."
        )
    _check_later_options(cfg, policy)


def _check_labels(cfg: TrainPipelineConfig, policy: LAFPConfig) -> None:
    """Look at the dataset that has the actions (``labels``), and note the one that it was chosen for."""
    labels, data = policy.labels, cfg.dataset
    if labels.repo_id is None:
        given = [f"--policy.labels.{name}" for name in ("root", "episodes") if getattr(labels, name) is not None]
        if given:
            raise ValueError(
                f"{' and '.join(given)} is of a labels dataset, and none is named: --policy.labels.repo_id."
            )
        return
    refuse_other_format(labels.root, labels.repo_id)
    if labels.root is not None and not (Path(labels.root) / INFO_PATH).is_file():
        raise ValueError(
            f"--policy.labels.root={labels.root} holds no LeRobotDataset (no {INFO_PATH}). Correct it, or leave it out "
            f"where {labels.repo_id} is in LeRobot's cache or on the Hub."
        )
    if policy.learns_from_both:
        places = {os.path.realpath(each.root or HF_LEROBOT_HOME / str(each.repo_id)) for each in (data, labels)}
        if len(places) == 1:
            raise ValueError(
                f"`labels.repo_id` and --dataset.repo_id are the same dataset, {labels.repo_id}. Leave the first out, "
                "and name the episodes whose actions may be used: --policy.labeled_episodes=[..]."
            )
        for name, unset in (("dataset.streaming", not data.streaming), ("sample_weighting", not cfg.sample_weighting)):
            if not unset:
                raise ValueError(f"--{name} is of one dataset, and `labels.repo_id` names a second one. Leave it out.")
    chosen_for = policy.facts.labels_repo_id
    if policy.only_stage is Stage.LATENT_POLICY or data.repo_id == labels.repo_id:
        return
    if chosen_for not in (None, data.repo_id):
        raise ValueError(
            f"`labels.repo_id={labels.repo_id}` was chosen beside {chosen_for}, but this is {data.repo_id}. If its own "
            f"actions are to be learnt from, add --policy.labels.repo_id=null; if those of {labels.repo_id} still are, "
            f"--policy.labels.repo_id={labels.repo_id}."
        )
    policy.facts.labels_repo_id = data.repo_id


def labels_alone(cfg: TrainPipelineConfig) -> TrainPipelineConfig:
    """The same training on the dataset that has the actions (``labels``)."""
    labels, alone = cfg.policy.labels, copy(cfg)
    its = {"repo_id": labels.repo_id, "root": labels.root, "episodes": labels.episodes, "revision": None}
    if hasattr(cfg.dataset, "exclude_episodes"):  # after LeRobot 0.6.1
        its["exclude_episodes"] = None
    alone.dataset = replace(cfg.dataset, **its)
    return alone


def _check_later_options(cfg: Any, policy: LAFPConfig) -> None:
    """Look at options that LeRobot has after 0.6.1: checkpoints of shards alone, another average, another precision."""
    checkpoints = getattr(cfg, "checkpoint_format", None)
    if checkpoints is not None and checkpoints.wants_dcp:
        raise ValueError(
            f"--checkpoint_format={checkpoints.value} resumes from shards without the digest that LAFP checks its "
            "weights by. Leave the option out: --checkpoint_format=safetensors gathers the weights into one file."
        )
    average = getattr(cfg, "ema", None)
    if average is not None and average.enable and policy.ema_decay:
        logger.warning(
            "This run keeps two moving averages of the weights. LAFP acts with its own (--policy.ema_decay=%g), so "
            "--ema.enable=true changes only the decoder and the latent actions in `pretrained_model_ema`. Leave "
            "--ema.enable out, or set --policy.ema_decay=0.",
            policy.ema_decay,
        )
    runtime = getattr(cfg, "accelerator", None)
    if runtime is not None and policy.use_amp and runtime.mixed_precision == "no":
        logger.warning(
            "This LeRobot reads --policy.use_amp=true when it evaluates, not when it trains. To train in mixed "
            "precision, add --accelerator.mixed_precision=bf16."
        )


def _refuse_resume_of_another_stage(cfg: TrainPipelineConfig) -> None:
    """``--resume=true`` with another ``--policy.stage`` would go on with the old stage's optimiser."""
    file = Path(str(cfg.policy.pretrained_path)) / CONFIG_NAME
    if not cfg.resume or not file.is_file():
        return
    saved = read_config(file).get("stage")
    if saved != cfg.policy.stage:
        raise ValueError(
            f"--resume=true continues stage {saved}, but --policy.stage={cfg.policy.stage} was given. To go on with "
            f"the next stage start a new run from the checkpoint: --policy.path={file.parent} "
            f"--policy.stage={cfg.policy.stage}; to resume, leave --policy.stage out."
        )


def unread_optimizer_option(words: Sequence[str]) -> str | None:
    """Say which option LeRobot would replace by the policy's own optimiser, and what to do; None if there is none.

    Args:
        words: Of a command line, as ``--name=value`` or ``--name``.
    """
    for word in words:
        if word.partition("=")[0].partition(".")[0] in ("--optimizer", "--scheduler"):
            return (
                f"{word} is not read: LAFP has an optimiser of its own. Set --policy.optimizer_lr and its like, or add "
                "--use_policy_training_preset=false and give both --optimizer and --scheduler options."
            )
    return None


def acts_after(config: LAFPConfig) -> bool:
    """Whether a policy can act once it has been through its stage."""
    return config.stage in ("joint", "action_decoder") or (
        config.stage == "latent_policy" and config.decoder_input == "action_head"
    )


def load_the_frames_that_are_read() -> None:
    """Ask of a column of words no other frames than the present one, and of a dataset that brings latents no frames
    to infer them from."""
    from lerobot.datasets import factory

    resolve: Callable[..., Any] = factory.resolve_delta_timestamps

    @wraps(resolve)
    def resolve_numbers(cfg: Any, ds_meta: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(cfg, LAFPConfig):
            choose(cfg, ds_meta)
            brought = {LATENT_ACTION, LATENT_ACTION_IS_PAD} <= set(ds_meta.features)
            cfg.given_latents = brought and cfg.only_stage is Stage.LATENT_POLICY
        found = resolve(cfg, ds_meta, *arguments, **options)
        if not isinstance(cfg, LAFPConfig) or found is None:
            return found
        return {key: each for key, each in found.items() if is_read(ds_meta.features[key])} or None

    _replace(factory, "resolve_delta_timestamps", resolve_numbers)


def name_axes_of_cameras() -> None:
    """Give the axes of a camera names before LeRobot looks for them, where a dataset has none, or not three."""
    from lerobot.policies import factory

    make: Callable[..., Any] = factory.make_policy

    @wraps(make)
    def name_and_make(cfg: Any, ds_meta: Any = None, *arguments: Any, **options: Any) -> Any:
        if isinstance(cfg, LAFPConfig) and ds_meta is not None:
            name_axes(ds_meta.features)
            choose(cfg, ds_meta)
        return make(cfg, ds_meta, *arguments, **options)

    _replace(factory, "make_policy", name_and_make)


def take_labels_from_another_dataset() -> None:
    """Make a training's dataset of two where another has the actions (``labels``), or of that one alone."""
    from lerobot.datasets import factory

    make: Callable[..., Any] = factory.make_train_eval_datasets

    @wraps(make)
    def make_both(cfg: TrainPipelineConfig) -> Any:
        policy = cfg.policy
        if not isinstance(policy, LAFPConfig) or policy.labels.repo_id is None:
            return make(cfg)
        if policy.only_stage is Stage.LATENT_POLICY:
            return tuple(None if dataset is None else without_actions(dataset) for dataset in make(cfg))
        of_labels = labels_alone(cfg)
        labels = open_metadata(of_labels.dataset, "policy.labels")
        choose(policy, labels, of_labels=True)
        if policy.learns_from_labels_alone:
            check_labels(policy, labels)
            logger.info("Stage %s learns from %s (--policy.labels.repo_id) alone.", policy.stage, labels.repo_id)
            return make(of_labels)
        fit = fit_together(policy, open_metadata(cfg.dataset, "dataset"), labels)
        both = zip(make(cfg), make(of_labels), strict=True)
        return tuple(
            None if video is None else JoinedDataset(video, own, fit, policy.resize_shape) for video, own in both
        )

    _replace(factory, "make_train_eval_datasets", make_both)


def read_from_frame_stores() -> None:
    """Give a training batches from memory and frame stores (`lerobot_lafp/frames`)."""
    from lerobot.datasets import factory

    make: Callable[..., Any] = factory.make_train_eval_datasets

    @wraps(make)
    def make_and_store(cfg: TrainPipelineConfig) -> Any:
        made = make(cfg)
        return of_a_training(made, cfg.policy) if isinstance(cfg.policy, LAFPConfig) else made

    _replace(factory, "make_train_eval_datasets", make_and_store)


def infer_latents_ahead() -> None:
    """Before a stage learns from latents of the one before, infer those of every frame once, where that is less work
    than to infer them for every sample (`lerobot_lafp/frames/latents.py`)."""
    from lerobot.policies import factory

    make: Callable[..., Any] = factory.make_policy

    @wraps(make)
    def make_and_infer(cfg: Any, ds_meta: Any = None, *arguments: Any, **options: Any) -> Any:
        policy = make(cfg, ds_meta, *arguments, **options)
        if isinstance(cfg, LAFPConfig) and ds_meta is not None:
            label_ahead(policy, stored_datasets(ds_meta))
        return policy

    _replace(factory, "make_policy", make_and_infer)


def keep_precomputed_latents() -> None:
    """Let the column ``latent_action`` through LeRobot's pipelines, and which samples are of a labels dataset."""
    converters._COMPLEMENTARY_KEYS = (*converters._COMPLEMENTARY_KEYS, LATENT_ACTION, FROM_LABELS)


# --- Robots --------------------------------------------------------------------------------------------------


def check_robots_before_they_are_connected() -> None:
    """Match names and rate of a rollout with the policy's before its robot is connected."""
    from lerobot.rollout import context

    build: Callable[..., Any] = context.build_rollout_context

    @wraps(build)
    def check_and_build(cfg: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(cfg.policy, LAFPConfig):
            match_rollout(cfg, [*arguments[1:], *options.values()])
        return build(cfg, *arguments, **options)

    _replace(context, "build_rollout_context", check_and_build)


def let_the_policy_server_load_lafp() -> None:
    """Add LAFP to the policy types that the policy server loads."""
    from lerobot.async_inference.constants import SUPPORTED_POLICIES

    SUPPORTED_POLICIES.append(LAFPConfig.get_choice_name(LAFPConfig))


def match_robots_of_the_policy_server() -> None:
    """Match a client's robot with the policy by name when the client names a checkpoint, and the rates of the two.

    The server is told what the robot observes. A robot whose actions the policy knows by the names of its state has
    them in that order.
    """
    from lerobot.async_inference.policy_server import PolicyServer

    instruct = PolicyServer.SendPolicyInstructions

    @wraps(instruct)
    def instruct_and_match(self: Any, request: Any, context: Any) -> Any:
        answer = instruct(self, request, context)
        config = getattr(self.policy, "config", None)
        if isinstance(config, LAFPConfig) and self.lerobot_features is not None:
            features = {key: dict(each) for key, each in self.lerobot_features.items() if key == OBS_STATE}
            actions, joints = config.names_of(ACTION), config.names_of(OBS_STATE)
            if actions and joints and set(actions) == set(joints) and features:
                features[ACTION] = features[OBS_STATE]
            match_robot(config, features)
            if config.facts.fps is not None and abs(config.facts.fps - self.config.fps) > 1e-6:
                logger.warning(
                    "The policy was trained at %g frames per second, and this server counts in --fps=%g. Start it, and "
                    "the client, with --fps=%g, or the robot moves at another speed than demonstrated.",
                    config.facts.fps,
                    self.config.fps,
                    config.facts.fps,
                )
        return answer

    PolicyServer.SendPolicyInstructions = instruct_and_match


# --- The table -----------------------------------------------------------------------------------------------

PATCHES = (
    Patch(
        refuse_old_options_of_the_command_line,
        of="the parser of the command line",
        without="It says `unrecognized arguments` of an option that has another name now.",
    ),
    Patch(
        explain_unreadable_configurations,
        of="PreTrainedConfig.from_pretrained",
        without="It parses config.json before any code of a policy type runs, and its parser takes no decoder of a "
        "policy type's own: older options are errors that do not name the checkpoint, and overrides beside "
        "--policy.path must be strict JSON.",
    ),
    Patch(
        read_runs_of_older_versions,
        of="TrainPipelineConfig.from_pretrained",
        without="It parses the policy's options in train_config.json likewise: older runs cannot be resumed.",
    ),
    Patch(
        publish_with_the_policys_own_card,
        of="common.train_utils.publish_trained_model",
        without="It pushes a card from a template, made of options alone, over the one that the policy was saved with.",
        versions=">0.6.1",
    ),
    Patch(
        tell_policies_of_their_training,
        of="TrainPipelineConfig.validate",
        without="It tells a policy neither the episodes that a run trains on nor the cameras' new names, and starts "
        "runs that fail at their end, or that read none of the optimiser's options.",
    ),
    Patch(
        load_the_frames_that_are_read,
        of="datasets.factory.resolve_delta_timestamps",
        without="It asks every `observation.*` column for other frames, and the loader cannot stack words.",
    ),
    Patch(
        name_axes_of_cameras,
        of="policies.factory.make_policy",
        without="It asks each camera how its third axis is called, and ends in a TypeError where there is no name.",
    ),
    Patch(
        take_labels_from_another_dataset,
        of="datasets.factory.make_train_eval_datasets",
        without="It trains on one dataset, and refuses a list of them.",
    ),
    Patch(
        read_from_frame_stores,
        of="datasets.factory.make_train_eval_datasets",
        without="It reads a sample at a time and decodes its video each time: training waits for it.",
    ),
    Patch(
        infer_latents_ahead,
        of="policies.factory.make_policy",
        without="It makes the dataset before the policy, whose latents a dataset made later could have brought.",
    ),
    Patch(
        keep_precomputed_latents,
        of="processor.converters._COMPLEMENTARY_KEYS",
        without="Its pipelines drop a dataset's columns that are not on this list, before a step of ours can save one.",
    ),
    Patch(
        check_robots_before_they_are_connected,
        of="rollout.context.build_rollout_context",
        without="It hands commands to the robot by their position, whatever the joints are called, at any rate.",
    ),
)
SERVER_PATCHES = (
    Patch(
        let_the_policy_server_load_lafp,
        of="async_inference.constants.SUPPORTED_POLICIES",
        without="The policy server refuses every policy type that is not on this list.",
    ),
    Patch(
        match_robots_of_the_policy_server,
        of="async_inference.policy_server.PolicyServer.SendPolicyInstructions",
        without="The policy server hands a client's numbers on by their position, at any rate.",
    ),
)
