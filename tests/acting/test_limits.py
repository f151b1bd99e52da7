"""What is commanded in place of what the policy says."""

import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lerobot.policies.rtc import RTCConfig
from torch import Tensor

from lerobot_lafp.acting import limits as module
from lerobot_lafp.acting.limits import LATER, SafetyGuard, UnsafeActionError
from lerobot_lafp.acting.real_time import Chunk, find_prefix
from lerobot_lafp.configuration_lafp import LAFPConfig
from lerobot_lafp.model.limits import SafetyLimits
from lerobot_lafp.modeling_lafp import LAFPPolicy

from ..building import put

STATE, FRONT = "observation.state", "observation.images.front"
JOINTS = ["pan.pos", "lift.pos"]

Configs = Callable[..., LAFPConfig]


@pytest.fixture
def config(make_config: Configs) -> LAFPConfig:
    return make_config(STATE, FRONT, fps=10.0, action_names=JOINTS, state_names=JOINTS)


@pytest.fixture
def limits() -> SafetyLimits:
    """Demonstrations within [0, 10] and [-1, 1], that moved by 1 and 0.5 a frame, commanded 2 and 1 ahead."""
    limits = SafetyLimits(2, 2, 8)
    first = torch.tensor([[0.0, -1.0], [1.0, -0.5], [2.0, -1.0]])
    last = torch.tensor([[10.0, 1.0], [9.0, 0.5], [10.0, 1.0]])
    actions = torch.stack([first, last])
    joints = actions[:, 0] - torch.tensor([2.0, 1.0])
    limits.update(actions, torch.ones(2, 3, dtype=torch.bool), joints, joints)
    limits.take_state({"mean": torch.tensor([5.0, 0.0]), "std": torch.ones(2)})
    return limits


def guard(config: LAFPConfig, limits: SafetyLimits, **options: Any) -> SafetyGuard:
    """By whose clock a tenth of a second passes whenever something is observed."""
    put(config, options)
    ticks = itertools.count()
    return SafetyGuard(config, limits, clock=lambda: next(ticks) / 10)


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


def picture(value: int = 0) -> dict[str, Tensor]:
    return {FRONT: torch.full((1, 3, 4, 4), value, dtype=torch.uint8)}


# --- What the demonstrations did -----------------------------------------------------------------------------


def test_range_and_change_are_those_of_labelled_actions() -> None:
    limits = SafetyLimits(1, 0, 8)
    actions = torch.tensor([[[1.0], [2.0], [50.0]], [[float("nan")], [-3.0], [-3.5]]])
    labeled = torch.tensor([[True, True, False], [False, True, True]])
    limits.update(actions, labeled, None)
    assert (limits.action.low, limits.action.high) == (-3.5, 2.0)
    assert limits.change.high == 1.0


def test_nothing_seen_bounds_nothing(config: LAFPConfig) -> None:
    free = guard(config, SafetyLimits(2, 2, 8))
    free.watch(picture(), row(5, 0))
    assert torch.equal(free.command(row(1e6, -1e6)), row(1e6, -1e6))


# --- Bounds --------------------------------------------------------------------------------------------------


def test_commands_stay_within_the_range_and_its_margin(config: LAFPConfig, limits: SafetyLimits) -> None:
    bounded = guard(config, limits, limits__change=None)
    bounded.watch(picture(), row(5, 0))
    assert torch.allclose(bounded.command(row(99, -99)), row(11, -1.2))


def test_a_range_may_be_given(config: LAFPConfig, limits: SafetyLimits) -> None:
    bounded = guard(config, limits, limits__change=None, limits__range={"lift.pos": (-0.2, 0.3)})
    bounded.watch(picture(), row(5, 0))
    assert torch.allclose(bounded.command(row(99, 99)), row(11, 0.3))
    with pytest.raises(ValueError, match=r"no action of this policy: pan\.pos, lift\.pos"):
        guard(config, limits, limits__range={"elbow": (0, 1)})


