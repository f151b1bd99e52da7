"""How long the stages of `lafp train` are trained where nobody says."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_lafp.options.constants import STAGES, Stage
from lerobot_lafp.runs import budget, stages
from lerobot_lafp.runs.budget import AMOUNTS, AMOUNTS_OF_STATES, BATCH, Amount
from lerobot_lafp.runs.stages import train_stages
from lerobot_lafp.runs.trainings import Training
from lerobot_lafp.training import joined

from ..data.datasets import camera, numbers, scene, write

LENGTHS = (40, 60, 50)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes, whose actions are where the joints go."""

    def frame(episode: int, t: int, draw: np.random.Generator) -> dict[str, Any]:
        state = np.sin(t / 9 + np.arange(2)).astype(np.float32)
        return {"observation.state": state, "action": state}

    features = {"observation.state": numbers(2, ["pan", "lift"]), "action": numbers(2, ["pan", "lift"])}
    return write(tmp_path_factory.mktemp("data") / "pick", features, frame, LENGTHS)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """The runs that would have been started."""
    runs: list[Training] = []
    monkeypatch.setattr(stages, "carry_out", runs.append)
    return runs


def words(root: Path, *more: str) -> list[str]:
    return ["--dataset.repo_id=local/pick", f"--dataset.root={root}", *more]


def with_camera(root: Path) -> Path:
    """The same episodes, seen by a camera too."""

    def frame(episode: int, t: int, draw: np.random.Generator) -> dict[str, Any]:
        state = np.sin(t / 9 + np.arange(2)).astype(np.float32)
        return {"observation.images.top": scene(t / 70, draw), "observation.state": state, "action": state}

    features = {"observation.images.top": camera(), "observation.state": numbers(2), "action": numbers(2)}
    return write(root, features, frame, LENGTHS)


def files(folder: Path, of_first: str = "") -> str:
    """A configuration file for each stage; ``of_first``: what that of the first says of the policy."""
    for number, stage in enumerate(STAGES):
        said = f", {of_first}" if of_first and stage == STAGES[0] else ""
        (folder / f"{number}_{stage}.yaml").write_text(f"policy: {{type: lafp{said}}}\n")
    return str(folder)


def value(run: Training, name: str) -> int:
    return int([word for word in run.arguments if word.startswith(f"--{name}=")][-1].partition("=")[2])


@pytest.mark.parametrize("amounts", [AMOUNTS, AMOUNTS_OF_STATES])
@pytest.mark.parametrize("stage", STAGES)
@given(frames=st.integers(0, 10**7), more=st.integers(0, 10**6), batch=st.sampled_from([8, 64, 256]))
def test_more_frames_take_more_steps_within_limits(
    amounts: dict[Stage, Amount], stage: Stage, frames: int, more: int, batch: int
) -> None:
    amount = amounts[stage]
    steps = amount.steps(frames, batch)
    assert 100 <= steps <= amount.most
    assert steps <= amount.steps(frames + more, batch)
    rounding = 51 * batch
    assert steps == 100 or steps * batch <= max(frames, 1) * amount.most_epochs + rounding
    if steps < amount.least:
        assert abs(steps * batch - max(frames, 1) * amount.most_epochs) <= 2 * rounding
    elif amount.least < steps < amount.most:
        assert abs(steps * batch - frames * amount.epochs) <= rounding


