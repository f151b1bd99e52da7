"""Every option documented, every bad one refused in words that name the field and the mend."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import draccus
import pytest
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.optim import AdamWConfig
from lerobot.optim.schedulers import DiffuserSchedulerConfig

from lerobot_lafp import LAFPConfig
from lerobot_lafp.configuration_lafp import WARMUP_STEPS
from lerobot_lafp.options.constants import STAGES

from .building import lafp

STATE, FRONT, ENV_STATE = "observation.state", "observation.images.front", "observation.environment_state"


def state(width: int = 2) -> dict[str, Any]:
    return {"dtype": "float32", "shape": (width,), "names": None}


def image(height: int = 20, width: int = 24) -> dict[str, Any]:
    return {"dtype": "video", "shape": (height, width, 3), "names": ["height", "width", "channels"]}


def action(width: int = 2, names: list[str] | None = None) -> dict[str, Any]:
    return {"dtype": "float32", "shape": (width,), "names": names}


# --- Documentation and persistence ---------------------------------------------------------------------------


def test_it_is_registered_under_its_name_and_never_normalises_in_the_processor() -> None:
    assert PreTrainedConfig.get_choice_class("lafp") is LAFPConfig
    config = lafp(device="cpu")
    assert config.type == "lafp"
    assert {config.normalization_mapping[kind.value] for kind in FeatureType} == {NormalizationMode.IDENTITY}


def test_json_round_trip_keeps_every_field(tmp_path: Path, make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(
        STATE,
        FRONT,
        stage="latent_policy",
        labeled_episodes=[0, 3],
        labels_repo_id="me/pick",
        latent_features=[STATE, FRONT],
        action_dim=2,
        action_names=["x", "y"],
        relative_actions=True,
        resize_shape=(16, 20),
        policy_head="bc",
        codebook__size=4,
        optimizer_lr=1e-3,
    )
    config.save_pretrained(tmp_path)
    loaded = PreTrainedConfig.from_pretrained(tmp_path)
    assert type(loaded) is LAFPConfig
    assert dataclasses.asdict(loaded) == dataclasses.asdict(config)


def test_the_command_line_overrides_a_saved_stage(tmp_path: Path, make_config: Callable[..., LAFPConfig]) -> None:
    make_config(stage="latent_action", labeled_episodes=[1]).save_pretrained(tmp_path)
    overrides = ["--stage=latent_policy", "--labeled_episodes=null", "--resize_shape=[9,10]", "--limits.margin=0.2"]
    loaded = PreTrainedConfig.from_pretrained(tmp_path, cli_overrides=overrides)
    assert (loaded.stage, loaded.labeled_episodes, loaded.resize_shape) == ("latent_policy", None, (9, 10))
    assert loaded.limits.margin == 0.2


@pytest.mark.parametrize("option", ["stage", "policy_head", "policy_network", "prediction", "backbone.encoder"])
def test_a_word_that_is_no_choice_is_refused(option: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        draccus.parse(LAFPConfig, args=[f"--{option}=typo", "--device=cpu"])
    assert f"--{option}: invalid choice: 'typo'" in capsys.readouterr().err
    group, dot, name = option.rpartition(".")
    written = {group: {name: "typo"}} if dot else {option: "typo"}
    (tmp_path / "config.json").write_text(json.dumps({"type": "lafp", "device": "cpu", **written}))
    with pytest.raises(draccus.utils.DecodingError, match=option):
        PreTrainedConfig.from_pretrained(tmp_path)


# --- Bad options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 5}, r"`num_latents` \(2\) must divide `horizon` \(5\).*--policy\.horizon=4"),
        ({"horizon": 1}, r"`num_latents` \(2\) must divide `horizon` \(1\).*--policy\.horizon=2"),
        ({"n_action_steps": 5}, r"`n_action_steps` \(5\) must not exceed `horizon` \(4\).*Lower n_action_steps"),
        ({"n_action_steps": 0}, r"`n_action_steps` must be at least 1"),
        ({"n_obs_steps": 0}, r"`n_obs_steps` must be at least 1"),
        ({"num_latents": 0}, r"`num_latents` must be at least 1"),
        ({"horizon": -2}, r"`horizon` must be at least 1"),
        ({"labeled_episodes": []}, r"`labeled_episodes` is empty.*--policy\.labeled_episodes=\[0,3,7\].*leave it out"),
        ({"labeled_episodes": [1, 1]}, r"`labeled_episodes` must be distinct.*\[1, 1\]"),
        ({"labeled_episodes": [0, -1]}, r"`labeled_episodes` must be distinct.*0 or more"),
        (
            {"labels__repo_id": "me/play", "labeled_episodes": [0]},
            r"actions are those of me/play.*--policy\.labels\.episodes=\[\.\.\] and --policy\.labeled_episodes=null",
        ),
        ({"labels__repo_id": "me/play", "labels__episodes": []}, r"`labels\.episodes` is empty.*leave it out"),
        (
            {"labels__repo_id": "me/play", "finetune_policy": True, "decoder_input": "samples"},
            r"`finetune_policy=true` would teach the policy.*me/play.*Leave --policy\.finetune_policy=true out",
        ),
        ({"labels__repo_id": "me/play", "latent_source": "actions"}, r"`latent_source=actions` would teach the policy"),
        ({"interpolation_tau": (-0.1, 1.0)}, r"`interpolation_tau`.*0 <= least <= largest <= 1"),
        ({"interpolation_tau": (0.0, 1.5)}, r"`interpolation_tau`.*0 <= least <= largest <= 1"),
        ({"interpolation_tau": (0.8, 0.2)}, r"`interpolation_tau` must be \[least, largest\].*\[0\.8, 0\.2\]"),
        ({"ema_decay": 1.0}, r"`ema_decay` must lie in \[0, 1\).*0 turns the average off"),
        ({"finetune_policy": True}, r"`finetune_policy`.*decoder_input=idm.*--policy\.decoder_input=interpolation"),
        ({"label_weight": -0.1}, r"`label_weight` must not be negative"),
        ({"motion__weight": -0.1}, r"`motion\.weight` must not be negative"),
        ({"random_shift": -1}, r"`random_shift` must not be negative"),
        (
            {"random_shift": 4, "backbone__encoder": "vit", "backbone__weights": "folder"},
            r"with backbone\.encoder=vit the policy sees features. Leave --policy.random_shift out",
        ),
        ({"backbone__grid": 0}, r"`backbone\.grid` must be at least 1"),
        ({"codebook__size": -1}, r"`codebook\.size` must not be negative"),
        ({"codebook__heads": 0}, r"`codebook\.heads` must be at least 1"),
        ({"latent_tokens": -1}, r"`latent_tokens` must not be negative"),
        ({"latent_tokens": 3}, r"`latent_tokens` \(3\) must divide `latent_dim` \(4\)"),
        (
            {"decoder_input": "action_head", "stage": "action_decoder"},
            r"`decoder_input=action_head` has no stage action_decoder.*latent_policy acts.*another decoder_input",
        ),
        ({"codebook__size": 4, "codebook__heads": 3}, r"`codebook\.heads` \(3\) must divide `latent_dim` \(4\)"),
        ({"optimizer_lr": 0.0}, r"`optimizer_lr` must be positive"),
        ({"num_flow_steps": 0}, r"`num_flow_steps` must be at least 1"),
        ({"flow_draws": 0}, r"`flow_draws` must be at least 1"),
        ({"latent_dim": 0}, r"`latent_dim` must be at least 1"),
        ({"resize_shape": (4, 96)}, r"`resize_shape` must be at least 8 pixels"),
        ({"backbone__weights": "x.pth"}, r"`backbone\.weights` needs .*backbone\.encoder=resnet18"),
        ({"latent_source": "actions", "stage": "latent_action"}, r"`latent_source=actions`.*--policy\.stage=joint"),
    ],
)
def test_a_bad_option_names_the_field_and_the_mend(
    options: dict[str, Any], message: str, make_config: Callable[..., LAFPConfig]
) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**options)


def test_a_latent_covers_its_share_of_the_horizon(make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(horizon=18)
    assert (config.frame_offset, config.num_latents) == (9, 2)
    assert config.but(num_latents=3).frame_offset == 6


def test_a_copy_with_other_options_keeps_what_was_filled_in_and_is_checked(
    make_config: Callable[..., LAFPConfig],
) -> None:
    config = make_config(fps=10.0, tasks=["push"], limits__margin=0.3)
    other = config.but(stage="latent_policy", horizon=8)
    assert (other.stage, other.horizon, other.limits.margin) == ("latent_policy", 8, 0.3)
    assert (other.facts.fps, other.facts.tasks) == (10.0, ["push"])
    other.facts.tasks.append("pull")
    assert config.facts.tasks == ["push"]
    assert (config.stage, config.horizon) == ("joint", 4)
    with pytest.raises(ValueError, match="must divide `horizon`"):
        config.but(horizon=5)


@pytest.mark.parametrize(
    "options",
    [
        {"horizon": 6, "num_latents": 3},
        {"interpolation_tau": (0.5, 0.5)},
        {"interpolation_tau": (0.0, 1.0)},
        {"ema_decay": 0.0},
        {"label_weight": 0.0},
        {"motion__weight": 0.0, "backbone__grid": 1},
        {"decoder_input": "action_head", "stage": "latent_policy"},
        {"codebook__size": 0, "codebook__heads": 3},
        {"latent_tokens": 4},
        {"n_action_steps": 4},
    ],
)
def test_the_edge_of_what_is_allowed(options: dict[str, Any], make_config: Callable[..., LAFPConfig]) -> None:
    make_config(**options)


def test_nothing_to_observe_is_refused() -> None:
    for inputs in ({}, None, {"observation.language": PolicyFeature(FeatureType.LANGUAGE, (1,))}):
        with pytest.raises(ValueError, match=r"something to observe.*camera.*observation\.state.*rename_map"):
            lafp(device="cpu", input_features=inputs).validate_features()


def test_relative_actions_need_a_state_of_the_actions_width(make_config: Callable[..., LAFPConfig]) -> None:
    make_config(STATE, relative_actions=True).validate_features()
    for config in (make_config(FRONT, relative_actions=True), make_config(STATE, relative_actions=True)):
        if STATE in config.input_features:
            config.input_features = {STATE: PolicyFeature(FeatureType.STATE, (3,))}
        with pytest.raises(
            ValueError, match=r"`relative_actions` needs `observation\.state`.*width \(2\).*relative_actions=false"
        ):
            config.validate_features()


def test_another_action_width_is_refused_in_words(make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(action_dim=7, action_names=["j1", "j2"])
    with pytest.raises(ValueError, match=r"`action` has width 2 here.*trained with width 7.*j1.*Use the dataset"):
        config.validate_features()


# --- What depends on the stage -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "observations", "actions", "dropped"),
    [
        ({"stage": "joint"}, [-2, -1, 0, 2, 4, 6], [0, 1, 2, 3, 4, 5], 2),
        ({"stage": "latent_action"}, [0, 2], [0, 1], 2),
        ({"stage": "latent_policy"}, [-2, -1, 0, 2, 4, 6], None, 2),
        ({"stage": "action_decoder"}, [-2, -1, 0, 2, 4, 6], [0, 1, 2, 3, 4, 5], 2),
        ({"stage": "action_decoder", "decoder_input": "interpolation"}, [-2, -1, 0, 2, 4, 6], [0, 1, 2, 3, 4, 5], 2),
        ({"stage": "action_decoder", "decoder_input": "samples"}, [-2, -1, 0], [0, 1, 2, 3, 4, 5], 0),
        (
            {"stage": "action_decoder", "policy_head": "bc", "decoder_input": "interpolation"},
            [-2, -1, 0],
            [0, 1, 2, 3, 4, 5],
            0,
        ),
        ({"stage": "joint", "latent_source": "actions"}, [-2, -1, 0], [0, 1, 2, 3, 4, 5], 0),
        ({"stage": "joint", "latent_source": "actions", "n_obs_steps": 1}, None, [0, 1, 2, 3, 4, 5], 0),
        ({"stage": "joint", "hold_last_frame": True}, [-2, -1, 0, 2, 4, 6], [0, 1, 2, 3, 4, 5], 0),
        ({"stage": "latent_action", "hold_last_frame": True}, [0, 2], [0, 1], 0),
        ({"stage": "latent_policy", "hold_last_frame": True}, [-2, -1, 0, 2, 4, 6], None, 0),
        ({"stage": "latent_policy", "decoder_input": "action_head"}, [-2, -1, 0, 2, 4, 6], None, 2),
    ],
)
def test_a_stage_loads_only_the_frames_it_needs(
    options: dict[str, Any],
    observations: list[int] | None,
    actions: list[int] | None,
    dropped: int,
    make_config: Callable[..., LAFPConfig],
) -> None:
    config = make_config(**{"n_obs_steps": 3, "horizon": 6, "num_latents": 3, **options})
    assert config.frame_deltas == (observations or [0])
    assert config.observation_delta_indices == observations
    assert config.action_delta_indices == actions
    assert config.drop_n_last_frames == dropped
    assert config.reward_delta_indices is None


@pytest.mark.parametrize(("history", "observations"), [(3, [-2, -1, 0]), (1, None)])
def test_a_stage_that_is_given_latents_loads_no_later_frame(
    history: int, observations: list[int] | None, make_config: Callable[..., LAFPConfig]
) -> None:
    config = make_config(n_obs_steps=history, horizon=6, num_latents=3, stage="latent_policy")
    config.given_latents = True
    assert config.observation_delta_indices == observations
    assert (config.action_delta_indices, config.drop_n_last_frames) == (None, 2)


@pytest.mark.parametrize("stage", ["joint", *STAGES])
def test_every_stage_has_one_optimiser_and_a_cosine(stage: str, make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(stage=stage, optimizer_lr=0.123)
    preset = config.get_optimizer_preset()
    assert isinstance(preset, AdamWConfig)
    assert (preset.lr, preset.weight_decay, preset.grad_clip_norm) == (0.123, 1e-6, 10.0)
    scheduler = config.get_scheduler_preset()
    assert isinstance(scheduler, DiffuserSchedulerConfig)
    assert (scheduler.name, scheduler.num_warmup_steps) == ("cosine", WARMUP_STEPS)


@pytest.mark.parametrize("steps", [WARMUP_STEPS + 1, 1000])
def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero(
    steps: int, make_config: Callable[..., LAFPConfig]
) -> None:
    config = make_config()
    optimizer = config.get_optimizer_preset().build([torch.nn.Parameter(torch.zeros(1))])
    schedule = config.get_scheduler_preset().build(optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == 0.0
    assert rates[WARMUP_STEPS] == max(rates) == config.optimizer_lr
    assert rates[WARMUP_STEPS:] == sorted(rates[WARMUP_STEPS:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


# --- What a dataset says of itself ---------------------------------------------------------------------------


def test_the_first_dataset_decides_what_is_observed(make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(STATE, FRONT, actions=False, stage="latent_action")
    config.set_dataset_feature_metadata({STATE: state(), FRONT: image()})
    assert config.facts.latent_features == sorted([STATE, FRONT])
    assert config.facts.action_dim is None
    assert config.output_features == {}


def test_the_action_width_outlives_a_dataset_without_actions(make_config: Callable[..., LAFPConfig]) -> None:
    """Trap 2: LeRobot drops the action from the configuration, and with it went the decoder."""
    config = make_config(STATE, stage="latent_action")
    config.set_dataset_feature_metadata({STATE: state(), "action": action(2, ["x", "y"])})
    assert (config.facts.action_dim, config.facts.action_names) == (2, ["x", "y"])
    config.stage, config.output_features = "latent_policy", {}  # what `make_policy` does on the next dataset
    config.set_dataset_feature_metadata({STATE: state()})
    assert config.facts.action_dim == 2
    assert config.output_features["action"].shape == (2,)


@pytest.mark.parametrize("options", [{"stage": "action_decoder"}, {"stage": "joint", "latent_source": "actions"}])
def test_a_dataset_without_actions_is_refused_where_they_are_needed(
    options: dict[str, Any], make_config: Callable[..., LAFPConfig]
) -> None:
    config = make_config(STATE, actions=False, **options)
    with pytest.raises(ValueError, match=r"no `action` column.*--dataset\.repo_id"):
        config.set_dataset_feature_metadata({STATE: state()})


def test_a_later_dataset_must_have_what_the_first_one_had(make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(STATE, FRONT, stage="latent_action")
    config.set_dataset_feature_metadata({STATE: state(), FRONT: image(), "action": action()})
    with pytest.raises(ValueError, match=r"no `observation\.images\.front`.*observation\.images\.top.*--rename_map"):
        config.set_dataset_feature_metadata({STATE: state(), "observation.images.top": image()})


@pytest.mark.parametrize(
    "features", [{FRONT: image(40, 48), STATE: state()}, {FRONT: image(24, 20), STATE: state()}, {STATE: state(3)}]
)
def test_an_image_or_state_of_another_size_is_refused(
    features: dict[str, Any], make_config: Callable[..., LAFPConfig]
) -> None:
    config = make_config(STATE, FRONT, stage="latent_action")
    with pytest.raises(ValueError, match=r"`observation\.\S+` has shape .*trained with .*Convert the dataset"):
        config.set_dataset_feature_metadata({FRONT: image(), "action": action(), **features})


def test_a_resized_camera_may_have_another_size_of_its_aspect(make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(FRONT, stage="latent_action", resize_shape=(10, 12))
    config.set_dataset_feature_metadata({FRONT: image(40, 48)})
    with pytest.raises(ValueError, match=r"has shape \(3, 24, 20\) in this dataset.*trained with \(3, 20, 24\)"):
        config.set_dataset_feature_metadata({FRONT: image(24, 20)})


def test_channel_first_images_are_understood(make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(FRONT, stage="latent_action")
    first = {"dtype": "image", "shape": (3, 20, 24), "names": ["channels", "height", "width"]}
    config.set_dataset_feature_metadata({FRONT: first})


def test_a_state_that_appears_in_stage_three_is_for_the_decoder_alone(make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(FRONT, stage="latent_action", actions=False)
    config.set_dataset_feature_metadata({FRONT: image()})
    config.stage = "action_decoder"
    config.set_dataset_feature_metadata({FRONT: image(), STATE: state(), "action": action()})
    assert config.decoder_vector_shapes == {}, "nothing reads it, so acting must not ask for it"
    config.decoder_observes = "tokens"
    extra = {STATE: state(), "observation.images.top": image(), "timestamp": state(1)}
    for _ in range(2):  # a second run of stage three changes nothing
        config.set_dataset_feature_metadata({FRONT: image(), "action": action(), **extra})
    assert config.decoder_vector_shapes == {STATE: (2,)}
    assert config.vector_shapes == {}
    assert list(config.camera_shapes) == [FRONT]


def test_the_state_may_be_all_that_the_decoder_is_given(make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(FRONT, stage="latent_action", actions=False, decoder_observes="state")
    config.set_dataset_feature_metadata({FRONT: image()})
    config.validate_features()  # the video has none, nor needs it
    config.stage = "action_decoder"
    config.set_dataset_feature_metadata({FRONT: image(), "observation.extra": state(3), "action": action()})
    with pytest.raises(
        ValueError, match=r"`decoder_observes=state` needs `observation.state`.*--policy.decoder_observes=nothing"
    ):
        config.validate_features()
    config.set_dataset_feature_metadata({FRONT: image(), STATE: state(), "action": action()})
    config.validate_features()
    assert config.decoder_states == config.decoder_vector_shapes == {STATE: (2,)}
    config = make_config(STATE, ENV_STATE, decoder_observes="state")
    assert config.decoder_states == {STATE: (2,)}


def test_states_and_cameras_are_told_apart(make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config(STATE, ENV_STATE, FRONT)
    assert config.vector_shapes == {STATE: (2,), ENV_STATE: (5,)}
    assert config.camera_shapes == {FRONT: (3, 20, 24)}
    assert config.decoder_vector_shapes == {}


def test_a_column_of_words_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    features = {STATE: state(), "observation.text": {"dtype": "string", "shape": (1,), "names": None}}
    config = lafp()
    config.input_features = {key: PolicyFeature(FeatureType.STATE, each["shape"]) for key, each in features.items()}
    config.set_dataset_feature_metadata(features)
    assert list(config.input_features) == config.facts.feature_order == [STATE]
    assert "`observation.text` holds no numbers (string) and is not read" in caplog.text


def test_observations_are_read_in_the_order_of_their_names_whatever_the_datasets() -> None:
    features = {key: state(width) for key, width in (("observation.b", 1), (STATE, 2), ("observation.a", 3))}
    config = lafp()
    config.input_features = {key: PolicyFeature(FeatureType.STATE, each["shape"]) for key, each in features.items()}
    config.set_dataset_feature_metadata(features)
    assert list(config.vector_shapes) == ["observation.a", "observation.b", STATE]
