"""`lerobot-rollout` of a LAFP checkpoint with LeRobot's own driver, every byte over the emulated arm's port."""

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset
from lerobot.robots.so_follower import SO100Follower, SO100FollowerConfig

from lerobot_lafp.runs.trainings import last_checkpoint, train
from lerobot_lafp.simulators.so100.arm import CALIBRATION, SimArm
from lerobot_lafp.simulators.so100.demonstrations import TASK
from lerobot_lafp.simulators.so100.faults import Fault

from ..simulated_time import SimulatedTime
from .conftest import SHORT, TINY, Finished
from .so100 import FPS, Trained, assert_within_limits, robot_options

Run = Callable[..., Finished]


def options(so100: Trained, arm: SimArm, *more: str, robot: str = "so100_follower") -> list[str]:
    """LeRobot's own way back to where the arm began is no command of the policy's, and left out."""
    path, rate, stay = f"--policy.path={so100.checkpoint}", f"--fps={FPS}", "--return_to_initial_position=false"
    robot_of = robot_options(so100, arm, robot)
    return [path, *robot_of, rate, stay, "--device=cpu", "--play_sounds=false", *more]


@pytest.fixture(scope="module")
def bimanual(so100: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two arms that did the same, of which only the joints are seen."""
    folder = tmp_path_factory.mktemp("bimanual")
    for side in ("left", "right"):
        (folder / f"sim_{side}.json").write_text(json.dumps(CALIBRATION))
    one = LeRobotDataset("local/so100_sim", root=so100.calibration.parent / "data")
    names = [f"{side}_{joint}" for side in ("left", "right") for joint in one.features["action"]["names"]]
    joints = {"dtype": "float32", "shape": (12,), "names": names}
    two = LeRobotDataset.create(
        "local/bimanual", FPS, {"observation.state": joints, "action": joints}, root=folder / "data", use_videos=False
    )
    for index in range(one.num_frames):
        frame = one[index]
        both = {key: np.tile(frame[key].numpy(), 2) for key in ("observation.state", "action")}
        two.add_frame({"task": TASK, **both})
        if frame["frame_index"] == one.meta.episodes["length"][int(frame["episode_index"])] - 1:
            two.save_episode()
    two.finalize()
    data = ["--dataset.repo_id=local/bimanual", f"--dataset.root={folder / 'data'}"]
    train(folder / "run", ["--policy.type=lafp", *data, *TINY, *SHORT, "--steps=6", "--batch_size=32"])
    return Trained(last_checkpoint(folder / "run"), folder / "sim.json")


def test_a_rollout_moves_the_arm_within_its_limits(so100: Trained, arm: SimArm, run: Run) -> None:
    done = run("lerobot-rollout", *options(so100, arm, "--duration=3"))
    assert done.ok, done.output[-3000:]
    assert len(arm.bus.goals) >= 6 * 3 * FPS
    assert_within_limits(so100, arm)
    assert not any(servo["Torque_Enable"] for servo in arm.servos)


def test_two_arms_at_once(bimanual: Trained, simulated_time: SimulatedTime, tmp_path: Path, run: Run) -> None:
    with simulated_time.arm(tmp_path / "left") as left, simulated_time.arm(tmp_path / "right") as right:
        done = run(
            "lerobot-rollout",
            f"--policy.path={bimanual.checkpoint}",
            "--robot.type=bi_so_follower",
            f"--robot.left_arm_config.port={left.bus.port}",
            f"--robot.right_arm_config.port={right.bus.port}",
            f"--robot.id={bimanual.calibration.stem}",
            f"--robot.calibration_dir={bimanual.calibration.parent}",
            "--device=cpu",
            f"--fps={FPS}",
            "--duration=3",
            "--play_sounds=false",
        )
        assert done.ok, done.output[-3000:]
        for arm in (left, right):
            assert len(arm.bus.goals) >= 6 * 3 * FPS
            assert len({goal for _, servo, goal in arm.bus.goals if servo == 1}) > 1
            assert not any(servo["Torque_Enable"] for servo in arm.servos)


def test_real_time_chunks_are_no_jumps(so100: Trained, arm: SimArm, run: Run) -> None:
    done = run(
        "lerobot-rollout",
        *options(so100, arm, "--duration=5", "--inference.type=rtc", robot="so101_follower"),
    )
    assert done.ok, done.output[-3000:]
    assert len(arm.bus.goals) > 6 * 4 * FPS
    assert len({goal for _, servo, goal in arm.bus.goals if servo == 1}) > 1
    assert_within_limits(so100, arm, changes=True)


@pytest.mark.parametrize("strategy", ["episodic", "sentry"])
def test_rollouts_that_record(
    strategy: str, so100: Trained, arm: SimArm, simulated_time: SimulatedTime, run: Run, tmp_path: Path
) -> None:
    done = run(
        "lerobot-rollout",
        *options(so100, arm, f"--strategy.type={strategy}", "--duration=3"),
        "--dataset.repo_id=local/rollout_sim",
        f"--dataset.root={tmp_path / 'recorded'}",
        "--dataset.num_episodes=2",
        "--dataset.episode_time_s=1.5",
        "--dataset.reset_time_s=0.8",
        f"--dataset.single_task={TASK}",
        f"--dataset.fps={FPS}",
        "--dataset.push_to_hub=false",
        "--return_to_initial_position=true",
    )
    assert done.ok, done.output[-3000:]
    recorded = LeRobotDataset("local/rollout_sim", root=tmp_path / "recorded")
    assert recorded.num_episodes == (2 if strategy == "episodic" else 1)
    assert_within_limits(so100, arm, goes_home=True)
    if strategy == "episodic":
        simulated_time.sleep(0.5)
        assert len(arm.task.rollouts) == 2, "a target for every episode"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("silence", servos=(3,)), "There is no status packet"),
        (Fault("late", amount=0.2), "status packet"),
        (Fault("flip", amount=1.0), "status packet"),
        (Fault("overload"), "does not follow its commands"),
        (Fault("unplug"), "Input/output error"),
        (Fault("freeze"), "has shown the same picture"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_a_fault_ends_the_rollout(fault: Fault, message: str, so100: Trained, arm: SimArm, run: Run) -> None:
    class Goals(deque[tuple[float, int, int]]):
        """The fault happens with the fourth command."""

        def append(self, goal: tuple[float, int, int]) -> None:
            super().append(goal)
            if len(self) == 6 * 4:
                arm.bus.inject(fault)

    arm.bus.goals = Goals()
    done = run("lerobot-rollout", *options(so100, arm, "--duration=20"))
    assert len(arm.bus.goals) >= 6 * 4, done.output[-3000:]
    assert not done.ok
    assert message in done.output
    assert_within_limits(so100, arm)
    arm.bus.mend()
    robot = SO100Follower(SO100FollowerConfig(id="sim", port=arm.bus.port, calibration_dir=so100.calibration.parent))
    robot.connect()  # the port is free again
    robot.disconnect()
