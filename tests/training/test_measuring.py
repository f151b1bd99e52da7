"""Statistics of a dataset's columns, measured from its tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata

from lerobot_lafp.training.measuring import episodes_with_gaps, measure_columns, measure_commands

STATE, FORCE, BUTTON = "observation.state", "observation.force", "action"
LENGTHS = (30, 20, 25)


@pytest.fixture(scope="module")
def numbers() -> dict[str, list[np.ndarray]]:
    draw = np.random.default_rng(0)
    walks = [draw.normal(size=(n, 3)).cumsum(axis=0) for n in LENGTHS]
    return {
        STATE: [w.astype(np.float32) for w in walks],
        FORCE: [draw.normal(size=(n, 1)) for n in LENGTHS],
        BUTTON: [draw.integers(0, 2, (n, 2)) > 0 for n in LENGTHS],
    }


@pytest.fixture(scope="module")
def meta(numbers: dict[str, list[np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> LeRobotDatasetMetadata:
    root = tmp_path_factory.mktemp("data") / "set"
    features = {
        STATE: {"dtype": "float32", "shape": (3,), "names": None},
        FORCE: {"dtype": "float64", "shape": (1,), "names": None},
        BUTTON: {"dtype": "bool", "shape": (2,), "names": None},
    }
    made = LeRobotDataset.create("local/set", fps=10, features=features, root=root, use_videos=False)
    for episode, length in enumerate(LENGTHS):
        for t in range(length):
            made.add_frame({**{key: each[episode][t] for key, each in numbers.items()}, "task": "do it"})
        made.save_episode()
    made.finalize()
    return LeRobotDatasetMetadata("local/set", root=root)


@pytest.mark.parametrize("episodes", [None, [0, 2], [1]])
def test_they_are_numpys_over_the_episodes_chosen(
    meta: LeRobotDatasetMetadata, numbers: dict[str, list[np.ndarray]], episodes: list[int] | None
) -> None:
    found = measure_columns(meta, list(numbers), episodes)
    for key, each in numbers.items():
        x = np.concatenate([each[e] for e in episodes or range(3)]).astype(np.float64)
        for name, expected in (("mean", x.mean(0)), ("std", x.std(0)), ("min", x.min(0)), ("max", x.max(0))):
            np.testing.assert_allclose(found[key][name], expected, rtol=1e-9, atol=1e-12)
        assert found[key]["count"] == len(x)


def test_noise_is_that_of_white_noise_and_next_to_none_of_what_moves(meta: LeRobotDatasetMetadata) -> None:
    found = measure_columns(meta, [STATE, FORCE])
    assert 0.8 < float(found[FORCE]["noise"][0] / found[FORCE]["std"][0]) < 1.3
    assert (found[STATE]["noise"] < 0.5 * found[STATE]["std"]).all()


def test_a_tick_is_the_least_distance_between_values(meta: LeRobotDatasetMetadata) -> None:
    assert measure_columns(meta, [BUTTON])[BUTTON]["tick"].tolist() == [1, 1]


def test_a_column_that_is_not_all_there_is_left_out(meta: LeRobotDatasetMetadata, tmp_path: Path) -> None:
    class Elsewhere:
        root, episodes, data_path = tmp_path, meta.episodes, meta.data_path

    assert measure_columns(Elsewhere(), [STATE]) == {}
    assert set(measure_columns(meta, [STATE, "observation.other"])) == {STATE}


def test_frames_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    def frame(t: int) -> dict[str, Any]:
        return {STATE: np.array([np.nan if t == 5 else t], np.float32), "task": "x"}

    features = {STATE: {"dtype": "float32", "shape": (1,), "names": None}}
    made = LeRobotDataset.create("local/nan", fps=10, features=features, root=tmp_path / "nan", use_videos=False)
    for t in range(11):
        made.add_frame(frame(t))
    made.save_episode()
    made.finalize()
    found = measure_columns(LeRobotDatasetMetadata("local/nan", root=tmp_path / "nan"), [STATE])[STATE]
    assert (found["mean"], found["max"], found["noise"]) == (5.0, 10.0, 0.0)


def test_episodes_with_a_gap_are_found(tmp_path: Path) -> None:
    features = {STATE: {"dtype": "float32", "shape": (2,), "names": None}}
    made = LeRobotDataset.create("local/gap", fps=10, features=features, root=tmp_path / "gap", use_videos=False)
    for episode in range(4):
        for t in range(5):
            bad = np.nan if (episode, t) == (1, 3) else np.inf if (episode, t) == (3, 0) else 0
            made.add_frame({STATE: np.array([t, bad], np.float32), "task": "x"})
        made.save_episode()
    made.finalize()
    meta = LeRobotDatasetMetadata("local/gap", root=tmp_path / "gap")
    assert episodes_with_gaps(meta, STATE) == [1, 3]
    assert episodes_with_gaps(meta, STATE, [0, 1]) == [1]
    assert episodes_with_gaps(meta, STATE, [0, 2]) == episodes_with_gaps(meta, "action") == []


def test_commands_are_measured_within_episodes(tmp_path: Path) -> None:
    features = {"action": {"dtype": "float32", "shape": (1,), "names": None}}
    made = LeRobotDataset.create("local/act", fps=10, features=features, root=tmp_path / "act", use_videos=False)
    for start in (0, 100, 50):
        for t in range(4):
            made.add_frame({"action": np.array([start + t * t], np.float32), "task": "x"})
        made.save_episode()
    made.finalize()
    meta = LeRobotDatasetMetadata("local/act", root=tmp_path / "act")
    found = measure_commands(meta, "action", [0, 2])
    assert found is not None
    assert [float(found[name][0]) for name in ("min", "max", "change")] == [0, 59, 5]
    assert measure_commands(meta, "observation.state") is None
