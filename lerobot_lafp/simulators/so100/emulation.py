"""An emulated SO-100 on a port, set to a calibration file, with what to tell LeRobot of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import UserError
from .arm import CALIBRATION, SimArm
from .control import ControlServer, socket_of


@contextmanager
def emulated_arm(
    port: Path, calibration: Path | None = None, seed: int = 0, log: Path | None = None
) -> Iterator[tuple[SimArm, str]]:
    """Let an arm answer at ``port`` while the context lasts.

    Args:
        port: Path of its serial port.
        calibration: LeRobot's file of it, named by the robot's id. It is written where it does not exist yet. Unset:
            ``PORT.calibration/sim.json``.
        seed: Of the targets that its tip is to reach.
        log: File that gets a line of JSON a target.

    Yields:
        The arm, and the options of LeRobot's commands that connect to it.

    Raises:
        UserError: The calibration file has another name or cannot be read.
        ValueError: It lacks a motor.
    """
    port = port.absolute()
    file = (calibration or Path(f"{port}.calibration") / "sim.json").absolute()
    instructions = (
        f"An emulated SO-100 answers at {port}. Give LeRobot:\n"
        f"  --robot.type=so100_follower --robot.port={port} \\\n"
        f"  --robot.id={file.stem} --robot.calibration_dir={file.parent} \\\n"
        f'  --robot.cameras="{{front: {{type: sim_arm, port: {port}, width: 96, height: 96, fps: 30}}}}"\n'
        f"and for a teleoperator that knows the task: --teleop.type=sim_arm --teleop.port={port}"
    )
    with SimArm(port, _calibration_in(file), seed, log) as arm, ControlServer(arm, socket_of(port)):
        yield arm, instructions


def _calibration_in(file: Path) -> dict[str, dict[str, int]]:
    if file.suffix != ".json":
        raise UserError(f"--calibration={file} has to be a .json file, named by the robot's id.")
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(CALIBRATION, indent=4) + "\n")
        return CALIBRATION
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is no calibration file ({error}). Remove it to get a fresh one.") from error
