"""LAFP, the Latent Action Flow Policy, as a LeRobot policy type (``--policy.type=lafp``)."""

from .checkpoint.unreadable import explain_unreadable_configurations
from .configuration_lafp import LAFPConfig
from .lerobot_patches import apply
from .modeling_lafp import LAFPPolicy
from .processor_lafp import make_lafp_pre_post_processors

__all__ = ["LAFPConfig", "LAFPPolicy", "make_lafp_pre_post_processors"]

explain_unreadable_configurations()
apply()
