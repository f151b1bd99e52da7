"""The motion that a latent must tell: of a camera its optical flow, of a state its change."""

from typing import Literal

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from lerobot_lafp.model.motion import MotionHead, brightness_shift, optical_flow

STATE, ENV_STATE, FRONT = "observation.state", "observation.environment_state", "observation.images.front"


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth random picture (3, height, width) in [-1, 1]."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    blurred = torch.from_numpy(cv2.GaussianBlur(noise, (0, 0), 2.0))
    return (blurred / blurred.abs().max()).expand(3, -1, -1)


def shifted(height: int, width: int, dx: int, dy: int, margin: int = 12) -> Tensor:
    """Two pictures (2, 3, height, width) whose content moves ``dx`` pixels right and ``dy`` down between them."""
    large = texture(height + 2 * margin, width + 2 * margin)

    def window(right: int, down: int) -> Tensor:
        return large[:, margin - down : margin - down + height, margin - right : margin - right + width]

    return torch.stack([window(0, 0), window(dx, dy)])


def one_pair() -> Tensor:
    return torch.ones(1, 1, dtype=torch.bool)


# --- Shift of brightness -------------------------------------------------------------------------------------


def spots(*places: tuple[int, int, float], size: int = 32) -> Tensor:
    """A picture (1, size, size) of 4-pixel squares at (row, column), each so much brighter than what is behind."""
    picture = torch.full((1, size, size), 0.3)
    for row, column, brightness in places:
        picture[:, row : row + 4, column : column + 4] += brightness
    return picture


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (-3, 0), (20, 0), (5, 15), (-6, -4)])
def test_brightness_shifts_by_as_much_as_a_thing_moves_however_far(dx: int, dy: int) -> None:
    """By its share of the image, here 16 / 1024, times its contrast times its displacement in shares of the sides."""
    pair = torch.stack([spots((8, 8, 0.5)), spots((8 + dy, 8 + dx, 0.5))])
    expected = torch.tensor([dx / 32, dy / 32]) * 0.5 * 16 / 1024
    torch.testing.assert_close(brightness_shift(pair.unsqueeze(0)), expected.view(1, 1, 2), atol=1e-7, rtol=1e-4)


def test_shifts_of_several_things_add_up_and_each_channel_has_its_own() -> None:
    still, moved = spots((2, 3, 1.0), (20, 20, -0.2)), spots((6, 5, 1.0), (20, 12, -0.2))
    images = torch.stack([torch.cat([still, still]), torch.cat([moved, still])])
    x, y = (2 * 1.0 + 8 * 0.2) / 32, 4 * 1.0 / 32
    expected = torch.tensor([x, 0, y, 0]) * 16 / 1024
    torch.testing.assert_close(brightness_shift(images.unsqueeze(0)), expected.view(1, 1, 4), atol=1e-7, rtol=1e-4)


def test_the_light_going_up_shifts_nothing() -> None:
    images = torch.stack([spots((2, 3, 1.0)), spots((2, 3, 1.0)) + 0.4]).unsqueeze(0)
    assert brightness_shift(images).abs().max() < 1e-7


# --- Optical flow --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 0), (-3, 0), (0, 2), (2, -3)])
@pytest.mark.parametrize("size", [(96, 96), (64, 96), (32, 40)])
def test_a_shifted_picture_moves_by_its_shift(size: tuple[int, int], dx: int, dy: int) -> None:
    """x first, right and down positive, in shares of width and height; small pictures are enlarged on the way."""
    height, width = size
    flow = optical_flow(shifted(height, width, dx, dy).unsqueeze(0), one_pair(), grid=1)
    assert flow.shape == (1, 1, 2)
    error = (flow[0, 0] - torch.tensor([dx / width, dy / height])) * torch.tensor([width, height])
    assert error.abs().max() < 0.3, f"off by {error.tolist()} pixels"


