"""Checkpoints come back bit by bit, or not at all."""

import builtins
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from safetensors.torch import load_file, save_file
from torch import Tensor

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.checkpoint.inspection import inspect
from lerobot_lafp.checkpoint.integrity import seal
from lerobot_lafp.model.stages import build
from lerobot_lafp.options.constants import STAGES

from ..conftest import FRONT, STATE, WIDE


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def edit(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    seal(folder)


@pytest.mark.parametrize(
    ("stage", "features", "options"),
    [
        *[(stage, (STATE,), {}) for stage in ("joint", *STAGES)],
        ("joint", (FRONT, WIDE), {"backbone__encoder": "small_conv"}),
        ("joint", (FRONT, STATE), {"decoder_observes": "tokens"}),
        ("joint", (STATE,), {"codebook__size": 4}),
        ("joint", (STATE,), {"policy_network": "transformer", "ema_decay": 0.0}),
        ("joint", (STATE,), {"policy_head": "bc"}),
        ("joint", (STATE,), {"latent_source": "actions"}),
        ("joint", (FRONT,), {"backbone__encoder": "resnet18", "latent_tokens": 2}),
        (
            "action_decoder",
            (FRONT, STATE),
            {"motion__weight": 0.5, "motion__target": "flow", "idm_input": "difference"},
        ),
        ("latent_action", (FRONT,), {"actions": False}),
    ],
)
def test_save_and_load_are_bit_exact(
    stage: str,
    features: tuple[str, ...],
    options: dict[str, Any],
    trained: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    policy = trained(stage, *features, **options)
    policy.save_pretrained(tmp_path)
    loaded = LAFPPolicy.from_pretrained(tmp_path)
    state, own = loaded.state_dict(), policy.state_dict()
    assert state.keys() == own.keys()
    assert [name for name in own if not same_bits(own[name], state[name])] == []
    batch, losses = make_batch(policy.config, seed=1), []
    for model in (policy.eval(), loaded):
        torch.manual_seed(0)
        with torch.no_grad():
            losses.append(model.forward(batch, reduction="none")[0])
    assert torch.equal(*losses)
    if stage in ("joint", "action_decoder"):
        observation = {key: batch[key][:, 0] for key in features}
        torch.manual_seed(0)
        actions = policy.predict_action_chunk(observation)
        torch.manual_seed(0)
        assert torch.equal(actions, loaded.predict_action_chunk(observation))


def test_a_configuration_of_ones_own_may_be_given(trained: Callable[..., LAFPPolicy], tmp_path: Path) -> None:
    trained("joint").save_pretrained(tmp_path)
    assert LAFPPolicy.from_pretrained(tmp_path).latent_policy.num_steps == 10
    config = PreTrainedConfig.from_pretrained(tmp_path, cli_overrides=["--num_flow_steps=5", "--n_action_steps=1"])
    policy = LAFPPolicy.from_pretrained(tmp_path, config=config)
    assert policy.latent_policy.num_steps == policy.average_policy.num_steps == 5
    assert not policy.training


def test_statistics_are_those_of_the_first_dataset(make_policy: Callable[..., LAFPPolicy], tmp_path: Path) -> None:
    """Traps 1 and 7: what a later dataset says of its states must not change the inputs of a trained network."""
    policy = make_policy(STATE)
    policy.normalizer.vectors["observation__state"].mean.fill_(3.0)
    policy.save_pretrained(tmp_path)
    later = {STATE: {"mean": torch.full((2,), 8.0), "std": torch.full((2,), 2.0)}}
    loaded = LAFPPolicy.from_pretrained(tmp_path, dataset_stats=later)
    x = torch.randn(1, 2)
    torch.testing.assert_close(loaded.normalizer({STATE: x})[STATE][:, 0], x - 3)


@pytest.mark.usefixtures("no_network")
def test_a_pretrained_backbone_is_not_fetched_again(
    make_policy: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
    next_stage: Callable[..., LAFPPolicy],
    tmp_path: Path,
) -> None:
    weights = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    options = {"backbone__encoder": "resnet18", "backbone__weights": str(weights)}
    policy = make_policy(FRONT, stage="latent_action", **options)
    train(policy, make_batch(policy.config))
    weights.unlink()
    loaded = next_stage(policy, "latent_policy")
    own, state = policy.state_dict(), loaded.state_dict()
    assert [name for name in own if not same_bits(own[name], state[name])] == []
    with pytest.raises(ValueError, match=r"backbone\.weights"):
        make_policy(FRONT, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("latent_action_model.idm.0.weight"),
            r"`latent_action_model\.idm\.0\.weight` is only in the c",
        ),
        (lambda s: s.pop("action_decoder.moments.mean"), r"`action_decoder\.moments\.mean` is only in the config"),
        (lambda s: s.pop("normalizer.vectors.observation__state.std"), r"`normalizer\.vectors\.\S+std` is only in the"),
        (lambda s: s.update({"latent_policy.more": torch.ones(1)}), r"`latent_policy\.more` is only in the checkpoint"),
        (
            lambda s: s.update({"average_policy.network.enter.weight": torch.ones(3, 5)}),
            r"`average_policy\.network\.enter\.weight` has shape \(3, 5\) there and \(16, 8\) here",
        ),
        (lambda s: s.pop("stage_steps"), r"not a LAFP checkpoint: it holds no `stage_steps`"),
    ],
)
def test_a_tensor_missing_extra_or_misshapen_is_named(
    change: Callable[[dict[str, Tensor]], Any], message: str, trained: Callable[..., LAFPPolicy], tmp_path: Path
) -> None:
    trained("joint").save_pretrained(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        LAFPPolicy.from_pretrained(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "text", "gone"])
