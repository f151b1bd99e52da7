"""An emulated SO-100 and a checkpoint for it: what a rollout is told, and what must have crossed the wire."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata

from lerobot_lafp.modeling_lafp import LAFPPolicy
from lerobot_lafp.simulators.so100.arm import CALIBRATION, HOME, SimArm
from lerobot_lafp.simulators.so100.demonstrations import TASK
from lerobot_lafp.simulators.so100.kinematics import JOINTS, inverse
from lerobot_lafp.simulators.so100.picture import draw
from lerobot_lafp.simulators.so100.teleoperator import GRIPPER, Way

FPS, SIDE = 15, 32


@dataclass(frozen=True)
class Trained:
    """A checkpoint for the arm, and the arm's calibration."""

    checkpoint: Path
    calibration: Path


def demonstrate(root: Path, episodes: int, seconds: float = 2.4) -> None:
    """What `record_demonstrations` records, on a clock of its own: the same however busy the machine is."""
    joints = {"dtype": "float32", "shape": (6,), "names": [f"{joint}.pos" for joint in JOINTS]}
    picture = {"dtype": "image", "shape": (SIDE, SIDE, 3), "names": ["height", "width", "channels"]}
    features = {"action": joints, "observation.state": joints, "observation.images.front": picture}
    dataset = LeRobotDataset.create("local/so100_sim", FPS, features, root=root, use_videos=False)
    now = 0.0
    arm = SimArm(seed=0, clock=lambda: now)
    for episode in range(episodes):
        arm.reset()
        for servo in arm.servos:
            servo["Torque_Enable"] = 1
        angles = inverse(np.array(arm.task.current.target))
        assert angles is not None
        start = np.array(arm.state()["degrees"][:5])
        way = Way(start, np.append(np.degrees(angles), 0.0), seconds * 0.8, episode % 3)
        for frame in range(round(seconds * FPS)):
            state = arm.state()
            opening = _opening(arm, np.array(state["degrees"]))
            command = np.append(way.at(frame / FPS), GRIPPER)
            dataset.add_frame(
                {
                    "task": TASK,
                    "action": command.astype(np.float32),
                    "observation.state": np.append(state["degrees"][:5], opening).astype(np.float32),
                    "observation.images.front": draw(np.array(state["points"]), np.array(state["target"]), SIDE, SIDE),
                }
            )
            steps = arm.degrees_to_steps(np.append(command[:5], state["degrees"][5]))
            for servo, position in zip(arm.servos, steps, strict=True):
                servo["Goal_Position"] = round(position)
            now += 1 / FPS
        dataset.save_episode()
    dataset.finalize()


def _opening(arm: SimArm, degrees: np.ndarray) -> float:
    """Of the gripper, in per cent, as LeRobot's driver reads it."""
    of = CALIBRATION["gripper"]
    return float((arm.degrees_to_steps(degrees)[5] - of["range_min"]) / (of["range_max"] - of["range_min"]) * 100)


def robot_options(so100: Trained, arm: SimArm, robot: str = "so100_follower") -> list[str]:
    """The ``--robot.*`` of an emulated arm with its camera."""
    camera = f"{{type: sim_arm, port: {arm.bus.port}, width: {SIDE}, height: {SIDE}, fps: {FPS}}}"
    return [
        f"--robot.type={robot}",
        f"--robot.port={arm.bus.port}",
        f"--robot.id={so100.calibration.stem}",
        f"--robot.calibration_dir={so100.calibration.parent}",
        f"--robot.cameras={{front: {camera}}}",
    ]


def assert_within_limits(so100: Trained, arm: SimArm, changes: bool = False, goes_home: bool = False) -> None:
    """What crossed the wire stayed within range (and changes) of the demonstrations, by what a step rounds off.

    LeRobot itself brings an arm back to where it began (``goes_home``), which may be out of that range.
    """
    policy = LAFPPolicy.from_pretrained(so100.checkpoint)
    guard = policy._guard
    assert guard is not None
    most = guard.bounds[2].double().numpy()
    demonstrated = LeRobotDatasetMetadata("local/so100_sim", root=so100.calibration.parent / "data").stats["action"]
    more = policy.config.limits.margin * (demonstrated["max"] - demonstrated["min"])
    low, high = demonstrated["min"] - more, demonstrated["max"] + more
    home = np.append(np.degrees(HOME[:5]), _opening(arm, np.degrees(HOME)))
    if goes_home:
        low, high = np.minimum(low, home), np.maximum(high, home)
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
