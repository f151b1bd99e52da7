"""Angles that wrap around: found in a dataset's tables, and known to a policy as any other joint is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lerobot.datasets import LeRobotDatasetMetadata

from lerobot_lafp.checkpoint.facts import lines
from lerobot_lafp.checkpoint.inspection import inspect
from lerobot_lafp.observation.angles import Angle, angles_of, apart, turned
from lerobot_lafp.training.angles import angle_of, turn_of
from lerobot_lafp.training.measuring import measure_columns

from ..metamorphic import (
    ACTION,
    FEW,
    STATE,
    Data,
    commands,
    demonstrations,
    fit,
    following,
    frames_of,
    fresh,
    one_by_one,
    prefix,
    saved,
    written,
)

TURN = 2 * np.pi
ARM = ["moves", "ramp", "ticks"]


def wrap(x: Any, lowest: float, turn: float) -> Any:
    return lowest + (x - lowest) % turn


def with_angle(centre: float, turn: float, lowest: float | None) -> Data:
    """An arm whose joint 1 swings about ``centre``, told on the turn from ``lowest`` on, or unwrapped."""
    data = demonstrations(ARM, lengths=(24, 24))
    t = np.arange(49)
    swing = (centre + 0.12 * turn * np.sin(0.45 * t) + 0.004 * turn * np.sin(7.0 * t)).astype(np.float32)

    def put(column: list[Any], values: Any) -> list[Any]:
        told = values if lowest is None else wrap(values.astype(np.float64), lowest, turn).astype(np.float32)
        return [
            np.stack([x[:, 0], part, x[:, 2]], axis=1) for x, part in zip(column, np.split(told, [24]), strict=True)
        ]

    columns = {
        STATE: put(list(data.columns[STATE]), swing[:-1]),
        ACTION: put(list(data.columns[ACTION]), swing[1:]),
    }
    return replace(data, columns=columns)


def assert_near(one: torch.Tensor, other: torch.Tensor, turn: float) -> None:
    off = (one - other).double().numpy()
    off[..., 1] = wrap(off[..., 1], -turn / 2, turn)
    scale = np.maximum(1.0, np.abs(one.numpy()).max(axis=(0, 1) if one.ndim == 3 else 0))
    assert np.abs(off / scale).max() < 2e-3


@FEW
@given(
    low=st.sampled_from([-0.5, 0.0]),
    turn=st.sampled_from([TURN, 360.0]),
    away=st.floats(-0.05, 0.05),
    options=st.sampled_from([{}, {"relative_actions": True}, {"decoder_observes": "state"}]),
)
def test_an_angle_that_wraps_is_a_joint_as_any_other(
    low: float, turn: float, away: float, options: dict[str, Any]
) -> None:
    lowest, centre = low * turn, (low + 1 + away) * turn
    with written(with_angle(centre, turn, lowest), with_angle(centre, turn, None)) as (wrapped, plain):
        one, other = fresh(wrapped, **options), fresh(plain, **options)
        assert [angle.dimension for angle in angles_of(one.config.facts)[ACTION]] == [1]
        assert angles_of(other.config.facts) == {}
        assert fit(one, wrapped) == pytest.approx(fit(other, plain), rel=1e-3)
        one, other = (following(saved(p, root / "it"), root) for p, root in ((one, wrapped), (other, plain)))
        assert [angle.dimension for angle in angles_of(one.config.facts)[ACTION]] == [1], "saved"
        told = commands(one, frames_of(wrapped))
        assert_near(told, commands(other, frames_of(plain)), turn)
        assert float(told[..., 1].min()) >= lowest - 1e-3 * turn
        assert float(told[..., 1].max()) <= lowest + turn * (1 + 1e-3)
        assert_near(one_by_one(one, frames_of(wrapped)), one_by_one(other, frames_of(plain)), turn)
        if not options:
            assert_near(prefix(one, frames_of(wrapped)), prefix(other, frames_of(plain)), turn)


def test_the_next_chunk_goes_on_from_one_whose_angle_was_told_on_another_turn() -> None:
    with written(with_angle(np.pi, TURN, -np.pi)) as (root,):
        policy = fresh(root)
        fit(policy, root)
        torch.manual_seed(7)
        frames = frames_of(root)
        crossed = 0
        for frame in frames[::6]:
            before = policy.predict_action_chunk({STATE: frame[STATE]})
            assert policy._present is not None
            crossed += not torch.equal(before, policy._present.actions)
            assert policy._prefix_of(before[0, 1:], 1) is not None
        assert crossed


def test_what_a_policy_knows_of_angles_stays_with_it() -> None:
    """Another dataset, in which nothing wraps: angles are put on the policy's turn all the same."""
    with written(with_angle(np.pi, TURN, -np.pi), with_angle(np.pi, TURN, None)) as (wrapped, plain):
        policy = fresh(wrapped)
        fit(policy, wrapped)
        known = policy.config.facts.angles
        after = following(saved(policy, wrapped / "it"), plain)
        assert after.config.facts.angles == known
        plain_frames, wrapped_frames = frames_of(plain), frames_of(wrapped)
        assert_near(commands(after, plain_frames), commands(policy, wrapped_frames), TURN)


