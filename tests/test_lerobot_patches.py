"""What is replaced of LeRobot's: what each entry brings, and that LeRobot without it still needs it."""

import importlib.metadata
import inspect
import json
import pickle
import runpy
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import draccus
import lerobot.rollout
import lerobot.scripts.lerobot_rollout
import lerobot.scripts.lerobot_train
import numpy as np
import pytest
import torch
from draccus.utils import DecodingError
from huggingface_hub import ModelCard
from lerobot.common import train_utils
from lerobot.configs import PreTrainedConfig
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets import LeRobotDataset
from lerobot.datasets import factory as datasets
from lerobot.envs.configs import PushtEnv
from lerobot.optim import AdamConfig
from lerobot.policies import factory as policies
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.processor import converters
from lerobot.rollout import context as rollouts
from lerobot.rollout.configs import SyncInferenceConfig
from packaging.specifiers import SpecifierSet

from lerobot_lafp import LAFPConfig, LAFPPolicy, lerobot_patches, make_lafp_pre_post_processors
from lerobot_lafp.lerobot_patches import PATCHES, SERVER_PATCHES, in_json, unread_optimizer_option
from lerobot_lafp.options.constants import LATENT_ACTION

from .arms import ACTION, JOINTS, STATE, arm, rollout
from .building import lafp

Configs = Callable[..., LAFPConfig]


# --- The table -----------------------------------------------------------------------------------------------


def test_each_entry_says_what_it_replaces_why_and_for_which_versions() -> None:
    for patch in (*PATCHES, *SERVER_PATCHES):
        assert patch.of
        assert patch.without.endswith(".")
        assert (patch.apply.__doc__ or "").strip()
        assert SpecifierSet(patch.versions)
    assert len({patch.name for patch in (*PATCHES, *SERVER_PATCHES)}) == len((*PATCHES, *SERVER_PATCHES))


def test_each_entry_has_a_test_that_fails_when_lerobot_needs_it_no_more() -> None:
    assert {f"test_without_{patch.name}" for patch in (*PATCHES, *SERVER_PATCHES)} <= set(globals())


def test_an_entry_is_put_in_place_once_and_only_where_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def of_today() -> None:
        done.append("today")

    def of_tomorrow() -> None:
        done.append("tomorrow")

    installed = importlib.metadata.version("lerobot")
    entries = (
        lerobot_patches.Patch(of_today, "x", "y.", f">={installed}"),
        lerobot_patches.Patch(of_tomorrow, "x", "y.", f">{installed}"),
    )
    monkeypatch.setattr(lerobot_patches, "PATCHES", entries)
    monkeypatch.setattr(lerobot_patches, "_applied", set())
    lerobot_patches.apply()
    lerobot_patches.apply()
    assert done == ["today"]


def test_functions_are_replaced_wherever_the_commands_find_them() -> None:
    for module in (lerobot.rollout, rollouts, lerobot.scripts.lerobot_rollout):
        assert hasattr(module.build_rollout_context, "__wrapped__")
    for module in (policies, lerobot.scripts.lerobot_train):
        assert hasattr(module.make_policy, "__wrapped__")


def due(function: Callable[[], None]) -> pytest.MarkDecorator:
    """Skips a test where the installed LeRobot is none that the entry is for."""
    patch = next(each for each in (*PATCHES, *SERVER_PATCHES) if each.apply is function)
    return pytest.mark.skipif(not patch.is_due, reason=f"for LeRobot {patch.versions}")


def alone(function: Any) -> Any:
    """LeRobot's own function, as it is without us."""
    return inspect.unwrap(getattr(function, "__func__", function))


# --- Checkpoints ---------------------------------------------------------------------------------------------


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


def test_options_of_a_checkpoint_are_read_as_those_of_a_new_policy(make_config: Configs, tmp_path: Path) -> None:
    make_config().save_pretrained(tmp_path)
    overrides = ["--limits.range={a: [-90, 20]}", "--limits.change_per_s={a: 60}", "--names={action: [a, b]}"]
    config = LAFPConfig.from_pretrained(tmp_path, cli_overrides=overrides)
    assert isinstance(config, LAFPConfig)
    assert (config.limits.range, config.limits.change_per_s) == ({"a": (-90, 20)}, {"a": 60})
    assert config.names == {"action": ["a", "b"]}


