"""``benchmarks/ablation/comparison.py``: rows over the same checkpoints and episodes."""

from pathlib import Path
from typing import Any

import pytest
from ablation import comparison
from ablation.comparison import SEEDS, Comparison, rarer_side
from ablation.plan import Run
from ablation.tasks import EVALUATION_SEED


def test_rows_are_held_against_one_and_none_is_evaluated_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "is_trained", lambda training: True)
    asked: list[tuple[str, int, int]] = []

    def way(name: str, success: list[bool]) -> comparison.Way:
        def act(run: Run, folder: Path, episodes: int) -> dict[str, Any]:
            assert folder.is_dir()
            asked.append((name, run.seed, run.first_seed))
            modes = ["left", "left", "right", None][:episodes]
            return {"success": success, "reward": [float(each) for each in success], "mode": modes}

        return act

    ways = {"all": way("all", [True] * 4), "half": way("half", [True, False, True, False])}
    given = Comparison(("two_way",), 100, 5000, 4, tmp_path)
    found = given.compare("two_way", ways, "all")
    assert asked == [(name, 100 + i, 5000) for name in ways for i in range(SEEDS["two_way"])]
    assert found["half"]["success"]["mean"] == 0.5
    assert found["half"]["less_than_all"]["success"]["mean"] == -0.5
    assert rarer_side(found["half"]) == 0.25
    assert given.compare("two_way", ways, "all") == found
    assert len(asked) == 2 * SEEDS["two_way"]
    Comparison(("two_way",), 100, 6000, 4, tmp_path).compare("two_way", ways, "all")  # of other episodes
    assert len(asked) == 4 * SEEDS["two_way"]


def test_only_the_seeds_of_the_results_make_one(tmp_path: Path) -> None:
    both = tuple(SEEDS)
    assert Comparison(both, 0, EVALUATION_SEED, 4, tmp_path).is_result
    assert not Comparison(both[:1], 0, EVALUATION_SEED, 4, tmp_path).is_result
    assert not Comparison(both, 100, EVALUATION_SEED, 4, tmp_path).is_result
    assert not Comparison(both, 0, 5000, 4, tmp_path).is_result


def test_what_is_not_trained_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="two_way: training seeds"):
        Comparison(("two_way",), 990, 5000, 4, tmp_path).runs("two_way")
