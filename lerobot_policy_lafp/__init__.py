"""LeRobot imports this module by the distribution's name; importing it registers what `lerobot_lafp` offers."""

from lerobot_lafp.configuration_lafp import LAFPConfig
from lerobot_lafp.lerobot_patches import apply
from lerobot_lafp.simulators.so100.config_camera import SimArmCameraConfig
from lerobot_lafp.simulators.so100.config_teleoperator import SimArmTeleoperatorConfig
from lerobot_lafp.simulators.two_way.configuration_two_way import TwoWayEnvConfig

apply()

__all__ = ["LAFPConfig", "SimArmCameraConfig", "SimArmTeleoperatorConfig", "TwoWayEnvConfig"]
