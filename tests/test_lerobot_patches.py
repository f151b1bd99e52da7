"""What is wrapped of LeRobot's, through LeRobot's own entry points."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lerobot.rollout
import lerobot.scripts.lerobot_rollout
import lerobot.scripts.lerobot_train
import pytest
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.envs.configs import PushtEnv
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.robots.so_follower import SO100FollowerConfig

from lerobot_lafp import LAFPConfig, lerobot_patches
from lerobot_lafp.lerobot_patches import in_json, match_robot, prepare_rollout, robot_features

from .building import lafp

STATE, ACTION = "observation.state", "action"
JOINTS = [
    f"{name}.pos" for name in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
]

Configs = Callable[..., LAFPConfig]


# --- Training ------------------------------------------------------------------------------------------------


def pipeline(policy: Any, tmp_path: Any, **options: Any) -> TrainPipelineConfig:
    dataset = DatasetConfig(repo_id="local/x", **options.pop("dataset", {}))
    return TrainPipelineConfig(dataset=dataset, policy=policy, output_dir=tmp_path / "out", steps=100, **options)


def test_a_policy_is_told_what_it_is_trained_on(make_config: Configs, tmp_path: Any) -> None:
    policy = make_config()
    pipeline(policy, tmp_path, dataset={"episodes": [0, 2], "eval_split": 0.5}, env_eval_freq=0).validate()
    assert policy.context is not None
    assert (policy.context.episodes, policy.context.eval_split, policy.context.evaluates) == ((0, 2), 0.5, False)


@pytest.mark.parametrize(("stage", "decoder_input"), [("latent_action", "idm"), ("latent_policy", "idm")])
def test_an_evaluation_that_cannot_be_had_is_refused_at_the_start(
    stage: str, decoder_input: str, make_config: Configs, tmp_path: Any
) -> None:
    policy = make_config(stage=stage, decoder_input=decoder_input)
    with pytest.raises(ValueError, match=rf"Stage {stage} gives a policy that cannot act yet.*--env_eval_freq=0"):
        pipeline(policy, tmp_path, env=PushtEnv(), env_eval_freq=50).validate()


@pytest.mark.parametrize(
    ("stage", "decoder_input", "every"),
    [
        ("joint", "idm", 50),
        ("action_decoder", "idm", 50),
        ("latent_policy", "action_head", 50),
        ("latent_action", "idm", 200),
    ],
)
def test_an_evaluation_that_can_be_had_or_never_comes_passes(
    stage: str, decoder_input: str, every: int, make_config: Configs, tmp_path: Any
) -> None:
    policy = make_config(stage=stage, decoder_input=decoder_input)
    pipeline(policy, tmp_path, env=PushtEnv(), env_eval_freq=every).validate()


def test_an_optimiser_that_would_not_be_read_is_refused(
    make_config: Configs, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lerobot-train", "--optimizer.lr=1e-3"])
    with pytest.raises(ValueError, match=r"--optimizer\.lr=1e-3 would not be read.*--policy\.optimizer_lr"):
        pipeline(make_config(), tmp_path).validate()
    pipeline(ACTConfig(push_to_hub=False), tmp_path).validate()


def test_other_policies_are_left_as_they_are(tmp_path: Any) -> None:
    policy = ACTConfig(push_to_hub=False)
    pipeline(policy, tmp_path, env=PushtEnv(), env_eval_freq=50).validate()
    assert not hasattr(policy, "context")


@pytest.mark.parametrize("names", [None, {"axes": ["height", "width", "channels"]}, ["image"]])
@pytest.mark.parametrize("shape", [(20, 24, 3), (3, 20, 24)])
def test_a_camera_whose_axes_have_no_names_is_known_by_its_shape(names: Any, shape: tuple[int, ...]) -> None:
    features = {
        "observation.images.front": {"dtype": "image", "shape": shape, "names": names},
        STATE: {"dtype": "float32", "shape": (2,), "names": None},
    }
    tasks = SimpleNamespace(index=["x"])
    meta = SimpleNamespace(
        features=features, stats={STATE: {"mean": [0.0, 0.0], "std": [1.0, 1.0]}}, repo_id="me/x", fps=10, tasks=tasks
    )
    meta.episodes, meta.total_episodes = {"length": [30]}, 1
    policy = lerobot.scripts.lerobot_train.make_policy(lafp(device="cpu", push_to_hub=False), ds_meta=meta)
    assert policy.config.camera_shapes == {"observation.images.front": (3, 20, 24)}


# --- Rollouts ------------------------------------------------------------------------------------------------


@pytest.fixture
def arm(make_config: Configs) -> Callable[..., LAFPConfig]:
    """``arm(names, state_names=names, **options)``: of a policy trained on six joints called so."""

    def build(names: list[str] | None, state_names: list[str] | None = None, **options: Any) -> LAFPConfig:
        config = lafp(action_dim=6, action_names=names, state_names=state_names or names, fps=15.0, **options)
        feature = make_config().input_features[STATE]
        config.input_features = {STATE: type(feature)(feature.type, (6,))}
        return config

    return build


def rollout(policy: Any, fps: float = 15.0, multiplier: int = 1) -> SimpleNamespace:
    robot = SO100FollowerConfig(port="none", id="sim")
    return SimpleNamespace(policy=policy, robot=robot, fps=fps, interpolation_multiplier=multiplier)


def test_it_is_wrapped_wherever_the_command_finds_it() -> None:
    for module in (lerobot.rollout, lerobot.rollout.context, lerobot.scripts.lerobot_rollout):
        assert hasattr(module.build_rollout_context, "__wrapped__")


def test_the_same_joints_in_another_order_are_put_in_order(arm: Callable[..., LAFPConfig]) -> None:
    own = sorted(JOINTS)
    config = arm(own)
    prepare_rollout(rollout(config))
    for key in (STATE, ACTION):
        assert [JOINTS[i] for i in config.orders[key]] == own


def test_the_robots_own_order_needs_none(arm: Callable[..., LAFPConfig]) -> None:
    config = arm(JOINTS)
    prepare_rollout(rollout(config))
    assert config.orders == {}


@pytest.mark.parametrize("names", [[f"joint_{i}" for i in range(6)], [*JOINTS[:5], "thumb.pos"]])
def test_other_joints_are_refused_with_the_option_that_says_they_are_the_same(
    names: list[str], arm: Callable[..., LAFPConfig]
) -> None:
    config = arm(names)
    with pytest.raises(ValueError, match=r"not the same names.*--policy\.names='\{\"action\": \[\"shoulder_pan\.pos\""):
        prepare_rollout(rollout(config))
    config.names = {ACTION: JOINTS}
    both = r"--policy\.names='\{\"action\": \[\"shoulder_pan\.pos\".*\"observation\.state\": \[\"shoulder_pan\.pos\""
    with pytest.raises(ValueError, match=both):
        prepare_rollout(rollout(config))
    config.names = {ACTION: JOINTS, STATE: JOINTS}
    prepare_rollout(rollout(config))
    assert config.orders == {}


def test_without_names_the_order_is_said(arm: Callable[..., LAFPConfig], caplog: pytest.LogCaptureFixture) -> None:
    prepare_rollout(rollout(arm(None)))
    assert caplog.text.count("in this order: shoulder_pan.pos") == 2


def test_another_number_of_joints_is_refused(arm: Callable[..., LAFPConfig]) -> None:
    config = arm(None)
    features = {key: {"names": ["a.pos", "b.pos"], "shape": (2,)} for key in (STATE, ACTION)}
    with pytest.raises(ValueError, match="has 6 dimensions in this policy, and the robot has 2"):
        match_robot(config, features)


def test_a_state_that_is_not_read_is_known_as_the_robots(make_config: Configs) -> None:
    """It is held by, so the joint of each action is looked up in the robot's order."""
    own = sorted(JOINTS)
    config = make_config("observation.images.front", action_dim=6, action_names=own, state_names=own, fps=15.0)
    prepare_rollout(rollout(config))
    assert list(config.orders) == [ACTION]
    assert config.joint_of_action is not None
    assert [JOINTS[i] for i in config.joint_of_action] == own


