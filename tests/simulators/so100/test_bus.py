"""LeRobot's driver, unmodified but for its clock, against the emulated arm, over a pseudo-terminal."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lerobot.motors import Motor, MotorNormMode
from lerobot.motors.feetech import FeetechMotorsBus
from lerobot.robots.bi_so_follower import BiSOFollower, BiSOFollowerConfig
from lerobot.robots.so_follower import SO100Follower, SO100FollowerConfig, SOFollowerConfig

from lerobot_lafp.simulators.so100.arm import CALIBRATION, HOME, SimArm, checked_calibration
from lerobot_lafp.simulators.so100.bus import SimBus
from lerobot_lafp.simulators.so100.faults import Fault
from lerobot_lafp.simulators.so100.kinematics import JOINTS
from lerobot_lafp.simulators.so100.servo import Servo

from ...simulated_time import SimulatedTime


@pytest.fixture
def arm(time: SimulatedTime, tmp_path: Path) -> Iterator[SimArm]:
    with time.arm(tmp_path / "arm") as arm:
        yield arm


@pytest.fixture
def calibrations(tmp_path: Path) -> Path:
    folder = tmp_path / "calibration"
    folder.mkdir()
    for name in ("sim", "two_left", "two_right"):
        (folder / f"{name}.json").write_text(json.dumps(CALIBRATION))
    return folder


@pytest.fixture
def robot(arm: SimArm, calibrations: Path) -> Iterator[SO100Follower]:
    robot = SO100Follower(SO100FollowerConfig(id="sim", port=arm.bus.port, calibration_dir=calibrations))
    robot.connect()
    yield robot
    arm.bus.mend()
    if robot.is_connected:
        robot.disconnect()


def _pose(robot: SO100Follower) -> np.ndarray:
    observation = robot.get_observation()
    return np.array([observation[f"{joint}.pos"] for joint in JOINTS])


def _send(robot: SO100Follower, pose: np.ndarray) -> None:
    robot.send_action({f"{joint}.pos": float(x) for joint, x in zip(JOINTS, pose, strict=True)})


def test_the_driver_takes_the_calibration_and_sees_the_arm_at_home(robot: SO100Follower) -> None:
    assert robot.is_calibrated
    assert _pose(robot)[:5] == pytest.approx(np.degrees(HOME)[:5], abs=0.1)


def test_the_arm_goes_where_it_is_sent(robot: SO100Follower, arm: SimArm, time: SimulatedTime) -> None:
    goal = np.array([20.0, -30.0, 40.0, 10.0, 5.0, 50.0])
    _send(robot, goal)
    time.sleep(0.8)
    assert _pose(robot) == pytest.approx(goal, abs=0.2)
    assert [servo for _, servo, _ in list(arm.bus.goals)[-6:]] == [1, 2, 3, 4, 5, 6]


def test_it_takes_time_to_get_there(robot: SO100Follower, time: SimulatedTime) -> None:
    start = _pose(robot)
    _send(robot, np.array([90.0, *start[1:]]))
    assert _pose(robot)[0] == start[0]
    time.sleep(0.3)
    assert 50 < _pose(robot)[0] - start[0] < 70  # at 270 degrees a second at most, and from rest
    time.sleep(0.5)
    assert _pose(robot)[0] == pytest.approx(90, abs=0.2)


def test_disconnecting_switches_the_torque_off(robot: SO100Follower, arm: SimArm) -> None:
    assert all(servo["Torque_Enable"] for servo in arm.servos)
    robot.disconnect()
    assert not any(servo["Torque_Enable"] for servo in arm.servos)


def test_two_arms_at_once(time: SimulatedTime, tmp_path: Path, calibrations: Path) -> None:
    with time.arm(tmp_path / "left") as left, time.arm(tmp_path / "right") as right:
        robot = BiSOFollower(
            BiSOFollowerConfig(
                id="two",
                calibration_dir=calibrations,
                left_arm_config=SOFollowerConfig(port=left.bus.port),
                right_arm_config=SOFollowerConfig(port=right.bus.port),
            )
        )
        robot.connect()
        action = {key: value for key, value in robot.get_observation().items() if key.endswith(".pos")}
        robot.send_action({**action, "left_shoulder_pan.pos": 30.0, "right_shoulder_pan.pos": -30.0})
        time.sleep(0.6)
        seen = robot.get_observation()
        robot.disconnect()
    assert seen["left_shoulder_pan.pos"] == pytest.approx(30, abs=0.2)
    assert seen["right_shoulder_pan.pos"] == pytest.approx(-30, abs=0.2)


def test_a_motor_is_found_and_given_its_id(time: SimulatedTime, tmp_path: Path) -> None:
    with time.governs(SimBus([Servo(1)], tmp_path / "motor", clock=time.now)) as bus:
        driver = FeetechMotorsBus(bus.port, {"elbow_flex": Motor(3, "sts3215", MotorNormMode.DEGREES)})
        driver.setup_motor("elbow_flex", initial_baudrate=1_000_000)
        assert driver.broadcast_ping() == {3: 777}
        driver.disconnect(disable_torque=False)


def test_silence_is_an_error_of_the_driver(robot: SO100Follower, arm: SimArm) -> None:
    arm.bus.inject(Fault("silence", servos=(3,)))
    with pytest.raises(ConnectionError, match="no status packet"):
        robot.get_observation()
    arm.bus.mend()
    robot.get_observation()


def test_silence_ends_by_itself(robot: SO100Follower, arm: SimArm, time: SimulatedTime) -> None:
    arm.bus.inject(Fault("silence", seconds=1.0))
    with pytest.raises(ConnectionError):
        robot.get_observation()
    time.sleep(1.0)
    robot.get_observation()


def test_late_answers_time_out(robot: SO100Follower, arm: SimArm, time: SimulatedTime) -> None:
    """The driver waits for 50 ms, and for as long as its bytes take."""
    asked = time.now()
    arm.bus.inject(Fault("late", servos=(1,), amount=0.04))
    assert robot.bus.read("Present_Position", "shoulder_pan", normalize=False) == arm.servos[0]["Present_Position"]
    assert time.now() == pytest.approx(asked + 0.04, abs=0.002)
    arm.bus.mend()
    arm.bus.inject(Fault("late", servos=(1,), amount=0.06))
    with pytest.raises(ConnectionError, match="no status packet"):
        robot.get_observation()


def test_a_late_answer_is_taken_for_that_to_the_next_question(
    robot: SO100Follower, arm: SimArm, time: SimulatedTime
) -> None:
    arm.bus.inject(Fault("late", servos=(1,), amount=0.2, seconds=0.02))
    with pytest.raises(ConnectionError):
        robot.bus.read("Present_Position", "shoulder_pan", normalize=False)
    time.sleep(0.2)
    position = arm.servos[0]["Present_Position"]
    assert robot.bus.read("Max_Position_Limit", "shoulder_pan", normalize=False) == position


def test_late_answers_never_come_once_all_is_mended(robot: SO100Follower, arm: SimArm, time: SimulatedTime) -> None:
    arm.bus.inject(Fault("late", servos=(1,), amount=0.2))
    with pytest.raises(ConnectionError):
        robot.bus.read("Present_Position", "shoulder_pan", normalize=False)
    arm.bus.mend()
    time.sleep(0.2)
    most = CALIBRATION["shoulder_pan"]["range_max"]
    assert robot.bus.read("Max_Position_Limit", "shoulder_pan", normalize=False) == most


def test_flipped_bits_are_noticed_or_retried(robot: SO100Follower, arm: SimArm) -> None:
    arm.bus.inject(Fault("flip", amount=1.0))
    with pytest.raises(ConnectionError):
        robot.get_observation()


def test_overload_is_in_the_answers_and_takes_the_torque(robot: SO100Follower, arm: SimArm) -> None:
    arm.bus.inject(Fault("overload", servos=(2,)))
    assert arm.servos[1]["Torque_Enable"] == 0
    with pytest.raises(RuntimeError, match="Overload"):
        robot.bus.read("Present_Position", "shoulder_lift")


def test_an_unplugged_port_is_gone_and_comes_back(robot: SO100Follower, arm: SimArm, tmp_path: Path) -> None:
    arm.bus.inject(Fault("unplug"))
    assert not (tmp_path / "arm").exists()
    with pytest.raises(Exception, match=r"."):  # pyserial's or the system's, as with a real cable
        robot.get_observation()
    robot.bus.port_handler.closePort()
    arm.bus.mend()
    again = SO100Follower(robot.config)  # the SDK's port stays "in use" after an error
    again.connect()
    again.get_observation()
    again.disconnect()


def test_a_port_in_use_is_refused(arm: SimArm, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="another --port"):
        SimArm(tmp_path / "arm").start()
    assert (tmp_path / "arm").exists()


def test_a_link_left_behind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "arm").symlink_to("/dev/pts/99999")
    with SimArm(tmp_path / "arm"):
        assert (tmp_path / "arm").exists()
    assert not (tmp_path / "arm").is_symlink()


def test_calibration_has_to_be_whole() -> None:
    part = {name: of for name, of in CALIBRATION.items() if name != "gripper"}
    with pytest.raises(ValueError, match="lacks gripper"):
        checked_calibration(part)


def test_unknown_faults_are_refused() -> None:
    with pytest.raises(ValueError, match="take one of"):
        Fault("fire")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more"):
        Fault("late", seconds=0)