def test_without_explain_unreadable_configurations(make_config: Configs, tmp_path: Path) -> None:
    read = alone(PreTrainedConfig.from_pretrained)
    make_config().save_pretrained(tmp_path)
    with pytest.raises(DecodingError, match=r"limits\.range"):
        read(PreTrainedConfig, tmp_path, cli_overrides=["--limits.range={a: [-90, 20]}"])
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "limit_margin": 0.2}))
    with pytest.raises(DecodingError) as unknown:
        read(PreTrainedConfig, tmp_path)
    assert str(tmp_path) not in str(unknown.value)


#: As an older version saved it.
OLD_RUN = {"dataset": {"repo_id": "me/pick"}, "policy": {"type": "lafp", "limit_margin": 0.2, "push_to_hub": False}}


def test_without_read_runs_of_older_versions(tmp_path: Path) -> None:
    (tmp_path / "train_config.json").write_text(json.dumps(OLD_RUN))
    with pytest.raises(DecodingError, match="limit_margin"):
        alone(TrainPipelineConfig.from_pretrained)(TrainPipelineConfig, tmp_path)
    assert TrainPipelineConfig.from_pretrained(tmp_path).policy.limits.margin == 0.2


def test_without_refuse_old_options_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        draccus.parse(TrainPipelineConfig, args=["--policy.type=lafp", "--policy.limit_margin=0.2"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("unrecognized arguments: --policy.limit_margin=0.2"), "and no word of its successor"


@due(lerobot_patches.publish_with_the_policys_own_card)
def test_without_publish_with_the_policys_own_card(make_config: Configs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelCard, "validate", lambda self: None)  # by the Hub
    card = train_utils.generate_model_card(make_config(repo_id="me/lafp"))
    assert "Latent Action Flow Policy" not in str(card)


# --- Training ------------------------------------------------------------------------------------------------


def pipeline(policy: Any, tmp_path: Path, **options: Any) -> TrainPipelineConfig:
    dataset = DatasetConfig(repo_id="local/x", **options.pop("dataset", {}))
    return TrainPipelineConfig(dataset=dataset, policy=policy, output_dir=tmp_path / "out", steps=100, **options)


def test_a_policy_is_told_what_it_is_trained_on(make_config: Configs, tmp_path: Path) -> None:
    policy = make_config()
    pipeline(policy, tmp_path, dataset={"episodes": [0, 2], "eval_split": 0.5}, env_eval_freq=0).validate()
    assert policy.context is not None
    assert (policy.context.episodes, policy.context.eval_split, policy.context.evaluates) == ((0, 2), 0.5, False)


def test_without_tell_policies_of_their_training(
    make_config: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lerobot-train", "--optimizer.lr=1e-3"])
    policy = make_config(stage="latent_action")
    cfg = pipeline(policy, tmp_path, env=PushtEnv(), env_eval_freq=50, optimizer=AdamConfig(lr=1e-3))
    alone(TrainPipelineConfig.validate)(cfg)
    assert policy.context is None
    assert cfg.optimizer.lr == policy.optimizer_lr != 1e-3, "what was typed is not read, and nothing says so"


@pytest.mark.parametrize("stage", ["latent_action", "latent_policy"])
def test_an_evaluation_that_cannot_be_had_is_refused_at_the_start(
    stage: str, make_config: Configs, tmp_path: Path
) -> None:
    policy = make_config(stage=stage, decoder_input="idm")
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
    stage: str, decoder_input: str, every: int, make_config: Configs, tmp_path: Path
) -> None:
    policy = make_config(stage=stage, decoder_input=decoder_input)
    pipeline(policy, tmp_path, env=PushtEnv(), env_eval_freq=every).validate()


def test_an_optimiser_that_would_not_be_read_is_refused(
    make_config: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lerobot-train", "--optimizer.lr=1e-3"])
    with pytest.raises(ValueError, match=r"--optimizer\.lr=1e-3 is not read.*--policy\.optimizer_lr"):
        pipeline(make_config(), tmp_path).validate()
    pipeline(ACTConfig(push_to_hub=False), tmp_path).validate()


@pytest.mark.parametrize("word", ["--optimizer.lr=1e-3", "--scheduler.type=cosine", "--optimizer={lr: 1}"])
def test_options_of_an_optimiser_are_told_from_others(word: str) -> None:
    others = ["--policy.optimizer_lr=1e-3", "--optimizer_lr=1", "optimizer.lr=1"]
    assert str(unread_optimizer_option([*others, word])).startswith(f"{word} is not read")
    assert unread_optimizer_option(others) is None


def test_other_policies_are_left_as_they_are(tmp_path: Path) -> None:
    policy = ACTConfig(push_to_hub=False)
    pipeline(policy, tmp_path, env=PushtEnv(), env_eval_freq=50).validate()
    assert not hasattr(policy, "context")


def test_resuming_with_another_stage_is_refused(tmp_path: Path) -> None:
    """The run would go on with the old stage's optimiser."""
    (tmp_path / "config.json").write_text(json.dumps({"type": "lafp", "stage": "latent_action"}))
    policy = SimpleNamespace(pretrained_path=tmp_path, stage="latent_policy")
    with pytest.raises(ValueError, match=r"--resume=true continues stage latent_action.*--policy\.stage=latent_policy"):
        lerobot_patches._refuse_resume_of_another_stage(SimpleNamespace(resume=True, policy=policy))
    lerobot_patches._refuse_resume_of_another_stage(SimpleNamespace(resume=False, policy=policy))
    policy.stage = "latent_action"
    lerobot_patches._refuse_resume_of_another_stage(SimpleNamespace(resume=True, policy=policy))


#: ``dataset.meta``, as far as LeRobot asks it for frames.
WORDS = SimpleNamespace(
    fps=10,
    features={STATE: {"dtype": "float32"}, "observation.text": {"dtype": "string"}, ACTION: {"dtype": "float32"}},
)


def test_no_later_frames_are_asked_of_a_column_of_words(make_config: Configs) -> None:
    assert sorted(datasets.resolve_delta_timestamps(make_config(), WORDS)) == [ACTION, STATE]
    act = ACTConfig(push_to_hub=False)
    assert datasets.resolve_delta_timestamps(act, WORDS) == {ACTION: [i / 10 for i in range(act.chunk_size)]}


def test_without_load_the_frames_that_are_read(make_config: Configs) -> None:
    assert "observation.text" in alone(datasets.resolve_delta_timestamps)(make_config(), WORDS)


def meta_of_camera(names: Any, shape: tuple[int, ...]) -> SimpleNamespace:
    features = {
        "observation.images.front": {"dtype": "image", "shape": shape, "names": names},
        STATE: {"dtype": "float32", "shape": (2,), "names": None},
    }
    stats = {STATE: {"mean": [0.0, 0.0], "std": [1.0, 1.0]}}
    tasks, episodes = SimpleNamespace(index=["x"]), {"length": [30]}
    return SimpleNamespace(
        features=features, stats=stats, repo_id="me/x", fps=10, tasks=tasks, episodes=episodes, total_episodes=1
    )


@pytest.mark.parametrize("names", [None, {"axes": ["height", "width", "channels"]}, ["image"]])
@pytest.mark.parametrize("shape", [(20, 24, 3), (3, 20, 24)])
def test_a_camera_whose_axes_have_no_names_is_known_by_its_shape(names: Any, shape: tuple[int, ...]) -> None:
    config = lafp(device="cpu", push_to_hub=False)
    policy = lerobot.scripts.lerobot_train.make_policy(config, ds_meta=meta_of_camera(names, shape))
    assert policy.config.camera_shapes == {"observation.images.front": (3, 20, 24)}


def test_without_name_axes_of_cameras() -> None:
    with pytest.raises(TypeError):
        alone(policies.make_policy)(lafp(device="cpu", push_to_hub=False), meta_of_camera(None, (20, 24, 3)))


def dataset_of_two(tmp_path: Path) -> TrainPipelineConfig:
    """What ``lerobot-train`` is told of a dataset of two episodes."""
    root = tmp_path / "it"
    features = {key: {"dtype": "float32", "shape": (2,), "names": None} for key in (STATE, ACTION)}
    made = LeRobotDataset.create("local/it", fps=10, features=features, root=root)
    for _ in range(2):
        for i in range(8):
            made.add_frame({STATE: torch.full((2,), float(i)), ACTION: torch.zeros(2), "task": "x"})
        made.save_episode()
    made.finalize()
    policy = lafp(horizon=4, num_latents=2, n_action_steps=2, stage="latent_action", device="cpu", push_to_hub=False)
    of = DatasetConfig("local/it", root=str(root))
    return TrainPipelineConfig(dataset=of, policy=policy, output_dir=tmp_path / "run", batch_size=4, steps=100)


@pytest.fixture
def two_datasets(tmp_path: Path) -> tuple[TrainPipelineConfig, Path]:
    """What ``lerobot-train`` is told of a dataset, and the folder of another one that has the actions."""
    cfg = dataset_of_two(tmp_path / "video")
    other = Path(dataset_of_two(tmp_path / "labels").dataset.root)
    cfg.policy.labels.repo_id, cfg.policy.labels.root = "local/labels", str(other)
    return cfg, other


def test_without_take_labels_from_another_dataset(two_datasets: Any) -> None:
    cfg, _ = two_datasets
    assert len(alone(datasets.make_train_eval_datasets)(cfg)[0]) == 16, "the second one is not opened"
    for module in (datasets, lerobot.scripts.lerobot_train):
        assert len(module.make_train_eval_datasets(cfg)[0]) == 32


def test_which_datasets_a_stage_learns_from(two_datasets: Any) -> None:
    cfg, other = two_datasets
    for stage, found in (("joint", 32), ("latent_action", 32), ("latent_policy", 16), ("action_decoder", 16)):
        cfg.policy.stage = stage
        dataset = datasets.make_train_eval_datasets(cfg)[0]
        assert len(dataset) == found
        assert (Path(dataset.meta.root) == other) == (stage == "action_decoder")
        assert (ACTION in dataset.meta.features) == (stage != "latent_policy")
        assert cfg.dataset.repo_id == "local/it", "what was asked for is what is saved"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda cfg: setattr(cfg.policy.labels, "repo_id", None),
            r"--policy\.labels\.root is of a labels dataset, and n",
        ),
        (lambda cfg: setattr(cfg.policy.labels, "root", "/nowhere"), r"labels\.root=/nowhere holds no LeRobotDataset"),
        (lambda cfg: setattr(cfg.policy.labels, "root", cfg.dataset.root), r"are the same dataset.*labeled_episodes"),
        (lambda cfg: setattr(cfg.dataset, "streaming", True), r"--dataset\.streaming is of one dataset"),
        (
            lambda cfg: setattr(cfg.policy.facts, "labels_repo_id", "me/other"),
            r"chosen beside me/other, but this is local/it.*--policy\.labels\.repo_id=null.*repo_id=local/labels",
        ),
    ],
)
def test_labels_that_cannot_be_are_refused_before_a_dataset_is_opened(
    change: Callable[[Any], None], says: str, two_datasets: Any
) -> None:
    cfg, _ = two_datasets
    cfg.validate()
    change(cfg)
    with pytest.raises(ValueError, match=says):
        cfg.validate()


