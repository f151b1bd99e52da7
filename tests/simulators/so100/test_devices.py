"""Camera and teleoperator of the emulated arm, made by LeRobot's factories; the questions that they ask."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from lerobot.cameras.utils import make_cameras_from_configs
from lerobot.teleoperators import make_teleoperator_from_config
from lerobot.utils.errors import DeviceNotConnectedError

from lerobot_lafp.simulators.so100.arm import SimArm
from lerobot_lafp.simulators.so100.config_camera import SimArmCameraConfig
from lerobot_lafp.simulators.so100.config_teleoperator import SimArmTeleoperatorConfig
from lerobot_lafp.simulators.so100.control import ControlClient
from lerobot_lafp.simulators.so100.kinematics import JOINTS
from lerobot_lafp.simulators.so100.teleoperator import WAYS, SimArmTeleoperator, Way

from ...simulated_time import SimulatedTime


def test_the_camera_sees_the_arm_move_and_the_target(served: SimArm, tmp_path: Path) -> None:
    (camera,) = make_cameras_from_configs(
        {"front": SimArmCameraConfig(port=str(tmp_path / "arm"), width=64, height=48)}
    ).values()
    camera.connect()
    first = camera.read_latest()
    assert first.shape == (48, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, camera.read())
    served.servos[0].place(served.servos[0].position + 400)
    moved = camera.read()
    assert not np.array_equal(first, moved)
    red = (moved[..., 0] > 180) & (moved[..., 1] < 110) & (moved[..., 2] < 110)
    assert red.sum() >= 4
    camera.disconnect()
    assert not camera.is_connected


def test_every_view_sees_the_arm_move(served: SimArm, tmp_path: Path) -> None:
    port = str(tmp_path / "arm")
    cameras = make_cameras_from_configs({view: SimArmCameraConfig(port=port, view=view) for view in ("front", "side")})
    for camera in cameras.values():
        camera.connect()
    pictures = {view: camera.read() for view, camera in cameras.items()}
    assert not np.array_equal(pictures["front"], pictures["side"])
    served.servos[1].place(served.servos[1].position + 200)
    for view, camera in cameras.items():
        assert not np.array_equal(pictures[view], camera.read())
        camera.disconnect()
    with pytest.raises(ValueError, match="no view 'below': take one of front, side"):
        SimArmCameraConfig(port=port, view="below")


def test_a_frozen_camera_shows_what_it_saw(served: SimArm, tmp_path: Path) -> None:
    (camera,) = make_cameras_from_configs({"front": SimArmCameraConfig(port=str(tmp_path / "arm"))}).values()
    camera.connect()
    first = camera.read()
    client = ControlClient(tmp_path / "arm")
    client.ask("fault", kind="freeze")
    served.servos[0].place(served.servos[0].position + 400)
    assert np.array_equal(first, camera.read())
    client.ask("mend")
    assert not np.array_equal(first, camera.read())
    client.close()
    camera.disconnect()


def test_the_teleoperator_goes_to_the_target(served: SimArm, time: SimulatedTime, tmp_path: Path) -> None:
    teleoperator = make_teleoperator_from_config(
        SimArmTeleoperatorConfig(port=str(tmp_path / "arm"), seconds=(0.1, 0.1))
    )
    assert isinstance(teleoperator, SimArmTeleoperator)
    teleoperator.clock = time.now
    teleoperator.connect()
    before = served.state()["degrees"]
    distances = []
    for _ in range(21):  # the arm follows its commands without a driver
        action = teleoperator.get_action()
        steps = served.degrees_to_steps(np.array([action[f"{joint}.pos"] for joint in JOINTS]))
        for servo, position in zip(served.servos[:5], steps[:5], strict=True):
            servo.place(float(position))
        state = served.state()
        distances.append(float(np.linalg.norm(np.array(state["points"])[-1] - state["target"])))
        if len(distances) == 1:
            assert state["degrees"] == pytest.approx(before, abs=0.1)
        time.sleep(0.005)
    assert distances[-1] < 0.002 < 0.02 < distances[10]
    teleoperator.disconnect()


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_a_way_is_smooth_and_ends_at_its_goal(way: int) -> None:
    start, goal = np.zeros(5), np.array([40.0, -20.0, 30.0, 10.0, 0.0])
    path = Way(start, goal, 1.0, way)
    poses = np.stack([path.at(t) for t in np.linspace(0, 1.2, 121)])
    assert np.array_equal(poses[0], start)
    assert np.allclose(poses[100:], goal)
    assert np.abs(np.diff(poses, axis=0)).max() < 0.05 * 40  # no jump
    assert all((b >= a - 1e-9).all() for a, b in itertools.pairwise(poses[:, [0, 2, 3]]))


def test_ways_differ() -> None:
    start, goal = np.zeros(5), np.array([40.0, -20.0, 30.0, 10.0, 0.0])
    halfway = [Way(start, goal, 1.0, way).at(0.45) for way in range(3)]
    assert halfway[0][0] > 35 > 5 > halfway[1][0]
    assert halfway[1][2] > 25 > 5 > halfway[0][2]


def test_results_and_errors_are_told(served: SimArm, tmp_path: Path) -> None:
    client = ControlClient(tmp_path / "arm")
    assert client.ask("results") == {"rollouts": []}
    before = client.ask("state")["target"]
    client.ask("reset", seed=5)
    assert client.ask("state")["target"] != before
    before, degrees = (client.ask("state")[key] for key in ("target", "degrees"))
    client.ask("move_target")
    after = client.ask("state")
    assert after["target"] != before
    assert after["degrees"] == degrees, "the arm stays where it is"
    with pytest.raises(ValueError, match="nobody answers to 'dance'"):
        client.ask("dance")
    with pytest.raises(ValueError, match="take one of"):
        client.ask("fault", kind="fire")
    client.close()


def test_without_an_arm_the_mend_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="lafp sim-arm --port="):
        ControlClient(tmp_path / "nothing")
    (camera,) = make_cameras_from_configs({"front": SimArmCameraConfig(port="nowhere")}).values()
    with pytest.raises(DeviceNotConnectedError, match="connect"):
        camera.read()