def test_a_damaged_file_is_an_error_in_words(
    damage: str, make_policy: Callable[..., LAFPPolicy], tmp_path: Path
) -> None:
    make_policy().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "text":
        file.write_text("version https://git-lfs.github.com/spec/v1\n")
    else:
        file.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read.*copy or download it again"):
        LAFPPolicy.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("stage", "following", "changed"),
    [
        ("latent_action", "latent_policy", {"policy_dim": 24, "policy_network": "transformer"}),
        ("latent_action", "latent_policy", {"ema_decay": 0.0, "decoder_dim": 8}),
        ("latent_action", "latent_policy", {"horizon": 8, "num_latents": 4}),  # a latent still covers two frames
        ("latent_policy", "action_decoder", {"decoder_dim": 24, "decoder_observes": "tokens"}),
        ("latent_policy", "action_decoder", {"decoder_observes": "state"}),
    ],
)
def test_options_of_a_stage_that_is_not_trained_yet_may_change(
    stage: str,
    following: str,
    changed: dict[str, Any],
    trained: Callable[..., LAFPPolicy],
    next_stage: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
) -> None:
    policy = trained(stage)
    loaded = next_stage(policy, following, **changed)
    own, state = policy.state_dict(), loaded.state_dict()
    kept = [name for name in own if name.startswith("latent_action_model.") or name == "stage_steps"]
    kept += [name for name in own if stage == "latent_policy" and "_policy." in name]
    assert all(same_bits(own[name], state[name]) for name in kept)
    train(loaded, make_batch(loaded.config))


@pytest.mark.parametrize(
    ("stage", "changed"),
    [
        ("latent_action", {"latent_dim": 8}),
        ("latent_action", {"codebook__size": 4}),
        ("latent_action", {"latent_model_dim": 24}),
        ("latent_policy", {"policy_dim": 24}),
        ("latent_policy", {"ema_decay": 0.0}),
        ("latent_policy", {"n_obs_steps": 3}),
        ("latent_policy", {"prediction": "velocity"}),  # no shape tells these from what was trained
        ("latent_policy", {"policy_head": "bc"}),
        ("latent_action", {"num_latents": 4}),  # a latent would cover one frame, not two
        ("latent_action", {"horizon": 8}),
        ("latent_action", {"latent_tokens": 2}),
        ("latent_policy", {"horizon": 8, "num_latents": 4}),
        ("latent_action", {"resize_shape": [16, 16]}),
        ("latent_action", {"idm_input": "difference"}),
        ("action_decoder", {"relative_actions": True}),
        ("action_decoder", {"decoder_dim": 24}),
        ("action_decoder", {"decoder_observes": "tokens"}),
        ("action_decoder", {"decoder_observes": "state"}),
    ],
)
def test_options_of_a_trained_stage_may_not(
    stage: str, changed: dict[str, Any], trained: Callable[..., LAFPPolicy], next_stage: Callable[..., LAFPPolicy]
) -> None:
    with pytest.raises(ValueError, match=r"cannot change.*[Ll]eave out --policy"):
        next_stage(trained(stage), **changed)


