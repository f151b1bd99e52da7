"""``lafp serve``: the emulated arm moved by LeRobot's own client, through LeRobot's own server."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lerobot_lafp.cli.main import main as lafp
from lerobot_lafp.simulators.so100.arm import SimArm

from ..simulated_time import MachineTime, shared
from .so100 import FPS, Trained, assert_within_limits, robot_options

#: LeRobot's client, whose driver waits as long as the emulated arm has something to say. First argument: whose time.
CLIENT = f"""
import runpy, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.simulated_time import TimeElsewhere, drive_in
drive_in(TimeElsewhere(sys.argv.pop(1)), setattr)
runpy.run_module("lerobot.async_inference.robot_client", run_name="__main__", alter_sys=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in ``folder``, where LeRobot logs, that Ctrl-C interrupts, even where this one is in the background."""

    def heed_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stderr=pipe, text=True, preexec_fn=heed_interrupts) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Or until the process has ended."""
    while not happened() and process.poll() is None:
        time.sleep(0.1)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return not probe.connect_ex(("127.0.0.1", port))


def interrupted(process: subprocess.Popen[str]) -> str:
    """What it said until it ended."""
    process.send_signal(signal.SIGINT)
    return process.communicate()[1]


@pytest.fixture
def simulated_time() -> MachineTime:
    """Server and client each live in the machine's."""
    return MachineTime()


def test_lerobots_client_moves_the_arm(
    so100: Trained, simulated_time: MachineTime, arm: SimArm, tmp_path: Path
) -> None:
    port = free_port()
    serve = [sys.executable, "-m", "lerobot_lafp.cli", "serve", f"--port={port}", f"--fps={FPS}"]
    client = [
        f"--server_address=127.0.0.1:{port}",
        "--policy_type=lafp",
        f"--pretrained_name_or_path={so100.checkpoint}",
        "--actions_per_chunk=4",
        f"--fps={FPS}",
        *robot_options(so100, arm),
    ]
    with started(serve, tmp_path) as server, shared(simulated_time) as address:
        wait_until(lambda: listens(port), server)
        with started([sys.executable, "-c", CLIENT, address, *client], tmp_path) as robot:
            wait_until(lambda: len(arm.bus.goals) >= 6 * 2 * FPS, robot)
            said = interrupted(robot)
        served = interrupted(server)
    assert len(arm.bus.goals) >= 6 * 2 * FPS, said[-2000:] + served[-2000:]
    assert len({goal for _, servo, goal in arm.bus.goals if servo == 1}) > 1
    assert_within_limits(so100, arm)
    assert "can run any program here" in served
    assert server.returncode == 130


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
def test_other_machines_are_refused(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lafp(["serve", f"--host={host}"]) == 1
    assert "add --allow_remote" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with started([sys.executable, "-m", "lerobot_lafp.cli", "serve", f"--port={port}"], tmp_path) as server:
            _, said = server.communicate()
    assert server.returncode == 1
    assert f"127.0.0.1:{port} cannot be listened to" in said