def test_pipelines_of_the_callers_own_give_the_names(arm: Callable[..., LAFPConfig]) -> None:
    prepare_rollout(rollout(arm(["x", "y", "z", "rx", "ry", "rz"])), [object()])


def test_a_robot_is_known_without_being_connected() -> None:
    found = robot_features(SO100FollowerConfig(port="none", id="sim"))
    assert found is not None
    assert found[STATE]["names"] == found[ACTION]["names"] == JOINTS


@pytest.mark.parametrize(("fps", "multiplier"), [(30.0, 2), (60.0, 4)])
def test_a_multiple_of_the_rate_is_reached_by_commands_in_between(
    fps: float, multiplier: int, arm: Callable[..., LAFPConfig], caplog: pytest.LogCaptureFixture
) -> None:
    cfg = rollout(arm(JOINTS), fps)
    prepare_rollout(cfg)
    assert (cfg.fps, cfg.interpolation_multiplier) == (15.0, multiplier)
    assert "trained at 15 Hz" in caplog.text


@pytest.mark.parametrize(("fps", "multiplier"), [(20.0, 1), (10.0, 1), (30.0, 2)])
def test_another_rate_is_refused(fps: float, multiplier: int, arm: Callable[..., LAFPConfig]) -> None:
    with pytest.raises(ValueError, match=rf"--fps={fps:g}.*--fps=15 .*--interpolation_multiplier"):
        prepare_rollout(rollout(arm(JOINTS), fps, multiplier))


