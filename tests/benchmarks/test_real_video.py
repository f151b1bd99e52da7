"""Recordings of real robots: which episodes a draw labels, how chunks are scored, and what the result says."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from real_video import (
    RECORDINGS,
    as_markdown,
    collect,
    frames_of,
    intervals,
    moves,
    score,
    share_closed,
    targets,
)

from lerobot_lafp.observation.angles import Angle

TURN = 2 * torch.pi
WRAPS = Angle(0, TURN, -TURN / 2, 0.0)


def values(**energies: list[float]) -> dict[str, Any]:
    """Rows with the energy score of each draw."""
    return {
        row: {str(draw): {"energy": x, "mean": x, "best": x, "episodes": [x]} for draw, x in enumerate(of_draws)}
        for row, of_draws in energies.items()
    }


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_draw_holds_out_a_fifth_and_labels_of_the_rest(name: str) -> None:
    recording = RECORDINGS[name]
    (held_out, pool), again, other = recording.split(0), recording.split(0), recording.split(1)
    assert (held_out, pool) == again
    assert held_out != other[0]
    assert sorted([*held_out, *pool]) == list(range(recording.episodes))
    assert len(held_out) == round(recording.episodes / 5)


def test_frames_have_all_that_is_scored_after_them() -> None:
    meta = SimpleNamespace(episodes={"dataset_from_index": [0, 20, 30], "dataset_to_index": [20, 30, 60]})
    assert frames_of(meta, [0, 1, 2], 12) == [0, 3, 6, *range(30, 49, 3)]


def test_certain_and_right_has_no_error() -> None:
    actual = torch.randn(3, 8, 2)
    found = score(actual.unsqueeze(1).expand(-1, 16, -1, -1), actual, torch.ones(2), [])
    assert all(float(x.abs().max()) < 1e-6 for x in found.values())


def test_the_energy_score_rewards_two_ways_where_there_are_two() -> None:
    """Half of the samples each way score better than all one way and than the way between."""
    draw = torch.Generator().manual_seed(0)
    way = torch.where(torch.rand(400, generator=draw) < 0.5, 1.0, -1.0)
    actual = way.reshape(400, 1, 1).expand(400, 8, 1)

    def energy(samples: torch.Tensor) -> float:
        return float(
            score(samples.reshape(1, 16, 1, 1).expand(400, 16, 8, 1), actual, torch.ones(1), [])["energy"].mean()
        )

    both = energy(torch.tensor([1.0, -1.0] * 8))
    assert both < energy(torch.ones(16)) - 0.2
    assert both < energy(torch.zeros(16)) - 0.2


def test_errors_count_in_units_of_the_actions_and_the_short_way_round() -> None:
    samples = torch.tensor([[[[3.1, 5.0]], [[3.1, 5.0]]]])
    actual = torch.tensor([[[-3.1, 3.0]]])
    found = score(samples, actual, torch.tensor([0.1, 2.0]), [WRAPS])
    expected = np.sqrt((((TURN - 6.2) / 0.1) ** 2 + 1) / 2)
    assert float(found["mean"]) == pytest.approx(expected, rel=1e-4)
    plain = score(samples, actual, torch.tensor([0.1, 2.0]), [])
    assert float(plain["mean"]) == pytest.approx(np.sqrt(((6.2 / 0.1) ** 2 + 1) / 2), rel=1e-4)


def test_a_dimension_moves_if_it_does_in_most_episodes() -> None:
    draw = np.random.default_rng(0)
    episodes = torch.arange(5).repeat_interleave(40)
    often, once, never = draw.normal(size=200), np.zeros(200), np.arange(200) // 40 / 10
    once[:40] = draw.normal(size=40)
    assert moves(torch.tensor(np.stack([often, once, never], axis=1)), episodes) == [True, False, False]


def test_the_share_of_the_gap_is_of_each_draw() -> None:
    rows = values(flow_few=[0.6, 0.5], flow_all=[0.4, 0.3], lafp=[0.45, 0.5])
    assert share_closed(rows, "lafp") == pytest.approx([0.75, 0.0])


def test_targets_are_of_rows_with_every_draw_and_of_the_worst() -> None:
    whole = values(flow_few=[0.6, 0.6, 0.6], flow_all=[0.4, 0.4, 0.4], lafp=[0.4, 0.42, 0.44])
    found = {each["name"]: each for each in targets({"g1": {"10": whole}})}
    assert len(found) == 6, "each that was to be reached"
    assert [each for each in found.values() if each["value"] is not None] == [
        {"name": "lafp, g1, 10 labelled: share of the gap, worst draw", "value": 0.8, "at_least": 0.8}
    ]
    whole |= values(latent_bc=[0.41, 0.41, 0.43], act=[1, 1, 1], hold=[1, 1, 1])
    found = {each["name"]: each for each in targets({"g1": {"10": whole}})}
    assert found["lafp, g1, 10 labelled: ahead of every other row by, worst draw"]["value"] == -0.01
    whole["lafp"].pop("2")
    assert all(each["value"] is None for each in targets({"g1": {"10": whole}}))


def test_what_is_measured_is_collected_by_recording_and_row(tmp_path: Path) -> None:
    file = tmp_path / "g1" / "draw1" / "hold_10.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"energy": 0.8, "mean": 0.9, "best": 0.7, "episodes": [0.8]}')
    found = collect(tmp_path, {})
    assert found["g1"]["10"]["hold"]["1"]["energy"] == 0.8
    assert "| hold (1) | 0.800 | 0.900 | 0.700 |  |  |" in as_markdown(found)


def test_what_was_measured_elsewhere_stays_until_it_is_measured_again(tmp_path: Path) -> None:
    before = {"droid": {"5": values(hold=[0.1])}, "g1": {"10": values(lafp=[0.4], hold=[0.7, 0.9])}}
    assert collect(tmp_path, before) == before
    file = tmp_path / "g1" / "draw1" / "hold_10.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"energy": 0.8}')
    found = collect(tmp_path, before)
    assert {draw: x["energy"] for draw, x in found["g1"]["10"]["hold"].items()} == {"0": 0.7, "1": 0.8}
    assert found["droid"] == before["droid"]
    assert found["g1"]["10"]["lafp"] == before["g1"]["10"]["lafp"]


def test_intervals_are_of_what_both_rows_have() -> None:
    rows = values(flow_few=[0.6, 0.5, 0.7], lafp=[0.5, 0.4])
    found = intervals({"g1": {"10": rows}})["g1"]["10"]
    assert found["flow_few"]["energy"]["mean"] == pytest.approx(0.6)
    assert found["flow_few"]["energy"]["seeds"] == 3
    assert found["lafp"]["below_flow_few"]["mean"] == pytest.approx(0.1)
    assert found["lafp"]["below_flow_few"]["seeds"] == 2


def test_a_probe_stands_beside_rows_that_have_scores() -> None:
    """It has no energy score, and enters no table of them."""
    rows = values(hold=[0.8, 0.7, 0.9])
    rows["probe"] = {str(draw): {"mean_r2": 0.3, "r2": [0.3], "moving": [True]} for draw in range(3)}
    measured = {"g1": {"10": rows}}
    assert set(intervals(measured)["g1"]["10"]) == {"hold"}
    assert "probe" not in as_markdown(measured)
    found = {each["name"]: each["value"] for each in targets(measured)}
    assert found["g1: R^2 of the probe, mean of the draws"] == 0.3