def test_labels_are_kept_for_the_dataset_that_they_were_chosen_beside(two_datasets: Any, tmp_path: Path) -> None:
    """Stage 2 takes any video; stage 3 the labels by either name."""
    cfg, other = two_datasets
    cfg.validate()
    assert cfg.policy.facts.labels_repo_id == "local/it"
    cfg.dataset.repo_id, cfg.policy.stage = "me/more_video", "latent_policy"
    cfg.validate()
    cfg.dataset.repo_id, cfg.dataset.root, cfg.policy.stage = "local/labels", str(other), "action_decoder"
    cfg.validate()


def test_the_short_word_of_lafp_train_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lerobot-train", "--policy.type=lafp", "--labels.repo_id=me/play"])
    with pytest.raises(
        SystemExit, match=r"--labels\.repo_id=me/play is .* LeRobot takes --policy\.labels\.repo_id=me/play"
    ):
        lerobot_patches.refuse_old_options_of_the_command_line()


def test_without_read_from_frame_stores(tmp_path: Path) -> None:
    cfg = dataset_of_two(tmp_path)
    for module in (datasets, lerobot.scripts.lerobot_train):
        assert hasattr(module.make_train_eval_datasets(cfg)[0], "__getitems__")
    assert not hasattr(alone(datasets.make_train_eval_datasets)(cfg)[0], "__getitems__"), "a sample at a time"


