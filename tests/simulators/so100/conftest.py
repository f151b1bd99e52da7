"""An emulated arm that other processes could ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lerobot_lafp.simulators.so100.arm import SimArm
from lerobot_lafp.simulators.so100.control import ControlServer, socket_of

from ...garbage import no_garbage_collection


@pytest.fixture(autouse=True)
def _answers_in_time() -> Iterator[None]:
    with no_garbage_collection():
        yield


@pytest.fixture
def served(tmp_path: Path) -> Iterator[SimArm]:
    """Its port is ``tmp_path / "arm"``; it answers questions, too."""
    port = tmp_path / "arm"
    with SimArm(port, log=tmp_path / "log.jsonl") as arm, ControlServer(arm, socket_of(port)):
        yield arm
