"""An SO-100 of six emulated servos on one bus, calibrated, with a task to do."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .bus import SimBus
from .faults import Faults
from .kinematics import JOINTS, Vector, forward
from .reach import ReachTask, Rollout
from .servo import RESOLUTION, Servo

#: What calibrating a real SO-100 might have found: offset of the encoder and range of the joint, in steps. As in the
#: file that LeRobot keeps of it.
CALIBRATION: dict[str, dict[str, int]] = {
    name: {"id": id, "drive_mode": 0, "homing_offset": offset, "range_min": low, "range_max": high}
    for id, (name, offset, low, high) in enumerate(
        (
            ("shoulder_pan", 132, 750, 3346),
            ("shoulder_lift", -871, 822, 3274),
            ("elbow_flex", 1204, 858, 3238),
            ("wrist_flex", -455, 847, 3249),
            ("wrist_roll", 76, 0, 4095),
            ("gripper", 1391, 2030, 3514),
        ),
        start=1,
    )
}
#: Where the arm rests: folded back, looking down. Radians, the gripper nearly closed.
HOME = np.array([0.0, -0.9, 0.9, 0.6, 0.0, -0.9])
RADIANS_PER_STEP = 2 * np.pi / (RESOLUTION - 1)


class SimArm:
    """Six servos, a port, a target.

    Args:
        link: Where the port is to be found.
        calibration: Joint -> its calibration, as in LeRobot's file.
        seed: Of the targets.
        log: File that gets a line of JSON for every rollout that is over.
        clock: Seconds; unset, the computer's.
    """

    def __init__(
        self,
        link: Path | None = None,
        calibration: Mapping[str, Mapping[str, int]] | None = None,
        seed: int = 0,
        log: Path | None = None,
        **clock: Any,
    ) -> None:
        self.calibration = checked_calibration(CALIBRATION if calibration is None else calibration)
        self._middles = np.array([(of["range_min"] + of["range_max"]) / 2 for of in self.calibration.values()])
        self.log = log
        self.task = ReachTask(HOME, seed)
        self.servos: list[Servo] = []
        for name in JOINTS:
            of = self.calibration[name]
            servo = Servo(of["id"])
            servo["Homing_Offset"] = of["homing_offset"]
            servo["Min_Position_Limit"], servo["Max_Position_Limit"] = of["range_min"], of["range_max"]
            self.servos.append(servo)
        self._place_home()
        self.bus = SimBus(self.servos, link, Faults(seed), on_tick=self._tick, **clock)

    def start(self) -> "SimArm":
        self.bus.start()
        return self

    def stop(self) -> None:
        self.bus.stop()

    def __enter__(self) -> "SimArm":
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def lock(self) -> threading.RLock:
        return self.bus.lock

    @property
    def angles(self) -> Vector:
        """Of the six joints, (6,) in radians from the middle of their ranges."""
        positions = np.array([servo.position for servo in self.servos])
        return (positions - self._middles) * RADIANS_PER_STEP

    def degrees_to_steps(self, degrees: Vector) -> Vector:
        """Joint angles (6,) in degrees as positions in the servos' registers."""
        return np.radians(degrees) / RADIANS_PER_STEP + self._middles

    def reset(self, seed: int | None = None) -> None:
        """Put the arm at home by hand, and draw another target."""
        with self.lock:
            self._place_home()
            self.task.reset(seed)

    def move_target(self) -> None:
        """Draw another target, the arm being where it is."""
        with self.lock:
            self.task.reset()

    def state(self) -> dict[str, Any]:
        """Joint angles in degrees, points of the arm and the target in metres, the task's progress."""
        with self.lock:
            now = self.bus.advance()
            return {
                "degrees": np.degrees(self.angles).tolist(),
                "points": forward(self.angles).tolist(),
                "target": self.task.current.target,
                "reached": self.task.current.reached,
                "rollouts": len(self.task.rollouts),
                "frozen": self.bus.faults.active("freeze", 0, now) is not None,
            }

    def _place_home(self) -> None:
        for servo, steps in zip(self.servos, self.degrees_to_steps(np.degrees(HOME)), strict=True):
            servo.place(float(steps))

    def _tick(self, now: float) -> None:
        angles = self.angles
        over = self.task.tick(now, angles, forward(angles)[-1])
        if over is not None and self.log is not None:
            _append(self.log, over)


def checked_calibration(calibration: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """A calibration in the order of the joints.

    Raises:
        ValueError: A joint is missing, or a value of it is.
    """
    fields = ("id", "drive_mode", "homing_offset", "range_min", "range_max")
    missing = [name for name in JOINTS if name not in calibration or any(f not in calibration[name] for f in fields)]
    if missing:
        raise ValueError(
            f"the calibration lacks {', '.join(missing)}, or one of {', '.join(fields)} of it: it has to be a file as "
            "lerobot-calibrate writes for an SO-100. Leave --calibration away to get one."
        )
    return {name: {field: int(calibration[name][field]) for field in fields} for name in JOINTS}


def _append(log: Path, rollout: Rollout) -> None:
    with log.open("a") as file:
        file.write(json.dumps(vars(rollout)) + "\n")
