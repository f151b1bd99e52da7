"""What makes no difference to a robot makes none to a policy: the order, names, units and types of its numbers."""

import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lerobot.datasets import LeRobotDataset
from lerobot.policies.rtc import RTCConfig

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.acting import limits as limits_module
from lerobot_lafp.checkpoint.inspection import inspect
from lerobot_lafp.data.latent_labels import label_dataset
from lerobot_lafp.diagnostics.collect import collect, dataset_batches
from lerobot_lafp.options.constants import LATENT_ACTION
from lerobot_lafp.processor_lafp import make_lafp_pre_post_processors

from .metamorphic import (
    ACTION,
    FEW,
    FORCE,
    FPS,
    KINDS,
    STATE,
    Data,
    commands,
    demonstrations,
    fit,
    following,
    frames_of,
    fresh,
    joints,
    loss_of,
    one_by_one,
    prefix,
    saved,
    written,
)

pytestmark = pytest.mark.slow

ONE_STEP: dict[str, Any] = {"n_obs_steps": 1, "horizon": 1, "num_latents": 1, "n_action_steps": 1}
kinds = st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=5)


def assert_same(policy: LAFPPolicy, other: LAFPPolicy) -> None:
    """Same weights and buffers, to the bit."""
    one, two = policy.state_dict(), other.state_dict()
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def with_force(data: Data, width: int = 3) -> Data:
    """With another observation beside the state."""
    draw = np.random.default_rng(9)
    force = [draw.normal(5, 2, (len(x), width)).astype(np.float32) for x in data.columns[ACTION]]
    return replace(
        data,
        columns={**data.columns, FORCE: force},
        names={**data.names, FORCE: ["fz", "fx", "fy"][:width]},
    )


# --- Order ---------------------------------------------------------------------------------------------------


@FEW
@given(
    kinds=kinds,
    options=st.sampled_from([{}, {"relative_actions": True}, {"decoder_observes": "state"}]),
    data=st.data(),
)
def test_dimensions_in_another_order_are_the_same(
    kinds: list[str], options: dict[str, Any], data: st.DataObject
) -> None:
    own = with_force(demonstrations(kinds))
    orders = {key: data.draw(st.permutations(range(own.columns[key][0].shape[1])), key) for key in own.columns}
    with written(own, own.permuted(orders)) as (first, second):
        policy = fresh(first, **options)
        fit(policy, first)
        folder = saved(policy, first / "checkpoint")
        same, other = following(folder, first), following(folder, second)
        assert loss_of(same, first) == loss_of(other, second)
        expected, got = commands(same, frames_of(first)), commands(other, frames_of(second))
        assert torch.equal(expected[..., orders[ACTION]], got)
        assert torch.equal(
            one_by_one(same, frames_of(first))[..., orders[ACTION]], one_by_one(other, frames_of(second))
        )
        assert fit(same, first) == fit(other, second)
        assert_same(same, other)


@FEW
@given(order=st.permutations(range(4)))
def test_stage_3_on_joints_in_another_order(order: list[int]) -> None:
    film = demonstrations(["moves", "ramp", "rare", "ticks"])
    film = replace(film, columns={STATE: film.columns[STATE]}, names={STATE: joints(4)})
    own = demonstrations(["ramp", "moves", "steps", "heavy"], seed=1)
    with written(film, own, own.permuted({STATE: order, ACTION: order[::-1]})) as (video, first, second):
        policy = fresh(video, stage="latent_action")
        fit(policy, video, 2)
        policy = following(saved(policy, video / "1"), video, stage="latent_policy")
        fit(policy, video, 2)
        saved(policy, video / "2")
        options = {"stage": "action_decoder", "decoder_observes": "state"}
        # The names of actions come with the first dataset that has any: there, the order is the policy's own.
        one, two = (following(video / "2", root, names={ACTION: joints(4)}, **options) for root in (first, second))
        assert fit(one, first) == fit(two, second)
        assert_same(one, two)


