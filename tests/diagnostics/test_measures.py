"""Every measure against an answer that is known without it."""

import math

import pytest
import torch
from torch import Tensor

from lerobot_lafp.diagnostics.measures import (
    codebook_usage,
    effective_dimensions,
    energy_distance,
    linear_probe,
    mean_distance,
    nearest_of_other_episodes,
    principal_axes,
    s_pcfc,
    split_in_two,
    structure_preservation,
    wrong_mode_rate,
)
from lerobot_lafp.model.flow import interpolate

EPISODES = torch.arange(20).repeat_interleave(30)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- Linear probe -----------------------------------------------------------------------------------------------


def test_probe_of_a_linear_map_is_exact() -> None:
    z = noise(600, 5)
    actions = (z @ noise(5, 6, seed=1) + 3).unflatten(1, (2, 3))
    probe = linear_probe(z, actions, EPISODES, seed=0)
    assert probe.r2 == pytest.approx([1, 1, 1], abs=1e-6)
    assert probe.mse == pytest.approx(0, abs=1e-9)
    assert probe.num_episodes == 4
    assert probe.actual.shape == probe.predicted.shape == (120, 2, 3)


def test_the_held_out_episodes_may_be_named() -> None:
    torch.manual_seed(0)
    z, episodes = torch.randn(90, 4), torch.arange(9).repeat_interleave(10)
    actions = z @ torch.randn(4, 2)
    actions[episodes >= 7] += 5.0  # which the others do not tell
    probe = linear_probe(z, actions, episodes, held_out=[7, 8])
    assert (probe.num_episodes, len(probe.actual)) == (2, 20)
    torch.testing.assert_close(probe.actual, actions[episodes >= 7])
    torch.testing.assert_close(probe.predicted + 5, probe.actual, atol=1e-3, rtol=1e-3)


def test_probe_of_noise_explains_nothing_on_episodes_held_out() -> None:
    """Each episode has an action of its own, and latents that name the episode: seen frames would tell all."""
    z = torch.nn.functional.one_hot(EPISODES).float()
    actions = noise(20, 1, seed=2)[EPISODES]
    probe = linear_probe(z, actions, EPISODES, seed=0)
    assert probe.mean_r2 < 0.1
    independent = linear_probe(noise(600, 5), noise(600, 2, seed=3), EPISODES, seed=0)
    assert independent.mean_r2 == pytest.approx(0, abs=0.1)
    assert independent.mse == pytest.approx(1, abs=0.2)


def test_probe_with_known_share_of_noise() -> None:
    """R2 of ``a = z + e`` with deviations 1 and 1/2 is 1 / (1 + 1/4)."""
    z = noise(60_000, 1)
    probe = linear_probe(z, z + 0.5 * noise(60_000, 1, seed=1), torch.arange(100).repeat_interleave(600), seed=0)
    assert probe.mean_r2 == pytest.approx(0.8, abs=0.01)
    assert probe.mse == pytest.approx(0.25, abs=0.01)


def test_probe_leaves_constant_actions_and_dependent_latents_aside() -> None:
    z = noise(600, 3)
    actions = torch.stack([z[:, 0], torch.full((600,), 7.0)], dim=1)
    probe = linear_probe(torch.cat([z, z], dim=1), actions, EPISODES, seed=0)
    assert probe.r2[0] == pytest.approx(1, abs=1e-6)
    assert math.isnan(probe.r2[1])
    assert probe.mean_r2 == pytest.approx(1, abs=1e-6)


def test_probe_refuses_a_single_episode() -> None:
    with pytest.raises(ValueError, match="needs at least 2 episodes"):
        linear_probe(noise(10, 2), noise(10, 2), torch.zeros(10), seed=0)


# --- Latents ----------------------------------------------------------------------------------------------------


def test_s_pcfc_tells_motion_from_appearance() -> None:
    motion, appearance = noise(5000, 8), noise(5000, 8, seed=1)
    assert s_pcfc(motion, -motion) == pytest.approx(-1, abs=1e-6)
    assert s_pcfc(appearance, appearance) == pytest.approx(1, abs=1e-6)
    assert s_pcfc(motion + appearance, appearance - motion) == pytest.approx(0, abs=0.02)


