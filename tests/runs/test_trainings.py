"""Which checkpoint of a run is its newest whole one, whatever moment the run was killed at; and whose run it is."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lerobot_lafp.errors import UserError
from lerobot_lafp.runs import trainings as runs
from lerobot_lafp.runs.asked import read_command
from lerobot_lafp.runs.trainings import RunState, Training, last_checkpoint, refuse_other_trainings, run_state, train

OPTIONS = ("--policy.type=lafp", "--policy.device=cpu", "--dataset.repo_id=me/pick", "--steps=4")
LAST_FILES = ("scheduler_state.json", "optimizer_param_groups.json")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """``run(*steps, last=None, partial=None)``: a run of 30 steps and its checkpoints, laid out as by LeRobot.

    Of step ``partial`` the file that comes last is cut off: ``of``, which is another after LeRobot 0.6.1.
    """

    def build(*steps: int, last: int | None = None, partial: int | None = None, of: str = LAST_FILES[0]) -> Path:
        for step in (*steps, *([] if partial is None else [partial])):
            folder = tmp_path / "checkpoints" / f"{step:06}"
            (folder / "pretrained_model").mkdir(parents=True)
            (folder / "training_state").mkdir()
            (folder / "pretrained_model" / "train_config.json").write_text('{"steps": 30}')
            (folder / "training_state" / "training_step.json").write_text(f'{{"step": {step}}}')
            for name in LAST_FILES:
                (folder / "training_state" / name).write_text("{" if step == partial and name == of else "{}")
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


@pytest.mark.parametrize("of", LAST_FILES)
def test_half_a_checkpoint_is_passed_over(of: str, run: Callable[..., Path]) -> None:
    assert last_checkpoint(run(10, 20, partial=30, of=of)).parent.name == "000020"


def test_finished(run: Callable[..., Path]) -> None:
    assert run_state(run(10, 30, last=30)) is RunState.FINISHED


def lay(folder: Path, step: int, options: Sequence[str] = OPTIONS) -> None:
    """A run that got to this step, as far as it is looked at."""
    checkpoint = folder / "checkpoints" / f"{step:06}"
    (checkpoint / "pretrained_model").mkdir(parents=True)
    (checkpoint / "training_state").mkdir()
    config = read_command(options, {}).config | {"output_dir": str(folder)}
    (checkpoint / "pretrained_model" / "train_config.json").write_text(json.dumps(config))
    (checkpoint / "training_state" / "training_step.json").write_text(f'{{"step": {step}}}')
    for name in LAST_FILES:
        (checkpoint / "training_state" / name).write_text("{}")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of every `lerobot-train` that was started; each trains to its end at once."""
    calls: list[list[str]] = []

    def run_command(command: str, arguments: Sequence[str], log: Path | None = None) -> None:
        calls.append(list(arguments))
        folder = Path(arguments[-1].removeprefix("--output_dir="))
        lay(folder, 4)

    monkeypatch.setattr(runs, "run_command", run_command)
    return calls


def test_the_same_command_again(started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, OPTIONS)
    train(tmp_path, [*OPTIONS, "--num_workers=1", "--steps=4", "--policy.latent_dim=16"])
    assert started == [[*OPTIONS, f"--output_dir={tmp_path}"]]
    assert capsys.readouterr().out == f"{tmp_path}: already trained, skipped.\n"
    train(tmp_path, [*OPTIONS, "--policy.push_to_hub=true"])
    assert len(started) == 1


def test_another_command(started: list[list[str]], tmp_path: Path) -> None:
    lay(tmp_path / "done", 4)
    with pytest.raises(UserError) as refused:
        train(tmp_path / "done", [*OPTIONS, "--steps=6", "--seed=7"])
    said = str(refused.value)
    assert f"{tmp_path / 'done'} was trained with --seed=1000, --steps=4, and this command asks for" in said
    assert "--seed=7, --steps=6. A run cannot be made longer" in said
    assert f"Choose another --output_dir, or move or delete {tmp_path / 'done'} to train anew." in said
    lay(tmp_path / "begun", 2)
    with pytest.raises(UserError, match="was begun with --seed=1000"):
        train(tmp_path / "begun", [*OPTIONS, "--seed=7"])
    with pytest.raises(UserError, match=r"cannot be read: unrecognized arguments: --policy.typo=7"):
        train(tmp_path / "begun", [*OPTIONS, "--policy.typo=7"])
    assert started == []


def test_a_resumed_run_follows_what_may_change(started: list[list[str]], tmp_path: Path) -> None:
    """And stays in the folder that is asked for, wherever it was begun."""
    lay(tmp_path / "there", 2)
    (tmp_path / "there").rename(tmp_path / "here")
    file = tmp_path / "stage.yaml"
    file.write_text("dataset: {repo_id: me/pick}\npolicy: {type: lafp, device: cpu}\nsteps: 4\nwandb: {enable: true}\n")
    train(tmp_path / "here", [f"--config_path={file}", "--num_workers", "3"])
    assert started[0][1:] == [
        *("--resume=true", "--policy.device=cpu", "--wandb.enable=true", "--num_workers=3"),
        f"--output_dir={tmp_path / 'here'}",
    ]


def test_a_training_without_its_last_checkpoint_has_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs, "run_command", lambda *_: None)
    with pytest.raises(UserError, match="left no checkpoint of its last step"):
        train(tmp_path, OPTIONS)


@pytest.mark.parametrize(("first", "says"), [(None, "is not trained yet"), (2, "is not trained to its end")])
def test_what_was_built_on_an_earlier_training(first: int | None, says: str, tmp_path: Path) -> None:
    """Whatever is trained now, those would not be built on it: they are named, and nothing is started."""
    one, two, three, rival = (tmp_path / name for name in ("one", "two", "three", "rival"))
    if first is not None:
        lay(one, first)
    for folder in (three, rival):
        lay(folder, 4)
    trainings = [Training(one, OPTIONS), Training(two, OPTIONS, one), Training(three, OPTIONS, two)]
    with pytest.raises(UserError) as refused:
        refuse_other_trainings([*trainings, Training(rival, OPTIONS)])
    assert f"{one} {says}, but {three} was built on an earlier training of it. Move or delete {three}" in str(
        refused.value
    )