def test_a_robot_with_its_joints_in_another_order() -> None:
    own = demonstrations(["moves", "ramp", "steps"])
    with written(own) as (root,):
        policy = fresh(root)
        fit(policy, root)
        frames = frames_of(root)
        policy.config.rtc_config = RTCConfig(enabled=True)
        expected = one_by_one(policy, frames), commands(policy, frames), prefix(policy, frames)
        order = [2, 0, 1]
        robot = {
            key: {"dtype": "float32", "shape": (3,), "names": [joints(3)[i] for i in order]} for key in own.columns
        }
        policy.config.match_names(robot)
        shown = [{STATE: frame[STATE][:, order]} for frame in frames]
        assert torch.equal(one_by_one(policy, shown), expected[0][:, order])
        assert torch.equal(commands(policy, shown), expected[1][..., order])
        assert torch.equal(prefix(policy, shown), expected[2][..., order])
        for wrong in (["shoulder.pos", "elbow.pos", "gripper.pos"], ["shoulder.pos", "elbow.pos"], [*joints(4)]):
            with pytest.raises(ValueError, match="not the same names"):
                policy.config.match_names({ACTION: {"shape": (len(wrong),), "names": wrong}})


@pytest.mark.parametrize(
    "form",
    [
        lambda names: [names],
        lambda names: {"motors": names},
        lambda names: {name: i for i, name in reversed(list(enumerate(names)))},
        lambda names: {"arm": names[:2], "hand": names[2:]},
    ],
    ids=["nested", "motors", "positions", "groups"],
)
def test_names_in_another_form(form: Any) -> None:
    own = demonstrations(["moves", "ramp", "steps"])
    other = own.permuted({STATE: [1, 2, 0], ACTION: [2, 1, 0]})
    other = replace(other, names={key: form(names) for key, names in other.names.items()})
    with written(own, other) as (first, second):
        policy = fresh(first)
        fit(policy, first)
        again = following(saved(policy, first / "checkpoint"), second)
        assert torch.equal(commands(again, frames_of(second)), commands(policy, frames_of(first))[..., [2, 1, 0]])
        assert fresh(second).config.facts.state_names == ["elbow.pos", "wrist.pos", "shoulder.pos"]


# --- Units ---------------------------------------------------------------------------------------------------

#: Powers of two: binary numbers are multiplied by them exactly, however long a training goes on.
exact = st.lists(st.integers(-10, 10).map(lambda power: 2.0**power), min_size=5, max_size=5)
factors = st.lists(st.floats(-3, 3).map(lambda power: 10.0**power), min_size=5, max_size=5)


def trained_in_two_units(
    kinds: list[str], states: Sequence[float], actions: Sequence[float], tolerance: float, **options: Any
) -> None:
    """Train on both, and hold losses, commands and limits of one against the other's.

    Args:
        kinds: Of the joints.
        states: What each dimension of the state is multiplied by.
        actions: Likewise; where names tell that an action is a joint's place, both have one unit.
        tolerance: Commands may differ by this share of the dimension's deviation; 0: not in a bit.
        options: The policy's.
    """
    own, width = demonstrations(kinds, named=states is actions), len(kinds)
    by = {STATE: np.array(states[:width]), ACTION: np.array(actions[:width])}
    with written(own, own.scaled(by)) as (first, second):
        one, two = (fresh(root, **options) for root in (first, second))
        assert fit(one, first) == pytest.approx(fit(two, second), rel=tolerance, abs=0)
        demonstrated = np.concatenate(own.columns[ACTION])
        moved, size = demonstrated.std(axis=0), np.abs(demonstrated).max(axis=0)
        allowed = torch.from_numpy(tolerance * np.maximum(moved, 1e-3 * size))
        factor = torch.from_numpy(by[ACTION])
        pairs = [tuple(commands(policy, frames_of(root)) for policy, root in ((two, second), (one, first)))]
        if one._guard is not None:
            pairs += zip(two._guard.bounds, one._guard.bounds, strict=True)
        for got, expected in pairs:
            apart = (got.double() / factor - expected.double()).abs()
            assert (apart <= allowed).all(), (kinds, apart.flatten(0, -2).amax(dim=0), allowed)


@FEW
@given(
    kinds=kinds,
    states=exact,
    actions=exact,
    limits=st.booleans(),
    latent_source=st.sampled_from(["idm", "actions"]),
)
@example(["moves", "still", "rare"], [2**10, 2**-10, 2**10], [2**-10, 2**10, 2**-10], True, "idm")
@example(["moves", "noise", "heavy"], [2**10, 2**-10, 2**10], [2**-10, 2**10, 2**-10], False, "actions")
def test_units_change_nothing_but_the_units(
    kinds: list[str], states: list[float], actions: list[float], limits: bool, latent_source: str
) -> None:
    trained_in_two_units(kinds, states, actions, 0, limits__enabled=limits, latent_source=latent_source)


