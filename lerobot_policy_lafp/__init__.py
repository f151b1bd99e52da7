"""LeRobot imports this module by the distribution's name; importing it registers what `lerobot_lafp` offers."""

from lerobot_lafp.configuration_lafp import LAFPConfig
from lerobot_lafp.envs.configuration_two_way import TwoWayEnvConfig
from lerobot_lafp.sim_arm.config_camera import SimArmCameraConfig
from lerobot_lafp.sim_arm.config_teleoperator import SimArmTeleoperatorConfig

__all__ = ["LAFPConfig", "SimArmCameraConfig", "SimArmTeleoperatorConfig", "TwoWayEnvConfig"]
