"""LeRobot imports this module by the distribution's name; importing it registers what `lerobot_lafp` offers."""

from lerobot_lafp.configuration_lafp import LAFPConfig
from lerobot_lafp.envs.configuration_two_way import TwoWayEnvConfig

__all__ = ["LAFPConfig", "TwoWayEnvConfig"]
