"""A training that ends at any moment goes on from a whole checkpoint, and ends where it would have ended.

What ends it happens right before one of its own file operations, so at the same moment on every machine.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.checkpoint.inspection import inspect
from lerobot_lafp.errors import UserError
from lerobot_lafp.runs import commands
from lerobot_lafp.runs.trainings import RunState, last_checkpoint, run_state, train

from .conftest import SHORT, TINY, Data, assert_same_weights

STEPS = 12
#: Operations as Python audits them, each with what it is about, and the number of the checkpoint to go on from then.
MOMENTS = (
    ("open", "000001/pretrained_model/.saving/config.json", 0),
    ("open", "000001/training_state/training_step.json", 0),
    ("os.symlink", "last", 1),
    ("os.rename", "000003/pretrained_model/.saving/model.safetensors", 2),
    ("os.rename", "000004/pretrained_model/.saving/config.json", 3),  # its weights are there
    ("open", "000005/training_state/optimizer_param_groups.json", 4),
    ("open", "000006/training_state/scheduler_state.json", 5),  # the last file of a checkpoint
    ("os.remove", "last", 5),
    ("os.symlink", "last", 6),  # the link there was is gone
    ("os.mkdir", "000009", 8),
)


@dataclass(frozen=True)
class Meets:
    """In place of `lerobot_lafp.runs.commands._call_main`: ``what`` happens to the process before an operation.

    A file that was to be written is there by then, empty.
    """

    operation: str
    path: Path
    what: Callable[[], None]

    def __call__(self, command: str, arguments: list[str], log: Path | None) -> None:
        met = False

        def audit(operation: str, details: tuple[Any, ...]) -> None:
            nonlocal met
            about = details[1 if operation == "os.symlink" else 0] if details else None
            if met or operation != self.operation or str(about) != str(self.path):
                return
            if operation == "open":
                if "w" not in str(details[1]):
                    return
                met = True
                self.path.touch()
            met = True
            self.what()

        sys.addaudithook(audit)
        commands._call_main(command, arguments, log)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_no_more_than(size: int) -> None:
    """As on a full disk: no file may be larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def arguments(data: Data, steps: int) -> list[str]:
    labels = "--policy.labeled_episodes=[0,1]"
    return ["--policy.type=lafp", *data.arguments, labels, *TINY, *SHORT, f"--steps={steps}", "--save_freq=1"]


def train_and_meet(output: Path, options: list[str], operation: str, path: str, what: Callable[[], None]) -> str:
    """A training that ``what`` happens to right before an operation on ``path``, of its checkpoints; its failure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "_call_main", Meets(operation, output / "checkpoints" / path, what))
        with pytest.raises(UserError) as failed:
            train(output, options)
    return str(failed.value)


def assert_goes_on(output: Path, number: int) -> None:
    """From that checkpoint, which can be loaded, and is sound; 0: anew."""
    if not number:
        assert run_state(output) is RunState.NEW
        return
    assert run_state(output) is RunState.INTERRUPTED
    assert last_checkpoint(output).resolve().parent.name == f"{number:06}"
    assert inspect(last_checkpoint(output)).sound
    LAFPPolicy.from_pretrained(last_checkpoint(output))


@pytest.fixture(scope="module")
def uninterrupted(two_way: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("killed") / "whole"
    train(output, arguments(two_way, STEPS))
    return output


def test_killed_again_and_again(
    two_way: Data, uninterrupted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options, output = arguments(two_way, STEPS), tmp_path / "killed"
    for operation, path, number in MOMENTS:
        assert "failed with status -9" in train_and_meet(output, options, operation, path, be_killed)
        assert_goes_on(output, number)
    train(output, options)
    assert "interrupted before, resumed" in capfd.readouterr().out
    assert_same_weights(uninterrupted, output)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the files of another process")
def test_a_disk_that_is_full(two_way: Data, uninterrupted: Path, tmp_path: Path) -> None:
    """As good as: from its fifth checkpoint on no file of the process may be as large as the weights."""
    options, output = arguments(two_way, STEPS), tmp_path / "full"
    fill = partial(write_no_more_than, (last_checkpoint(uninterrupted) / "model.safetensors").stat().st_size // 2)
    assert "failed with status 1" in train_and_meet(output, options, "os.mkdir", "000005", fill)
    assert_goes_on(output, 4)
    train(output, options)
    assert_same_weights(uninterrupted, output)