def test_no_command_is_further_from_the_last_than_allowed(config: LAFPConfig, limits: SafetyLimits) -> None:
    bounded = guard(config, limits)
    sent = [row(5, 0)]
    for _ in range(6):
        bounded.watch(picture(), row(5, 0))
        sent.append(bounded.command(row(10, 1)))
    steps = torch.cat(sent).diff(dim=0)
    assert torch.allclose(steps[0], row(4, 2).clamp(max=torch.tensor([4.0, 1.0])))  # twice the lead, and in range
    assert float(steps[1:, 0].max()) <= 2.0  # twice the change
    assert torch.equal(sent[-1], row(10, 1))


def test_a_change_a_second_may_be_given(config: LAFPConfig, limits: SafetyLimits) -> None:
    bounded = guard(config, limits, limits__change_per_s={"pan.pos": 3.0})
    bounded.watch(picture(), row(5, 0))
    first = bounded.command(row(5, 0))
    assert torch.allclose(bounded.command(row(9, 0)) - first, row(0.3, 0))


def test_smoothing_keeps_a_share_of_the_last(config: LAFPConfig, limits: SafetyLimits) -> None:
    smooth = guard(config, limits, limits__smoothing=0.75, limits__change=None)
    smooth.watch(picture(), row(5, 0))
    smooth.command(row(4, 0))
    assert torch.allclose(smooth.command(row(8, 0)), row(5, 0))


def test_a_joint_that_stood_still_stays_where_it_is_or_comes_back(config: LAFPConfig) -> None:
    """Not as far as a share of its neighbours' range would let it: these may be of another unit."""
    limits = SafetyLimits(2, 2, 8)
    still = torch.tensor([[[0.0, 3.0], [1.0, 3.0], [10.0, 3.0]]])
    limits.update(still, torch.ones(1, 3, dtype=torch.bool), still[:, 0], still[:, 0] - 0.25)
    bounded = guard(config, limits)
    bounded.watch(picture(), row(5, 3))
    assert torch.equal(bounded.command(row(5, 9)), row(5, 3))
    away = guard(config, limits)
    away.watch(picture(), row(5, 4))
    sent = [float(away.command(row(5, 3))[0, 1]) for _ in range(4)]
    assert sent == [3.5, 3.0, 3.0, 3.0], "by what it was ever behind its command, twice"
    limits.lead.low[1] = limits.lead.high[1] = 0  # as of a state that is a copy of the commands
    far = guard(config, limits)
    far.watch(picture(), row(5, 4))
    sent = [float(far.command(row(5, 3))[0, 1]) for _ in range(11)]
    torch.testing.assert_close(torch.tensor(sent), torch.tensor([*torch.linspace(3.9, 3, 10), 3.0]))


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_bounds_are_of_each_dimensions_own_unit(config: LAFPConfig, factor: float) -> None:
    actions = torch.rand(4, 6, 2, dtype=torch.float64).cumsum(dim=1)
    joints = actions[:, 0] - 0.1
    unit = torch.tensor([1.0, factor], dtype=torch.float64)
    found = []
    for scale in (torch.ones(2), unit):
        limits = SafetyLimits(2, 2, 8)
        x, s = ((each * scale).float() for each in (actions, joints))
        limits.update(x, torch.ones(4, 6, dtype=torch.bool), s, s)
        bounded = guard(config, limits)
        bounded.watch(picture(), s[:1])
        found.append(torch.stack([*bounded.bounds, *bounded.command((5 * scale).float().expand(1, 2))]))
    torch.testing.assert_close(found[1], (found[0].double() * unit).float(), rtol=1e-5, atol=0)


def test_a_chunk_is_bounded_step_by_step(config: LAFPConfig, limits: SafetyLimits) -> None:
    bounded = guard(config, limits)
    bounded.watch(picture(), row(5, 0))
    chunk = bounded.chunk(torch.tensor([[[10.0, 0.0], [0.0, 0.0], [10.0, 0.0]]]))
    assert torch.allclose(chunk[0, :, 0], torch.tensor([9.0, 7.0, 9.0]))


# --- Holding, and stopping -----------------------------------------------------------------------------------


def test_what_is_no_number_holds_the_last_command_and_stops_the_run(
    config: LAFPConfig, limits: SafetyLimits, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 3)
    held = guard(config, limits)
    held.watch(picture(), row(5, 0))
    last = held.command(row(6, 0.1))
    for _ in range(3):
        assert torch.equal(held.command(row(float("nan"), 0.2)), last)
    assert "pan.pos" in caplog.text
    with pytest.raises(UnsafeActionError, match=r"3 commands held in a row: the action is not a number \(pan\.pos\)"):
        held.command(row(float("inf"), 0.2))