def test_steps_and_unknown_actions_are_not_repeated(arm: Callable[..., LAFPConfig]) -> None:
    with pytest.raises(ValueError, match="trained at 15 frames per second"):
        prepare_rollout(rollout(arm(None), 30.0))


# --- Options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--limits.change_per_s={shoulder_pan.pos: 60}", '--limits.change_per_s={"shoulder_pan.pos": 60}'),
        ("--limits.range={a: [-90, 20]}", '--limits.range={"a": [-90, 20]}'),
        ('--limits.range={"a": [-90, 20]}', '--limits.range={"a": [-90, 20]}'),
        ("--labeled_episodes=[0,1]", "--labeled_episodes=[0,1]"),
        ("--observations=[a.pos, b.pos]", '--observations=["a.pos", "b.pos"]'),
        ("--names={action: [a.pos, b.pos]}", '--names={"action": ["a.pos", "b.pos"]}'),
        ("--stage=joint", "--stage=joint"),
        ("--limits={", "--limits={"),
    ],
)
def test_what_is_no_json_becomes_some(given: str, expected: str) -> None:
    assert in_json(given) == expected


def test_options_of_a_checkpoint_are_read_as_those_of_a_new_policy(make_config: Configs, tmp_path: Any) -> None:
    make_config().save_pretrained(tmp_path)
    overrides = ["--limits.range={a: [-90, 20]}", "--limits.change_per_s={a: 60}", "--names={action: [a, b]}"]
    config = LAFPConfig.from_pretrained(tmp_path, cli_overrides=overrides)
    assert isinstance(config, LAFPConfig)
    assert (config.limits.range, config.limits.change_per_s) == ({"a": (-90, 20)}, {"a": 60})
    assert config.names == {"action": ["a", "b"]}


def test_the_policy_server_matches_names_and_says_another_rate(
    arm: Callable[..., LAFPConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerobot.async_inference.policy_server import PolicyServer  # which sets up logging anew

    said: list[str] = []
    monkeypatch.setattr(lerobot_patches.logger, "warning", lambda message, *values: said.append(message % values))
    monkeypatch.setattr(PolicyServer, "SendPolicyInstructions", lambda self, request, context: "done")
    lerobot_patches.match_robots_of_the_policy_server()
    config = arm(sorted(JOINTS))
    features = {STATE: {"names": JOINTS, "shape": (6,)}}
    server = SimpleNamespace(
        policy=SimpleNamespace(config=config), lerobot_features=features, config=SimpleNamespace(fps=30)
    )
    assert PolicyServer.SendPolicyInstructions(server, None, None) == "done"
    assert [JOINTS[i] for i in config.orders[ACTION]] == sorted(JOINTS)
    assert "with --fps=15" in " ".join(said)


def test_no_later_frames_are_asked_of_a_column_of_words(make_config: Configs) -> None:
    from lerobot.datasets import factory

    features = {STATE: {"dtype": "float32"}, "observation.text": {"dtype": "string"}, ACTION: {"dtype": "float32"}}
    meta = SimpleNamespace(features=features, fps=10)
    assert sorted(factory.resolve_delta_timestamps(make_config(), meta)) == [ACTION, STATE]
    act = ACTConfig(push_to_hub=False)
    assert factory.resolve_delta_timestamps(act, meta) == {ACTION: [i / 10 for i in range(act.chunk_size)]}


def test_resuming_with_another_stage_is_refused(tmp_path: Path) -> None:
    """The run would go on with the old stage's optimiser."""
    (tmp_path / "config.json").write_text(json.dumps({"type": "lafp", "stage": "latent_action"}))
    policy = SimpleNamespace(pretrained_path=tmp_path, stage="latent_policy")
    with pytest.raises(ValueError, match=r"--resume=true continues stage latent_action.*--policy\.stage=latent_policy"):
        lerobot_patches._refuse_resume_of_another_stage(SimpleNamespace(resume=True, policy=policy))
    lerobot_patches._refuse_resume_of_another_stage(SimpleNamespace(resume=False, policy=policy))
    policy.stage = "latent_action"
    lerobot_patches._refuse_resume_of_another_stage(SimpleNamespace(resume=True, policy=policy))
