"""Checkpoints on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lerobot_lafp import LAFPPolicy, make_lafp_pre_post_processors

from ..conftest import STATE


@pytest.fixture
def save(tmp_path: Path) -> Callable[[LAFPPolicy], Path]:
    """A policy and its processors as a checkpoint, as lerobot-train saves them."""

    def to_folder(policy: LAFPPolicy) -> Path:
        folder = tmp_path / "checkpoint"
        policy.save_pretrained(folder)
        stats = {STATE: {"mean": torch.zeros(2), "std": torch.ones(2)}}
        for processor in make_lafp_pre_post_processors(policy.config, stats):
            processor.save_pretrained(folder)
        return folder

    return to_folder


def edit_config(folder: Path, **changes: Any) -> None:
    """Change fields of a checkpoint's configuration by hand, or add some."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
