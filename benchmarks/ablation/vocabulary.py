"""Options under the names that results were made with, and the same as today's ``LAFPConfig`` has them.

A result is known by the digest of its options, so these keep their names; rows whose options are gone say which commit
could run them last (``Variant.last_run_by``).
"""

import json
from collections.abc import Mapping
from typing import Any

import draccus

from lerobot_lafp import LAFPConfig
from lerobot_lafp.options.fields import named_fields, read
from lerobot_lafp.options.migration import migrate_config


def configuration(options: Mapping[str, Any]) -> LAFPConfig:
    """``LAFPConfig`` of options under their old names."""
    saved = json.loads(json.dumps(dict(options)))
    given = {**saved, "text_model": None, "task_encoder": "auto"}  # what makes a file one of the old format
    now = migrate_config(given)
    now.pop("type", None)
    config: LAFPConfig = draccus.decode(LAFPConfig, now)
    config.facts.undecided = []  # a row is what it says, whatever a dataset would decide
    return config


def put(config: Any, options: Mapping[str, Any]) -> None:
    """Set options that need no training, under their old names, in place."""
    if not isinstance(config, LAFPConfig):
        for name, value in options.items():
            setattr(config, name, value)
        return
    wanted, plain = configuration(options), configuration({})
    for name in (each.name for each in named_fields(LAFPConfig) if each.is_option):
        value = read(wanted, name)
        if name in options or value != read(plain, name):
            *groups, last = name.split(".")
            of: Any = config
            for each in groups:
                of = getattr(of, each)
            setattr(of, last, value)
    if "device" in options:
        config.device = options["device"]
