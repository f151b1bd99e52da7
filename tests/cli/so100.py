"""An emulated SO-100 and a checkpoint for it: what a rollout is told, and what must have crossed the wire."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lerobot_lafp.modeling_lafp import LAFPPolicy
from lerobot_lafp.sim_arm.arm import CALIBRATION, SimArm

FPS, SIDE = 15, 32
#: LeRobot's driver waits 50 ms for an answer, in which a busy machine may not give the emulator its turn.
RETRIES = "--{}.num_read_retries=5"


@dataclass(frozen=True)
class Trained:
    """A checkpoint for the arm, and the arm's calibration."""

    checkpoint: Path
    calibration: Path


def robot_options(so100: Trained, arm: SimArm, robot: str = "so100_follower") -> list[str]:
    """The ``--robot.*`` of an emulated arm with its camera."""
    camera = f"{{type: sim_arm, port: {arm.bus.port}, width: {SIDE}, height: {SIDE}, fps: {FPS}}}"
    return [
        f"--robot.type={robot}",
        f"--robot.port={arm.bus.port}",
        f"--robot.id={so100.calibration.stem}",
        f"--robot.calibration_dir={so100.calibration.parent}",
        f"--robot.cameras={{front: {camera}}}",
        RETRIES.format("robot"),
    ]


def assert_within_limits(so100: Trained, arm: SimArm, changes: bool = False) -> None:
    """What crossed the wire stayed within range (and changes) of the demonstrations, by what a step rounds off."""
    guard = LAFPPolicy.from_pretrained(so100.checkpoint)._guard
    assert guard is not None
    low, high, most = (x.double().numpy() for x in guard.bounds)
    middle = np.array([(of["range_min"] + of["range_max"]) / 2 for of in CALIBRATION.values()])
    assert len(arm.bus.goals) > 6
    last: dict[int, float] = {}
    for _, servo, goal in arm.bus.goals:
        joint = servo - 1
        if joint < 5:  # in degrees
            value, step = (goal - middle[joint]) * 360 / 4095, 0.1
        else:
            of = CALIBRATION["gripper"]
            value, step = (goal - of["range_min"]) / (of["range_max"] - of["range_min"]) * 100, 0.1
        assert low[joint] - step <= value <= high[joint] + step, (joint, value, low[joint], high[joint])
        if changes:
            assert abs(value - last.get(joint, value)) <= most[joint] + 2 * step, (joint, value, last[joint])
        last[joint] = value
