"""LeRobot's parser registers the options of every policy (environment) under one name each, and the last one wins.

A field of ours that names its choices would therefore narrow the same option of every other policy (environment),
and theirs would narrow ours.
"""

from dataclasses import fields
from typing import Literal, get_origin, get_type_hints

import pytest
from lerobot.configs import PreTrainedConfig
from lerobot.envs.configs import EnvConfig

import lerobot_policy_lafp  # noqa: F401


def choices(config: type) -> set[str]:
    hints = get_type_hints(config)
    return {field.name for field in fields(config) if get_origin(hints[field.name]) is Literal}


@pytest.mark.parametrize(("registry", "ours"), [(PreTrainedConfig, "lafp"), (EnvConfig, "lafp_two_way")])
def test_no_option_is_narrowed(registry: type, ours: str) -> None:
    configs = dict(registry.get_known_choices())
    own = configs.pop(ours)
    assert configs, "LeRobot's own are registered"
    for name, other in configs.items():
        shared = {field.name for field in fields(other)} & {field.name for field in fields(own)}
        assert not shared & (choices(own) | choices(other)), f"options shared with {name}"
