"""Labels of another dataset than the video: what each stage learns from, and what it never reads."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.policies import factory as policies
from lerobot.utils.constants import ACTION, OBS_STATE

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.frames import store
from lerobot_lafp.options.constants import FROM_LABELS

from ..metamorphic import Data
from ..two_datasets import (
    LABELS,
    VIDEO,
    after,
    batches,
    four_episodes,
    learn,
    opened,
    policy_of,
    saved,
    seen,
    some,
    without,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this test's frame stores are."""
    monkeypatch.setattr(store, "HF_LEROBOT_HOME", tmp_path / "home")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Data], Path]:
    return lambda name, data: data.write(tmp_path / name)


def assert_same(one: LAFPPolicy, other: LAFPPolicy, but: str = "none") -> None:
    """Weights and buffers, to the bit."""
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert [k for k in mine if not k.startswith(but) and not torch.equal(mine[k], theirs[k])] == []


# --- A dataset that is cut in two ----------------------------------------------------------------------------


@pytest.mark.parametrize("camera", [None, (16, 20)])
@pytest.mark.parametrize("options", [{}, {"frame_store": "off"}, {"relative_actions": True}], ids=str)
def test_stage_1_learns_from_two_what_it_learns_from_one(
    camera: Any, options: dict[str, Any], write: Callable[..., Path]
) -> None:
    """The same frames, the same labels, in the same order; statistics are those of both."""
    data = four_episodes(camera)
    whole, video, labels = write("whole", data), write("video", some(data, VIDEO)), write("labels", some(data, LABELS))
    one = learn(whole, policy_of(None, stage="latent_action", labeled_episodes=list(LABELS), **options))
    two = learn(video, policy_of(labels, stage="latent_action", **options))
    assert_same(one, two)
    assert two.latent_action_model is not None
    assert int(two.latent_action_model.action_moments.count) > 0


def test_a_joint_run_learns_from_two_all_but_what_to_do(write: Callable[..., Path]) -> None:
    data = four_episodes()
    whole, video, labels = write("whole", data), write("video", some(data, VIDEO)), write("labels", some(data, LABELS))
    one = learn(whole, policy_of(None, stage="joint", labeled_episodes=list(LABELS)))
    two = learn(video, policy_of(labels, stage="joint"))
    assert_same(one, two, but=("latent_policy.", "average_policy."))
    assert not torch.equal(one.latent_policy.network.leave[1].weight, two.latent_policy.network.leave[1].weight)


def test_the_policy_loss_of_a_joint_run_is_that_of_the_video(write: Callable[..., Path]) -> None:
    data = four_episodes()
    video, labels = write("video", some(data, VIDEO)), write("labels", some(data, LABELS))
    config = policy_of(labels, stage="joint")
    mixed, _ = opened(video, config)
    policy = policies.make_policy(config, ds_meta=mixed.meta).eval()
    batch = batches(mixed, config)[0]
    assert 0 < int(batch[FROM_LABELS].sum()) < len(batch[FROM_LABELS])
    found: dict[bool, Any] = {}
    for own in (True, False):  # with another network of the policy or not: nothing else depends on it
        torch.manual_seed(1)
        found[own] = policy.forward(dict(batch), reduction="none")[0].detach()
        with torch.no_grad():
            policy.latent_policy.network.leave[1].bias.add_(1)
    changed = found[True] != found[False]
    assert not changed[batch[FROM_LABELS]].any()
    assert changed[~batch[FROM_LABELS]].all()


# --- The stages in a row -------------------------------------------------------------------------------------


def through(video: Path, labels: Path, folder: Path, **options: Any) -> list[LAFPPolicy]:
    """The three stages."""
    one = learn(video, policy_of(labels, stage="latent_action", **options))
    two = learn(video, after(saved(one, folder / "1"), stage="latent_policy"))
    return [one, two, learn(video, after(saved(two, folder / "2"), stage="action_decoder"))]


def test_the_actions_of_the_video_are_never_read(write: Callable[..., Path], tmp_path: Path) -> None:
    """Whether there are none, NaN, or those of another robot: all weights are the same to the bit."""
    data = four_episodes((16, 20))
    video, labels = some(data, VIDEO), write("labels", some(data, LABELS))
    nan = [np.full_like(x, np.nan) for x in video.columns[ACTION]]
    others = [np.tile(x, (1, 2)) + 1e6 for x in video.columns[ACTION]]
    names = {**video.names, ACTION: [f"joint {i}" for i in range(6)]}
    kinds = {
        "none": without(video),
        "nan": replace(video, columns={**video.columns, ACTION: nan}),
        "others": replace(video, columns={**video.columns, ACTION: others}, names=names),
    }
    first, *rest = (through(write(name, each), labels, tmp_path / f"run_{name}") for name, each in kinds.items())
    for stages in rest:
        for one, other in zip(first, stages, strict=True):
            assert_same(one, other)
    assert first[-1].stage_steps.tolist()[2] > 0
    assert first[-1].config.facts.action_names == data.names[ACTION]


