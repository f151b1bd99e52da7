"""The whole way of an SO-100 (`examples/so100_sim.py`), with steps enough to go through it and no more."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from lerobot.datasets import LeRobotDatasetMetadata

from ..simulated_time import SimulatedTime, live_in

EXAMPLE = Path(__file__).parents[2] / "examples" / "so100_sim.py"


def test_from_demonstrations_to_rollouts(
    simulated_time: SimulatedTime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("so100_sim", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "so100_sim", example)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "SimArm", simulated_time.arm)
    live_in(simulated_time, monkeypatch.setattr)  # demonstrations are recorded in this process

    done = example.run(tmp_path, example.SMOKE)

    assert set(done) == {"lafp", "few_labels"}
    for name, rollouts in done.items():
        assert len(rollouts) <= 2
        recorded = LeRobotDatasetMetadata(f"local/rollout_{name}", root=tmp_path / f"recorded_{name}_0")
        assert recorded.total_episodes == 2
        assert recorded.total_frames in range(2 * 60, 2 * 61 + 1), "four seconds an episode"
    film = LeRobotDatasetMetadata("local/film", root=tmp_path / "film")
    assert film.total_episodes == 3
    assert not {"action", "observation.state"} & set(film.features)
    config = json.loads((example.last_checkpoint(tmp_path / "lafp" / "action_decoder") / "config.json").read_text())
    views = [f"observation.images.{view}" for view in example.VIEWS]
    assert config["facts"]["latent_features"] == views, "it acts on pictures"
    assert example.run(tmp_path, example.SMOKE) == done, "nothing is done twice"
