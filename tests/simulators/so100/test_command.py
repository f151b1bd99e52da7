"""``lafp sim-arm``, as a command."""

import json
import threading
import time
from pathlib import Path

import pytest

from lerobot_lafp.cli.sim_arm import run_sim_arm
from lerobot_lafp.errors import UserError
from lerobot_lafp.simulators.so100.arm import CALIBRATION
from lerobot_lafp.simulators.so100.control import ControlClient


def test_it_answers_until_it_is_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port, file = tmp_path / "arm", tmp_path / "calibration" / "mine.json"
    stop, status = threading.Event(), []
    thread = threading.Thread(
        target=lambda: status.append(run_sim_arm([f"--port={port}", f"--calibration={file}"], stop))
    )
    thread.start()
    for _ in range(100):
        if Path(f"{port}.control").exists():
            break
        time.sleep(0.05)
    client = ControlClient(port)
    assert len(client.ask("state")["degrees"]) == 6
    client.close()
    stop.set()
    thread.join()
    assert status == [0]
    assert not port.is_symlink()
    assert json.loads(file.read_text()) == CALIBRATION
    printed = capsys.readouterr().out
    assert f"--robot.port={port}" in printed
    assert "--robot.id=mine" in printed


def test_a_broken_calibration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sim.json").write_text("{")
    with pytest.raises(UserError, match="Remove it"):
        run_sim_arm([f"--port={tmp_path / 'arm'}", f"--calibration={tmp_path / 'sim.json'}"])
    (tmp_path / "sim.json").write_text("{}")
    with pytest.raises(ValueError, match="lacks shoulder_pan"):
        run_sim_arm([f"--port={tmp_path / 'arm'}", f"--calibration={tmp_path / 'sim.json'}"])


def test_a_port_is_needed() -> None:
    with pytest.raises(UserError, match="--port"):
        run_sim_arm([])
