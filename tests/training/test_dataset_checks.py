"""What a run is told, or refused, before its first step."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.options.context import TrainingContext
from lerobot_lafp.training.dataset_checks import (
    check_dataset,
    count_labels,
    idle_options,
    measure_states,
    warn_of_blank_cameras,
)

from ..building import lafp
from ..conftest import FRONT, STATE

ACTION = "action"
Configs = Callable[..., LAFPConfig]
Metas = Callable[..., SimpleNamespace]


def numbers(width: int = 2, names: Any = None) -> dict[str, Any]:
    return {"dtype": "float32", "shape": (width,), "names": names}


@pytest.fixture
def meta(make_meta: Metas) -> SimpleNamespace:
    """Five episodes, the second of which is short, of two tasks."""
    found = make_meta([9, 3, 9, 9, 9])
    found.features = {STATE: numbers(names=["a", "b"]), ACTION: numbers(names=["a", "b"])}
    found.episodes["tasks"] = [["left"], ["left"], ["right"], ["right"], ["right"]]
    return found


# --- Labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["joint", "latent_action", "action_decoder"])
@pytest.mark.parametrize(
    ("context", "labeled"),
    [
        (TrainingContext(episodes=(0, 2)), [3, 4]),
        (TrainingContext(episodes=(0, 2, 3, 4), eval_split=0.4), [3, 4]),
        (TrainingContext(episodes=(0, 2, 3, 4), eval_split=0.4), [4]),
    ],
)
def test_labels_that_are_not_trained_on_are_refused(
    stage: str, context: TrainingContext, labeled: list[int], make_config: Configs, meta: SimpleNamespace
) -> None:
    config = make_config(stage=stage, labeled_episodes=labeled, action_dim=2)
    config.context = context
    with pytest.raises(ValueError, match=r"No action would be learnt from.*--dataset\.eval_split"):
        check_dataset(config, meta)


def test_labels_that_are_trained_on_in_part_are_said(
    make_config: Configs, meta: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(labeled_episodes=[0, 4])
    config.context = TrainingContext(episodes=(0, 2))
    check_dataset(config, meta)
    assert "Episodes [4] are labelled and not trained on" in caplog.text


@pytest.mark.parametrize(
    ("labeled", "episodes", "frames"), [(None, None, 39), ([0, 1], None, 12), ([0, 1, 4], (0, 4), 18)]
)
def test_labelled_frames_are_those_that_are_trained_on(
    labeled: list[int] | None,
    episodes: tuple[int, ...] | None,
    frames: int,
    make_config: Configs,
    meta: SimpleNamespace,
) -> None:
    config = make_config(labeled_episodes=labeled)
    config.context = TrainingContext(episodes=episodes)
    assert count_labels(config, meta) == frames
    assert count_labels(config, None) is None


def test_a_stage_that_reads_no_labels_needs_none(make_config: Configs, meta: SimpleNamespace) -> None:
    config = make_config(stage="latent_policy", labeled_episodes=[3, 4])
    config.context = TrainingContext(episodes=(0, 2))
    check_dataset(config, meta)


def test_the_episodes_held_out_are_lerobots(meta: SimpleNamespace) -> None:
    assert TrainingContext(eval_split=0.4).trained_on(meta) == [0, 2]
    assert TrainingContext(episodes=(1, 2, 3), eval_split=0.3).trained_on(meta) == [2]
    assert TrainingContext(episodes=(1, 2)).trained_on(meta) == [1, 2]


# --- Episodes ------------------------------------------------------------------------------------------------


def test_a_short_episode_is_said_unless_it_is_left_out(
    make_config: Configs, meta: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config()
    config.context = TrainingContext(episodes=(0, 2, 3))
    check_dataset(config, meta)
    assert "is longer than" not in caplog.text
    config.context = TrainingContext(episodes=(0, 1))
    check_dataset(config, meta)
    assert "`horizon` (4 frames) is longer than 1 of 2 episodes of me/pick ([1]; episode 1 has 3)" in caplog.text
    assert "masked out. Shorten the chunk (--policy.horizon, --policy.num_latents), or leave them out" in caplog.text


def test_episodes_that_are_all_too_short_are_refused(make_config: Configs, meta: SimpleNamespace) -> None:
    config = make_config()
    config.context = TrainingContext(episodes=(1,))
    with pytest.raises(
        ValueError, match=r"longer than every episode of me/pick \(episode 1 has 3\).*--policy\.horizon"
    ):
        check_dataset(config, meta)


def test_stage_1_needs_a_latent_action_of_an_episode(
    make_config: Configs, make_meta: Metas, caplog: pytest.LogCaptureFixture
) -> None:
    """One latent covers two of the four frames of the chunk."""
    config = make_config(stage="latent_action", action_dim=2)
    check_dataset(config, make_meta([2, 3]))
    assert "is longer than" not in caplog.text
    check_dataset(config, make_meta([2, 1]))
    assert "a latent action, horizon / num_latents, (2 frames) is longer than 1 of 2 episodes" in caplog.text
    with pytest.raises(ValueError, match=r"\(2 frames\) is longer than every episode"):
        check_dataset(config, make_meta([1, 1]))


# --- Actions, tasks, names -----------------------------------------------------------------------------------


def test_a_joint_run_without_actions_is_said_and_with_an_evaluation_refused(
    make_config: Configs, meta: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    del meta.features[ACTION]
    config = make_config(actions=False)
    check_dataset(config, meta)
    assert "cannot act until it has been through stage action_decoder" in caplog.text
    config.context = TrainingContext(evaluates=True)
    with pytest.raises(ValueError, match=r"has no `action`.*--env_eval_freq=0"):
        check_dataset(config, meta)


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"stage": "action_decoder"}, True),
        ({"stage": "latent_policy", "language": "none"}, True),
        ({"stage": "latent_policy"}, False),
        ({"stage": "latent_action"}, False),
    ],
)
def test_tasks_in_words_that_are_not_read_are_said(
    options: dict[str, Any],
    warned: bool,
    make_config: Configs,
    make_meta: Metas,
    caplog: pytest.LogCaptureFixture,
) -> None:
    meta = make_meta([9, 9])
    meta.tasks = SimpleNamespace(index=["push left", "push right"])
    LAFPPolicy(make_config(**options), dataset_meta=meta)
    assert ("2 tasks in words" in caplog.text) == warned
    assert ("--policy.language=words" in caplog.text) == warned


@pytest.mark.parametrize("names", [["actions"], ["a", "b", "c"]])
def test_names_that_are_not_one_a_dimension_are_said(
    names: Any, make_config: Configs, meta: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    meta.features[ACTION] = numbers(names=names)
    config = make_config(action_dim=2)
    config.set_dataset_feature_metadata(meta.features)
    check_dataset(config, meta)
    assert "are not one for each of its 2 dimensions: these are numbered" in caplog.text
    assert config.facts.action_names is None


@pytest.mark.parametrize(
    ("of_state", "of_action", "said"),
    [
        (["a", "b"], ["a", "b"], False),
        (["a", "b"], {"motors": ["b", "a"]}, False),
        (None, None, True),
        (["s0", "s1"], ["a", "b"], True),
    ],
)
def test_protections_that_need_names_say_when_they_are_off(
    of_state: Any,
    of_action: Any,
    said: bool,
    make_config: Configs,
    meta: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    meta.features = {STATE: numbers(names=of_state), ACTION: numbers(names=of_action)}
    config = make_config(action_dim=2)
    config.set_dataset_feature_metadata(meta.features)
    check_dataset(config, meta)
    assert ("Off, for want of names" in caplog.text) == said
    assert config.commands_positions is not said


# --- Options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"codebook__heads": 8},
        {"interpolation_tau": (0.5, 1.0)},
        {"policy_head": "bc", "decoder_input": "interpolation", "interpolation_tau": (0.5, 1.0)},
        {"motion__target": "flow"},
        {"random_shift": 2},
        {"backbone__encoder": "resnet18"},
        {"policy_head": "bc", "prediction": "velocity"},
        {"policy_head": "bc", "flow_draws": 2},
        {"limits__enabled": False, "limits__margin": 0.3},
        {"limits__enabled": False, "limits__range": {"a": (0.0, 1.0)}},
        {"stage": "latent_action", "label_weight": 0.5},
        {"decoder_input": "action_head", "stage": "latent_policy", "decoder_dim": 8},
    ],
)
def test_an_option_that_nothing_reads_is_said(options: dict[str, Any]) -> None:
    config = lafp(**options)
    name, value = list(options.items())[-1]
    assert f"--policy.{name.replace('__', '.')}={value} has no effect here" in " ".join(idle_options(config))


def test_options_that_are_read_are_not(make_config: Configs) -> None:
    read = {"codebook__size": 8, "random_shift": 2, "motion__target": "flow", "limits__margin": 0.3, "flow_draws": 3}
    config = make_config(FRONT, **read, decoder_input="interpolation", interpolation_tau=(0.5, 1.0))
    assert idle_options(config) == []
    assert idle_options(lafp()) == []


# --- Statistics ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stats", [None, {}, {ACTION: {"mean": [0], "std": [1]}}, {STATE: {"mean": [0.0, 0.0]}}])
def test_a_state_without_statistics_is_refused(stats: Any, make_config: Configs, meta: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"no statistics of `observation\.state`.*recompute_stats"):
        measure_states(make_config(), stats, meta, fresh=True)


def test_statistics_come_in_the_policys_order(make_config: Configs, meta: SimpleNamespace) -> None:
    config = make_config(state_names=["b", "a"])
    config.match_names({STATE: numbers(names=["a", "b"])})
    stats = {STATE: {"mean": torch.tensor([1.0, 2.0]), "std": torch.tensor([3.0, 4.0]), "count": torch.tensor([9.0])}}
    found = measure_states(config, stats, meta, fresh=True)
    assert found is not None
    assert found[STATE]["mean"].tolist() == [2, 1]
    assert found[STATE]["count"].tolist() == [9]


# --- Cameras -------------------------------------------------------------------------------------------------


def test_a_camera_that_shows_nothing_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    images = torch.rand(4, 3, 32, 32)
    images[2] = 0
    told: set[str] = set()
    for _ in range(3):
        warn_of_blank_cameras({FRONT: images, "episode_index": torch.tensor([5, 6, 7, 8])}, [FRONT], told)
    assert caplog.text.count(f"Camera `{FRONT}` shows nothing in a frame of episode 7") == 1
