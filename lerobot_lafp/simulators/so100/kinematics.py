"""Where the parts of the arm are for given joint angles, and the angles that bring its tip to a point.

Lengths are an SO-100's to about a centimetre: enough for a picture and a task, not for a real arm. At angle zero, the
middle of every joint's range, the upper arm stands upright and the forearm and the hand point forward; positive angles
turn the base to the left and the three other joints down. The base stands at the origin, x forward, y left, z up.
"""

import numpy as np
from numpy.typing import NDArray

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
#: Metres: the shoulder above the table, upper arm, forearm, wrist to the gripper's tip.
SHOULDER_HEIGHT, UPPER_ARM, FOREARM, HAND = 0.12, 0.116, 0.135, 0.10

Vector = NDArray[np.float64]


def forward(angles: Vector) -> Vector:
    """Base, shoulder, elbow, wrist and tip, (5, 3) in metres, for six joint angles in radians."""
    pan, lift, elbow, wrist = angles[:4]
    outwards = np.array([np.cos(pan), np.sin(pan), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    upper = np.sin(lift) * outwards + np.cos(lift) * up
    pitch = lift + elbow
    fore = np.cos(pitch) * outwards - np.sin(pitch) * up
    hand = np.cos(pitch + wrist) * outwards - np.sin(pitch + wrist) * up
    base = np.zeros(3)
    shoulder = base + SHOULDER_HEIGHT * up
    at_elbow = shoulder + UPPER_ARM * upper
    at_wrist = at_elbow + FOREARM * fore
    return np.stack([base, shoulder, at_elbow, at_wrist, at_wrist + HAND * hand])


def inverse(point: Vector, pitch: float = np.pi / 4) -> Vector | None:
    """Angles of pan, lift, elbow and wrist that bring the tip to ``point``, the hand pointing down.

    Args:
        point: (3,) in metres.
        pitch: Of the hand below the horizontal.

    Returns:
        (4,) in radians, elbow up; None where the arm does not reach.
    """
    x, y, z = point
    out = float(np.hypot(x, y)) - HAND * np.cos(pitch)
    up = float(z) - SHOULDER_HEIGHT + HAND * np.sin(pitch)
    reach = float(np.hypot(out, up))
    if not abs(UPPER_ARM - FOREARM) < reach < UPPER_ARM + FOREARM:
        return None
    bend = np.arccos((UPPER_ARM**2 + FOREARM**2 - reach**2) / (2 * UPPER_ARM * FOREARM))  # inner angle at the elbow
    at_shoulder = np.arccos((UPPER_ARM**2 + reach**2 - FOREARM**2) / (2 * UPPER_ARM * reach))
    lift = np.pi / 2 - np.arctan2(up, out) - at_shoulder
    elbow = np.pi / 2 - bend
    return np.array([np.arctan2(y, x), lift, elbow, pitch - lift - elbow])
