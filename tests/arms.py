"""An SO-100 arm, and configurations of policies that were trained on six joints, for tests."""

from types import SimpleNamespace
from typing import Any

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.robots.so_follower import SO100FollowerConfig

from lerobot_lafp import LAFPConfig

from .building import lafp

STATE, ACTION = "observation.state", "action"
#: In the robot's order.
JOINTS = [
    f"{name}.pos" for name in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
]


def arm(names: list[str] | None, state_names: list[str] | None = None, **options: Any) -> LAFPConfig:
    """A policy trained at 15 frames per second on joints called so; ``state_names`` as the actions' unless given."""
    names_of = {"action_names": names, "state_names": state_names or names}
    config = lafp(**{"action_dim": 6, "fps": 15.0, **names_of, **options})
    config.input_features = {STATE: PolicyFeature(FeatureType.STATE, (6,))}
    return config


def rollout(policy: LAFPConfig, fps: float = 15.0, multiplier: int = 1) -> SimpleNamespace:
    """What ``lerobot-rollout`` is told, as far as a policy is matched with it."""
    robot = SO100FollowerConfig(port="none", id="sim")
    return SimpleNamespace(policy=policy, robot=robot, fps=fps, interpolation_multiplier=multiplier)
