"""What the options are as a whole: how many, each with a kind and its words, and which may change once trained."""

import ast
import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import draccus
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot.configs import PreTrainedConfig
from lerobot.configs.default import DatasetConfig

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.checkpoint.loading import _refuse_changed_options
from lerobot_lafp.options import groups, policy
from lerobot_lafp.options.checks import check
from lerobot_lafp.options.fields import named_fields, read

from ..building import put
from ..conftest import FRONT, STATE

NAMED = {each.name: each for each in named_fields(LAFPConfig)}
OPTIONS = {name: each for name, each in NAMED.items() if each.is_option}
#: LeRobot's own, one of which we give another default.
OF_LEROBOT = {field.name for field in dataclasses.fields(PreTrainedConfig)} | {"normalization_mapping"}
#: Classes that declare options.
CLASSES = [
    *(policy.PolicyOptions, groups.Labels, groups.Backbone, groups.Codebook, groups.Motion, groups.Limits),
    groups.Facts,
]


# --- How many, and in which words ----------------------------------------------------------------------------


def test_fifty_options_at_most() -> None:
    """Beside those that name a second dataset, as LeRobot's own name the first: nothing of them is new to learn."""
    assert len([each for each in OPTIONS.values() if each.owner is not groups.Labels]) <= 50
    own, theirs = get_type_hints(groups.Labels), get_type_hints(DatasetConfig)
    assert {name: theirs[name] | None for name in own} == own


def test_every_field_of_ours_has_a_kind() -> None:
    for field in dataclasses.fields(LAFPConfig):
        if field.name not in OF_LEROBOT or field.name == "n_obs_steps":
            assert field.metadata.get("kind") in ("option", "group", "filled in"), field.name
    for kind in CLASSES[1:]:
        for field in dataclasses.fields(kind):
            assert field.metadata.get("kind") in ("option", "filled in"), f"{kind.__name__}.{field.name}"
    assert {each.owner for each in named_fields(policy.PolicyOptions)} == set(CLASSES)
    assert {each.name for each in named_fields(policy.PolicyOptions)} == set(NAMED)


def described(kind: type) -> Iterator[tuple[str, str]]:
    """Every field that a class declares, with the docstring below it."""
    tree = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(tree, ast.ClassDef)
    for field, below in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(field.target, ast.Name)
            told = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            yield field.target.id, str(told)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_field_says_what_it_means(kind: type) -> None:
    found = dict(described(kind))
    assert list(found) == [field.name for field in dataclasses.fields(kind)]
    grouped = {field.name for field in dataclasses.fields(kind) if field.metadata["kind"] == "group"}
    silent = [name for name, told in found.items() if name not in grouped and not told.strip()]
    assert silent == []


def test_every_default_is_one_of_its_choices() -> None:
    config = LAFPConfig(device="cpu")
    for name, each in OPTIONS.items():
        choices = get_args(get_type_hints(each.owner)[each.field.name])
        if choices and all(isinstance(choice, str) for choice in choices):
            assert read(config, name) in choices, name


# --- What is filled in ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, each in NAMED.items() if not each.is_option])
def test_what_is_filled_in_cannot_be_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for word in (f"--{name}=3", f"--{name}=null"):
        with pytest.raises(SystemExit):
            draccus.parse(LAFPConfig, args=["--device=cpu", word])
        assert f"unrecognized arguments: {word}" in capsys.readouterr().err


def test_help_has_the_options_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        draccus.parse(LAFPConfig, args=["--help"])
    said = capsys.readouterr().out.split()
    offered = {word.removeprefix("--") for word in said if word.startswith("--")}
    assert set(OPTIONS) <= offered
    assert not {name for name in offered if name.startswith("facts") or name in set(NAMED) - set(OPTIONS)}