@FEW
@given(kinds=kinds, by=exact, relative=st.booleans())
def test_units_of_joints_that_are_commanded_to_a_place(kinds: list[str], by: list[float], relative: bool) -> None:
    trained_in_two_units(kinds, by, by, 0, relative_actions=relative)


@FEW
@given(kinds=kinds, by=factors)
def test_units_that_binary_numbers_are_rounded_to(kinds: list[str], by: list[float]) -> None:
    trained_in_two_units(kinds, by, by, 1e-2)


@pytest.mark.parametrize("latent_source", ["idm", "actions"])
def test_the_unit_of_an_action_that_never_changes(latent_source: str) -> None:
    """Nothing but the network's own error is added to it, and that has no unit."""
    unit = [1.0, 2.0**10]
    trained_in_two_units(["moves", "constant"], unit, unit, 0, limits__enabled=False, latent_source=latent_source)


@FEW
@given(kinds=kinds, by=factors, beyond=st.lists(st.floats(-60, 60), min_size=5, max_size=5))
@example(["moves", "ramp"], [1.0, 1e-3, 1.0, 1.0, 1.0], [30.0] * 5)
def test_units_do_not_change_what_a_guard_refuses(kinds: list[str], by: list[float], beyond: list[float]) -> None:
    """States so many deviations, or shares of its size, from where a joint was."""
    own, width = demonstrations(kinds), len(kinds)
    factor = np.array(by[:width])
    with written(own, own.scaled({STATE: factor, ACTION: factor})) as (first, second):
        guards = []
        for root in (first, second):
            policy = fresh(root)
            fit(policy, root, 1)
            policy._guard.clock = lambda: 0.0
            guards.append(policy._guard)
        seen = np.concatenate(own.columns[STATE]).astype(np.float64)
        step = seen.std(axis=0) + 1e-2 * np.abs(seen).max(axis=0)
        for dimension in range(width):
            state = seen[0].copy()
            state[dimension] += beyond[dimension] * step[dimension]
            told = []
            for guard, unit in zip(guards, (1.0, factor), strict=True):
                guard.watch({}, torch.from_numpy(state * unit).float()[None])
                told.append(guard._wrong is None)
            assert told[0] == told[1], (kinds[dimension], beyond[dimension], [guard._wrong for guard in guards])


def test_a_state_that_is_only_rounded_counts_for_nothing_in_any_unit() -> None:
    """A joint that stands still at a large number, of which 32 bits round off a little."""
    rounded = np.tile([5000.0, 5000.0005], 10).astype(np.float32)
    for factor in (1e-3, 1.0, 1e3):
        x = np.stack([np.linspace(0, 1, 20), rounded * factor], axis=1).astype(np.float32)
        with written(Data({STATE: [x], ACTION: [x]}, {STATE: joints(2), ACTION: joints(2)})) as (root,):
            policy = fresh(root)
            seen = policy.normalizer({STATE: torch.from_numpy(x)})[STATE]
            assert float(seen[..., 1].abs().max()) < 1e-2, factor


# --- Names of features, their order and types ----------------------------------------------------------------


def pictures(lengths: Sequence[int], seed: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8) for n in lengths]


def with_cameras(data: Data) -> Data:
    """With two cameras, in no order that sorting would give."""
    lengths = [len(x) for x in data.columns[ACTION]]
    cameras = {f"observation.images.{name}": pictures(lengths, i) for i, name in enumerate(("wrist", "front"))}
    return replace(data, columns={**data.columns, **cameras})


@pytest.mark.parametrize("order", [sorted, reversed], ids=["sorted", "reversed"])
def test_features_in_another_order(order: Any) -> None:
    own = with_cameras(with_force(demonstrations(["moves", "ramp"], lengths=(14, 10))))
    with written(own, replace(own, order=list(order(list(own.columns))))) as (first, second):
        policy = fresh(first, decoder_observes="state")
        fit(policy, first)
        folder = saved(policy, first / "checkpoint")
        same, other = following(folder, first), following(folder, second)
        assert torch.equal(commands(same, frames_of(first)), commands(other, frames_of(second)))
        assert fit(same, first) == fit(other, second)
        assert_same(same, other)


def test_a_training_does_not_go_by_the_order_of_features() -> None:
    own = with_force(demonstrations(["moves", "ramp"]))
    with written(own, replace(own, order=list(own.columns)[::-1])) as (first, second):
        one, two = fresh(first), fresh(second)
        assert fit(one, first) == fit(two, second)
        assert_same(one, two)


