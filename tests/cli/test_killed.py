"""A training that ends at any moment goes on from a whole checkpoint, and ends where it would have ended."""

import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.checkpoint.inspection import inspect
from lerobot_lafp.errors import UserError
from lerobot_lafp.runs.trainings import RunState, last_checkpoint, run_state, train

from .conftest import SHORT, TINY, Data, assert_same_weights

STEPS = 12


def arguments(data: Data, steps: int) -> list[str]:
    labels = "--policy.labeled_episodes=[0,1]"
    return ["--policy.type=lafp", *data.arguments, labels, *TINY, *SHORT, f"--steps={steps}", "--save_freq=1"]


def train_and_meet(
    output: Path, options: list[str], checkpoints: int, delay: float, meet: Callable[[int], object]
) -> str:
    """A training to whose process ``meet`` happens, ``delay`` seconds after it began on its checkpoint number
    ``checkpoints``; returns how it failed."""
    failed = []

    def run() -> None:
        try:
            train(output, options)
        except UserError as error:
            failed.append(str(error))

    before = set(multiprocessing.active_children())
    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive() and len(list((output / "checkpoints").glob("0*"))) < checkpoints:
        time.sleep(0.002)
    time.sleep(delay)
    for child in set(multiprocessing.active_children()) - before:
        assert child.pid is not None
        meet(child.pid)
    thread.join()
    assert failed, "the training ended before that"
    return failed[0]


def assert_goes_on(output: Path) -> None:
    """What is left can be loaded, and is sound."""
    if run_state(output) is not RunState.NEW:
        assert inspect(last_checkpoint(output)).sound
        LAFPPolicy.from_pretrained(last_checkpoint(output))


@pytest.fixture(scope="module")
def uninterrupted(two_way: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("killed") / "whole"
    train(output, arguments(two_way, STEPS))
    return output


@pytest.mark.timeout(600)
def test_killed_again_and_again(
    two_way: Data, uninterrupted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options, output = arguments(two_way, STEPS), tmp_path / "killed"
    draw = random.Random(0)
    for checkpoints in (0, 1, 3, 5, 8):
        delay = draw.uniform(0.0, 0.2) + (1.0 if checkpoints == 0 else 0.0)
        train_and_meet(output, options, checkpoints, delay, lambda process: os.kill(process, signal.SIGKILL))
        assert_goes_on(output)
    train(output, options)
    assert "interrupted before, resumed" in capfd.readouterr().out
    assert_same_weights(uninterrupted, output)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the files of another process")
@pytest.mark.timeout(600)
def test_a_disk_that_is_full(two_way: Data, uninterrupted: Path, tmp_path: Path) -> None:
    """As good as: from its fourth checkpoint on no file of the process may be as large as the weights."""
    options, output = arguments(two_way, STEPS), tmp_path / "full"
    most = (last_checkpoint(uninterrupted) / "model.safetensors").stat().st_size // 2

    def fill(process: int) -> None:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (most, most))

    assert "failed with status 1" in train_and_meet(output, options, 4, 0.0, fill)
    assert RunState.INTERRUPTED is run_state(output)
    assert_goes_on(output)
    train(output, options)
    assert_same_weights(uninterrupted, output)
