"""LAFP, the Latent Action Flow Policy, as a LeRobot policy type (``--policy.type=lafp``).

Importing this package costs nothing: torch and LeRobot are imported when one of its names is first used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration_lafp import LAFPConfig
    from .modeling_lafp import LAFPPolicy
    from .processor_lafp import make_lafp_pre_post_processors

#: Public name -> the module that has it.
_WHERE = {
    "LAFPConfig": "configuration_lafp",
    "LAFPPolicy": "modeling_lafp",
    "make_lafp_pre_post_processors": "processor_lafp",
}

__all__ = ["LAFPConfig", "LAFPPolicy", "make_lafp_pre_post_processors"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(".lerobot_patches", __name__).apply()
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
