"""Configurations for tests, of options by their dotted names."""

from dataclasses import fields
from typing import Any

from lerobot_lafp import LAFPConfig
from lerobot_lafp.options.checks import check
from lerobot_lafp.options.groups import Facts

FACTS = {field.name for field in fields(Facts)}


def lafp(**options: Any) -> LAFPConfig:
    """``lafp(horizon=4, limits__margin=0.2, fps=10.0)``: ``__`` stands for a dot; facts go by their own names.

    No dataset decides anything of it.
    """
    own = {name: value for name, value in options.items() if "__" not in name and name not in FACTS}
    config = LAFPConfig(**own)
    config.facts.undecided = []
    put(config, {name: value for name, value in options.items() if name not in own})
    check(config)
    return config


def put(config: LAFPConfig, options: dict[str, Any]) -> None:
    """Set options, those of groups, and facts, in place."""
    for name, value in options.items():
        *groups, last = (f"facts__{name}" if name in FACTS else name).split("__")
        of: Any = config
        for each in groups:
            of = getattr(of, each)
        assert hasattr(of, last), f"{name} is no option"
        setattr(of, last, value)