def test_steps_and_batches_are_chosen_and_said(
    trained: list[Training], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_stages(words(dataset, "--policy.labeled_episodes=[1]", f"--output_dir={tmp_path}"))
    said = capsys.readouterr().out
    for run, stage in zip(trained, STAGES, strict=True):
        assert value(run, "steps") == AMOUNTS_OF_STATES[stage].least
        assert value(run, "batch_size") == BATCH
        assert f"--{stage}.steps={AMOUNTS_OF_STATES[stage].least}" in said
    assert "150 frames" in said
    assert "60 labelled frames" in said
    assert "--policy.relative_actions=true" in said


@pytest.mark.parametrize("seen", ["camera", "state"])
def test_a_camera_makes_steps_dear(trained: list[Training], tmp_path: Path, seen: str) -> None:
    root = with_camera(tmp_path / "pick")
    observed = [] if seen == "camera" else ["--policy.observations=[observation.state]"]
    train_stages(words(root, *observed, f"--output_dir={tmp_path / 'out'}"))
    amounts = AMOUNTS if seen == "camera" else AMOUNTS_OF_STATES
    assert [value(run, "steps") for run in trained] == [amounts[stage].steps(sum(LENGTHS), BATCH) for stage in STAGES]


def test_what_is_set_by_hand_stays(trained: list[Training], dataset: Path, tmp_path: Path) -> None:
    own = ["--steps=70", "--latent_policy.steps=80", "--batch_size=5", "--save_freq=9"]
    train_stages(words(dataset, *own, f"--output_dir={tmp_path}"))
    assert [value(run, "steps") for run in trained] == [70, 80, 70]
    assert {value(run, "batch_size") for run in trained} == {5}
    assert {value(run, "save_freq") for run in trained} == {9}


def test_a_file_sets_them_too(trained: list[Training], dataset: Path, tmp_path: Path) -> None:
    for number, stage in enumerate(STAGES):
        (tmp_path / f"{number}_{stage}.yaml").write_text(f"policy: {{type: lafp}}\nsteps: {90 + number}\n")
    train_stages([str(tmp_path), *words(dataset, f"--output_dir={tmp_path / 'out'}")])
    assert not any(word.startswith("--steps") for run in trained for word in run.arguments)
    assert [value(run, "batch_size") for run in trained] == [BATCH] * 3


def test_two_datasets_count_where_they_are_read(
    trained: list[Training], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["--labels.repo_id=local/play", f"--labels.root={dataset}", "--labels.episodes=[0]"]
    train_stages(words(dataset, *labels, f"--output_dir={tmp_path}"))
    said = capsys.readouterr().out
    counts = [line.split()[1] for line in said.splitlines() if ".steps=" in line]
    assert counts == ["190", "150", "40"]


def test_each_dataset_is_opened_once(
    trained: list[Training], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_metadata(of: Any, option: str) -> Any:
        opened.append(option)
        return joined.open_metadata(of, option)

    monkeypatch.setattr(budget, "open_metadata", open_metadata)
    play = shutil.copytree(dataset, tmp_path / "play")
    train_stages(words(dataset, "--labels.repo_id=local/play", f"--labels.root={play}", f"--output_dir={tmp_path}"))
    assert opened == ["dataset", "policy.labels"]


def test_a_dataset_that_cannot_be_opened_is_left_to_the_training(trained: list[Training], tmp_path: Path) -> None:
    """Its message says more than one of ours would."""
    missing = ["--dataset.repo_id=local/none", f"--dataset.root={tmp_path / 'none'}"]
    train_stages([*missing, f"--output_dir={tmp_path}"])
    assert len(trained) == 3
    assert not any(word.startswith("--steps") for run in trained for word in run.arguments)


#: Where a user says which episodes are labelled: words, and what stands in the first stage's file.
PLACES = {
    "for all stages": (["--policy.labeled_episodes=[1]"], ""),
    "for the first": (["--latent_action.policy.labeled_episodes=[1]"], ""),
    "in its file": ([], "labeled_episodes: [1]"),
    "among those that are used": (["--policy.labeled_episodes=[1]", "--dataset.episodes=[0,1]"], ""),
    "with one that is not used": (["--policy.labeled_episodes=[1,2]", "--dataset.episodes=[0,1]"], ""),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_decoder_reads_the_labelled_episodes_alone(
    trained: list[Training], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    options, in_file = PLACES[place]
    train_stages([files(tmp_path, in_file), *words(dataset, *options, f"--output_dir={tmp_path / 'out'}")])
    assert trained[2].arguments[-1] == "--dataset.episodes=[1]"
    assert "60 labelled frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--policy.labeled_episodes=[1]", "--action_decoder.dataset.episodes=[1,2]"],
        ["--policy.labeled_episodes=[1]", "--dataset.episodes=[0,2]"],
        ["--latent_action.policy.labeled_episodes=[1]", "--action_decoder.policy.labeled_episodes=null"],
        ["--latent_action.policy.labeled_episodes=[1]", "--action_decoder.dataset.repo_id=me/other"],
        ["--policy.labeled_episodes=[1"],
    ],
    ids=["its own", "none is used", "all are labelled", "another dataset", "no list"],
)
def test_else_the_decoder_reads_what_is_given(
    trained: list[Training], dataset: Path, tmp_path: Path, options: list[str]
) -> None:
    train_stages(words(dataset, *options, f"--output_dir={tmp_path}"))
    given = [word for word in options if ".episodes=" in word]
    expected = [word.replace("--action_decoder.", "--") for word in given if "dataset" in word]
    assert [word for word in trained[2].arguments if word.startswith("--dataset.episodes=")] == expected


@pytest.mark.parametrize("where", ["typed", "in a file"])
def test_later_stages_see_what_the_first_one_sees(trained: list[Training], tmp_path: Path, where: str) -> None:
    """Without a camera the steps of all are those of states."""

    root = with_camera(tmp_path / "pick")
    folder = [files(tmp_path, "observations: [observation.state]")] if where == "in a file" else []
    typed = [] if folder else ["--latent_action.policy.observations=[observation.state]"]
    train_stages([*folder, *words(root, *typed, f"--output_dir={tmp_path / 'out'}")])
    assert [value(run, "steps") for run in trained] == [
        AMOUNTS_OF_STATES[stage].steps(sum(LENGTHS), BATCH) for stage in STAGES
    ]
