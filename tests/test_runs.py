"""Which checkpoint of a run is its newest whole one, whatever moment the run was killed at."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lerobot_lafp.runs import RunState, last_checkpoint, run_state


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """``run(*steps, last=None, partial=None)``: a run of 30 steps and its checkpoints, laid out as by LeRobot."""

    def build(*steps: int, last: int | None = None, partial: int | None = None) -> Path:
        for step in (*steps, *([] if partial is None else [partial])):
            folder = tmp_path / "checkpoints" / f"{step:06}"
            (folder / "pretrained_model").mkdir(parents=True)
            (folder / "training_state").mkdir()
            (folder / "pretrained_model" / "train_config.json").write_text('{"steps": 30}')
            (folder / "training_state" / "training_step.json").write_text(f'{{"step": {step}}}')
            (folder / "training_state" / "scheduler_state.json").write_text("{" if step == partial else "{}")
        if last is not None:
            (tmp_path / "checkpoints" / "last").symlink_to(f"{last:06}")
        return tmp_path

    return build


def test_the_link_names_it(run: Callable[..., Path]) -> None:
    folder = run(10, 20, last=10, partial=30)  # killed while it saved step 20 or thereafter
    assert last_checkpoint(folder).parent.resolve().name == "000010"
    assert run_state(folder) is RunState.INTERRUPTED


def test_killed_while_the_link_was_replaced(run: Callable[..., Path]) -> None:
    folder = run(10, 20)
    assert last_checkpoint(folder).parent.name == "000020"
    assert run_state(folder) is RunState.INTERRUPTED


def test_killed_before_the_first_was_whole(run: Callable[..., Path]) -> None:
    assert run_state(run(partial=10)) is RunState.NEW


def test_half_a_checkpoint_is_passed_over(run: Callable[..., Path]) -> None:
    assert last_checkpoint(run(10, 20, partial=30)).parent.name == "000020"


def test_finished(run: Callable[..., Path]) -> None:
    assert run_state(run(10, 30, last=30)) is RunState.FINISHED