def test_the_decoder_learns_from_the_labels_alone(write: Callable[..., Path], tmp_path: Path) -> None:
    """As if they were ``--dataset``; and what no command exceeds is of their actions."""
    data = four_episodes()
    video, labels = write("video", without(some(data, VIDEO))), write("labels", some(data, LABELS))
    _, two, three = through(video, labels, tmp_path)
    for how in ({}, {"labels__repo_id": "null"}):
        by_hand = learn(labels, after(saved(two, tmp_path / "2"), stage="action_decoder", **how))
        assert {k for k, x in by_hand.state_dict().items() if not torch.equal(x, three.state_dict()[k])} <= (
            {"limits.tokens.count", "limits.tokens.mean", "limits.tokens.variance"} if how else set()
        )
    actions = torch.from_numpy(np.concatenate(some(data, LABELS).columns[ACTION]))
    assert three.limits is not None
    assert torch.equal(three.limits.action.low, actions.amin(0))
    assert torch.equal(three.limits.action.high, actions.amax(0))
    states = torch.from_numpy(np.concatenate(data.columns[OBS_STATE]))
    assert torch.equal(three.limits.state.low, states.amin(0)), "it may be where the video was"
    assert int(three.limits.tokens.count) == 0, "what the policy is to see is not what was seen in the labels"
    observation = {OBS_STATE: states[:1].float()}
    three.eval().reset()
    assert three.select_action(observation).shape == (1, 3)


def test_the_policy_learns_from_the_video_alone(write: Callable[..., Path], tmp_path: Path) -> None:
    data = four_episodes()
    video, labels = write("video", some(data, VIDEO)), write("labels", some(data, LABELS))
    one = saved(learn(video, policy_of(labels, stage="latent_action")), tmp_path / "1")
    dataset, _ = opened(video, after(one, stage="latent_policy"))
    assert len(dataset) == sum(len(x) for x in some(data, VIDEO).columns[OBS_STATE])
    assert ACTION not in dataset.meta.features
    assert ACTION not in seen(batches(dataset, after(one, stage="latent_policy"))[0])


def test_states_of_both_are_known_where_no_label_counts_in_stage_1(write: Callable[..., Path]) -> None:
    data = four_episodes()
    video, labels = write("video", some(data, VIDEO)), write("labels", some(data, LABELS))
    one = learn(video, policy_of(labels, stage="latent_action", label_weight=0.0))
    states = torch.from_numpy(np.concatenate(data.columns[OBS_STATE]))
    assert one.limits is not None
    assert torch.equal(one.limits.state.high, states.amax(0))


# --- Names and episodes --------------------------------------------------------------------------------------


def test_joints_in_another_order_are_matched_by_name(write: Callable[..., Path]) -> None:
    """Of the state: actions are those of the labels alone, in their order."""
    data = four_episodes()
    video, labels = write("video", some(data, VIDEO)), some(data, LABELS)
    one, other = (
        learn(video, policy_of(write(name, each), stage="latent_action", relative_actions=True))
        for name, each in (("labels", labels), ("permuted", labels.permuted({OBS_STATE: [2, 0, 1]})))
    )
    assert_same(one, other)


def test_episodes_are_chosen_of_each(write: Callable[..., Path]) -> None:
    data = four_episodes()
    whole = write("whole", data)
    copy = write("copy", data)
    video, labels = write("video", some(data, VIDEO[:1])), write("labels", some(data, LABELS[1:]))
    one = learn(video, policy_of(labels, stage="latent_action"))
    chosen = policy_of(copy, stage="latent_action", labels__episodes=list(LABELS[1:]))
    assert_same(one, learn(whole, chosen, {"episodes": list(VIDEO[:1])}))


def test_what_is_held_out_is_of_both(write: Callable[..., Path]) -> None:
    data = four_episodes()
    video, labels = write("video", some(data, VIDEO)), write("labels", some(data, LABELS))
    train, held_out = opened(video, policy_of(labels, stage="latent_action"), {"eval_split": 0.5}, eval_steps=1)
    assert (train.num_episodes, held_out.num_episodes) == (2, 2)
    assert (len(train), len(held_out)) == (20 + 24, 16 + 18)
    assert held_out.hf_dataset.data.column("task_index").to_pylist() == [0] * 16 + [1] * 18, "two tasks, by dataset"
