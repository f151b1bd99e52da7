"""An emulated arm that other processes could ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lerobot_lafp.simulators.so100.arm import SimArm
from lerobot_lafp.simulators.so100.control import ControlServer, socket_of

from ...simulated_time import SimulatedTime, drive_in


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    """Of the emulated arms and of LeRobot's driver."""
    time = SimulatedTime()
    drive_in(time, monkeypatch.setattr)
    return time


@pytest.fixture
def served(time: SimulatedTime, tmp_path: Path) -> Iterator[SimArm]:
    """Its port is ``tmp_path / "arm"``; it answers questions, too."""
    port = tmp_path / "arm"
    with time.arm(port, log=tmp_path / "log.jsonl") as arm, ControlServer(arm, socket_of(port)):
        yield arm