def test_codebook_usage() -> None:
    uniform = codebook_usage(torch.arange(8).repeat(5), size=8)
    assert (uniform.share, uniform.perplexity) == pytest.approx((1, 8))
    half = codebook_usage(torch.arange(4).repeat(5), size=8)
    assert (half.share, half.perplexity) == pytest.approx((0.5, 4))
    collapsed = codebook_usage(torch.full((9,), 3), size=8)
    assert (collapsed.share, collapsed.perplexity) == pytest.approx((1 / 8, 1))
    # Frequencies 1/2, 1/4, 1/4: entropy 1.5 bits.
    assert codebook_usage(torch.tensor([0, 0, 1, 2]), size=4).perplexity == pytest.approx(2**1.5)
    two = codebook_usage(torch.stack([torch.arange(8), torch.zeros(8, dtype=torch.long)], dim=1), size=8)
    assert (two.share, two.perplexity) == pytest.approx((9 / 16, 4.5))


def test_effective_dimensions() -> None:
    assert effective_dimensions(noise(50_000, 6)) == pytest.approx(6, rel=0.01)
    assert effective_dimensions(noise(100, 1) * torch.tensor([[1.0, 2.0, 3.0]])) == pytest.approx(1)
    assert effective_dimensions(torch.zeros(10, 3)) == 0


def test_principal_axes_find_the_longest_direction() -> None:
    mean, axes = principal_axes(5 + noise(2000, 3) * torch.tensor([0.1, 3.0, 1.0]))
    torch.testing.assert_close(mean, torch.full((3,), 5.0), atol=0.2, rtol=0)
    torch.testing.assert_close(axes.abs(), torch.tensor([[0.0, 0], [1, 0], [0, 1]]), atol=0.05, rtol=0)


# --- Energy distance --------------------------------------------------------------------------------------------


def test_energy_distance_of_point_masses() -> None:
    x, y = torch.zeros(5, 4, 3), torch.tensor([3.0, 4.0, 0.0]).expand(5, 7, 3)
    torch.testing.assert_close(energy_distance(x, y), torch.full((5,), 10.0))
    torch.testing.assert_close(energy_distance(x, x + 1e4), torch.full((5,), 2e4 * math.sqrt(3)))


def test_energy_distance_of_gaussians() -> None:
    """``|X - Y|`` of unit Gaussians ``m`` apart is a folded normal of mean ``m`` and deviation sqrt 2."""
    quantiles = (torch.arange(2000) + 0.5) / 2000
    x = (math.sqrt(2) * torch.erfinv(2 * quantiles - 1)).unsqueeze(1)
    within = 2 / math.sqrt(math.pi)
    folded = within * math.exp(-1) + 2 * math.erf(1)
    assert float(mean_distance(x)) == pytest.approx(within, abs=0.002)
    assert float(energy_distance(x, x + 2)) == pytest.approx(2 * (folded - within), abs=0.005)
    assert float(energy_distance(x, x)) == pytest.approx(0, abs=0.002)


def test_energy_distance_is_unbiased_for_few_samples() -> None:
    assert float(energy_distance(noise(20_000, 4, 2), noise(20_000, 5, 2, seed=1)).mean()) == pytest.approx(0, abs=0.01)
    with pytest.raises(ValueError, match="at least 2"):
        energy_distance(noise(1, 2), noise(3, 2))


# --- Neighbourhoods ---------------------------------------------------------------------------------------------


def test_neighbours_are_of_other_episodes_one_of_each() -> None:
    features = torch.tensor([0.0, 0.1, 0.2, 1.0, 1.1, 5.0]).unsqueeze(1)
    episodes = torch.tensor([3, 3, 3, 8, 8, 5])
    expected = [[3, 5], [3, 5], [3, 5], [2, 5], [2, 5], [4, 2]]
    assert nearest_of_other_episodes(features, episodes, count=9).tolist() == expected
    assert nearest_of_other_episodes(features, episodes, count=1).tolist() == [[row[0]] for row in expected]


def test_split_in_two_finds_uneven_clusters() -> None:
    points = 0.2 * noise(50, 16, 6)
    points[:, :5] += torch.ones(6)
    membership = split_in_two(points)
    assert bool((membership.sum(dim=2) == 1).all())
    first = membership.argmax(dim=2)
    assert bool((first[:, :5] == first[:, :1]).all())
    assert bool((first[:, 5:] == 1 - first[:, :1]).all())


COUNT, DRAWS, WIDTH = 400, 8, 6


def two_ways(observations: int = COUNT) -> tuple[Tensor, Tensor]:
    """IDM latents (M, D) around one of two modes, -1 and 1 in every dimension, and which."""
    mode = torch.arange(observations) % 2
    return (2.0 * mode - 1).unsqueeze(1) + 0.1 * noise(observations, WIDTH), mode


def neighbourhoods(observations: int = COUNT) -> Tensor:
    return torch.rand(300, observations, generator=torch.Generator().manual_seed(1)).argsort(dim=1)[:, :16]