def test_without_infer_latents_ahead(tmp_path: Path, trained: Callable[..., LAFPPolicy]) -> None:
    cfg = dataset_of_two(tmp_path)
    trained("latent_action", latent_features=[STATE]).save_pretrained(tmp_path / "checkpoint")
    policy = LAFPConfig.from_pretrained(tmp_path / "checkpoint", cli_overrides=["--stage=latent_policy"])
    policy.pretrained_path, cfg.policy = tmp_path / "checkpoint", policy
    policy.context = lerobot_patches._context(cfg)
    dataset, _ = datasets.make_train_eval_datasets(cfg)
    alone(policies.make_policy)(policy, ds_meta=dataset.meta)
    assert LATENT_ACTION not in dataset.batch(np.arange(3))
    policies.make_policy(policy, ds_meta=dataset.meta)
    assert LATENT_ACTION in dataset.batch(np.arange(3))


def test_without_keep_precomputed_latents() -> None:
    batch = {STATE: torch.zeros(2, 3), ACTION: torch.zeros(2, 3), LATENT_ACTION: torch.zeros(2, 4)}
    assert LATENT_ACTION in converters.transition_to_batch(converters.batch_to_transition(batch))
    afresh = runpy.run_path(converters.__file__)
    assert LATENT_ACTION not in afresh["transition_to_batch"](afresh["batch_to_transition"](batch))


