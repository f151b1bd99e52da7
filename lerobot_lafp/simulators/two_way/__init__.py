"""The embedded two-way task: an environment, its LeRobot registration and a demonstrator.

``configuration_two_way`` registers it as ``--env.type=lafp_two_way``; importing it, or ``demonstrator``, imports
LeRobot, and importing the environment itself does not.
"""

from .two_way import Episode, Layout, TwoWayEnv, read_episodes

__all__ = ["Episode", "Layout", "TwoWayEnv", "read_episodes"]
