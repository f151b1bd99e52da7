"""What ``lafp sim-arm`` does, and the command itself."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lerobot_lafp.errors import UserError
from lerobot_lafp.simulators.so100.arm import CALIBRATION
from lerobot_lafp.simulators.so100.control import ControlClient
from lerobot_lafp.simulators.so100.emulation import emulated_arm


def test_it_answers_while_the_context_lasts(tmp_path: Path) -> None:
    port, file = tmp_path / "arm", tmp_path / "calibration" / "mine.json"
    with emulated_arm(port, file) as (_, instructions):
        client = ControlClient(port)
        assert len(client.ask("state")["degrees"]) == 6
        client.close()
    assert not port.is_symlink()
    assert json.loads(file.read_text()) == CALIBRATION
    assert f"--robot.port={port}" in instructions
    assert "--robot.id=mine" in instructions


def test_the_command_answers_until_it_is_interrupted(tmp_path: Path) -> None:
    def heed_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [sys.executable, "-m", "lerobot_lafp.cli", "sim-arm", f"--port={tmp_path / 'arm'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed_interrupts) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"An emulated SO-100 answers at {tmp_path / 'arm'}. Give LeRobot:\n"
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate()
        finally:
            process.kill()
    assert said.endswith("\n0 of 0 targets reached.\n")
    assert process.returncode == 0


def test_a_broken_calibration_is_refused(tmp_path: Path) -> None:
    port, file = tmp_path / "arm", tmp_path / "sim.json"
    file.write_text("{")
    with pytest.raises(UserError, match="Remove it"), emulated_arm(port, file):
        pass
    file.write_text("{}")
    with pytest.raises(ValueError, match="lacks shoulder_pan"), emulated_arm(port, file):
        pass
    with pytest.raises(UserError, match=r"has to be a \.json file"), emulated_arm(port, tmp_path / "sim.yaml"):
        pass