# --- Robots --------------------------------------------------------------------------------------------------


class ConnectedError(Exception):
    """A robot is being connected."""


@pytest.fixture
def cfg(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A rollout of a policy that knows other joints and another rate, on a robot that cannot but be connected."""

    def connect() -> None:
        raise ConnectedError

    monkeypatch.setattr(rollouts, "_load_pretrained_policy", lambda config: torch.nn.Identity())
    monkeypatch.setattr(rollouts, "make_robot_from_config", lambda config: SimpleNamespace(connect=connect))
    cfg = rollout(arm([f"joint_{i}" for i in range(6)]), fps=20.0)
    cfg.inference, cfg.device, cfg.use_torch_compile = SyncInferenceConfig(), "cpu", False
    return cfg


def test_without_check_robots_before_they_are_connected(cfg: SimpleNamespace) -> None:
    with pytest.raises(ConnectedError):
        alone(rollouts.build_rollout_context)(cfg, Event())
    with pytest.raises(ValueError, match=r"--fps=20"):
        rollouts.build_rollout_context(cfg, Event())
    cfg.fps = 15.0
    with pytest.raises(ValueError, match="not the same names"):
        rollouts.build_rollout_context(cfg, Event())


@pytest.fixture
def server() -> Any:
    """A policy server at 30 actions a second."""
    from lerobot.async_inference.configs import PolicyServerConfig
    from lerobot.async_inference.policy_server import PolicyServer  # which sets up logging anew

    return PolicyServer(PolicyServerConfig(fps=30))


@pytest.fixture
def request_of_a_client(tmp_path: Path) -> SimpleNamespace:
    """What a client sends of an arm whose joints are in another order than a policy's that was trained at 15 Hz."""
    from lerobot.async_inference.helpers import RemotePolicyConfig

    policy = LAFPPolicy(arm(sorted(JOINTS), device="cpu", push_to_hub=False))
    policy.save_pretrained(tmp_path)
    for processor in make_lafp_pre_post_processors(policy.config):
        processor.save_pretrained(tmp_path)
    features = {STATE: {"dtype": "float32", "names": JOINTS, "shape": (6,)}}
    return SimpleNamespace(data=pickle.dumps(RemotePolicyConfig("lafp", str(tmp_path), features, 4)))


PEER = SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:1")


def test_without_let_the_policy_server_load_lafp(
    server: Any, request_of_a_client: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerobot.async_inference import constants, policy_server

    afresh = runpy.run_path(constants.__file__)["SUPPORTED_POLICIES"]
    monkeypatch.setattr(policy_server, "SUPPORTED_POLICIES", afresh)
    with pytest.raises(ValueError, match="lafp not supported"):
        alone(policy_server.PolicyServer.SendPolicyInstructions)(server, request_of_a_client, PEER)


def test_without_match_robots_of_the_policy_server(
    server: Any, request_of_a_client: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerobot.async_inference import policy_server

    monkeypatch.setattr(policy_server, "SUPPORTED_POLICIES", ["lafp"])
    alone(policy_server.PolicyServer.SendPolicyInstructions)(server, request_of_a_client, PEER)
    assert server.policy.config.orders == {}, "numbers go by their position"


def test_the_policy_server_matches_names_and_says_another_rate(
    server: Any, request_of_a_client: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerobot.async_inference import policy_server

    said: list[str] = []
    monkeypatch.setattr(lerobot_patches.logger, "warning", lambda message, *values: said.append(message % values))
    monkeypatch.setattr(policy_server, "SUPPORTED_POLICIES", ["lafp"])
    instruct = alone(policy_server.PolicyServer.SendPolicyInstructions)
    monkeypatch.setattr(policy_server.PolicyServer, "SendPolicyInstructions", instruct)
    lerobot_patches.match_robots_of_the_policy_server()
    server.SendPolicyInstructions(request_of_a_client, PEER)
    for key in (STATE, ACTION):
        assert [JOINTS[i] for i in server.policy.config.orders[key]] == sorted(JOINTS)
    assert "with --fps=15" in " ".join(said)