def test_a_number_in_between_starts_the_count_again(
    config: LAFPConfig, limits: SafetyLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 1)
    held = guard(config, limits)
    held.watch(picture(), row(5, 0))
    for _ in range(4):
        held.command(row(float("nan"), 0))
        held.command(row(5, 0))


def test_before_the_first_command_the_arm_is_held_where_it_is(config: LAFPConfig, limits: SafetyLimits) -> None:
    held = guard(config, limits)
    held.watch(picture(), row(5, 0))
    assert torch.equal(held.command(row(float("nan"), 0)), row(5, 0))


def test_without_a_position_to_hold_the_run_does_not_begin(config: LAFPConfig, limits: SafetyLimits) -> None:
    held = guard(config, limits, state_names=None)
    held.watch(picture(), row(5, 0))
    with pytest.raises(UnsafeActionError, match="before its first command"):
        held.command(row(float("nan"), 0))


def test_to_hold_a_speed_is_to_stand_still(config: LAFPConfig, limits: SafetyLimits) -> None:
    names = ["base_x.vel", "lift.pos"]
    held = guard(config, limits, action_names=names, state_names=names, limits__change=None)
    held.watch(picture(), row(5, 0))
    held.command(row(6, 0.5))
    assert torch.equal(held.command(row(float("nan"), 0.2)), row(0, 0.5))


def test_steps_of_an_unknown_place_can_be_held_from_the_first(config: LAFPConfig, limits: SafetyLimits) -> None:
    held = guard(config, limits, action_names=["delta_x", "delta_y"], state_names=None)
    held.watch(picture(), row(5, 0))
    assert torch.equal(held.command(row(float("nan"), 1)), row(0, 0))


@pytest.mark.parametrize("scale", [0.02, 1.0])
def test_names_of_joints_make_no_positions_of_steps(
    scale: float, make_policy: Callable[..., LAFPPolicy], make_batch: Callable[..., dict[str, Any]], tmp_path: Any
) -> None:
    """Steps that are called like the joints which they move: to hold is to send zero."""
    policy = make_policy(STATE, action_names=JOINTS, state_names=JOINTS)
    policy.train()
    batch = make_batch(policy.config)
    state = batch[STATE][:, policy.config.frame_deltas.index(0)]
    near = state.unsqueeze(1) + 0.1 * batch["action"]
    batch["action"] = near if scale == 1 else scale * batch["action"]
    policy.forward(batch)[0].backward()
    policy.update()
    policy.save_pretrained(tmp_path)
    again = LAFPPolicy.from_pretrained(tmp_path).eval()
    assert again.config.facts.actions_are_positions == (scale == 1)
    for parameter in again.action_decoder.parameters():
        parameter.data.fill_(float("nan"))
    held = again.select_action({STATE: torch.tensor([[0.3, -0.2]])})
    assert torch.equal(held, torch.tensor([[0.3, -0.2]]) if scale == 1 else torch.zeros(1, 2))


def test_side_by_side_each_holds_its_own(config: LAFPConfig, limits: SafetyLimits) -> None:
    held = guard(config, limits)
    held.watch({}, torch.tensor([[5.0, 0.0], [5.0, 0.0]]))
    held.command(torch.tensor([[4.0, 0.0], [6.0, 0.0]]))
    sent = held.command(torch.tensor([[5.0, 0.0], [float("nan"), 0.0]]))
    assert torch.equal(sent, torch.tensor([[5.0, 0.0], [6.0, 0.0]]))


@pytest.mark.parametrize("value", [100.0, float("nan")])
def test_a_state_that_cannot_be_right_holds(
    config: LAFPConfig, limits: SafetyLimits, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 2)
    held = guard(config, limits)
    held.watch(picture(), row(5, 0))
    last = held.command(row(6, 0))
    for _ in range(2):
        held.watch(picture(), row(5, value))
        assert torch.equal(held.command(row(7, 0)), last)
    held.watch(picture(), row(5, value))
    with pytest.raises(UnsafeActionError, match=r"state of lift\.pos is (100|nan).*calibrated"):
        held.command(row(7, 0))