def test_inspect_names_the_angles(capsys: pytest.CaptureFixture[str]) -> None:
    with written(with_angle(np.pi, TURN, -np.pi)) as (root,):
        policy = fresh(root)
        fit(policy, root, 1)
        facts = inspect(saved(policy, root / "it")).facts
    assert lines(facts)["angles"] == "observation.state: elbow.pos; action: elbow.pos"


def test_weights_that_did_not_know_of_angles_go_on_without() -> None:
    with written(with_angle(np.pi, TURN, -np.pi)) as (root,):
        policy = fresh(root)
        policy.config.facts.angles = None
        policy.stage_steps += 1
        after = following(saved(policy, root / "it"), root)
        assert after.config.facts.angles is None


@pytest.mark.parametrize("turn", [TURN, 360.0])
@pytest.mark.parametrize("low", [-0.5, 0.0])
def test_a_turn_is_found_and_cut_where_nothing_passes(turn: float, low: float) -> None:
    draw = np.random.default_rng(0)
    places = (low + 0.02 * draw.standard_normal(200).cumsum() / 5) * turn
    told = wrap(places, low * turn, turn)
    assert turn_of(told, np.zeros(200)) == turn
    angle = angle_of(told, 3, turn)
    assert angle.theirs == low * turn
    assert abs(angle.own + turn / 2) <= turn / 2, "its middle is within half a turn of zero"
    own = turned(told[:, None].repeat(4, axis=1), [angle], "own")
    assert np.abs(np.diff(own[:, 3])).max() < 0.1 * turn
    assert np.array_equal(own[:, :3], told[:, None].repeat(3, axis=1))
    back = turned(own, [angle], "theirs")
    assert np.allclose(back[:, 3], told)


@pytest.mark.parametrize(
    "values",
    [
        np.sin(np.arange(200) / 5) * np.pi,  # a joint that swings over a whole turn
        np.where(np.arange(200) % 20 < 10, 0, 360.0),  # a switch
        np.random.default_rng(0).uniform(-np.pi, np.pi, 200),  # anything
        np.full(200, np.nan),
        np.linspace(0, 360, 200),
    ],
    ids=["swings", "switch", "noise", "missing", "once round"],
)
def test_what_is_no_angle_that_wraps(values: Any) -> None:
    assert turn_of(values, np.zeros(200)) is None


def test_from_one_episode_to_the_next_nothing_wraps() -> None:
    values = np.concatenate([np.linspace(3.0, 3.13, 50), np.linspace(-3.13, -3.0, 50)])
    assert turn_of(values, np.repeat([0, 1], 50)) is None
    assert turn_of(values, np.zeros(100)) == TURN


@given(st.floats(-1e3, 1e3, width=32), st.floats(-4, 4))
def test_a_number_on_its_turn_is_left_as_it_is(x: float, own: float) -> None:
    angle = Angle(0, TURN, own, own)
    for kind in (torch.float32, torch.float64):
        once = turned(torch.tensor([[x]], dtype=kind), [angle], "own")
        if own + 1e-3 < float(once) < own + TURN - 1e-3:
            assert torch.equal(turned(once, [angle], "own"), once)
    assert own - 1e-9 <= float(turned(np.array([[x]]), [angle], "own")[0, 0]) <= own + TURN + 1e-9


def test_numbers_that_are_not_finite_stay() -> None:
    angle = Angle(0, TURN, 0.0, 0.0)
    assert np.isnan(turned(np.array([[np.nan]]), [angle], "own")).all()
    assert np.isnan(turned(torch.tensor([[torch.nan]]), [angle], "own").numpy()).all()


def test_differences_go_the_short_way_round() -> None:
    off = apart(np.array([[6.2, 6.2], [-6.2, 0.1]]), [Angle(1, TURN, 1.0, 0.0)])
    assert np.allclose(off, [[6.2, 6.2 - TURN], [-6.2, 0.1]])


def test_statistics_are_those_of_the_policys_turn() -> None:
    with written(with_angle(np.pi, TURN, -np.pi), with_angle(np.pi, TURN, None)) as (wrapped, plain):
        policy, other = fresh(wrapped), fresh(plain)
        for known in (policy, other):
            fit(known, wrapped if known is policy else plain, 1)
        widths = [
            [x.normalizer.of(STATE).std, x.limits.width, x.limits.change.high, x.limits.state.high - x.limits.state.low]
            for x in (policy, other)
        ]
        for ours, theirs in zip(*widths, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-3)
        plainly = measure_columns(LeRobotDatasetMetadata("local/x", root=wrapped), [STATE])[STATE]
        assert plainly["std"][1] > 2, "as the dataset tells it"
