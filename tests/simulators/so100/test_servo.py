"""One servo: its registers, and how its shaft moves."""

import itertools

import pytest

from lerobot_lafp.simulators.so100.protocol import ErrorFlag
from lerobot_lafp.simulators.so100.servo import ADDRESSES, MAX_SPEED, Servo


@pytest.fixture
def servo() -> Servo:
    servo = Servo(1, 1000)
    servo["Torque_Enable"] = 1
    return servo


def _goal(servo: Servo, steps: int) -> None:
    servo.write(ADDRESSES["Goal_Position"][0], steps.to_bytes(2, "little"))


def test_it_says_who_it_is(servo: Servo) -> None:
    assert servo.read(3, 2) == (777).to_bytes(2, "little")
    assert servo.read(0, 1) != b"\0"
    assert servo.read(56, 2) == (1000).to_bytes(2, "little")


def test_it_reaches_its_goal_and_stays(servo: Servo) -> None:
    _goal(servo, 2000)
    servo.advance(2.0)
    assert servo["Present_Position"] == 2000
    assert servo["Moving"] == 0
    assert servo["Present_Velocity"] == 0


@pytest.mark.parametrize(("acceleration", "velocity"), [(0, 0), (254, 0), (20, 0), (254, 500), (5, 800)])
def test_speed_and_acceleration_are_bounded(servo: Servo, acceleration: int, velocity: int) -> None:
    servo["Acceleration"], servo["Goal_Velocity"] = acceleration, velocity
    _goal(servo, 3000)
    speeds, positions = [0.0], [servo.position]
    for _ in range(4000):
        servo.advance(0.002)
        speeds.append(servo.speed)
        positions.append(servo.position)
    assert max(abs(speed) for speed in speeds) <= (velocity or MAX_SPEED) + 1e-6
    assert max(abs(b - a) for a, b in itertools.pairwise(speeds)) <= 100 * (acceleration or 254) * 0.002 + 1e-6
    assert max(positions) < 3003  # it brakes in time
    assert positions[-1] == pytest.approx(3000, abs=0.5)


def test_steps_of_any_length_come_to_the_same(servo: Servo) -> None:
    other = Servo(1, 1000)
    other["Torque_Enable"] = 1
    for one in (servo, other):
        _goal(one, 2500)
    servo.advance(0.3)
    for _ in range(15):
        other.advance(0.02)
    assert servo.position == pytest.approx(other.position)


def test_the_goal_is_kept_within_the_limits(servo: Servo) -> None:
    servo["Min_Position_Limit"], servo["Max_Position_Limit"] = 900, 1500
    for goal, end in ((4000, 1500), (0, 900)):
        _goal(servo, goal)
        servo.advance(3.0)
        assert servo["Present_Position"] == end


def test_the_homing_offset_shifts_what_is_read_and_not_the_shaft(servo: Servo) -> None:
    actual = servo.actual
    address = ADDRESSES["Homing_Offset"][0]
    servo.write(address, (0x800 | 300).to_bytes(2, "little"))  # -300, sign and magnitude
    assert servo["Homing_Offset"] == -300
    assert servo["Present_Position"] == 1300
    assert servo.actual == actual


def test_without_torque_it_does_not_move_and_with_it_again_it_holds(servo: Servo) -> None:
    servo.write(ADDRESSES["Torque_Enable"][0], b"\0")
    _goal(servo, 3000)
    servo.advance(1.0)
    assert servo["Present_Position"] == 1000
    servo.write(ADDRESSES["Torque_Enable"][0], b"\1")
    servo.advance(1.0)
    assert servo["Present_Position"] == 1000


def test_read_only_registers_stay(servo: Servo) -> None:
    servo.write(56, b"\x11\x11")
    servo.write(3, b"\x11\x11")
    assert servo["Present_Position"] == 1000
    assert servo["Model_Number"] == 777


def test_overload_switches_off_until_switched_on(servo: Servo) -> None:
    servo.overload()
    assert servo.error == ErrorFlag.OVERLOAD
    assert servo["Torque_Enable"] == 0
    servo.write(ADDRESSES["Torque_Enable"][0], b"\1")
    assert servo.error == ErrorFlag.NONE