def test_names_that_somebody_gave_are_those_that_are_told(config: LAFPConfig, limits: SafetyLimits) -> None:
    given = {STATE: ["yaw", "height"], "action": ["turn", "rise"]}
    held = guard(config, limits, names=given, limits__range={"turn": (0.0, 1.0)})
    held.watch(picture(), row(5, 100))
    with pytest.raises(UnsafeActionError, match="state of height is 100"):
        held.command(row(float("nan"), 0))
    with pytest.raises(ValueError, match="no action of this policy: turn, rise"):
        guard(config, limits, limits__range={"pan.pos": (0.0, 1.0)})


def test_a_picture_that_stays_while_the_arm_moves_holds(
    config: LAFPConfig, limits: SafetyLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 2)
    monkeypatch.setattr(module, "FROZEN_S", 0.35)
    held = guard(config, limits)
    pan, sent = 5.0, []
    with pytest.raises(UnsafeActionError, match=f"camera {FRONT} has shown the same picture"):  # noqa: PT012
        for _ in range(9):
            held.watch(picture(), row(pan, 0))
            sent.append(float(held.command(row(pan + 0.5, 0))[0, 0]))
            pan = sent[-1]
    assert len(sent) == 6  # four within the time, and two held
    assert sent[-1] == sent[-2] == sent[-3]


def test_a_joint_that_does_not_follow_holds(
    config: LAFPConfig, limits: SafetyLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 2)
    monkeypatch.setattr(module, "FROZEN_S", 0.35)
    held = guard(config, limits, limits__change=None)
    held.watch(picture(), row(5, 0))
    held.command(row(9, 0))
    for step in range(8):  # it moves, if far behind
        held.watch(picture(step), row(2 - 0.1 * step, 0))
        assert float(held.command(row(9, 0))[0, 0]) == 9
    with pytest.raises(UnsafeActionError, match=r"pan\.pos does not follow its commands.*overload"):  # noqa: PT012
        for step in range(8):
            held.watch(picture(step), row(1, 0))
            held.command(row(10, 0))
    assert step == 6  # four within the time, two held