def test_what_is_filled_in_outlives_a_config_json(tmp_path: Path, make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(STATE)
    values: dict[str, Any] = {
        "fps": 12.5,
        "latent_features": [STATE],
        "feature_order": [STATE],
        "action_dim": 2,
        "action_names": ["a", "b"],
        "state_names": ["c", "d"],
        "vector_names": {"observation.force": ["x"]},
        "angles": {STATE: [[0, 360.0, -10.0, -180.0]]},
        "depth_cameras": [FRONT],
        "actions_are_positions": False,
        "labels_repo_id": "me/pick",
        "tasks": ["push"],
        "task_encoder": "words",
        "text_dim": 8,
        "decoder_per_latent": True,
        "one_call": True,
        "backbone_config": {"patch_size": 4},
        "motion_weight": 0.3,
        "undecided": ["relative_actions"],
        "chosen": {"horizon": "1.6 s"},
    }
    assert set(values) == {field.name for field in dataclasses.fields(groups.Facts)}
    put(config, values)
    config.made_with = {"torch": "2"}
    config.options_digest = config.weights_digest = "0" * 64
    config.checkpoint_format = 4
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["facts"] == values
    again = PreTrainedConfig.from_pretrained(tmp_path, cli_overrides=["--limits.margin=0.2"])
    assert isinstance(again, LAFPConfig)
    assert again.facts == config.facts
    assert (again.made_with, again.options_digest, again.checkpoint_format) == ({"torch": "2"}, "0" * 64, 4)
    assert again.limits.margin == 0.2


# --- What may change once it is trained ----------------------------------------------------------------------

#: What a stage's weights depend on -> another value than that of ``tiny``.
FIXED: dict[str, Any] = {
    "latent_source": "actions",
    "n_obs_steps": 3,
    "horizon": 8,
    "num_latents": 4,
    "relative_actions": True,
    "backbone.encoder": "small_conv",
    "backbone.weights": "x.pth",
    "backbone.grid": 3,
    "resize_shape": (10, 12),
    "token_dim": 16,
    "language": "words",
    "latent_dim": 8,
    "codebook.size": 8,
    "codebook.heads": 4,
    "latent_tokens": 2,
    "idm_input": "difference",
    "pixel_target_size": 8,
    "latent_model_dim": 24,
    "policy_head": "bc",
    "policy_network": "transformer",
    "policy_dim": 24,
    "policy_layers": 2,
    "prediction": "velocity",
    "decoder_observes": "state",
    "decoder_dim": 24,
    "facts.latent_features": [STATE],
}
#: What another value needs beside it, or else is no configuration; a latent covers two frames still.
BESIDE: dict[str, dict[str, Any]] = {"horizon": {"num_latents": 4}, "num_latents": {"horizon": 8}}
#: What may have another value at any time, whatever was trained.
FREE: dict[str, Any] = {
    "n_action_steps": 1,
    "labeled_episodes": [0, 1],
    "labels.repo_id": "me/play",
    "labels.root": "data/play",
    "labels.episodes": [0, 1],
    "frame_store": "20",
    "hold_last_frame": True,
    "names": {"action": ["p", "q"]},
    "observations": [STATE],
    "random_shift": 2,
    "label_weight": 0.3,
    "motion.weight": 0.5,
    "motion.target": "both",
    "num_flow_steps": 3,
    "flow_draws": 3,
    "ema_decay": 0.9,
    "decoder_input": "samples",
    "interpolation_tau": (0.5, 0.9),
    "rtc_guidance": "none",
    "limits.enabled": False,
    "limits.margin": 0.3,
    "limits.range": {"a": (0.0, 1.0)},
    "limits.change": None,
    "limits.change_per_s": {"a": 1.0},
    "limits.smoothing": 0.5,
    "optimizer_lr": 0.1,
}
#: As ``FREE``, but that a run trains another stage, or also the policy, is what they say.
OF_THE_RUN = {"stage", "finetune_policy"}
COUNTS = st.tuples(*[st.integers(0, 2)] * 3)


def test_every_option_is_fixed_by_a_stage_or_free() -> None:
    assert set(FIXED) == {name for name, each in NAMED.items() if each.fixed_by is not None}
    assert set(FREE) | OF_THE_RUN == {name for name, each in OPTIONS.items() if each.fixed_by is None}


def with_options(config: LAFPConfig, options: dict[str, Any]) -> LAFPConfig:
    """A copy with these options, by their dotted names."""
    other = config.but()
    put(other, {name.replace(".", "__"): value for name, value in options.items()})
    check(other)
    return other


@pytest.fixture
def tiny(make_config: Callable[..., LAFPConfig]) -> LAFPConfig:
    return make_config(STATE, FRONT, backbone__encoder="resnet18", language="none", latent_features=[STATE, FRONT])


@settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), max_examples=200)
@given(name=st.sampled_from(sorted(FIXED)), steps=COUNTS)
def test_an_option_is_refused_once_the_stage_that_fixes_it_is_trained(
    name: str, steps: tuple[int, ...], tiny: LAFPConfig
) -> None:
    changed = {name: FIXED[name], **BESIDE.get(name, {})}
    fixed_by = [NAMED[each].fixed_by for each in changed]
    refused = any(stage is not None and steps[stage.place] for stage in fixed_by)
    then = draccus.encode(tiny)
    if refused:
        with pytest.raises(ValueError, match=rf"`({'|'.join(changed)})` is .*cannot change it") as raised:
            _refuse_changed_options(with_options(tiny, changed), then, Path("before"), list(steps))
        assert re.findall(r"--policy\.([\w.]+)", str(raised.value))[0] in changed
    else:
        _refuse_changed_options(with_options(tiny, changed), then, Path("before"), list(steps))


@settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(sorted(FREE)), steps=COUNTS)
def test_a_free_option_is_never_refused(name: str, steps: tuple[int, ...], tiny: LAFPConfig) -> None:
    _refuse_changed_options(with_options(tiny, {name: FREE[name]}), draccus.encode(tiny), Path("before"), list(steps))


@pytest.mark.parametrize("changed", [{"num_latents": 4}, {"horizon": 8}, {"num_latents": 1}])
def test_what_a_latent_covers_is_refused_once_stage_1_is_trained(changed: dict[str, int], tiny: LAFPConfig) -> None:
    other = with_options(tiny, {"n_action_steps": 1, **changed})
    with pytest.raises(ValueError, match=r"`frame_offset` is .*Leave out --policy\.horizon and --policy\.num_latents"):
        _refuse_changed_options(other, draccus.encode(tiny), Path("before"), [1, 0, 0])
    _refuse_changed_options(other, draccus.encode(tiny), Path("before"), [0, 0, 0])


@pytest.fixture(scope="module")
def saved() -> dict[str, Path]:
    """What ``checkpoint`` has made already."""
    return {}


@pytest.fixture
def checkpoint(
    saved: dict[str, Path], trained: Callable[..., LAFPPolicy], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One that has been through all stages, the same for all tests of this file."""
    if not saved:
        saved["it"] = tmp_path_factory.mktemp("checkpoint")
        trained("action_decoder", STATE, FRONT, language="none").save_pretrained(saved["it"])
    return saved["it"]


def load(folder: Path, options: dict[str, Any]) -> LAFPPolicy:
    words = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()]
    return LAFPPolicy.from_pretrained(folder, config=PreTrainedConfig.from_pretrained(folder, cli_overrides=words))


@pytest.mark.parametrize("name", [name for name in FIXED if name in OPTIONS and name != "backbone.weights"])
def test_a_fixed_option_that_is_typed_beside_a_checkpoint_is_refused(name: str, checkpoint: Path) -> None:
    joint = {"stage": "joint"} if name == "latent_source" else {}
    with pytest.raises(ValueError, match="cannot change it afterwards"):
        load(checkpoint, {**joint, name: FIXED[name], **BESIDE.get(name, {})})


@pytest.mark.parametrize("name", FREE)
def test_a_free_option_that_is_typed_beside_a_checkpoint_is_taken(name: str, checkpoint: Path) -> None:
    loaded = load(checkpoint, {name: FREE[name]})
    assert read(loaded.config, name) == FREE[name]