def test_structure_of_the_same_distribution() -> None:
    reference, _ = two_ways()
    sign = noise(COUNT, DRAWS, 1, seed=4).sign()
    found = structure_preservation(sign + 0.1 * noise(COUNT, DRAWS, WIDTH, seed=5), reference, neighbourhoods())
    assert found.energy_distance == pytest.approx(0, abs=0.03)
    assert found.bimodal.double().mean() > 0.9  # of the others, one mode holds less than a fifth
    assert found.coverage > 0.99
    assert found.between < 0.01


def test_structure_of_the_mean_and_of_one_mode() -> None:
    """Point masses: energy distance of mean or single mode to two modes ``d`` apart is ``d / 2``, as is the spread."""
    reference = (2.0 * (torch.arange(COUNT) % 2) - 1).unsqueeze(1).expand(-1, WIDTH).contiguous()
    half = torch.cat([torch.arange(16).roll(n).unsqueeze(0) for n in range(0, 16, 2)])[:, [0, 1, 3, 2] * 4]
    balanced = half + 16 * torch.arange(8).unsqueeze(1)
    mean = structure_preservation(torch.zeros(COUNT, DRAWS, WIDTH), reference, balanced)
    one = structure_preservation(torch.ones(COUNT, DRAWS, WIDTH), reference, balanced)
    unbiased = 4 / 7 * 2  # E|Y - Y'| of 4 + 4 latents in units of half the distance, a latent with itself excluded
    assert mean.energy_distance == pytest.approx((2 - unbiased) / unbiased, abs=1e-5)
    assert one.energy_distance == pytest.approx((2 - unbiased) / unbiased, abs=1e-5)
    assert bool(mean.bimodal.all())
    assert (mean.coverage, mean.between) == (0, 1)
    assert (one.coverage, one.between) == (0, 0)


@pytest.mark.parametrize("width", [1, 2, 30])
def test_one_mode_is_not_taken_for_two(width: int) -> None:
    reference = torch.rand(COUNT, width, generator=torch.Generator().manual_seed(0))
    found = structure_preservation(reference.unsqueeze(1), reference, neighbourhoods())
    assert found.bimodal.double().mean() < (0.05 if width == 1 else 0.01)
    if width == 30:
        assert math.isnan(found.coverage)


def test_known_modes_take_the_place_of_clusters() -> None:
    """Two labels in one cluster are not two modes; where they are apart, unlabelled latents do not matter."""
    reference, mode = two_ways()
    samples = reference.unsqueeze(1).expand(-1, DRAWS, -1)
    shuffled = mode[torch.randperm(COUNT, generator=torch.Generator().manual_seed(3))]
    assert not bool(structure_preservation(samples, reference, neighbourhoods(), shuffled).bimodal.any())

    reference[::10] = 100.0
    labels = torch.where(torch.arange(COUNT) % 10 == 0, -1, mode + 4)
    found = structure_preservation(samples, reference, neighbourhoods(), labels)
    assert found.bimodal.double().mean() > 0.8
    assert found.coverage > 0.95
    assert found.labels is not None
    assert found.labels[found.bimodal].unique(dim=0).tolist() == [[4, 5]]
    sign = found.centres[found.bimodal].mean(dim=2)
    assert bool((sign[:, 0] < -0.8).all())
    assert bool((sign[:, 1] > 0.8).all())


def test_structure_refuses_too_few_neighbours() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        structure_preservation(noise(9, 2, 3), noise(9, 3), torch.zeros(5, 3, dtype=torch.long))


@pytest.mark.parametrize("tau", [0.0, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("width", [1, 4])
def test_wrong_mode_rate_of_an_ideal_denoiser(tau: float, width: int) -> None:
    """``Phi(-tau sqrt(d) / (1 - tau))`` for modes 1 and -1 per dimension (method.md)."""
    size = 40_000
    z_idm = (2.0 * (torch.arange(size) % 2) - 1).unsqueeze(1).expand(-1, width)
    z_tau = interpolate(noise(size, width), z_idm, torch.full((size,), tau))
    denoised = z_tau.sum(dim=1, keepdim=True).sign().expand(-1, width)
    centres = torch.tensor([-1.0, 1.0]).reshape(1, 2, 1).expand(size, -1, width)
    expected = 0.5 * math.erfc(tau * math.sqrt(width) / (1 - tau) / math.sqrt(2))
    assert wrong_mode_rate(denoised, z_idm, centres) == pytest.approx(expected, abs=0.01)
    assert wrong_mode_rate(denoised, z_idm, centres, own=1 - torch.arange(size) % 2) == pytest.approx(
        1 - expected, abs=0.01
    )
