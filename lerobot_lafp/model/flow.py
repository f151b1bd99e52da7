"""The mathematics of flow matching that the stages share: path, targets, solver, interpolation.

Pure functions on tensors, no modules. Throughout, ``tau`` is flow time with 0 = Gaussian noise and 1 = data
(`lerobot/policies/common/flow_matching.py` runs the other way round), and the path is the straight line

    z_tau = (1 - tau) * z_0 + tau * z_1,    z_0 ~ N(0, I),    z_1 the latent actions.

A *predictor* is any ``f(z_tau, tau) -> prediction``, where ``prediction`` is either the data ("sample",
x-prediction) or the velocity ``z_1 - z_0`` ("velocity", v-prediction). LAFP paper, section 3.2.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["sample", "velocity"]
Predictor = Callable[[Tensor, Tensor], Tensor]
#: Makes of a predictor another one, and with it of a flow another flow.
Steering = Callable[[Predictor], Predictor]


def expand_time(tau: Tensor, z: Tensor) -> Tensor:
    """Shape ``tau`` (B,) as (B, 1, ..) so that it broadcasts over ``z`` (B, ..)."""
    return tau.reshape(-1, *[1] * (z.ndim - 1))


def interpolate(z_0: Tensor, z_1: Tensor, tau: Tensor) -> Tensor:
    """The point ``(1 - tau) z_0 + tau z_1`` of the path.

    Args:
        z_0: Noise, (B, ..).
        z_1: Data, (B, ..).
        tau: Flow time in [0, 1], (B,).
    """
    t = expand_time(tau, z_1)
    return (1 - t) * z_0 + t * z_1


def prediction_target(z_0: Tensor, z_1: Tensor, prediction: Prediction) -> Tensor:
    """What a predictor is regressed on: ``z_1`` for "sample", ``z_1 - z_0`` for "velocity"."""
    return z_1 if prediction == "sample" else z_1 - z_0


def prediction_to_velocity(output: Tensor, z_tau: Tensor, tau: Tensor, prediction: Prediction) -> Tensor:
    """Velocity at ``(z_tau, tau)``: ``(z^ - z_tau) / (1 - tau)`` for "sample". Needs ``tau < 1``."""
    if prediction == "velocity":
        return output
    return (output - z_tau) / (1 - expand_time(tau, z_tau))


def prediction_to_sample(output: Tensor, z_tau: Tensor, tau: Tensor, prediction: Prediction) -> Tensor:
    """The data that one call of a predictor points at: ``z_tau + (1 - tau) v`` for "velocity"."""
    if prediction == "sample":
        return output
    return z_tau + (1 - expand_time(tau, z_tau)) * output


def integrate(predictor: Predictor, z: Tensor, num_steps: int, prediction: Prediction) -> Tensor:
    """Euler integration of the flow to ``tau = 1`` on the grid ``0, 1/K, .., 1`` (paper: K = 3).

    For "sample" an Euler step is ``z <- lerp(z, z^, d / (1 - tau))``, so the last one returns the
    prediction itself and ``1 / (1 - tau)`` is never evaluated at 1; with K = 1 the result is the conditional
    mean, behaviour cloning through the flow head.

    Args:
        predictor: ``f(z_tau, tau) -> prediction``.
        z: Where to start, (B, ..).
        num_steps: K.
        prediction: What the predictor predicts.

    Returns:
        The sample at ``tau = 1``, (B, ..).
    """
    now = torch.zeros(z.shape[0], dtype=z.dtype, device=z.device)
    for step in range(1, num_steps + 1):
        then = torch.full_like(now, step / num_steps)
        output = predictor(z, now).to(z.dtype)  # mixed precision: the state keeps its own
        if prediction == "sample":
            z = torch.lerp(z, output, expand_time((then - now) / (1 - now), z).clamp(max=1.0))
        else:
            z = z + expand_time(then - now, z) * output
        now = then
    return z


def interpolation_input(
    predictor: Predictor,
    z_idm: Tensor,
    noise: Tensor,
    tau: Tensor,
    prediction: Prediction,
) -> Tensor:
    """The decoder's training input: the frozen flow, started between noise and the IDM's latent.

    The labelled action belongs to one mode of the demonstrations while a sample from noise lands in any of them;
    starting from ``z_tau = (1 - tau) noise + tau z_IDM`` keeps the sample in the labelled one (paper,
    section 3.3, "inference-time interpolation"). Only while the decoder is being trained.

    Args:
        predictor: The frozen flow.
        z_idm: Latents of the inverse dynamics model, normalised, (B, L, Dz).
        noise: ``z_0``, (B, L, Dz).
        tau: Interpolation strength, (B,): 0 is sampling from noise.
        prediction: What the predictor predicts.

    Returns:
        (B, L, Dz).
    """
    z_tau = interpolate(noise, z_idm, tau)
    return prediction_to_sample(predictor(z_tau, tau), z_tau, tau, prediction)
