"""Every place where something of LeRobot's is replaced or extended, each with its reason and the version it is for.

LeRobot 0.6.1 hands a policy no word of the episodes that a run trains on, nor of the robot and the rate of a rollout,
and its parser takes no decoder of a policy type's own. What is wrapped here is left as it is for other policies.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import yaml
from draccus.utils import DecodingError
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import CONFIG_NAME
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from lerobot.configs import PreTrainedConfig
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig
from lerobot.processor import converters
from lerobot.utils.constants import ACTION, OBS_STATE

from .checkpoint.configurations import TYPE, as_now, refuse_old_words, run_as_now
from .checkpoint.download import explained
from .checkpoint.integrity import installed_versions, read_config
from .configuration_lafp import LAFPConfig
from .options.constants import LATENT_ACTION
from .options.context import TrainingContext
from .options.features import is_read, name_axes
from .training.dataset_formats import refuse_other_format

logger = logging.getLogger(__name__)


def apply() -> None:
    """Wrap them, once a process."""
    refuse_old_options_of_the_command_line()
    explain_unreadable_configurations()
    read_runs_of_older_versions()
    tell_policies_of_their_training()
    load_no_frames_of_words()
    name_axes_of_cameras()
    check_robots_before_they_are_connected()
    keep_precomputed_latents()


def keep_precomputed_latents() -> None:
    """Let the column ``latent_action`` through LeRobot's pipelines: of a dataset's columns they keep those on a fixed
    list (`L/processor/converters.py`), before any step of ours could save another."""
    if LATENT_ACTION not in converters._COMPLEMENTARY_KEYS:
        converters._COMPLEMENTARY_KEYS = (*converters._COMPLEMENTARY_KEYS, LATENT_ACTION)


def tell_policies_of_their_training() -> None:
    """Note in ``LAFPConfig.context`` what ``lerobot-train`` is about to do, and refuse at once what cannot end well.

    ``TrainPipelineConfig.validate`` is the first that it calls, before the dataset is opened.
    """
    validate = TrainPipelineConfig.validate
    if hasattr(validate, "__wrapped__"):
        return

    @wraps(validate)
    def validate_and_tell(self: TrainPipelineConfig) -> None:
        validate(self)
        policy = self.policy
        if not isinstance(policy, LAFPConfig):
            return
        _refuse_resume_of_another_stage(self)
        _refuse_unread_optimizer(self)
        refuse_other_format(self.dataset.root, self.dataset.repo_id)
        evaluates = self.env is not None and 0 < self.env_eval_freq <= self.steps
        if evaluates and not acts_after(policy):
            raise ValueError(
                f"Stage {policy.stage} gives a policy that cannot act yet, and it is to be evaluated in an environment "
                f"after {self.env_eval_freq} steps. Add --env_eval_freq=0, and evaluate stage action_decoder."
            )
        episodes = self.dataset.episodes
        policy.context = TrainingContext(
            episodes=None if episodes is None else tuple(episodes),
            eval_split=self.dataset.eval_split,
            rename_map=dict(self.rename_map or {}),
            evaluates=evaluates,
        )

    TrainPipelineConfig.validate = validate_and_tell


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


def _refuse_unread_optimizer(cfg: TrainPipelineConfig) -> None:
    """LeRobot replaces an optimiser of the command line by the policy's own, unless it is told not to."""
    given = [word for word in sys.argv if word.startswith(("--optimizer.", "--scheduler."))]
    if given and cfg.use_policy_training_preset and not cfg.resume:
        raise ValueError(
            f"{given[0]} would not be read: LAFP has an optimiser of its own. Set --policy.optimizer_lr and its like, "
            "or add --use_policy_training_preset=false and give both --optimizer and --scheduler options."
        )


def acts_after(config: LAFPConfig) -> bool:
    """Whether a policy can act once it has been through its stage."""
    return config.stage in ("joint", "action_decoder") or (
        config.stage == "latent_policy" and config.decoder_input == "action_head"
    )


