"""A scripted expert of gym-aloha's `AlohaTransferCube-v0`: the right arm lifts the cube, the left one takes it over.

Where the tips of the two grippers are to be and when is said by waypoints; dm_control's inverse kinematics makes joint
angles of them, and between them the joints move smoothly. Where the arms meet and how their wrists are turned is drawn
anew for every episode, so that there are many ways of doing it.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from dm_control import mujoco
from dm_control.utils.inverse_kinematics import qpos_from_site_pose
from gym_aloha.constants import ASSETS_DIR, START_ARM_POSE
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
Side = Literal["left", "right"]

SIDES: tuple[Side, Side] = ("left", "right")
_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
#: Of a gripper and its fingers, among the 16 positions of both arms.
_PER_ARM = 8
#: Height of the cube's centre above the table, in metres.
_CUBE = 0.02
#: Largest error of a solved pose, in metres and radians together.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Waypoint:
    """Where the tip of a gripper is to be.

    Attributes:
        step: When, in control steps of 0.02 s.
        place: (x, y, z) in metres. None: the arm is at home.
        pitch: How far the gripper points down, in degrees.
        roll: How far it is turned about its own axis, in degrees.
        open: Of the gripper, 0 to 1.
    """

    step: int
    place: tuple[float, float, float] | None
    pitch: float = 0.0
    roll: float = 0.0
    open: float = 0.0

    def moved(
        self, step: int, by: tuple[float, float, float] = (0.0, 0.0, 0.0), open: float | None = None
    ) -> "Waypoint":
        """The same, later and elsewhere."""
        assert self.place is not None
        x, y, z = (a + b for a, b in zip(self.place, by, strict=True))
        return replace(self, step=step, place=(x, y, z), open=self.open if open is None else open)


def waypoints(cube: Array, rng: np.random.Generator) -> dict[Side, list[Waypoint]]:
    """One way of handing over a cube that lies at ``cube`` (x, y, ..), in metres."""
    meeting = (rng.uniform(-0.05, 0.05), rng.uniform(0.45, 0.55), rng.uniform(0.27, 0.35))
    pitch, tilt, roll = rng.uniform(40, 70), rng.uniform(-10, 15), rng.uniform(75, 105)
    grasp = Waypoint(75, (float(cube[0]), float(cube[1]), _CUBE), pitch, open=1.0)
    give = Waypoint(150, meeting, tilt)
    right = [
        Waypoint(0, None),
        grasp.moved(50, (0, 0, 0.1)),
        grasp,
        grasp.moved(90, open=0.0),
        grasp.moved(105, (0, 0, 0.08), open=0.0),
        give,
        give.moved(190),
        give.moved(205, open=1.0),
        give.moved(225, (0.1, 0, 0)),
    ]
    take = Waypoint(172, meeting, roll=roll, open=1.0).moved(172, (-0.01, 0, 0))
    left = [
        Waypoint(0, None),
        take.moved(60, (-0.14, 0, 0)),
        take.moved(150, (-0.14, 0, 0)),
        take,
        take.moved(188, open=0.0),
        take.moved(225, (-0.05, 0, 0), open=0.0),
    ]
    return {"left": left, "right": right}


class TransferCubeExpert:
    """Plans whole episodes; holds a model of the arms for their kinematics."""

    def __init__(self) -> None:
        self._physics = mujoco.Physics.from_xml_path(str(ASSETS_DIR / "bimanual_viperx_transfer_cube.xml"))

    def actions(self, cube: Array, rng: np.random.Generator) -> NDArray[np.float32]:
        """The joint angles in radians and grippers (0 closed, 1 open) of every step, (N, 14).

        Args:
            cube: Where it lies, (x, y, ..) in metres.
            rng: Draws the way.

        Raises:
            ValueError: The cube is out of reach.
        """
        way = waypoints(cube, rng)
        length = max(points[-1].step for points in way.values()) + 1
        arms = [self._joints(side, way[side], length) for side in SIDES]
        return np.concatenate(arms, axis=1).astype(np.float32)

    def _joints(self, side: Side, points: list[Waypoint], length: int) -> Array:
        """(length, 7) of one arm."""
        first = SIDES.index(side) * _PER_ARM
        at = np.array(START_ARM_POSE[first : first + len(_JOINTS)])
        out = np.zeros((length, len(_JOINTS) + 1))
        before, start = points[0], np.append(at, points[0].open)
        for point in points[1:]:
            at = self._solve(side, first, point, at)
            end = np.append(at, point.open)
            share = np.linspace(0, 1, point.step - before.step + 1)[:, None]
            out[before.step : point.step + 1] = start + (end - start) * share**3 * (10 - 15 * share + 6 * share**2)
            before, start = point, end
        out[before.step :] = start
        return out

    def _solve(self, side: Side, first: int, point: Waypoint, start: Array) -> Array:
        """Joint angles (6,) at a waypoint, near ``start``."""
        facing = 0.0 if side == "left" else 180.0
        x, y, z, w = Rotation.from_euler("ZYX", [facing, point.pitch, point.roll], degrees=True).as_quat()
        self._physics.data.qpos[first : first + len(_JOINTS)] = start
        found = qpos_from_site_pose(
            self._physics,
            f"cali_{side}_site1",  # between the finger tips
            target_pos=np.array(point.place),
            target_quat=np.array([w, x, y, z]),
            joint_names=[f"vx300s_{side}/{joint}" for joint in _JOINTS],
            max_steps=300,
        )
        if found.err_norm > _TOLERANCE:
            raise ValueError(f"The {side} arm does not reach {point.place}.")
        return np.array(found.qpos[first : first + len(_JOINTS)])
