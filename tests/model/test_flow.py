"""The mathematics of the flow, against answers known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from lerobot_lafp.model import flow

PREDICTIONS = ("sample", "velocity")


class Recorder:
    """A predictor that remembers when it was asked."""

    def __init__(self, predictor: flow.Predictor) -> None:
        self.predictor = predictor
        self.taus: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def __call__(self, z: Tensor, tau: Tensor) -> Tensor:
        self.taus.append(tau.clone())
        self.outputs.append(self.predictor(z, tau))
        return self.outputs[-1]


def gaussian_sample(mu: float, s: float) -> flow.Predictor:
    """``E[z_1 | z_tau]`` for data N(mu, s^2): the exact predictor, whose flow maps z_0 to ``mu + s z_0``."""

    def predict(z: Tensor, tau: Tensor) -> Tensor:
        t = flow.expand_time(tau, z)
        return mu + t * s**2 * (z - t * mu) / ((1 - t) ** 2 + (t * s) ** 2)

    return predict


def two_modes(z: Tensor, tau: Tensor) -> Tensor:
    """``E[z_1 | z_tau]`` for data that is +1 in every dimension or -1 in every dimension, with equal odds."""
    t = flow.expand_time(tau, z)
    return torch.tanh((t * z / (1 - t).clamp(min=1e-3) ** 2).flatten(1).sum(dim=1)).reshape(t.shape).expand_as(z)


def as_velocity(predictor: flow.Predictor) -> flow.Predictor:
    return lambda z, tau: flow.prediction_to_velocity(predictor(z, tau), z, tau, "sample")


def test_the_path_runs_from_noise_to_data() -> None:
    noise, data = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    z = flow.interpolate(noise, data, torch.tensor([0.0, 1.0, 0.25]))
    assert torch.equal(z[0], noise[0])
    assert torch.equal(z[1], data[1])
    torch.testing.assert_close(z[2], 0.75 * noise[2] + 0.25 * data[2])


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_prediction_gives_the_data_and_the_velocity_of_the_path(prediction: flow.Prediction) -> None:
    noise, data, tau = torch.randn(5, 2, 3), torch.randn(5, 2, 3), torch.tensor([0.0, 0.1, 0.5, 0.8, 0.95])
    z = flow.interpolate(noise, data, tau)
    target = flow.prediction_target(noise, data, prediction)
    torch.testing.assert_close(flow.prediction_to_sample(target, z, tau, prediction), data)
    velocity = flow.prediction_to_velocity(target, z, tau, prediction)
    torch.testing.assert_close(velocity, data - noise, atol=1e-5, rtol=1e-4)


def test_sample_and_velocity_conversions_undo_each_other() -> None:
    output, z, tau = torch.randn(4, 2, 3), torch.randn(4, 2, 3), torch.tensor([0.0, 0.3, 0.6, 0.9])
    velocity = flow.prediction_to_velocity(output, z, tau, "sample")
    torch.testing.assert_close(flow.prediction_to_sample(velocity, z, tau, "velocity"), output)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 10])
def test_the_last_euler_step_returns_the_prediction_itself(num_steps: int) -> None:
    predictor = Recorder(lambda z, tau: torch.sin(3 * z) + flow.expand_time(tau, z))
    z = flow.integrate(predictor, torch.randn(4, 2, 3), num_steps, "sample")
    assert torch.equal(z, predictor.outputs[-1])
    expected = torch.arange(num_steps) / num_steps
    torch.testing.assert_close(torch.stack(predictor.taus), expected.unsqueeze(1).expand(-1, 4))
    assert max(tau.max() for tau in predictor.taus) < 1, "1 / (1 - tau) has no value at 1"


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_step_from_noise_is_the_conditional_mean(prediction: flow.Prediction) -> None:
    predictor = gaussian_sample(2.0, 0.5)
    predictor = as_velocity(predictor) if prediction == "velocity" else predictor
    z = flow.integrate(predictor, torch.randn(100, 1), 1, prediction)
    torch.testing.assert_close(z, torch.full_like(z, 2.0))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_flow_of_a_gaussian_converges_with_the_step(prediction: flow.Prediction) -> None:
    mu, s, noise = 1.5, 0.3, torch.randn(2000, 2, dtype=torch.float64)
    predictor = gaussian_sample(mu, s)
    predictor = as_velocity(predictor) if prediction == "velocity" else predictor
    error = {}
    for num_steps in (50, 100, 200):
        z = flow.integrate(predictor, noise, num_steps, prediction)
        error[num_steps] = (z - (mu + s * noise)).abs().max().item()
    assert error[200] < 0.02
    assert error[50] / error[100] == pytest.approx(2, rel=0.1), "Euler is of first order"
    assert z.mean().item() == pytest.approx(mu + s * noise.mean().item(), abs=1e-3)
    assert z.std().item() == pytest.approx(s * noise.std().item(), rel=0.03)


def test_both_predictions_integrate_the_same_flow() -> None:
    noise, predictor = torch.randn(50, 3), gaussian_sample(-1.0, 0.7)
    sample = flow.integrate(predictor, noise, 5, "sample")
    velocity = flow.integrate(as_velocity(predictor), noise, 5, "velocity")
    torch.testing.assert_close(sample, velocity, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_row_does_not_depend_on_the_others(prediction: flow.Prediction) -> None:
    z = torch.randn(5, 2, 3)

    def predict(z: Tensor, tau: Tensor) -> Tensor:
        return torch.sin(2 * z) + flow.expand_time(tau, z)

    together = flow.integrate(predict, z, 3, prediction)
    alone = torch.cat([flow.integrate(predict, z[i : i + 1], 3, prediction) for i in range(5)])
    torch.testing.assert_close(together, alone)
    assert torch.isfinite(together).all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_call_asks_once_at_the_interpolated_point(prediction: flow.Prediction) -> None:
    z_idm, noise, tau = torch.randn(3, 2, 2), torch.randn(3, 2, 2), torch.tensor([0.0, 0.5, 1.0])
    predictor = Recorder(lambda z, tau: 3 * z)
    z = flow.interpolation_input(predictor, z_idm, noise, tau, prediction)
    z_tau = flow.interpolate(noise, z_idm, tau)
    assert len(predictor.taus) == 1
    assert torch.equal(predictor.taus[0], tau)
    pointed_at = 3 * z_tau if prediction == "sample" else z_tau + (1 - tau)[:, None, None] * 3 * z_tau
    torch.testing.assert_close(z, pointed_at)


def test_near_tau_one_the_sample_stays_in_the_mode_of_the_idm() -> None:
    z_idm = torch.where(torch.rand(500, 1, 1) < 0.5, 1.0, -1.0)
    tau = torch.full((500,), 0.9)
    z = flow.interpolation_input(two_modes, z_idm, torch.randn(500, 1, 1), tau, "sample")
    torch.testing.assert_close(z, z_idm, atol=0.05, rtol=0)


def test_from_noise_either_mode_comes_about_equally() -> None:
    z = flow.integrate(two_modes, torch.randn(4000, 1, 1), 20, "sample")
    assert (z.abs() > 0.9).float().mean() > 0.95, "samples lie in the modes, not between them"
    assert (z > 0).float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("dim", "tau"), [(1, 0.5), (1, 0.3), (4, 0.5)])
def test_the_wrong_mode_rate_is_the_one_of_theory(dim: int, tau: float) -> None:
    """Noise at tau takes the latent for the other mode with probability ``Phi(-tau sqrt(d) / (1 - tau))``."""
    z_idm, noise = torch.ones(20_000, 1, dim), torch.randn(20_000, 1, dim)
    z = flow.interpolation_input(two_modes, z_idm, noise, torch.full((20_000,), tau), "sample")
    expected = 0.5 * math.erfc(tau * math.sqrt(dim) / (1 - tau) / math.sqrt(2))
    assert (z[:, 0, 0] < 0).float().mean().item() == pytest.approx(expected, abs=0.012)