def test_the_motion_that_is_told_may_change_at_any_time(
    trained: Callable[..., LAFPPolicy], next_stage: Callable[..., LAFPPolicy]
) -> None:
    policy = trained("latent_action", STATE, FRONT, motion__weight=0.5, motion__target="centroid")
    loaded = next_stage(policy, motion__target="flow")
    assert loaded.latent_action_model.motion_head.tells_flow
    assert not loaded.latent_action_model.motion_head.tells_shift


@pytest.mark.parametrize("stage", ["latent_action", "latent_policy"])
@pytest.mark.parametrize(("before", "after"), [(0.5, 0.0), (0.0, 0.5)])
def test_the_motion_head_may_be_left_behind_or_come_later(
    before: float,
    after: float,
    stage: str,
    trained: Callable[..., LAFPPolicy],
    next_stage: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
) -> None:
    """It serves stage 1 alone: no later stage depends on it."""
    policy = trained(stage, STATE, FRONT, motion__weight=before)
    following = STAGES[STAGES.index(stage) + 1]
    loaded = next_stage(policy, following, motion__weight=after)
    assert (loaded.latent_action_model.motion_head is not None) == bool(after)
    own, state = policy.state_dict(), loaded.state_dict()
    kept = [n for n in own if n.startswith("latent_action_model.") and "motion_head" not in n]
    assert all(same_bits(own[name], state[name]) for name in kept)
    train(loaded, make_batch(loaded.config))
    again = next_stage(policy, "latent_action", motion__weight=after)
    train(again, make_batch(again.config))


def test_options_that_no_weight_depends_on_stay_free(
    trained: Callable[..., LAFPPolicy], next_stage: Callable[..., LAFPPolicy]
) -> None:
    loaded = next_stage(trained("action_decoder"), num_flow_steps=7, n_action_steps=1, decoder_input="idm")
    assert loaded.stages.acting_policy.num_steps == 7


def test_actions_may_first_appear_after_stage_one(
    trained: Callable[..., LAFPPolicy], next_stage: Callable[..., LAFPPolicy], make_batch: Callable[..., dict[str, Any]]
) -> None:
    policy = trained("latent_action", actions=False)
    assert policy.action_decoder is None
    loaded = next_stage(policy, "latent_policy", action_dim=2)
    assert loaded.action_decoder is not None
    again = next_stage(policy, "latent_action", action_dim=2)
    assert again.latent_action_model.action_head is not None


# --- Nothing that could run --------------------------------------------------------------------------------------


def test_no_pickle_and_no_code_is_loaded(
    trained: Callable[..., LAFPPolicy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = trained("action_decoder", STATE, FRONT)
    policy.save_pretrained(tmp_path)
    for processor in make_pre_post_processors(policy.config):
        processor.save_pretrained(tmp_path)

    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("something that a checkpoint holds was unpickled or run")

    for module, names in {pickle: ("load", "loads", "Unpickler"), torch: ("load",), builtins: ("exec", "eval")}.items():
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    assert inspect(tmp_path).sound
    config = PreTrainedConfig.from_pretrained(tmp_path)
    config.pretrained_path = tmp_path
    LAFPPolicy.from_pretrained(tmp_path, config=config)
    make_pre_post_processors(config, pretrained_path=str(tmp_path))


@pytest.mark.parametrize("stage", STAGES)
def test_an_older_decoder_stays_as_it_was_trained_and_only_then(
    stage: str, trained: Callable[..., LAFPPolicy], tmp_path: Path
) -> None:
    """Versions before had one network make the whole chunk; what they have trained acts as it did."""
    policy = trained(stage, STATE)
    config = policy.config
    config.facts.decoder_per_latent = None
    policy.action_decoder = build(config, None, 0, False).action_decoder
    policy.save_pretrained(tmp_path)
    for asked in STAGES[STAGES.index(stage) :]:
        loaded = LAFPPolicy.from_pretrained(tmp_path, config=config.but(stage=asked))
        assert loaded.action_decoder is not None
        assert loaded.action_decoder.whole == (stage == "action_decoder")
        assert config.facts.decoder_per_latent is None
        again = tmp_path / asked
        loaded.save_pretrained(again)
        loaded = LAFPPolicy.from_pretrained(again, config=PreTrainedConfig.from_pretrained(again))
        assert loaded.action_decoder.whole == (stage == "action_decoder")
