"""``lafp sim-arm``: an emulated SO-100 on a port, until interrupted."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..simulators.so100.arm import CALIBRATION, SimArm
from ..simulators.so100.control import ControlServer, socket_of
from .arguments import CommandParser

USAGE = """lafp sim-arm --port=PATH [--calibration=FILE] [--seed=N] [--log=FILE]

An emulated SO-100 arm: six Feetech STS3215 servos that answer at PATH as real ones do on a serial port, until you
interrupt it. LeRobot's own driver runs against it, and what it prints at the start is what to give to lerobot-record,
lerobot-teleoperate or lerobot-rollout. FILE is the arm's calibration as LeRobot keeps it (the arm is set to it; where
there is none yet, one is written). Two arms for bi_so_follower are two such commands.

The arm has a target to reach with its tip: red in the pictures of its cameras {type: sim_arm, port: PATH, view: VIEW},
where VIEW is front or side, and known to the teleoperator --teleop.type=sim_arm --teleop.port=PATH, which goes there.
Back at home and at rest, the arm gets another target; N seeds them. --log gets a line of JSON a target: whether it was
reached, when, and how nearly.
"""


def run_sim_arm(arguments: Sequence[str], stop: threading.Event | None = None) -> int:
    """Run ``lafp sim-arm`` as ``USAGE`` says, until ``stop`` is set or Ctrl-C is pressed; returns the exit status.

    Raises:
        UserError: An argument is missing or does not fit.
    """
    parser = CommandParser("sim-arm", USAGE)
    parser.add_argument("--port", type=Path, required=True)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path)
    given = parser.parse_args(arguments)
    port: Path = given.port.absolute()
    file: Path = (given.calibration or Path(f"{port}.calibration") / "sim.json").absolute()
    if file.suffix != ".json":
        raise UserError(f"--calibration={given.calibration} has to be a .json file, named by the robot's id.")
    if file.exists():
        try:
            calibration = json.loads(file.read_text())
        except ValueError as error:
            raise UserError(f"{file} is no calibration file ({error}). Remove it to get a fresh one.") from error
    else:
        calibration = CALIBRATION
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(calibration, indent=4) + "\n")
    with SimArm(port, calibration, given.seed, given.log) as arm, ControlServer(arm, socket_of(port)):
        print(
            f"An emulated SO-100 answers at {port}. Give LeRobot:\n"
            f"  --robot.type=so100_follower --robot.port={port} \\\n"
            f"  --robot.id={file.stem} --robot.calibration_dir={file.parent} \\\n"
            f'  --robot.cameras="{{front: {{type: sim_arm, port: {port}, width: 96, height: 96, fps: 30}}}}"\n'
            f"and for a teleoperator that knows the task: --teleop.type=sim_arm --teleop.port={port}\n"
            "Ctrl-C ends it.",
            flush=True,
        )
        try:
            (stop or threading.Event()).wait()
        except KeyboardInterrupt:
            done = arm.task.rollouts
            print(f"\n{sum(r.reached for r in done)} of {len(done)} targets reached.")
    return 0