def test_cameras_by_another_name() -> None:
    """Nothing but cameras is seen, and chunks reach beyond the episodes."""
    own = with_cameras(demonstrations(["moves"], lengths=(9, 7)))
    own = replace(own, columns={key: each for key, each in own.columns.items() if key != STATE}, names={})
    names = {"observation.images.wrist": "observation.images.a", "observation.images.front": "observation.images.b"}
    other = replace(own, columns={names.get(key, key): each for key, each in own.columns.items()})
    back = {new: old for old, new in names.items()}
    with written(own, other) as (first, second):
        policy = fresh(first)
        fit(policy, first)
        folder = saved(policy, first / "checkpoint")
        same, renamed = following(folder, first), following(folder, second, rename_map=back)
        assert fit(same, first) == fit(renamed, second, rename_map=back)
        assert_same(same, renamed)


def test_a_state_by_another_name_and_in_another_order() -> None:
    own = with_force(demonstrations(["moves", "ramp", "rare"]))
    theirs = own.permuted({STATE: [2, 0, 1]})
    rename = {"observation.qpos": STATE}
    back = {STATE: "observation.qpos"}
    other = replace(
        theirs,
        columns={back.get(key, key): each for key, each in theirs.columns.items()},
        names={back.get(key, key): each for key, each in theirs.names.items()},
    )
    with written(with_force(demonstrations(["moves", "ramp", "rare"], seed=1)), own, other) as (before, first, second):
        policy = fresh(before, decoder_observes="state")
        fit(policy, before)
        folder = saved(policy, before / "checkpoint")
        same, renamed = following(folder, first), following(folder, second, rename_map=rename)
        assert fit(same, first) == fit(renamed, second, rename_map=rename)
        assert_same(same, renamed)


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool"])
def test_numbers_of_another_type(dtype: str) -> None:
    own = demonstrations(["steps", "steps"])
    whole = {
        key: [(x > 0).astype(np.float32) if dtype == "bool" else x for x in each] for key, each in own.columns.items()
    }
    own = replace(own, columns=whole)
    with written(own, replace(own, dtypes=dict.fromkeys(own.columns, dtype))) as (first, second):
        one, two = fresh(first), fresh(second)
        assert fit(one, first) == fit(two, second)
        assert_same(one, two)
        assert torch.equal(commands(one, frames_of(first)), commands(two, frames_of(second)))
        as_floats = one_by_one(one, frames_of(first))
        for kind in (torch.bfloat16, torch.float64, torch.float16):
            shown = [{STATE: frame[STATE].to(kind)} for frame in frames_of(first)]
            got = one_by_one(one, shown)
            assert got.dtype == torch.float32
            torch.testing.assert_close(got, as_floats)


@settings(FEW, max_examples=5)
@given(
    state=st.integers(1, 2),
    action=st.integers(1, 2),
    force=st.integers(0, 2),
    one=st.booleans(),
    options=st.sampled_from([{}, {"decoder_input": "samples"}, {"relative_actions": True}]),
)
@example(1, 1, 1, True, {})
@example(1, 1, 1, True, {"relative_actions": True})
@example(1, 1, 1, True, {"decoder_input": "samples"})
@example(1, 2, 0, False, {"decoder_input": "samples"})
def test_features_of_one_number(state: int, action: int, force: int, one: bool, options: dict[str, Any]) -> None:
    """All stages, also of chunks of one action; a dimension that never moves beside it changes no shape."""
    if options.get("relative_actions"):
        action = state
    own = demonstrations(["moves", "ramp"], named=False)
    columns = {STATE: [x[:, :state] for x in own.columns[STATE]], ACTION: [x[:, :action] for x in own.columns[ACTION]]}
    if force:
        columns[FORCE] = with_force(own, force).columns[FORCE]
    with written(Data(columns)) as (root,):
        policy = fresh(root, stage="latent_action", **(ONE_STEP if one else {"n_obs_steps": 1}), **options)
        fit(policy, root, 2)
        for stage in ("latent_policy", "action_decoder"):
            policy = following(saved(policy, root / stage), root, stage=stage)
            assert np.isfinite(fit(policy, root, 2)).all()
        frames = frames_of(root)
        assert commands(policy, frames).shape == (len(frames), policy.config.horizon, action)
        assert one_by_one(policy, frames).shape == (len(frames), action)
        moments = policy.action_decoder.moments
        seen = torch.from_numpy(np.concatenate(columns[ACTION]))
        if not one and not options.get("relative_actions"):
            assert ((moments.mean - seen.mean(dim=0)).abs() < seen.std(dim=0)).all()


