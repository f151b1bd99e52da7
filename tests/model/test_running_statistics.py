"""Statistics as buffers, against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lerobot_lafp.model.running_statistics import LatentStatistics, RunningMoments
from lerobot_lafp.observation.scaling import FixedNormalizer
from lerobot_lafp.training.measuring import _Running


def test_running_moments_equal_numpy_over_all_rows() -> None:
    rows = 3 + torch.randn(57, 3) * torch.tensor([0.1, 1.0, 20.0])
    moments = RunningMoments(3)
    for part in rows.split([1, 5, 20, 31]):
        moments.update(part)
    moments.update(rows[:0])  # an unlabelled batch changes nothing
    assert int(moments.count) == 57
    np.testing.assert_allclose(moments.mean.numpy(), np.mean(rows.numpy(), axis=0), rtol=1e-5)
    np.testing.assert_allclose(moments.std.numpy(), np.std(rows.numpy(), axis=0), rtol=1e-4)
    torch.testing.assert_close(moments.unnormalize(moments.normalize(rows)), rows)
    torch.testing.assert_close(moments.normalize(rows).mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)


def test_running_moments_stay_as_they_are_after_max_count() -> None:
    moments = RunningMoments(1, max_count=10)
    moments.update(torch.randn(10, 1))
    before = {name: value.clone() for name, value in moments.state_dict().items()}
    moments.update(torch.full((10, 1), 100.0))
    assert all(torch.equal(before[name], value) for name, value in moments.state_dict().items())


def test_a_constant_dimension_is_centred_and_never_blown_up() -> None:
    moments = RunningMoments(2)
    moments.update(torch.tensor([[5.0, 0.0], [5.0, 2.0]]))
    torch.testing.assert_close(moments.normalize(torch.tensor([[5.0, 2.0]])), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(moments.normalize(torch.tensor([[6.0, 0.0]])), torch.tensor([[0.0, -1.0]]))
    torch.testing.assert_close(moments.unnormalize(torch.tensor([[9.0, -1.0]])), torch.tensor([[5.0, 0.0]]))
    assert moments.std[0] == 1


def test_a_single_row_is_no_division_by_zero() -> None:
    moments = RunningMoments(2)
    moments.update(torch.tensor([[4.0, -4.0]]))
    torch.testing.assert_close(moments.normalize(torch.tensor([[5.0, -4.0]])), torch.tensor([[0.0, 0.0]]))


def test_latent_centre_is_the_middle_of_the_range() -> None:
    statistics, z = LatentStatistics(2), torch.tensor([[0.0, 1.0], [0.0, 3.0], [6.0, 3.0]])
    statistics.update(z)
    torch.testing.assert_close(statistics.centre, torch.tensor([3.0, 2.0]))
    torch.testing.assert_close(statistics.scale, z.std(dim=0))
    torch.testing.assert_close(statistics.normalize(z), (z - torch.tensor([3.0, 2.0])) / z.std(dim=0))


def test_latent_statistics_are_a_mean_at_first_and_a_moving_average_later() -> None:
    statistics = LatentStatistics(1, decay=0.75)
    for top in (1.0, 2.0, 3.0, 4.0):
        statistics.update(torch.tensor([[0.0], [top]]))
    assert statistics.high.item() == pytest.approx(np.mean([1, 2, 3, 4]))
    statistics.update(torch.tensor([[0.0], [10.0]]))
    assert statistics.high.item() == pytest.approx(0.75 * 2.5 + 0.25 * 10)
    assert statistics.low.item() == 0


def test_latent_statistics_need_two_latents_and_fit_mixed_precision() -> None:
    statistics = LatentStatistics(2)
    statistics.update(torch.randn(1, 2))
    statistics.update(torch.randn(0, 2))
    assert int(statistics.updates) == 0
    statistics.update(torch.randn(8, 2).to(torch.bfloat16))
    assert statistics.centre.dtype == torch.float32


def test_fixed_normalizer_takes_the_dataset_statistics() -> None:
    stats = {"mean": np.array([1.0, 2.0]), "std": np.array([0.5, 0.0])}
    normalizer = FixedNormalizer((2,), stats)
    torch.testing.assert_close(normalizer(torch.tensor([[2.0, 5.0]])), torch.tensor([[2.0, 0.0]]))
    stats["mean"][:] = 0
    assert normalizer.mean.tolist() == [1, 2], "a copy, not the dataset's own array"
    x = torch.randn(3, 2)
    assert torch.equal(FixedNormalizer((2,))(x), x)


def test_the_tremble_of_a_joint_held_still_is_no_signal() -> None:
    """A joint in degrees that the demonstrator did not touch, of an encoder with ticks of 0.09."""
    stats = {"mean": np.zeros(3), "std": np.array([22.0, 25.0, 0.015]), "noise": np.array([0.1, 0.1, 0.014])}
    stats |= {"min": np.array([-40.0, -60, 0]), "max": np.array([40.0, 60, 0.09]), "tick": np.array([0.09] * 3)}
    normalizer = FixedNormalizer((3,), stats)
    a_few_ticks = normalizer(torch.tensor([[0.0, 0.0, 0.3]]))
    assert a_few_ticks.abs().max() < 3
    torch.testing.assert_close(normalizer(torch.tensor([[22.0, 25.0, 0.0]])), torch.tensor([[1.0, 1.0, 0.0]]))


def test_what_never_moved_tells_nothing() -> None:
    stats = {"mean": np.array([3.0]), "std": np.zeros(1), "min": np.array([3.0]), "max": np.array([3.0])}
    normalizer = FixedNormalizer((1,), stats)
    assert normalizer(torch.tensor([[3.0], [3.1], [500.0]])).abs().max() == 0


def test_a_gripper_in_percent_does_not_hide_metres() -> None:
    stats = {"mean": np.zeros(2), "std": np.array([0.04, 50.0])}
    torch.testing.assert_close(FixedNormalizer((2,), stats)(torch.tensor([[0.04, 50.0]])), torch.ones(1, 2))


@given(factor=st.floats(1e-3, 1e3), seed=st.integers(0, 50), kind=st.sampled_from(["moves", "still", "ticks", "rare"]))
def test_a_state_counts_the_same_in_any_unit(factor: float, seed: int, kind: str) -> None:
    draw = np.random.default_rng(seed)
    x = {
        "moves": lambda: draw.normal(0.3, 1, 200).cumsum(),
        "still": lambda: 5 + draw.normal(0, 1e-3, 200),
        "ticks": lambda: np.round(draw.normal(0, 0.6, 200)) * 0.09,
        "rare": lambda: np.where(np.arange(200) // 10 == 7, 100.0, 0.0),
    }[kind]()
    numbers = np.stack([x, x * factor], axis=1)
    running = _Running()
    running.add(numbers, np.zeros(200))
    normalized = FixedNormalizer((2,), running.result())(torch.from_numpy(numbers * 1.5).float())
    torch.testing.assert_close(normalized[:, 0], normalized[:, 1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [RunningMoments, LatentStatistics])
def test_statistics_are_saved(kind: type) -> None:
    full, empty = kind(3), kind(3)
    full.update(torch.randn(10, 3))
    assert not list(full.parameters())
    empty.load_state_dict(full.state_dict())
    x = torch.randn(2, 3)
    assert torch.equal(full.normalize(x), empty.normalize(x))
    assert not torch.equal(full.normalize(x), x)
