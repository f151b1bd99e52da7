"""The crossed bootstrap, against intervals known in closed form."""

import numpy as np
import pytest
from ablation.statistics import Summary, align, paired_difference, stack, summarize

Z = 1.96


def half_width(summary: Summary) -> float:
    low, high = summary["ci95"]
    return (high - low) / 2


@pytest.fixture
def successes() -> np.ndarray:
    """500 episodes, 80 % of them a success."""
    return np.random.default_rng(1).permutation(500) < 400


@pytest.mark.parametrize("value", [0.0, 1.0, 0.93])
def test_a_constant_has_an_interval_of_no_width(value: float) -> None:
    summary = summarize(np.full((3, 20), value))
    assert summary == {"mean": pytest.approx(value), "ci95": pytest.approx([value, value]), "seeds": 3, "episodes": 20}


@pytest.mark.parametrize("seeds", [1, 5])
def test_identical_seeds_leave_the_binomial_interval_of_the_episodes(successes: np.ndarray, seeds: int) -> None:
    summary = summarize(np.tile(successes, (seeds, 1)))
    expected = Z * np.sqrt(0.8 * 0.2 / 500)
    assert summary["mean"] == pytest.approx(0.8)
    assert summary["ci95"] == pytest.approx([0.8 - expected, 0.8 + expected], abs=0.1 * expected)


def test_identical_episodes_leave_the_spread_of_the_seeds() -> None:
    by_seed = np.random.default_rng(2).normal(size=40)
    summary = summarize(np.tile(by_seed[:, None], (1, 7)))
    assert half_width(summary) == pytest.approx(Z * by_seed.std() / np.sqrt(40), rel=0.05)


def test_effects_of_seeds_and_episodes_add_in_variance() -> None:
    rng = np.random.default_rng(3)
    by_seed, by_episode = 0.1 * rng.normal(size=40), rng.normal(size=300)
    summary = summarize(by_seed[:, None] + by_episode)
    expected = Z * np.sqrt(by_seed.var() / 40 + by_episode.var() / 300)
    assert half_width(summary) == pytest.approx(expected, rel=0.05)


def test_noise_of_single_rollouts_is_overstated_as_documented() -> None:
    seeds, episodes, rng = 5, 40, np.random.default_rng(4)
    variances = [(half_width(summarize(rng.normal(size=(seeds, episodes)))) / Z) ** 2 for _ in range(100)]
    factor = (2 - 1 / seeds) * (2 - 1 / episodes) - 1
    assert np.mean(variances) == pytest.approx(factor / (seeds * episodes), rel=0.1)


def test_seeds_that_disagree_widen_the_interval(successes: np.ndarray) -> None:
    agreeing = np.tile(successes.astype(float), (5, 1))
    disagreeing = agreeing + np.linspace(-0.2, 0.2, 5)[:, None]
    assert half_width(summarize(disagreeing)) > 2 * half_width(summarize(agreeing))


def test_seeds_and_episodes_are_drawn_apart() -> None:
    """Were both drawn alike at S = E, the diagonal would be drawn too often."""
    summary = summarize(np.eye(6))
    assert summary["ci95"][0] < 1 / 6 < summary["ci95"][1]
    assert summary == summarize(np.eye(6)[::-1])


def test_the_same_values_have_the_same_interval(successes: np.ndarray) -> None:
    assert summarize([successes, ~successes]) == summarize([successes, ~successes])


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0), (1, 2, 3)])
def test_values_without_seeds_and_episodes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"training seeds, episodes.*\[values\]"):
        summarize(np.zeros(shape))


def test_paired_difference_of_a_shift_is_that_shift() -> None:
    a = np.random.default_rng(5).normal(size=(3, 50))
    difference = paired_difference(a + 0.25, a)
    assert difference == {"mean": pytest.approx(0.25), "ci95": pytest.approx([0.25, 0.25]), "seeds": 3, "episodes": 50}
    assert paired_difference(a, a + 0.25)["mean"] == pytest.approx(-0.25)


def test_paired_difference_wants_the_same_seeds_and_episodes() -> None:
    with pytest.raises(ValueError, match=r"\(3, 5\) and \(3, 4\).*`align`"):
        paired_difference(np.zeros((3, 5)), np.zeros((3, 4)))


def test_stack_orders_seeds_and_keeps_the_first_episodes_all_have() -> None:
    np.testing.assert_array_equal(stack({10: [True, False], 2: [0.5, 0.25, 9.0]}), [[0.5, 0.25], [1.0, 0.0]])


def test_align_keeps_the_seeds_and_episodes_both_have() -> None:
    a, b = align({3: [3, 4, 5], 0: [0, 1, 2], 1: [7]}, {0: [10, 11], 3: [13, 14, 15, 16], 2: [8]})
    np.testing.assert_array_equal(a, [[0, 1], [3, 4]])
    np.testing.assert_array_equal(b, [[10, 11], [13, 14]])


def test_align_without_a_common_seed_says_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\] and \[2\]; train both"):
        align({1: [1.0], 0: [1.0]}, {2: [1.0]})