def test_a_test_of_the_policy_is_no_arm_that_is_stuck(
    config: LAFPConfig, limits: SafetyLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One observation asked again and again, as a measurement of latency does, far faster than in training."""
    config.facts.fps = 2.0
    monkeypatch.setattr(module, "FROZEN_S", 0.35)
    asked = guard(config, limits, limits__change=None)
    for _ in range(40):
        asked.watch(picture(), row(1, 0))
        asked.command(row(10, 0))


def test_a_joint_whose_commands_never_moved_it_is_not_said_to_be_stuck(
    config: LAFPConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = SafetyLimits(2, 2, 8)
    hardly = torch.tensor([[[0.0, 3.0], [5.0, 3.1], [10.0, 3.0]]])
    limits.update(hardly, torch.ones(1, 3, dtype=torch.bool), hardly[:, 0], hardly[:, 0] - 0.1)
    monkeypatch.setattr(module, "MOST_HELD", 1)
    monkeypatch.setattr(module, "FROZEN_S", 0.35)
    held = guard(config, limits)
    for step in range(20):
        held.watch(picture(step), row(5 + step % 2, 2.5))
        held.command(row(5, 3))


@pytest.mark.parametrize("rare", [True, False])
def test_no_frame_of_the_demonstrations_is_refused(config: LAFPConfig, rare: bool) -> None:
    limits = SafetyLimits(2, 2, 8)
    state = torch.zeros(1500, 2)
    state[:, 0] = 10 * torch.sin(torch.arange(1500) / 20)
    state[500:515, 1] = 100 if rare else 0
    values = state.numpy().astype(float)
    stats = {"mean": values.mean(0), "std": values.std(0), "min": values.min(0), "max": values.max(0)}
    limits.take_state(stats)
    held = guard(config, limits)
    for step, each in enumerate(state[490:530]):
        held.watch(picture(step), each.unsqueeze(0))
        assert held._wrong is None


def test_a_still_arm_may_see_the_same(
    config: LAFPConfig, limits: SafetyLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 1)
    monkeypatch.setattr(module, "FROZEN_S", 0.35)
    held = guard(config, limits)
    for _ in range(20):
        held.watch(picture(), row(5, 0))
        held.command(row(5, 0))
    for step in range(20):
        held.watch(picture(step), row(5 + step / 10, 0))
        held.command(row(5, 0))


# --- In the policy -------------------------------------------------------------------------------------------


def test_the_policy_keeps_its_limits_through_a_checkpoint(
    make_policy: Callable[..., LAFPPolicy], make_batch: Callable[..., dict[str, Any]], tmp_path: Any
) -> None:
    policy = make_policy(STATE, action_names=JOINTS, state_names=JOINTS)
    policy.train()
    policy.forward(make_batch(policy.config))[0].backward()
    policy.update()
    policy.save_pretrained(tmp_path)
    again = LAFPPolicy.from_pretrained(tmp_path)
    low, high, _ = SafetyGuard(again.config, again.limits).bounds
    assert torch.equal(again.limits.action.high, policy.limits.action.high)
    for parameter in again.action_decoder.parameters():
        parameter.data *= 1e3
    again.eval()
    again.reset()
    for _ in range(5):
        action = again.select_action({STATE: torch.zeros(1, 2)})
        assert bool((action >= low - 1e-4).all())
        assert bool((action <= high + 1e-4).all())
    assert bool((again.predict_action_chunk({STATE: torch.zeros(1, 2)}) <= high + 1e-4).all())


def test_a_policy_of_nan_stops(
    make_policy: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 2)
    policy = make_policy(STATE, action_names=JOINTS, state_names=JOINTS)
    for parameter in policy.action_decoder.parameters():
        parameter.data.fill_(float("nan"))
    policy.eval()
    batch = {STATE: torch.tensor([[0.3, -0.2]])}
    for _ in range(2):
        assert torch.equal(policy.select_action(batch), batch[STATE])
    with pytest.raises(UnsafeActionError):
        policy.select_action(batch)


def test_without_limits_everything_passes(make_policy: Callable[..., LAFPPolicy]) -> None:
    policy = make_policy(STATE, limits__enabled=False)
    for parameter in policy.action_decoder.parameters():
        parameter.data.fill_(float("nan"))
    assert policy.eval().select_action({STATE: torch.zeros(1, 2)}).isnan().all()


def test_what_is_far_from_the_training_is_said_once(
    make_policy: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    make_config: Configs,
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = make_policy(STATE, FRONT)
    policy.limits.tokens.update(torch.randn(100, 8) * 1e-3)
    policy.eval()
    batch = {STATE: torch.zeros(1, 2), FRONT: torch.rand(1, 3, 20, 24)}
    with caplog.at_level(logging.WARNING):
        for _ in range(7):
            policy.select_action(batch)
    assert caplog.text.count("the observation lies") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"limits__margin": -0.1},
        {"limits__change": -1.0},
        {"limits__smoothing": 1.0},
        {"limits__range": {"pan.pos": (1.0, 1.0)}},
        {"limits__change_per_s": {"pan.pos": 0.0}},
    ],
)
def test_limits_that_make_no_sense_are_refused(make_config: Configs, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options)).replace("__", r"\.")):
        make_config(**options)


# --- Chunks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [0, 1, 3])
@pytest.mark.parametrize("executed", [1, 4])
def test_a_chunk_that_comes_later_than_expected_is_no_jump(
    expected: int, executed: int, config: LAFPConfig, limits: SafetyLimits
) -> None:
    bounded = guard(config, limits)
    bounded.watch(picture(), row(5, 0))
    present = Chunk(torch.zeros(1, 2, 4), bounded.chunk(torch.linspace(5, 9, 12).reshape(1, 12, 1).expand(1, 12, 2)))
    prefix = find_prefix(present, present.actions, present.actions[0, executed:], expected, RTCConfig())
    assert prefix is not None
    wild = torch.randn(1, 12, 2) * 100
    wild[:, :expected] = prefix.left[:, :expected]
    chunk = bounded.chunk(wild, prefix)
    low, high, most = bounded.bounds
    assert ((chunk >= low) & (chunk <= high)).all()
    for delay in range(min(2 * expected + LATER, prefix.left.shape[1]) + 1):
        sent = torch.cat([present.actions[0, : executed + delay], chunk[0, delay:]])
        assert (sent.diff(dim=0).abs() <= most + 1e-5).all(), delay