# --- The demonstrations' own frames --------------------------------------------------------------------------


@settings(FEW, max_examples=6)
@given(kinds=kinds, seed=st.integers(0, 99), relative=st.booleans())
@example(["rare", "heavy"], 0, False)
@example(["constant", "still", "noise", "ticks"], 0, False)
def test_a_guard_takes_the_frames_it_was_trained_on(kinds: list[str], seed: int, relative: bool) -> None:
    """With the policy's own commands, and with the demonstrator's at the rate of the demonstrations: these pass as they
    are."""
    with written(demonstrations(kinds, seed, lengths=(40, 30))) as (root,), pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits_module, "MOST_HELD", 0)
        policy = fresh(root, relative_actions=relative)
        fit(policy, root, 1)
        frames = frames_of(root)
        for episode in (frames[:40], frames[40:]):
            assert one_by_one(policy, episode).isfinite().all()
        clock = itertools.count()
        for episode in (frames[:40], frames[40:]):
            policy.reset()
            policy._guard.clock = lambda: next(clock) / FPS
            for frame in episode[: -policy.config.drop_n_last_frames]:
                policy._guard.watch({}, frame[STATE])
                assert policy._guard._wrong is None
                assert torch.equal(policy._guard.command(frame[ACTION]), frame[ACTION])


def test_the_speed_of_commands_is_known_whatever_the_length_of_a_chunk() -> None:
    own = demonstrations(["moves", "steps"])
    with written(own) as (root,):
        bounds = []
        for options in ({}, ONE_STEP):
            policy = fresh(root, **options)
            fit(policy, root, 1)
            bounds.append(policy._guard.bounds[2])
        assert bounds[1].isfinite().all()
        torch.testing.assert_close(*bounds)


# --- A checkpoint ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [sorted, reversed], ids=["sorted", "reversed"])
def test_a_config_with_its_keys_in_another_order(order: Any, caplog: pytest.LogCaptureFixture) -> None:
    def moved(x: Any) -> Any:
        return {key: moved(x[key]) for key in order(list(x))} if isinstance(x, dict) else x

    with written(with_cameras(with_force(demonstrations(["moves", "ramp"], lengths=(14, 10))))) as (root,):
        policy = fresh(root, decoder_observes="state")
        fit(policy, root, 2)
        folder = saved(policy, root / "checkpoint")
        for pipeline in make_lafp_pre_post_processors(policy.config):
            pipeline.save_pretrained(folder)
        config = folder / "config.json"
        config.write_text(json.dumps(moved(json.loads(config.read_text()))))
        found = inspect(folder)
        assert found.sound, found.faults
        with caplog.at_level(logging.WARNING):
            again = LAFPPolicy.from_pretrained(folder)
        assert "not as it was saved" not in caplog.text
        assert torch.equal(commands(again, frames_of(root)), commands(policy, frames_of(root)))
        assert loss_of(following(folder, root), root) == loss_of(policy, root)


# --- What else reads a dataset with a checkpoint -------------------------------------------------------------


def test_labels_of_a_dataset_in_another_order() -> None:
    own = demonstrations(["moves", "ramp", "steps"])
    with written(own, own.permuted({STATE: [2, 0, 1]})) as (first, second):
        policy = fresh(first)
        fit(policy, first)
        folder = saved(policy, first / "checkpoint")
        labels = []
        for root in (first, second):
            labelled = root.with_name(f"{root.name}_labelled")
            label_dataset(folder, f"local/{root.name}", labelled, root)
            rows = LeRobotDataset(f"local/{root.name}", root=labelled)
            labels.append(torch.stack([rows[i][LATENT_ACTION] for i in range(len(rows))]))
        assert torch.equal(*labels)


def test_a_probe_of_a_dataset_in_another_order() -> None:
    own = demonstrations(["moves", "ramp", "steps"])
    with written(own, own.permuted({STATE: [2, 0, 1]})) as (first, second):
        policy = fresh(first)
        fit(policy, first)
        found = [collect(policy, dataset_batches(policy.config, f"local/{r.name}", r)) for r in (first, second)]
        assert torch.equal(found[0].z_idm, found[1].z_idm)
