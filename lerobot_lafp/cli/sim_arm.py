"""``lafp sim-arm``."""

import threading
from pathlib import Path
from typing import Annotated

import typer


def sim_arm(
    port: Annotated[Path, typer.Option("--port", help="Path at which the servos answer, like a serial port.")],
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            show_default="PORT.calibration/sim.json",
            help="LeRobot's calibration file of the arm. It is written if it does not exist.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the targets.")] = 0,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log", show_default="none", help="Append one line of JSON per target: reached or not, when, how close."
        ),
    ] = None,
) -> None:
    """Emulate an SO-100 arm on a serial port.

    Six Feetech STS3215 servos answer as real ones do, until you press Ctrl-C. LeRobot's own driver runs against them.
    The command first prints the options for lerobot-record, lerobot-teleoperate and lerobot-rollout. For
    bi_so_follower, run the command twice.

    The tip of the arm has a target to reach. It is red in the pictures of the cameras {type: sim_arm, port: PORT, view:
    VIEW}, where VIEW is front or side. The teleoperator --teleop.type=sim_arm --teleop.port=PORT knows the target and
    moves there. When the arm is back at home and at rest, it gets a new target.
    """
    from ..simulators.so100.emulation import emulated_arm

    with emulated_arm(port, calibration, seed, log) as (arm, instructions):
        try:
            print(f"{instructions}\nCtrl-C ends it.", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            done = arm.task.rollouts
            print(f"\n{sum(r.reached for r in done)} of {len(done)} targets reached.")
