"""Names of a robot's actions and observations, as ``lerobot-rollout`` uses them: without connecting to it."""

import contextlib
import dataclasses
import importlib
import io
import logging
import pkgutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import draccus
import lerobot.cameras
import lerobot.robots
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.utils.constants import ACTION, OBS_STR
from lerobot.utils.feature_utils import hw_to_dataset_features
from lerobot.utils.import_utils import register_third_party_plugins

from ..errors import UserError, in_one_line

#: Numbers of a robot that ``lerobot-rollout`` hands to a policy and takes from it (`L/rollout/context.py`).
USED = (".pos", ".vel")
#: In place of a port or an address that was not given: nothing is connected.
PLACEHOLDER = "not-given"


@dataclasses.dataclass
class _Options:
    robot: RobotConfig


def robot_features(options: Sequence[str]) -> dict[str, Any]:
    """A robot's features in LeRobot's form, and what of it a rollout leaves out, for JSON.

    Args:
        options: ``--robot.type=..`` and others, as for ``lerobot-rollout``. A port may be left out.

    Returns:
        ``type``, ``features`` (``action``, ``observation.*``) and ``left_out``: names that a policy does not get.

    Raises:
        UserError: There is no such robot, or it cannot be built without its hardware or its driver.
    """
    config = _configuration(options)
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
    return {
        "type": next(word.partition("=")[2] for word in options if word.startswith("--robot.type=")),
        "features": {**hw_to_dataset_features(acted, ACTION), **hw_to_dataset_features(used, OBS_STR)},
        "left_out": sorted({*observations, *actions} - {*used, *acted}),
    }


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