def test_a_large_picture_moves_by_its_shift_as_well() -> None:
    """It is averaged down first; the flow is a share of its sides all the same."""
    small = shifted(75, 100, 3, -2)
    large = small.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    flow = optical_flow(large.unsqueeze(0), one_pair(), grid=1)
    torch.testing.assert_close(flow, optical_flow(small.unsqueeze(0), one_pair(), grid=1), atol=1e-3, rtol=0)
    assert flow[0, 0, 0] == pytest.approx(3 / 100, abs=0.003)
    assert flow[0, 0, 1] == pytest.approx(-2 / 75, abs=0.004)


@pytest.mark.parametrize(("cell", "rows", "columns"), [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)])
def test_what_moves_in_one_quadrant_moves_in_its_cell_alone(cell: int, rows: int, columns: int) -> None:
    side = 64
    still = texture(2 * side, 2 * side, seed=5)
    pair = torch.stack([still, still])
    pair[:, :, rows * side :, columns * side :][:, :, :side, :side] = shifted(side, side, 4, 2)
    flow = optical_flow(pair.unsqueeze(0), one_pair(), grid=2).reshape(4, 2) * 2 * side
    assert flow[cell, 0] > 2.5
    assert flow[cell, 1] > 1.2
    others = flow[[i for i in range(4) if i != cell]]
    assert others.abs().max() < 0.5


def test_flow_does_not_depend_on_the_range_of_the_picture() -> None:
    pair = shifted(64, 64, 3, 1).unsqueeze(0)
    flow = optical_flow(pair, one_pair(), grid=2)
    torch.testing.assert_close(optical_flow(100 + 7 * pair, one_pair(), grid=2), flow, atol=3e-3, rtol=0)
    flat = torch.full_like(pair, 0.25)
    assert not optical_flow(flat, one_pair(), grid=2).any(), "a picture of one colour does not move"


def test_pairs_that_are_not_valid_have_no_flow() -> None:
    pair = shifted(32, 32, 2, 0)
    images = torch.stack([pair[0], pair[1], pair[0]]).expand(2, -1, -1, -1, -1).clone()
    images[1, 2] = float("nan")
    valid = torch.tensor([[True, True], [True, False]])
    flow = optical_flow(images, valid, grid=1)
    assert flow.shape == (2, 2, 2)
    assert torch.equal(flow[0, 0], flow[1, 0])
    assert flow[0, 0, 0] > 0 > flow[0, 1, 0], "there and back"
    assert not flow[1, 1].any()


# --- The head ------------------------------------------------------------------------------------------------


def test_the_target_is_the_change_of_states_then_the_flow_of_cameras() -> None:
    head = MotionHead(4, {FRONT: 3}, {STATE: 2, ENV_STATE: 3}, grid=2, target="flow")
    frames = {STATE: torch.randn(3, 3, 2), ENV_STATE: torch.randn(3, 3, 3), FRONT: torch.rand(3, 3, 3, 16, 16)}
    valid = torch.ones(3, 2, dtype=torch.bool)
    target = head.target(frames, valid)
    assert target.shape == (3, 2, 2 + 3 + 2 * 2 * 2)
    assert torch.equal(target[..., :2], frames[STATE][:, 1:] - frames[STATE][:, :-1])
    assert torch.equal(target[..., 2:5], frames[ENV_STATE][:, 1:] - frames[ENV_STATE][:, :-1])
    assert torch.equal(target[..., 5:], optical_flow(frames[FRONT], valid, grid=2))


@pytest.mark.parametrize("name", ["flow", "centroid", "both"])
def test_the_target_of_a_camera_is_its_flow_the_shift_of_its_brightness_or_both(
    name: Literal["flow", "centroid", "both"],
) -> None:
    head = MotionHead(4, {FRONT: 3}, {STATE: 2}, grid=2, target=name)
    frames = {STATE: torch.randn(3, 3, 2), FRONT: torch.rand(3, 3, 3, 16, 16)}
    valid = torch.ones(3, 2, dtype=torch.bool)
    flow, shift = optical_flow(frames[FRONT], valid, grid=2), brightness_shift(frames[FRONT])
    expected = {"flow": flow, "centroid": shift, "both": torch.cat([flow, shift], dim=-1)}[name]
    target = head.target(frames, valid)
    assert torch.equal(target[..., 2:], expected)
    assert head.project.out_features == target.shape[-1]


