"""A robot and a policy, matched before the robot is connected: the names of its joints, and the rate of a rollout."""

import contextlib
import dataclasses
import importlib
import io
import logging
import pkgutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import draccus
import lerobot.cameras
import lerobot.robots
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.utils.constants import ACTION, OBS_STATE, OBS_STR
from lerobot.utils.feature_utils import hw_to_dataset_features
from lerobot.utils.import_utils import register_third_party_plugins

from ..configuration_lafp import LAFPConfig
from ..errors import UserError, in_one_line

logger = logging.getLogger(__name__)

#: Numbers of a robot that ``lerobot-rollout`` hands to a policy and takes from it (`L/rollout/context.py`).
USED = (".pos", ".vel")
#: In place of a port or an address that was not given: nothing is connected.
PLACEHOLDER = "not-given"


@dataclasses.dataclass
class _Options:
    robot: RobotConfig


def robot_features(options: Sequence[str]) -> dict[str, Any]:
    """Build a robot from options of the command line and list its features, for JSON.

    Args:
        options: ``--robot.type=..`` and others, as for ``lerobot-rollout``. A port may be left out.

    Returns:
        ``type``, ``features`` (``action``, ``observation.*``) and ``left_out``: names that a policy does not get.

    Raises:
        UserError: There is no such robot, or it cannot be built without its hardware or its driver.
    """
    features, left_out = features_of(_configuration(options))
    kind = next(word.partition("=")[2] for word in options if word.startswith("--robot.type="))
    return {"type": kind, "features": features, "left_out": left_out}


def features_of(config: RobotConfig) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """List what a rollout hands to a policy and takes from it, without connecting the robot.

    Args:
        config: The robot's. It stays as it is.

    Returns:
        Features in LeRobot's form (``action``, ``observation.state``, ``observation.images.*``; ``names`` in the
        robot's order, ``shape`` in numbers or pixels), and the sorted names of the robot that a policy does not get.

    Raises:
        UserError: The robot cannot be built without its hardware or its driver.
    """
    config = copy(config)
    with tempfile.TemporaryDirectory() as folder:  # a robot makes its calibration's folder
        config.calibration_dir = Path(folder)
        try:
            robot = make_robot_from_config(config)
            actions, observations = dict(robot.action_features), dict(robot.observation_features)
        except Exception as error:  # of its driver
            why = in_one_line(error.__cause__ or error)
            raise UserError(f"{config.type} cannot be built here, so its names are not known ({why}).") from error
    used = {name: kind for name, kind in observations.items() if isinstance(kind, tuple) or _is_used(name, kind)}
    acted = {name: float for name in actions if name.endswith(USED)}
    features = {**hw_to_dataset_features(acted, ACTION), **hw_to_dataset_features(used, OBS_STR)}
    return features, sorted({*observations, *actions} - {*used, *acted})


def _is_used(name: str, kind: Any) -> bool:
    return kind is float and name.endswith(USED)


def _configuration(options: Sequence[str]) -> RobotConfig:
    _register()
    given = dict(word.removeprefix("--robot.").split("=", 1) for word in options if "=" in word)
    known = sorted(RobotConfig.get_known_choices())
    kind = given.get("type")
    if kind not in known:
        raise UserError(f"--robot.type={kind or ''} is no robot that is known here: {', '.join(known)}.")
    blanks = [f"--robot.{name}={PLACEHOLDER}" for name in _required(RobotConfig.get_choice_class(kind))]
    words = [*(word for word in blanks if word.partition("=")[0].removeprefix("--robot.") not in given), *options]
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            return draccus.parse(config_class=_Options, args=words).robot
    except (Exception, SystemExit) as error:  # draccus ends the process over an option that it does not know
        why = in_one_line(error) if isinstance(error, Exception) else told.getvalue().strip().splitlines()[-1:]
        raise UserError(
            f"The options of --robot.type={kind} cannot be read ({why if isinstance(why, str) else ' '.join(why)})."
        ) from error


def _required(cls: Any, prefix: str = "") -> Iterator[str]:
    """Texts that a robot's configuration cannot do without: ports and addresses."""
    for field in dataclasses.fields(cls):
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if has_default:
            continue
        if dataclasses.is_dataclass(field.type):
            yield from _required(field.type, f"{prefix}{field.name}.")
        elif field.type is str:
            yield f"{prefix}{field.name}"


def _register() -> None:
    """Import what registers robots and cameras: LeRobot's own, as far as their drivers are there, and plugins."""
    for package in (lerobot.robots, lerobot.cameras):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.ispkg:
                with contextlib.suppress(Exception):  # its driver is not installed
                    importlib.import_module(module.name)
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        register_third_party_plugins()
    finally:
        logging.disable(before)


# --- Matched with a policy -----------------------------------------------------------------------------------


def match_rollout(cfg: Any, processors: Sequence[Any] = ()) -> None:
    """Match the rate and the robot of a rollout with its policy (``cfg.policy``), in place.

    Args:
        cfg: LeRobot's ``RolloutConfig``; ``fps`` in Hz.
        processors: The caller's own robot-side pipelines. Where there are any, they give the names, so that none are
            matched here.

    Raises:
        ValueError: The robot's names are others, or the policy cannot be run at ``cfg.fps``.
    """
    _match_rate(cfg)
    if any(each is not None for each in processors):
        return
    try:
        features, _ = features_of(cfg.robot)
    except UserError as error:
        logger.warning("The names of the robot's joints are not checked before it is connected. %s", error)
        return
    match_robot(cfg.policy, features)


def match_robot(config: LAFPConfig, features: Mapping[str, Mapping[str, Any]]) -> None:
    """Match a policy's states and actions with a robot's by name; warn where there are no names to go by.

    Args:
        config: The policy's; ``orders`` is filled in.
        features: The robot's ``observation.state`` and ``action``, as LeRobot describes them (``names``, ``shape``).
            Others are not looked at.

    Raises:
        ValueError: Names or numbers of dimensions are others.
    """
    features = {key: features[key] for key in (OBS_STATE, ACTION) if key in features}
    for key, feature in features.items():
        theirs, width = feature["names"], _width(config, key)
        if width is None or config.names_of(key) is not None:
            continue
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
    if key == ACTION:
        return config.facts.action_dim
    feature = (config.input_features or {}).get(key)
    return None if feature is None else int(feature.shape[0])


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