def check_robots_before_they_are_connected() -> None:
    """Match names and rate of a rollout with the policy's before its robot is connected.

    ``build_rollout_context`` loads the policy and connects the robot; commands it sends by position, and of names that
    are others it only warns (`L/rollout/context.py: _resolve_action_key_order`).
    """
    from lerobot.rollout import context

    build: Callable[..., Any] = context.build_rollout_context
    if hasattr(build, "__wrapped__"):
        return

    @wraps(build)
    def check_and_build(cfg: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(cfg.policy, LAFPConfig):
            prepare_rollout(cfg, [*arguments[1:], *options.values()])
        return build(cfg, *arguments, **options)

    _replace("build_rollout_context", build, check_and_build)


def _replace(name: str, function: Callable[..., Any], by: Callable[..., Any]) -> None:
    """Put ``by`` in the place of a function of LeRobot's, in every module that has imported it by its name."""
    for where, module in list(sys.modules.items()):
        if where.startswith(("lerobot.", "__main__")) and vars(module).get(name) is function:
            vars(module)[name] = by


def load_no_frames_of_words() -> None:
    """Ask of a column of words no later frames: LeRobot asks of every ``observation.*``, and cannot stack words
    (`L/datasets/factory.py: resolve_delta_timestamps`)."""
    from lerobot.datasets import factory

    resolve: Callable[..., Any] = factory.resolve_delta_timestamps
    if hasattr(resolve, "__wrapped__"):
        return

    @wraps(resolve)
    def resolve_numbers(cfg: Any, ds_meta: Any) -> Any:
        found = resolve(cfg, ds_meta)
        if not isinstance(cfg, LAFPConfig) or found is None:
            return found
        return {key: each for key, each in found.items() if is_read(ds_meta.features[key])} or None

    _replace("resolve_delta_timestamps", resolve, resolve_numbers)


def name_axes_of_cameras() -> None:
    """Give the axes of a camera names before LeRobot looks for them, where a dataset has none, or not three.

    ``make_policy`` asks of each camera what its third axis is called (`L/utils/feature_utils.py:
    dataset_to_policy_features`), and ends in a TypeError where that is not there.
    """
    from lerobot.policies import factory

    make: Callable[..., Any] = factory.make_policy
    if hasattr(make, "__wrapped__"):
        return

    @wraps(make)
    def name_and_make(cfg: Any, ds_meta: Any = None, *arguments: Any, **options: Any) -> Any:
        if isinstance(cfg, LAFPConfig) and ds_meta is not None:
            name_axes(ds_meta.features)
        return make(cfg, ds_meta, *arguments, **options)

    _replace("make_policy", make, name_and_make)


def match_robots_of_the_policy_server() -> None:
    """Match a client's robot with the policy by name when the client names a checkpoint, and the rates of the two.

    LeRobot's policy server hands a client's numbers on by their position. Of the robot it is told what is observed; a
    robot whose actions the policy knows by the names of its state has them in that order.
    """
    from lerobot.async_inference.policy_server import PolicyServer

    instruct = PolicyServer.SendPolicyInstructions
    if hasattr(instruct, "__wrapped__"):
        return

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


def prepare_rollout(cfg: Any, processors: Sequence[Any] = ()) -> None:
    """Match a rollout with its policy (``cfg.policy``), in place.

    Args:
        cfg: LeRobot's ``RolloutConfig``.
        processors: Robot-side pipelines of the caller's own; where there are any, names are theirs to give.

    Raises:
        ValueError: The robot's names are others, or its rate is not one that the policy can be run at.
    """
    _match_rate(cfg)
    if any(each is not None for each in processors):
        return
    features = robot_features(cfg.robot)
    if features is not None:
        match_robot(cfg.policy, features)


def match_robot(config: LAFPConfig, features: Mapping[str, Mapping[str, Any]]) -> None:
    """Match a policy's states and actions with a robot's by name, and say so where there are no names to go by.

    Raises:
        ValueError: Names or numbers of dimensions are others.
    """
    for key in (OBS_STATE, ACTION):
        if key not in features:
            continue
        theirs = features[key]["names"]
        width = config.facts.action_dim if key == ACTION else _width(config, key)
        if width is not None and config.names_of(key) is None:
            if width != len(theirs):
                raise ValueError(
                    f"`{key}` has {width} dimensions in this policy, and the robot has {len(theirs)}: "
                    f"{', '.join(theirs)}. Use the robot that the policy was trained for."
                )
            logger.warning(
                "The policy knows no names of `%s`: its %d dimensions are taken for the robot's in this order: %s.",
                key,
                width,
                ", ".join(theirs),
            )
    config.match_names(features)


def _width(config: LAFPConfig, key: str) -> int | None:
    feature = (config.input_features or {}).get(key)
    return None if feature is None else int(feature.shape[0])


def robot_features(robot_config: Any) -> dict[str, dict[str, Any]] | None:
    """The state and the action that LeRobot's rollout makes of a robot, without connecting it.

    Returns:
        None where the robot cannot be made without being connected.
    """
    from lerobot.robots import make_robot_from_config

    try:
        robot = make_robot_from_config(robot_config)
        observed, commanded = robot.observation_features, robot.action_features
    except Exception as error:  # a robot's own, of which LeRobot then says more
        logger.warning("The names of the robot's joints are not known before it is connected (%s).", error)
        return None
    moves = (".pos", ".vel")  # what LeRobot 0.6.1 hands on (`L/rollout/context.py`)
    names = {
        OBS_STATE: [k for k, kind in observed.items() if kind is float and k.endswith(moves)],
        ACTION: [k for k in commanded if k.endswith(moves)],
    }
    return {key: {"dtype": "float32", "shape": (len(of),), "names": of} for key, of in names.items() if of}


def _match_rate(cfg: Any) -> None:
    """Run the policy at the rate it was trained at: as it is, or with commands interpolated between its own."""
    policy, rate = cfg.policy, float(cfg.fps)
    if policy.facts.fps is None or abs(policy.facts.fps - rate) < 1e-6:
        return
    times = rate / policy.facts.fps
    if (
        policy.commands_positions
        and cfg.interpolation_multiplier == 1
        and times > 1
        and abs(times - round(times)) < 1e-6
    ):
        cfg.fps, cfg.interpolation_multiplier = policy.facts.fps, round(times)
        logger.warning(
            "The policy was trained at %g Hz and runs at that rate; commands are interpolated to %g Hz "
            "(--fps=%g --interpolation_multiplier=%d).",
            policy.facts.fps,
            rate,
            policy.facts.fps,
            round(times),
        )
        return
    raise ValueError(
        f"The rollout runs at --fps={rate:g}, and the policy was trained at {policy.facts.fps:g} frames per second: "
        f"the robot would move {times:.3g} times as fast as demonstrated. Run it with --fps={policy.facts.fps:g} "
        "(commands in between: --interpolation_multiplier=2)."
    )


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


def explain_unreadable_configurations() -> None:
    """Add the mend to what ``PreTrainedConfig.from_pretrained`` raises.

    LeRobot parses config.json before any code of a policy type runs, and its parser takes no decoder of a policy
    type's own: the only place left is around LeRobot's method. Nothing else of it changes.
    """
    read = PreTrainedConfig.from_pretrained.__func__
    if hasattr(read, "__wrapped__"):
        return

    @wraps(read)
    def from_pretrained(
        cls: type[PreTrainedConfig], pretrained_name_or_path: str | Path, **options: Any
    ) -> PreTrainedConfig:
        overrides = [in_json(each) for each in options.pop("cli_overrides", None) or []]
        try:
            folder = _folder_of_configuration(str(pretrained_name_or_path), options)
            if folder is None:
                return cast(PreTrainedConfig, read(cls, pretrained_name_or_path, cli_overrides=overrides, **options))
            if read_config(folder / CONFIG_NAME).get("type") == TYPE:
                refuse_old_words(overrides)
            with as_now(folder) as now:
                config = cast(PreTrainedConfig, read(cls, now, cli_overrides=overrides, **options))
            if isinstance(config, LAFPConfig) and any(word.startswith("--labeled_episodes") for word in overrides):
                config.facts.labels_repo_id = None  # chosen anew, for the dataset of this run
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
            if LAFPConfig.__name__ not in error.message:
                raise
            mend = (
                f". The config.json of {pretrained_name_or_path} does not fit lerobot_policy_lafp "
                f"{installed_versions()['lerobot_policy_lafp']}: install the version that it was made with, or remove "
                f"what was added by hand. `lafp inspect {pretrained_name_or_path}` says which."
            )
            raise DecodingError(error.key_path, error.message + mend) from error

    PreTrainedConfig.from_pretrained = classmethod(from_pretrained)  # type: ignore[arg-type]


def _folder_of_configuration(name: str, options: Mapping[str, Any]) -> Path | None:
    """The folder that holds the config.json of a checkpoint, from the Hub if it is a repository; None: none."""
    if Path(name).is_dir():
        return Path(name) if (Path(name) / CONFIG_NAME).is_file() else None
    try:
        return Path(hf_hub_download(repo_id=name, filename=CONFIG_NAME, **options)).parent
    except HfHubHTTPError as error:
        raise FileNotFoundError(f"{CONFIG_NAME} not found in {name}") from error


def read_runs_of_older_versions() -> None:
    """Bring a run's ``train_config.json`` to this version's options before LeRobot parses it (``--resume=true``), and
    name the successors of old options in a configuration file that somebody wrote."""
    read = TrainPipelineConfig.from_pretrained.__func__
    if hasattr(read, "__wrapped__"):
        return

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


def refuse_old_options_of_the_command_line() -> None:
    """Name the successor of an option of an older version, where LeRobot's parser would say ``unrecognized arguments``.

    Raises:
        SystemExit: One is typed beside ``--policy.type=lafp``; LeRobot swallows every other error of a plugin.
    """
    words = sys.argv[1:]
    typed = [f"{one}={two}" for one, two in pairwise(words)] + words
    if f"--policy.type={TYPE}" in typed:
        try:
            refuse_old_words(typed, "policy.")
        except ValueError as error:
            raise SystemExit(f"error: {error}") from error