def linear_motion(size: int = 40) -> tuple[Tensor, dict[str, Tensor]]:
    """Latents (B, 2, 4), and a state whose changes are a linear function of them."""
    z = torch.randn(size, 2, 4)
    change = z @ torch.randn(4, 3) * torch.tensor([1.0, 10.0, 0.1]) + 5
    start = torch.randn(size, 1, 3)
    return z, {STATE: torch.cat([start, start + change.cumsum(dim=1)], dim=1)}


def test_a_latent_that_tells_the_motion_linearly_costs_nothing() -> None:
    head = MotionHead(4, {}, {STATE: 3}, grid=1).train()
    z, frames = linear_motion()
    valid = torch.ones(40, 2, dtype=torch.bool)
    torch.nn.init.zeros_(head.project.weight)
    torch.nn.init.zeros_(head.project.bias)
    silent = head.loss(z, frames, valid)
    assert silent.shape == (40,)
    assert silent.mean().item() == pytest.approx(1, rel=1e-4), "a constant answer is wrong by one deviation"
    goal = head.moments.normalize(head.target(frames, valid)).flatten(0, 1)
    fitted = torch.linalg.lstsq(torch.cat([z.flatten(0, 1), torch.ones(80, 1)], dim=1), goal).solution
    with torch.no_grad():
        head.project.weight.copy_(fitted[:4].T)
        head.project.bias.copy_(fitted[4])
    assert head.eval().loss(z, frames, valid).max() < 1e-8


def test_only_valid_pairs_count() -> None:
    """What is not valid holds zeros, as ``read_batch`` leaves it, and whatever its latent may be."""
    head = MotionHead(4, {FRONT: 3}, {STATE: 3}, grid=1, target="flow").train()
    z, frames = linear_motion(6)
    frames[FRONT] = torch.rand(6, 3, 3, 16, 16)
    valid = torch.tensor([[1, 1], [1, 0], [0, 0], [1, 1], [1, 0], [1, 1]], dtype=torch.bool)
    for x in frames.values():
        x[1, 2] = x[4, 2] = 0
        x[2, 1:] = 0
    z = z.requires_grad_()
    loss = head.loss(z, frames, valid)
    assert int(head.moments.count) == valid.sum(), "nor do others enter the moments"
    target = head.target(frames, valid)
    torch.testing.assert_close(head.moments.mean, target[valid].mean(dim=0))
    state, flow = ((head.project(z) - head.moments.normalize(target))[valid] ** 2).split([3, 2], dim=-1)
    torch.testing.assert_close(loss.mean(), (state.mean() + flow.mean()) / 2, msg="each kind of motion counts alike")
    assert loss[2] == 0
    loss.mean().backward()
    assert torch.isfinite(z.grad).all()
    assert (z.grad[valid].abs().sum(dim=-1) > 0).all()
    assert not z.grad[~valid].any()
    other = torch.where(valid.unsqueeze(-1), z.detach(), torch.full((), 1e6))
    torch.testing.assert_close(head.eval().loss(other, frames, valid), loss.detach())


def test_a_batch_without_a_valid_pair_costs_nothing() -> None:
    head = MotionHead(4, {FRONT: 3}, {STATE: 3}, grid=1, target="flow").train()
    frames = {STATE: torch.zeros(2, 2, 3), FRONT: torch.zeros(2, 2, 3, 16, 16)}
    loss = head.loss(torch.randn(2, 1, 4), frames, torch.zeros(2, 1, dtype=torch.bool))
    assert loss.tolist() == [0, 0]
    assert int(head.moments.count) == 0


def test_an_evaluation_leaves_the_moments_as_they_are() -> None:
    head = MotionHead(4, {}, {STATE: 3}, grid=1).eval()
    z, frames = linear_motion(4)
    head.loss(z, frames, torch.ones(4, 2, dtype=torch.bool))
    assert int(head.moments.count) == 0
