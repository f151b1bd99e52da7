"""`lerobot-rollout` of a LAFP checkpoint with LeRobot's own driver, every byte over the emulated arm's port."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset
from lerobot.robots.so_follower import SO100Follower, SO100FollowerConfig

from lerobot_lafp.modeling_lafp import LAFPPolicy
from lerobot_lafp.runs import last_checkpoint, train
from lerobot_lafp.sim_arm.arm import CALIBRATION, SimArm
from lerobot_lafp.sim_arm.control import ControlServer, socket_of
from lerobot_lafp.sim_arm.demonstrations import TASK, record_demonstrations
from lerobot_lafp.sim_arm.faults import Fault

from .conftest import SHORT, TINY, Finished

FPS = 15
Run = Callable[..., Finished]


@dataclass(frozen=True)
class Trained:
    """A checkpoint for the arm, and the arm's calibration."""

    checkpoint: Path
    calibration: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("so100")
    calibration = folder / "sim.json"
    calibration.write_text(json.dumps(CALIBRATION))
    with SimArm(folder / "arm") as arm, ControlServer(arm, socket_of(folder / "arm")):
        record_demonstrations(folder / "arm", calibration, folder / "data", episodes=3, fps=FPS, side=32)
    data = ["--dataset.repo_id=local/so100_sim", f"--dataset.root={folder / 'data'}"]
    seen = ["--steps=6", "--batch_size=32"]  # most of the frames, for the limits to be those of the demonstrations
    train(folder / "run", ["--policy.type=lafp", *data, *TINY, *SHORT, *seen])
    return Trained(last_checkpoint(folder / "run"), calibration)


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[SimArm]:
    with SimArm(tmp_path / "arm") as arm, ControlServer(arm, socket_of(tmp_path / "arm")):
        yield arm


def options(trained: Trained, arm: SimArm, *more: str) -> list[str]:
    camera = f"{{front: {{type: sim_arm, port: {arm.bus.port}, width: 32, height: 32, fps: {FPS}}}}}"
    return [
        f"--policy.path={trained.checkpoint}",
        "--robot.type=so100_follower",
        f"--robot.port={arm.bus.port}",
        f"--robot.id={trained.calibration.stem}",
        f"--robot.calibration_dir={trained.calibration.parent}",
        f"--robot.cameras={camera}",
        "--device=cpu",
        f"--fps={FPS}",
        "--play_sounds=false",
        *more,
    ]


def assert_within_limits(trained: Trained, arm: SimArm, seconds: float | None = None) -> None:
    """What crossed the wire stayed within range and margin of the demonstrations, by what a step's rounding is."""
    limits = LAFPPolicy.from_pretrained(trained.checkpoint).limits
    assert limits is not None
    low, high = (x.double().numpy() for x in limits.action.widened(0.1, 0.1))
    middle = np.array([(of["range_min"] + of["range_max"]) / 2 for of in CALIBRATION.values()])
    assert len(arm.bus.goals) > 6
    for _, servo, goal in arm.bus.goals:
        joint = servo - 1
        if joint < 5:  # in degrees
            value, step = (goal - middle[joint]) * 360 / 4095, 0.1
        else:
            of = CALIBRATION["gripper"]
            value, step = (goal - of["range_min"]) / (of["range_max"] - of["range_min"]) * 100, 0.1
        assert low[joint] - step <= value <= high[joint] + step, (joint, value, low[joint], high[joint])


def test_a_rollout_moves_the_arm_within_its_limits(trained: Trained, arm: SimArm, run: Run) -> None:
    done = run("lerobot-rollout", *options(trained, arm, "--duration=3"))
    assert done.ok, done.output[-3000:]
    assert len(arm.bus.goals) > 6 * FPS
    assert_within_limits(trained, arm)
    assert not any(servo["Torque_Enable"] for servo in arm.servos)


@pytest.mark.parametrize("strategy", ["episodic", "sentry"])
def test_rollouts_that_record(strategy: str, trained: Trained, arm: SimArm, run: Run, tmp_path: Path) -> None:
    done = run(
        "lerobot-rollout",
        *options(trained, arm, f"--strategy.type={strategy}", "--duration=3"),
        "--dataset.repo_id=local/rollout_sim",
        f"--dataset.root={tmp_path / 'recorded'}",
        "--dataset.num_episodes=2",
        "--dataset.episode_time_s=1.5",
        "--dataset.reset_time_s=0.8",
        f"--dataset.single_task={TASK}",
        f"--dataset.fps={FPS}",
        "--dataset.push_to_hub=false",
    )
    assert done.ok, done.output[-3000:]
    recorded = LeRobotDataset("local/rollout_sim", root=tmp_path / "recorded")
    assert recorded.num_episodes == (2 if strategy == "episodic" else 1)
    assert_within_limits(trained, arm)
    if strategy == "episodic":
        time.sleep(0.5)
        assert len(arm.task.rollouts) == 2, "a target for every episode"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("silence", servos=(3,)), "There is no status packet"),
        (Fault("late", amount=0.3), "status packet"),
        (Fault("flip", amount=1.0), "status packet"),
        (Fault("overload"), "does not follow its commands"),
        (Fault("unplug"), "Input/output error"),
        (Fault("freeze"), "has shown the same picture"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_a_fault_ends_the_rollout(fault: Fault, message: str, trained: Trained, arm: SimArm, run: Run) -> None:
    def strike() -> None:
        while len(arm.bus.goals) < 6 * 4:
            time.sleep(0.01)
        arm.bus.inject(fault)

    struck = threading.Thread(target=strike, daemon=True)
    struck.start()
    done = run("lerobot-rollout", *options(trained, arm, "--duration=20"))
    struck.join()
    assert not done.ok
    assert message in done.output
    assert_within_limits(trained, arm)
    arm.bus.mend()
    time.sleep(1)  # until late answers are over
    robot = SO100Follower(SO100FollowerConfig(id="sim", port=arm.bus.port, calibration_dir=trained.calibration.parent))
    robot.connect()  # the port is free again
    robot.disconnect()
