"""A training that is killed at any moment goes on from a whole checkpoint, and ends where it would have ended."""

import multiprocessing
import random
import threading
import time
from pathlib import Path

import pytest

from lerobot_lafp.checkpoint.inspection import inspect
from lerobot_lafp.runs import CommandError, RunState, last_checkpoint, run_state, train

from .conftest import SHORT, TINY, Data, assert_same_weights

STEPS = 12


def arguments(data: Data, steps: int) -> list[str]:
    labels = "--policy.labeled_episodes=[0,1]"
    return ["--policy.type=lafp", *data.arguments, labels, *TINY, *SHORT, f"--steps={steps}", "--save_freq=1"]


def train_and_kill(output: Path, options: list[str], checkpoints: int, delay: float) -> None:
    """A training that gets SIGKILL ``delay`` seconds after it began on its checkpoint number ``checkpoints``."""
    failed = []

    def run() -> None:
        try:
            train(output, options)
        except CommandError as error:
            failed.append(error)

    before = set(multiprocessing.active_children())
    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive() and len(list((output / "checkpoints").glob("0*"))) < checkpoints:
        time.sleep(0.002)
    time.sleep(delay)
    for child in set(multiprocessing.active_children()) - before:
        child.kill()
    thread.join()
    assert failed, "the training ended before it was killed"


@pytest.mark.timeout(600)
def test_killed_again_and_again(two_way: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = arguments(two_way, STEPS)
    train(tmp_path / "whole", options)
    draw = random.Random(0)
    for checkpoints in (1, 4, 8):
        train_and_kill(tmp_path / "killed", options, checkpoints, delay=draw.uniform(0.0, 0.2))
        if run_state(tmp_path / "killed") is not RunState.NEW:
            assert inspect(last_checkpoint(tmp_path / "killed")).sound
    train(tmp_path / "killed", options)
    assert "interrupted before, resumed" in capfd.readouterr().out
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")
