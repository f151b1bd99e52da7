"""``LAFPPolicy`` as LeRobot uses it: its contract, its stages, acting, and the traps between runs."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from draccus.utils import ParsingError
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config
from lerobot.policies.factory import make_policy as lerobot_make_policy
from torch import Tensor

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.options.constants import STAGES

from .building import lafp
from .conftest import ENV_STATE, FRONT, STATE, WIDE, WRIST

PREFIX = {
    "latent_action": {"latent_action_model"},
    "latent_policy": {"latent_policy", "average_policy"},
    "action_decoder": {"action_decoder"},
}
INTERPOLATION = {"decoder_input": "interpolation"}
VARIANTS = [
    ((STATE,), {}),
    ((ENV_STATE,), {"policy_network": "transformer", "prediction": "velocity"}),
    ((WIDE,), {"backbone__encoder": "small_conv", "decoder_observes": "tokens"}),
    ((FRONT, WRIST, STATE, ENV_STATE), {"codebook__size": 4, **INTERPOLATION}),
    ((STATE,), {"policy_head": "bc", "relative_actions": True}),
    ((STATE,), {**INTERPOLATION, "finetune_policy": True}),
    ((STATE,), {"decoder_input": "samples", "ema_decay": 0.0, "label_weight": 0.0}),
    ((STATE, FRONT), {"latent_source": "actions"}),
    ((STATE, FRONT, WRIST), {"idm_input": "difference", "motion__weight": 0.5, "motion__target": "both"}),
]

FROM_NOISE = {"interpolation_tau": (0.0, 0.0)}

Build = Callable[..., LAFPPolicy]
Batches = Callable[..., dict[str, Any]]
Train = Callable[..., list[float]]
Snapshot = Callable[[torch.nn.Module], dict[str, Tensor]]


def optimised(policy: LAFPPolicy) -> list[torch.nn.Parameter]:
    return [p for group in policy.get_optim_params() for p in group["params"]]


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, after[key]), key
        else:
            assert value == after[key], key


def changed(before: dict[str, Tensor], policy: LAFPPolicy) -> set[str]:
    """Names of the tensors that are not bit for bit what they were (some of vector-quantize-pytorch's are NaN)."""
    now = policy.state_dict()
    return {name for name, value in before.items() if value.numpy().tobytes() != now[name].numpy().tobytes()}


def loss_of(policy: LAFPPolicy, batch: dict[str, Any], **options: Any) -> Tensor:
    torch.manual_seed(0)
    return policy.forward(batch, **options)[0]


# --- What LeRobot's own tests expect of every policy ---------------------------------------------------------


def test_lerobot_finds_the_policy_by_its_type() -> None:
    assert get_policy_class("lafp") is LAFPPolicy
    config = make_policy_config("lafp", device="cpu", push_to_hub=False)
    assert type(config) is LAFPConfig
    assert LAFPPolicy.name == config.type == "lafp"
    assert LAFPPolicy.config_class is LAFPConfig


def test_the_defaults_build_train_and_act_on_action_state_and_one_camera(tmp_path: Any) -> None:
    features = {STATE: PolicyFeature(FeatureType.STATE, (6,)), FRONT: PolicyFeature(FeatureType.VISUAL, (3, 84, 84))}
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (4,))}
    config = lafp(input_features=features, output_features=outputs, device="cpu")
    policy = LAFPPolicy(config)
    policy.train()
    frames = len(config.frame_deltas)
    batch = {
        STATE: torch.randn(2, frames, 6),
        FRONT: torch.rand(2, frames, 3, 84, 84),
        "action": torch.randn(2, len(config.action_delta_indices), 4),
    }
    loss, _ = policy.forward(batch)
    loss.backward()
    policy.update()
    policy.save_pretrained(tmp_path)
    observation = {STATE: batch[STATE][:, 0], FRONT: batch[FRONT][:, 0]}
    actions = []
    for model in (policy.eval(), LAFPPolicy.from_pretrained(tmp_path)):
        torch.manual_seed(0)
        actions.append(model.select_action(observation))
    assert actions[0].shape == (2, 4)
    assert torch.equal(*actions)


@pytest.mark.parametrize(("features", "options"), VARIANTS)
def test_losses(
    features: tuple[str, ...],
    options: dict[str, Any],
    make_policy: Build,
    make_batch: Batches,
    train: Train,
    snapshot: Snapshot,
) -> None:
    policy = make_policy(*features, **options)
    batch = make_batch(policy.config, seed=1)
    train(policy, batch)
    policy.eval()
    before = snapshot(policy)
    with torch.no_grad():
        mean, report = policy.forward(batch)
        each, _ = policy.forward(batch, reduction="none")
        assert torch.equal(loss_of(policy, batch), loss_of(policy, batch)), "the same seed, the same loss"
        each = loss_of(policy, batch, reduction="none")
        torch.testing.assert_close(each.mean(), loss_of(policy, batch))
    assert mean.shape == ()
    assert each.shape == (4,)
    assert report
    assert all(type(value) is float for value in report.values())
    assert sum(report.values()) == pytest.approx(mean.item(), rel=1e-4)
    assert not changed(before, policy), "an evaluation changes nothing"


@pytest.mark.parametrize("mode", [True, False])
def test_the_batch_is_left_as_it_is(mode: bool, make_policy: Build, make_batch: Batches) -> None:
    policy = make_policy(FRONT, STATE, relative_actions=True).train(mode)
    batch = make_batch(policy.config, seed=1)
    before = copy.deepcopy(batch)
    policy.forward(batch)
    assert_same(before, batch)


def test_acting_leaves_the_observation_as_it_is(make_policy: Build, make_observation: Batches) -> None:
    policy = make_policy(FRONT, STATE, relative_actions=True).eval()
    observation = make_observation(policy.config)
    before = copy.deepcopy(observation)
    for _ in range(policy.config.n_action_steps + 1):
        policy.select_action(observation)
    policy.predict_action_chunk(observation)
    assert_same(before, observation)


@pytest.mark.parametrize(("features", "options"), VARIANTS)
def test_a_fresh_policy_acts(
    features: tuple[str, ...], options: dict[str, Any], make_policy: Build, make_observation: Batches
) -> None:
    policy = make_policy(*features, **options).eval()
    observation = make_observation(policy.config)
    assert policy.select_action(observation).shape == (3, 2)
    actions = policy.predict_action_chunk(observation)
    assert actions.shape == (3, 4, 2)
    assert torch.isfinite(actions).all()


@pytest.mark.parametrize(("features", "options"), VARIANTS)
def test_mixed_precision(
    features: tuple[str, ...], options: dict[str, Any], make_policy: Build, make_batch: Batches
) -> None:
    """``--policy.use_amp=true``, which lerobot-train and lerobot-eval honour."""
    policy = make_policy(*features, **options).train()
    batch = make_batch(policy.config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = policy.forward(batch)
    loss.backward()
    policy.update()
    assert all(torch.isfinite(p.grad).all() for p in optimised(policy) if p.grad is not None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actions = policy.eval().predict_action_chunk({key: batch[key][:, 0] for key in features})
    assert torch.isfinite(actions).all()


# --- What a stage trains -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        ("latent_action", {"reconstruction_loss", "label_loss", "vq_loss"}),
        ("latent_policy", {"policy_loss"}),
        ("action_decoder", {"decoder_loss"}),
        ("joint", {"reconstruction_loss", "label_loss", "vq_loss", "policy_loss", "decoder_loss"}),
    ],
)
def test_every_stage_has_its_losses(stage: str, parts: set[str], trained: Build, make_batch: Batches) -> None:
    policy = trained(stage, codebook__size=4)
    assert set(policy.forward(make_batch(policy.config))[1]) == parts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "options"),
    [
        ((STATE,), {}),
        ((STATE, FRONT), {"policy_network": "transformer", "decoder_observes": "tokens"}),
        ((WIDE,), {"backbone__encoder": "resnet18", "codebook__size": 4}),
        ((STATE,), {"policy_head": "bc"}),
        ((STATE, FRONT), {"idm_input": "difference", "motion__weight": 0.5}),
        ((STATE, FRONT), {"decoder_observes": "state"}),
    ],
)
@pytest.mark.parametrize("stage", ["joint", *STAGES])
def test_a_stage_trains_its_own_parameters_and_every_one_of_them(
    stage: str, features: tuple[str, ...], options: dict[str, Any], trained: Build, make_batch: Batches
) -> None:
    policy = trained(stage, *features, **options).train()
    trains = {id(p) for p in optimised(policy)}
    loss, _ = policy.forward(make_batch(policy.config))
    loss.backward()
    expected = (set().union(*PREFIX.values()) if stage == "joint" else PREFIX[stage]) - {"average_policy"}
    for name, p in policy.named_parameters():
        mine = name.split(".")[0] in expected and "target_encoder" not in name
        assert (id(p) in trains) == p.requires_grad == mine, name
        assert (p.grad is not None) == mine, name
        if mine:
            assert torch.isfinite(p.grad).all(), name
    silent = [name for name, p in policy.named_parameters() if p.grad is not None and not p.grad.any()]
    if policy.config.policy_head == "bc":  # it starts from zeros at flow time zero
        silent = [name for name in silent if "enter.weight" not in name]
    assert not silent


@pytest.mark.parametrize("stage", ["joint", *STAGES])
def test_only_what_a_stage_trains_is_in_training_mode(stage: str, trained: Build) -> None:
    policy = trained(stage)
    assert not any(m.training for m in policy.eval().modules())
    policy.train()
    assert policy.training
    for name in ("latent_action_model", "latent_policy", "action_decoder"):
        expected = stage == "joint" or name in PREFIX[stage]
        assert {m.training for m in getattr(policy, name).modules()} == {expected}, name
    assert not any(m.training for m in [*policy.average_policy.modules(), *policy.normalizer.modules()])


@pytest.mark.parametrize(
    ("stage", "options", "moves"),
    [
        ("latent_action", {}, PREFIX["latent_action"]),
        ("latent_action", {"codebook__size": 4}, PREFIX["latent_action"]),
        ("latent_policy", {}, PREFIX["latent_policy"]),
        ("latent_policy", {"codebook__size": 4}, PREFIX["latent_policy"]),
        ("action_decoder", {}, PREFIX["action_decoder"]),
        (
            "action_decoder",
            {"decoder_input": "samples", "finetune_policy": True},
            PREFIX["action_decoder"] | PREFIX["latent_policy"],
        ),
    ],
)
def test_a_step_of_a_stage_leaves_the_others_as_they_are(
    stage: str,
    options: dict[str, Any],
    moves: set[str],
    trained: Build,
    make_batch: Batches,
    train: Train,
    snapshot: Snapshot,
) -> None:
    policy = trained(stage, WIDE, STATE, backbone__encoder="small_conv", **options)
    before = snapshot(policy)
    train(policy, make_batch(policy.config, seed=7), steps=2)
    moved = changed(before, policy)
    told = {"stage_steps"} if stage == "latent_policy" else {"stage_steps", "limits"}  # it sees no action
    assert {name.split(".")[0] for name in moved} == moves | told
    assert not any("target_encoder" in name for name in moved)
    if stage == "latent_action":
        assert {f"latent_action_model.statistics.{name}" for name in ("low", "high", "variance")} <= moved
    if stage == "action_decoder":
        assert "action_decoder.moments.mean" in moved


def test_fine_tuning_sends_the_decoders_gradient_into_the_flow(
    trained: Build, next_stage: Build, make_batch: Batches
) -> None:
    policy = next_stage(trained("latent_policy"), "action_decoder", **INTERPOLATION, finetune_policy=True).train()
    policy.forward(make_batch(policy.config))[0].backward()
    assert all(p.grad is not None and p.grad.any() for p in policy.latent_policy.network.parameters())
    assert all(p.grad is None for p in policy.latent_action_model.parameters())


@pytest.mark.parametrize("ema_decay", [0.0, 0.999])
@pytest.mark.parametrize("louder", ["latent_policy", "action_decoder"])
def test_joint_gradients_stop_at_every_border(
    louder: str, ema_decay: float, make_policy: Build, make_batch: Batches
) -> None:
    """What the policy asks for must not reach the latents, nor what the decoder asks for the policy."""
    policy = make_policy(STATE, ema_decay=ema_decay).train()
    batch, gradients = make_batch(policy.config), []
    for factor in (1, 1000):
        model = copy.deepcopy(policy)
        module = getattr(model, louder)
        plain = module.loss
        module.loss = lambda *args, f=factor, loss=plain: f * loss(*args)
        loss_of(model, batch).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert {name.split(".")[0] for name in gradients[0]} == {"latent_action_model", "latent_policy", "action_decoder"}
    for name, gradient in gradients[0].items():
        expected = 1000 * gradient if name.startswith(louder) else gradient
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-3, atol=1e-6)


# --- Padded frames and labels --------------------------------------------------------------------------------


@pytest.mark.parametrize(("features", "options"), VARIANTS)
@pytest.mark.parametrize("filler", [1e6, float("nan")])
def test_padded_frames_and_unlabelled_actions_never_enter(
    filler: float, features: tuple[str, ...], options: dict[str, Any], make_policy: Build, make_batch: Batches
) -> None:
    original = make_policy(*features, labeled_episodes=[0, 1], **options)
    batch = make_batch(original.config)
    future = [i for i, delta in enumerate(original.config.frame_deltas) if delta > 2]
    for key in features:
        batch[f"{key}_is_pad"][1:3, future] = True
    batch["action_is_pad"][1:3, 2:] = True
    results = []
    for value in (0.0, filler):
        filled = {key: x.clone() if isinstance(x, Tensor) else x for key, x in batch.items()}
        for key in features:
            filled[key][1:3, future] = value
        filled["action"][1:3, 2:] = value
        filled["action"][2:] = value
        policy = copy.deepcopy(original).train()
        torch.manual_seed(0)
        loss, _ = policy.forward(filled)
        loss.backward()
        results.append((loss, {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}))
    (loss, gradients), (other, others) = results
    torch.testing.assert_close(loss, other)
    assert gradients
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, others[name], msg=lambda m, n=name: f"{n}: {m}")


def test_latent_statistics_are_those_of_valid_latents(make_policy: Build, make_batch: Batches) -> None:
    policy = make_policy(STATE).train()
    batch = make_batch(policy.config)
    batch[f"{STATE}_is_pad"][1:, -1] = True
    batch[STATE][1:, -1] += 100
    now = policy.config.frame_deltas.index(0)
    frames, valid = policy.normalizer({STATE: batch[STATE][:, now:]}), ~batch[f"{STATE}_is_pad"][:, now + 1 :]
    with torch.no_grad():
        z = policy.latent_action_model.encode(frames, valid).z[valid]
    assert z.shape == (5, 4)
    policy.forward(batch)
    statistics = policy.latent_action_model.statistics
    torch.testing.assert_close(statistics.centre, (z.amin(dim=0) + z.amax(dim=0)) / 2)
    torch.testing.assert_close(statistics.scale, z.std(dim=0))


def test_a_batch_without_a_label_costs_the_decoder_nothing(
    trained: Build, next_stage: Build, make_batch: Batches, train: Train, make_observation: Batches
) -> None:
    policy = next_stage(trained("latent_policy"), "action_decoder", labeled_episodes=[100])
    assert train(policy, make_batch(policy.config)) == [0.0]
    assert policy.stage_steps.tolist() == [1, 1, 0]
    with pytest.raises(RuntimeError, match="cannot act"):
        policy.eval().select_action(make_observation(policy.config))
    train(policy, make_batch(policy.config, episodes=[100, 0, 1, 2]))
    assert policy.stage_steps.tolist() == [1, 1, 1]


def test_the_decoder_loss_is_a_mean_over_labelled_samples(trained: Build, make_batch: Batches) -> None:
    policy = trained("action_decoder", decoder_input="idm").eval()
    batch = make_batch(policy.config, episodes=[0, 1, 2, 3])
    with torch.no_grad():
        every, _ = policy.forward(batch, reduction="none")
        policy.config.labeled_episodes = [1, 3]
        few, _ = policy.forward(batch, reduction="none")
    torch.testing.assert_close(few, torch.tensor([0.0, 2 * every[1], 0.0, 2 * every[3]]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"decoder_input": "idm"}, "idm"),
        ({"decoder_input": "samples"}, "sample"),
        ({**INTERPOLATION, "interpolation_tau": (1.0, 1.0), "prediction": "velocity"}, "idm"),
        ({**INTERPOLATION, **FROM_NOISE, "num_flow_steps": 1}, "sample"),
        ({**INTERPOLATION, "policy_head": "bc"}, "sample"),
    ],
)
def test_the_latents_the_decoder_learns_from(
    options: dict[str, Any], expected: str, trained: Build, make_batch: Batches
) -> None:
    policy = trained("action_decoder", labeled_episodes=[0, 2], **options).eval()
    for p in policy.latent_policy.parameters():
        p.data.add_(1.0)  # what acts, and what the decoder must learn from, is the average
    batch, seen = make_batch(policy.config), []
    learn = policy.action_decoder.loss
    policy.action_decoder.loss = lambda z, *rest: (seen.append(z), learn(z, *rest))[1]
    loss_of(policy, batch)
    at = policy.config.frame_deltas.index(0)
    history = policy.normalizer({STATE: batch[STATE][[0, 2], at - 1 : at + 1]})
    tokens = policy.average_policy.observe(history)
    if expected == "idm":
        frames = policy.normalizer({STATE: batch[STATE][[0, 2], at:]})
        z = policy.latent_action_model.normalized_latents(frames, torch.ones(2, 2, dtype=torch.bool))
    else:
        torch.manual_seed(0)
        z = policy.average_policy.sample(tokens, policy.average_policy.noise(2, tokens))
    torch.testing.assert_close(seen[0], z)


@pytest.mark.parametrize("stage", ["joint", *STAGES])
def test_a_stage_learns_at_the_last_frame_of_an_episode_where_it_is_held(
    stage: str, trained: Build, make_batch: Batches, train: Train
) -> None:
    policy = trained(stage, FRONT, STATE, hold_last_frame=True, motion__weight=0.5)
    batch = make_batch(policy.config)
    deltas, actions = policy.config.frame_deltas, policy.config.action_delta_indices
    now = deltas.index(0)
    for key in (FRONT, STATE):
        batch[key][:, now:] = batch[key][:, now : now + 1]
        batch[f"{key}_is_pad"][:, now + 1 :] = True
    if actions is not None:
        batch["action"][:, 1:] = batch["action"][:, :1]
        batch["action_is_pad"][:, 1:] = True
    _, report = policy.train().forward(batch)
    loss = {"joint": "policy_loss", "latent_action": "label_loss", "latent_policy": "policy_loss"}
    assert report[loss.get(stage, "decoder_loss")] > 0
    before = {name: p.clone() for name, p in policy.named_parameters() if p.requires_grad}
    losses = train(policy, batch, steps=2)
    assert all(torch.isfinite(torch.tensor(losses)))
    assert all(torch.isfinite(p).all() for p in policy.parameters())
    assert any(not torch.equal(before[name], p) for name, p in policy.named_parameters() if name in before)
    policy.config.hold_last_frame = False
    _, masked = policy.train().forward(batch)
    if stage != "action_decoder":
        assert masked[loss[stage]] == 0, "there is no future to learn from otherwise"


# --- Stages across runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "missing"),
    [("latent_action", r"latent_policy, then stage action_decoder"), ("latent_policy", "action_decoder")],
)
def test_an_unfinished_checkpoint_refuses_to_act(
    stage: str, missing: str, trained: Build, next_stage: Build, make_observation: Batches
) -> None:
    """Trap 4: lerobot-eval would run to the end with random actions."""
    policy = next_stage(trained(stage))
    observation = make_observation(policy.config)
    for act in (policy.select_action, policy.predict_action_chunk):
        with pytest.raises(
            RuntimeError, match=rf"cannot act: its last training was stage {stage}.*Missing: stage {missing}"
        ):
            act(observation)


@pytest.mark.parametrize("relative", [False, True])
def test_the_head_of_stage_one_may_act_in_place_of_a_decoder(
    relative: bool, trained: Build, next_stage: Build, make_observation: Batches
) -> None:
    """``--policy.decoder_input=action_head``, given from the start or only on loading a checkpoint of stage two."""
    given = trained("latent_policy", decoder_input="action_head", relative_actions=relative).eval()
    overridden = next_stage(trained("latent_policy", relative_actions=relative), decoder_input="action_head")
    for policy in (given, overridden, next_stage(given)):
        observation = make_observation(policy.config)
        noise = torch.randn(3, 2, 4)
        actions = policy.predict_action_chunk(observation, noise=noise)
        tokens = policy.stages.acting_policy.observe(
            policy.normalizer({STATE: observation[STATE].unsqueeze(1).expand(-1, 2, -1)})
        )
        z = policy.stages.acting_policy.sample(tokens, noise)
        expected = policy.latent_action_model.decode(z, observation[STATE] if relative else None)
        torch.testing.assert_close(actions, expected)
        policy.reset()
        assert torch.equal(policy.select_action(observation, noise=noise), actions[:, 0])


def test_the_head_of_stage_one_acts_like_the_labels_it_saw(
    make_policy: Build, make_batch: Batches, train: Train, next_stage: Build
) -> None:
    """One latent of one frame, whose action is the change of the state: stages 1 and 2 alone learn to make it."""
    options = {"horizon": 1, "num_latents": 1, "n_action_steps": 1, "n_obs_steps": 1}
    policy = make_policy(STATE, stage="latent_action", decoder_input="action_head", label_weight=1.0, **options)
    state = torch.randn(64, 1, 2)
    for stage in STAGES[:2]:
        policy = next_stage(policy, stage)
        batch = make_batch(policy.config, size=64)
        change = -0.5 * state  # the demonstrator goes to the middle
        batch[STATE] = torch.cat([state, state + change], dim=1)
        if stage == "latent_action":
            batch["action"] = change
        train(policy, batch, steps=300, lr=5e-3)
    policy.eval()
    chunk = policy.predict_action_chunk({STATE: state[:, 0]})
    error = (chunk[:, 0] + 0.5 * state[:, 0]).square().mean() / (0.5 * state).square().mean()
    assert error < 0.2


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("latent_action", {}),
        ("latent_policy", {"label_weight": 0.0}),
        ("latent_policy", {"actions": False}),
    ],
)
def test_the_head_of_stage_one_refuses_to_act_untrained(
    stage: str, options: dict[str, Any], trained: Build, make_observation: Batches
) -> None:
    policy = trained(stage, decoder_input="action_head", **options).eval()
    for act in (policy.select_action, policy.predict_action_chunk):
        with pytest.raises(
            RuntimeError,
            match=r"`decoder_input=action_head` decodes with the action head of stage 1.*saw no label.*label_weight > 0"
            r".*--policy\.decoder_input=interpolation",
        ):
            act(make_observation(policy.config))


def test_stage_three_is_refused_where_there_is_none(
    trained: Build, next_stage: Build, caplog: pytest.LogCaptureFixture
) -> None:
    policy = trained("latent_policy", decoder_input="action_head")
    with pytest.raises(ParsingError):  # LeRobot's parser, which drops our message
        next_stage(policy, "action_decoder")
    assert "`decoder_input=action_head` has no stage action_decoder" in caplog.text
    assert next_stage(policy, "action_decoder", decoder_input="interpolation").action_decoder is not None


def test_a_policy_that_never_saw_an_action_refuses_to_act(make_policy: Build, make_observation: Batches) -> None:
    policy = make_policy(actions=False)
    with pytest.raises(RuntimeError, match=r"never saw an action.*action_decoder"):
        policy.select_action(make_observation(policy.config))


def test_a_joint_run_without_labels_refuses_to_act(
    make_policy: Build, make_batch: Batches, train: Train, make_observation: Batches
) -> None:
    policy = make_policy()
    train(policy, make_batch(policy.config, actions=False))
    with pytest.raises(RuntimeError, match=r"Missing: stage action_decoder"):
        policy.eval().select_action(make_observation(policy.config))


@pytest.mark.parametrize("stage", ["latent_policy", "action_decoder"])
def test_a_stage_refuses_to_train_without_the_one_before(stage: str, make_policy: Build, make_batch: Batches) -> None:
    policy = make_policy(stage=stage).train()
    with pytest.raises(
        RuntimeError, match=rf"Stage {stage} builds on stage latent_action.*--policy\.stage=latent_action"
    ):
        policy.forward(make_batch(policy.config))


def test_training_an_earlier_stage_again_makes_the_later_ones_stale(
    trained: Build, next_stage: Build, make_batch: Batches, train: Train, make_observation: Batches
) -> None:
    policy = trained("action_decoder")
    policy.eval().select_action(make_observation(policy.config))
    assert policy.stage_steps.tolist() == [1, 1, 1]
    policy = next_stage(policy, "latent_action")
    train(policy, make_batch(policy.config))
    assert policy.stage_steps.tolist() == [2, 0, 0]
    with pytest.raises(RuntimeError, match="cannot act"):
        policy.eval().select_action(make_observation(policy.config))
    policy = next_stage(policy, "action_decoder").train()
    with pytest.raises(RuntimeError, match="builds on stage latent_policy"):
        policy.forward(make_batch(policy.config))


def test_the_three_stages_learn(trained: Build, next_stage: Build, make_batch: Batches, train: Train) -> None:
    policy = trained("latent_action")
    for stage in STAGES:
        policy = next_stage(policy, stage)
        torch.manual_seed(0)
        losses = train(policy, make_batch(policy.config), steps=60)
        assert sum(losses[-10:]) < 0.8 * sum(losses[:10]), stage


def test_the_average_acts_and_follows_the_warm_up(make_policy: Build, make_batch: Batches, train: Train) -> None:
    policy = make_policy()
    assert policy.stages.acting_policy is policy.average_policy
    batch, expected = make_batch(policy.config), None
    for decay in (0.0, 2 / 11, 3 / 12):
        train(policy, batch)
        weights = torch.nn.utils.parameters_to_vector(policy.latent_policy.parameters()).detach()
        expected = weights if expected is None else decay * expected + (1 - decay) * weights
        average = torch.nn.utils.parameters_to_vector(policy.average_policy.parameters())
        torch.testing.assert_close(average, expected)
    bare = make_policy(ema_decay=0.0)
    assert bare.stages.acting_policy is bare.latent_policy


def test_a_loop_that_never_calls_update_is_made_up_for(make_policy: Build, make_batch: Batches) -> None:
    policy = make_policy(stage="latent_action")
    optimizer = torch.optim.SGD(policy.get_optim_params(), lr=0.01)
    batch = make_batch(policy.config)
    for _ in range(3):
        policy.train()
        policy.forward(batch)[0].backward()
        optimizer.step()
    policy.eval()
    assert policy.stage_steps.tolist() == [3, 0, 0]
    policy.eval()
    policy.forward(batch)
    assert policy.stage_steps.tolist() == [3, 0, 0], "an evaluation counts for nothing"


def test_the_decoder_looks_at_the_observation_as_long_as_it_is_measured(
    make_batch: Batches, train: Train, trained: Callable[..., LAFPPolicy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the decoder reads are latents; how observations spread is known after so many."""
    policy = trained("action_decoder", STATE, FRONT)
    assert policy.limits is not None
    seen = []
    acting = policy.stages.acting_policy
    monkeypatch.setattr(acting, "observe", lambda history: seen.append(1) or type(acting).observe(acting, history))
    batch = make_batch(policy.config)
    policy.limits.tokens.max_count = int(policy.limits.tokens.count) + 2 * len(batch["index"])
    train(policy, batch, steps=5)
    assert len(seen) == 2
    assert policy.limits.tokens.is_full


@pytest.mark.parametrize(
    ("options", "decays", "plain"),
    [
        ({"stage": "joint"}, True, True),
        ({"stage": "latent_action"}, False, True),
        ({"stage": "latent_policy"}, False, True),
        ({"stage": "action_decoder"}, True, False),
        ({"stage": "action_decoder", "finetune_policy": True, **INTERPOLATION}, True, True),
        ({"stage": "joint", "latent_source": "actions"}, False, True),
    ],
)
def test_only_the_weights_of_the_decoder_decay(
    options: dict[str, Any], decays: bool, plain: bool, make_policy: Build
) -> None:
    policy = make_policy(STATE, **options)
    preset = policy.config.get_optimizer_preset()
    optimizer = preset.build(policy.get_optim_params())
    trained = [id(p) for p in policy.stages.trained_parameters()]
    assert sorted(trained) == sorted(id(p) for group in optimizer.param_groups for p in group["params"])
    own = [] if policy.action_decoder is None else [id(p) for p in policy.action_decoder.parameters()]
    by_decay = {g["weight_decay"]: {id(p) for p in g["params"]} for g in optimizer.param_groups}
    assert [*by_decay] == [*[preset.weight_decay] * plain, *[1.0] * decays]
    assert by_decay.get(1.0, set()) == ({*own} if decays else set())


# --- Acting --------------------------------------------------------------------------------------------------


def test_a_chunk_is_executed_for_n_action_steps_and_then_replaced(
    make_policy: Build, make_observation: Batches
) -> None:
    policy = make_policy(STATE, ENV_STATE).eval()
    seen = [make_observation(policy.config, seed=i) for i in range(6)]
    noises = torch.randn(2, 3, 2, 4)

    def stack(first: int, second: int) -> dict[str, Tensor]:
        return {key: torch.stack([seen[first][key], seen[second][key]], dim=1) for key in (STATE, ENV_STATE)}

    for episode in range(2):
        actions = [policy.select_action(seen[i], noise=noises[i // 3]) for i in range(6)]
        # The first frame stands for the history that there is not; then the last two frames are seen.
        first = policy.predict_action_chunk(stack(0, 0), noise=noises[0])
        second = policy.predict_action_chunk(stack(2, 3), noise=noises[1])
        assert first.shape == (3, 4, 2)
        expected = [*first.unbind(dim=1)[:3], *second.unbind(dim=1)[:3]]
        for step, (action, target) in enumerate(zip(actions, expected, strict=True)):
            torch.testing.assert_close(action, target, msg=lambda m, s=step, e=episode: f"episode {e}, step {s}: {m}")
        policy.select_action(seen[4])  # in the middle of a chunk
        policy.reset()


def test_a_single_frame_stands_for_the_whole_history(make_policy: Build, make_observation: Batches) -> None:
    policy = make_policy(FRONT, STATE, n_obs_steps=3).eval()
    one, noise = make_observation(policy.config), torch.randn(3, 2, 4)
    thrice = {key: torch.stack([one[key]] * 3, dim=1) for key in (FRONT, STATE)}
    longer = {key: torch.cat([torch.rand_like(x[:, :1]), x], dim=1) for key, x in thrice.items()}
    expected = policy.predict_action_chunk(thrice, noise=noise)
    for batch in (
        one,
        {key: x[:, :1] for key, x in thrice.items()},
        {key: x[:, :2] for key, x in thrice.items()},
        longer,
    ):
        torch.testing.assert_close(policy.predict_action_chunk(batch, noise=noise), expected)


def test_relative_actions_are_added_to_the_present_state(make_policy: Build, make_observation: Batches) -> None:
    policy = make_policy(STATE, relative_actions=True).eval()
    last = policy.action_decoder.network[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    policy.action_decoder.moments.mean.copy_(torch.tensor([10.0, -20.0]))
    old, now = make_observation(policy.config, seed=0), make_observation(policy.config, seed=1)
    expected = now[STATE] + torch.tensor([10.0, -20.0])
    chunk = policy.predict_action_chunk({STATE: torch.stack([old[STATE], now[STATE]], dim=1)})
    torch.testing.assert_close(chunk, expected.unsqueeze(1).expand(-1, 4, -1))
    policy.config.n_action_steps = 1
    policy.select_action(old)
    torch.testing.assert_close(policy.select_action(now), expected)


def test_relative_targets_are_learnt_and_added_back_alike(make_policy: Build, make_batch: Batches) -> None:
    """Constant offsets from the state have no spread, so a silent decoder is right from the first batch on."""
    policy = make_policy(STATE, relative_actions=True).train()
    last = policy.action_decoder.network[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    batch = make_batch(policy.config)
    now = policy.config.frame_deltas.index(0)
    batch["action"] = batch[STATE][:, now : now + 1] + torch.tensor([0.5, -2.0]).expand(4, 4, 2)
    assert policy.forward(batch)[1]["decoder_loss"] == pytest.approx(0, abs=1e-6)
    chunk = policy.eval().predict_action_chunk({STATE: batch[STATE][:, now]})
    torch.testing.assert_close(chunk, batch["action"])


@pytest.mark.parametrize(("features", "options"), VARIANTS)
def test_an_action_depends_on_its_own_row_alone(
    features: tuple[str, ...], options: dict[str, Any], make_policy: Build, make_observation: Batches
) -> None:
    policy = make_policy(*features, **options).eval()
    observation = make_observation(policy.config)
    noise = policy.stages.acting_policy.noise(3, torch.zeros(1))
    actions = policy.predict_action_chunk(observation, noise=noise)
    order = [2, 0, 1]
    permuted = {key: observation[key][order] for key in features}
    torch.testing.assert_close(policy.predict_action_chunk(permuted, noise=noise[order]), actions[order])
    alone = {key: observation[key][1:2] for key in features}
    torch.testing.assert_close(policy.predict_action_chunk(alone, noise=noise[1:2]), actions[1:2])


def test_acting_without_an_observation_names_it(make_policy: Build, make_observation: Batches) -> None:
    policy = make_policy(FRONT, STATE).eval()
    observation = make_observation(policy.config)
    del observation[FRONT]
    for act in (policy.select_action, policy.predict_action_chunk):
        with pytest.raises(KeyError, match=r"`observation\.images\.front` is missing.*rename_map"):
            act(observation)


def test_acting_on_an_image_of_another_size_is_refused(make_policy: Build, make_observation: Batches) -> None:
    policy = make_policy(FRONT).eval()
    observation = {FRONT: torch.rand(3, 3, 40, 48)}
    for act in (policy.select_action, policy.predict_action_chunk):
        with pytest.raises(ValueError, match=r"`observation\.images\.front` has shape .*trained with \(3, 20, 24\)"):
            act(observation)


def test_the_flow_on_actions_themselves_learns_the_labelled_chunks_alone(
    make_policy: Build, make_batch: Batches, train: Train, make_observation: Batches
) -> None:
    policy = make_policy(latent_source="actions", labeled_episodes=[0], policy_dim=32)
    assert policy.latent_action_model is None
    assert policy.action_decoder is None
    batch = make_batch(policy.config)
    batch["action"][0] = torch.tensor([5.0, -3.0])
    batch["action"][1:] = float("nan")
    train(policy, batch, steps=60)
    now = policy.config.frame_deltas.index(0)
    actions = policy.eval().predict_action_chunk({STATE: batch[STATE][:1, now]})
    torch.testing.assert_close(actions, torch.tensor([5.0, -3.0]).expand(1, 4, 2), atol=0.5, rtol=0)


# --- The dataset it is about to be trained on ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "lengths", "message"),
    [
        ({"labeled_episodes": [0, 3]}, [9, 9, 9], r"`labeled_episodes` names episode 3.*3 episodes \(0 to 2\)"),
        (
            {"labeled_episodes": [0], "labels_repo_id": "me/other", "stage": "action_decoder"},
            [9, 9],
            r"`labeled_episodes` was chosen for dataset me/other, but this is me/pick.*labeled_episodes=null",
        ),
        (
            {},
            [3, 2, 3],
            r"`horizon` \(4 frames\) is longer than every episode of me/pick \(episode 1 has 2\).*--policy\.horizon",
        ),
        ({"stage": "latent_action"}, [1, 1], r"horizon / num_latents, \(2 frames\) is longer than every episode"),
    ],
)
def test_labels_and_chunks_that_do_not_fit_the_dataset_are_refused(
    options: dict[str, Any],
    lengths: list[int],
    message: str,
    make_config: Callable[..., LAFPConfig],
    make_meta: Callable[..., SimpleNamespace],
) -> None:
    with pytest.raises(ValueError, match=message):
        LAFPPolicy(make_config(**options), dataset_meta=make_meta(lengths))


@pytest.mark.parametrize(
    ("options", "lengths"),
    [
        ({"labeled_episodes": [0, 2]}, [4, 4, 4]),
        ({}, [1, 9]),
        ({"labeled_episodes": [7], "labels_repo_id": "me/other", "stage": "latent_policy"}, [9, 9]),
        ({"labeled_episodes": None, "labels_repo_id": "me/other", "stage": "action_decoder"}, [9, 9]),
    ],
)
def test_labels_and_chunks_that_fit_the_dataset_pass(
    options: dict[str, Any],
    lengths: list[int],
    make_config: Callable[..., LAFPConfig],
    make_meta: Callable[..., SimpleNamespace],
) -> None:
    config = make_config(**options)
    LAFPPolicy(config, dataset_meta=make_meta(lengths))
    if options.get("labeled_episodes") == [0, 2]:
        assert config.facts.labels_repo_id == "me/pick", "from now on the list belongs to this dataset"


def test_a_dataset_of_another_rate_is_refused(
    make_config: Callable[..., LAFPConfig], make_meta: Callable[..., SimpleNamespace]
) -> None:
    config = make_config()
    LAFPPolicy(config, dataset_meta=make_meta([9, 9]))
    assert config.facts.fps == 10, "the first dataset's"
    faster = make_meta([9, 9])
    faster.fps = 30
    with pytest.raises(
        ValueError, match=r"30 frames per second, but `fps` is 10\.0.*Resample.*or train from the start"
    ):
        LAFPPolicy(config, dataset_meta=faster)
    fresh = make_config()
    LAFPPolicy(fresh, dataset_meta=faster)
    assert fresh.facts.fps == 30


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"actions": False, "motion__weight": 0.0}, True),
        ({"label_weight": 0.0, "motion__weight": 0.0}, True),
        ({"actions": False, "motion__weight": 0.0, "stage": "latent_policy"}, False),
        ({"actions": False}, False),
        ({"actions": False, "motion__weight": 0.0, "idm_input": "difference"}, False),
        ({"actions": False, "motion__weight": 0.0, "codebook__size": 4}, False),
        ({"motion__weight": 0.0}, False),
    ],
)
def test_latents_that_nothing_holds_are_warned_of(
    options: dict[str, Any],
    warned: bool,
    make_config: Callable[..., LAFPConfig],
    make_meta: Callable[..., SimpleNamespace],
    caplog: pytest.LogCaptureFixture,
) -> None:
    LAFPPolicy(make_config(STATE, **{"stage": "latent_action", **options}), dataset_meta=make_meta([20]))
    assert ("--policy.motion.weight=0" in caplog.text) == warned


@pytest.mark.parametrize(
    ("observed", "options", "weight"),
    [
        ((STATE,), {}, 0.0),
        ((STATE, FRONT), {}, 0.1),
        ((STATE, FRONT), {"label_weight": 0.0}, 1.0),
        ((STATE,), {"label_weight": 0.0}, 1.0),
        ((STATE,), {"actions": False}, 1.0),
        ((STATE,), {"actions": False, "motion__weight": 0.25}, 0.25),
        ((STATE,), {"motion__weight": 0.25}, 0.25),
        ((STATE, FRONT), {"motion__weight": 0.0}, 0.0),
    ],
)
def test_motion_stands_in_for_labels_and_beside_them_helps_cameras_unless_told_otherwise(
    observed: tuple[str, ...], options: dict[str, Any], weight: float, make_config: Callable[..., LAFPConfig]
) -> None:
    policy = LAFPPolicy(make_config(*observed, **{"stage": "latent_action", **options}))
    assert policy.config.facts.motion_weight == weight
    assert (policy.latent_action_model.motion_head is not None) == bool(weight)


def test_labels_that_come_later_leave_the_motion_as_it_was_trained(
    trained: Callable[..., LAFPPolicy], next_stage: Callable[..., LAFPPolicy]
) -> None:
    decoder = next_stage(trained("latent_policy", STATE, label_weight=0.0), "action_decoder", label_weight=0.1)
    assert decoder.config.facts.motion_weight == 1.0


def test_nothing_to_observe_is_refused(make_config: Callable[..., LAFPConfig]) -> None:
    config = make_config()
    config.input_features = {}
    with pytest.raises(ValueError, match="something to observe"):
        LAFPPolicy(config)


def features_of(**widths: int) -> dict[str, dict[str, Any]]:
    names = {"state": STATE, "env": ENV_STATE, "action": "action"}
    return {names[k]: {"dtype": "float32", "shape": (width,), "names": None} for k, width in widths.items()}


@pytest.fixture
def run_stage(
    make_meta: Callable[..., SimpleNamespace], make_batch: Batches, train: Train, tmp_path_factory: Any
) -> Callable[..., LAFPPolicy]:
    """``run_stage(previous, stage, mean=0, **widths)``: one lerobot-train run on a dataset of these features.

    Goes through LeRobot's own ``make_policy``, which rewrites the configuration by the dataset at hand.
    """

    def run(
        previous: LAFPPolicy | None, config: LAFPConfig, stage: str, mean: float = 0.0, **widths: int
    ) -> LAFPPolicy:
        meta = make_meta([9, 9, 9, 9])
        meta.features = features_of(**widths)
        meta.stats = {
            key: {"mean": torch.full(ft["shape"], mean), "std": torch.ones(ft["shape"])}
            for key, ft in meta.features.items()
        }
        if previous is not None:
            folder = tmp_path_factory.mktemp("checkpoint")
            previous.save_pretrained(folder)
            config = LAFPConfig.from_pretrained(folder, cli_overrides=[f"--stage={stage}"])
            config.pretrained_path = folder
        policy = lerobot_make_policy(config, ds_meta=meta)
        train(policy, make_batch(policy.config, actions="action" in meta.features))
        return policy

    return run


@pytest.mark.parametrize("observes", ["tokens", "state"])
def test_stages_on_datasets_with_and_without_actions(
    observes: str,
    run_stage: Callable[..., LAFPPolicy],
    make_config: Callable[..., LAFPConfig],
    make_observation: Batches,
) -> None:
    """Traps 1, 2, 3 and 7: labels, then video alone, then labels with other statistics and one more state."""
    first = make_config(ENV_STATE, stage="latent_action", decoder_observes=observes)
    first.input_features = {}
    policy = run_stage(None, first, "latent_action", mean=3.0, env=5, action=2)
    policy = run_stage(policy, first, "latent_policy", mean=-1.0, env=5)
    assert policy.action_decoder is not None, "trap 2: a dataset without actions must not cost the decoder"
    policy = run_stage(policy, first, "action_decoder", mean=8.0, env=5, state=2, action=2)
    assert policy.stage_steps.tolist() == [1, 1, 1]
    assert policy.config.decoder_vector_shapes == {STATE: (2,)}
    assert list(policy.config.vector_shapes) == [ENV_STATE]
    observation = make_observation(policy.config)
    normalised = policy.normalizer(observation)
    torch.testing.assert_close(normalised[ENV_STATE][:, 0], observation[ENV_STATE] - 3)
    torch.testing.assert_close(normalised[STATE][:, 0], observation[STATE] - 8)
    noise = torch.randn(3, 2, 4)
    actions = policy.eval().predict_action_chunk(observation, noise=noise)
    moved = policy.predict_action_chunk({**observation, STATE: observation[STATE] + 1}, noise=noise)
    assert not torch.allclose(actions, moved), "the decoder reads the state that only its own dataset has"


def test_another_action_width_is_refused_by_a_later_run(
    run_stage: Callable[..., LAFPPolicy], make_config: Callable[..., LAFPConfig]
) -> None:
    """Trap 5: else it is a size mismatch of tensors."""
    policy = run_stage(None, make_config(STATE, stage="latent_action"), "latent_action", state=2, action=2)
    with pytest.raises(ValueError, match=r"`action` has width 3 here, but this policy was trained with width 2"):
        run_stage(policy, policy.config, "latent_policy", state=2, action=3)


def test_a_dataset_without_actions_is_refused_by_stage_three(
    run_stage: Callable[..., LAFPPolicy], make_config: Callable[..., LAFPConfig]
) -> None:
    policy = run_stage(None, make_config(STATE, stage="latent_action"), "latent_action", state=2, action=2)
    with pytest.raises(ValueError, match=r"no `action` column, but stage action_decoder"):
        run_stage(policy, policy.config, "action_decoder", state=2)


@pytest.mark.parametrize("stage", ["joint", *STAGES])
def test_images_are_shifted_only_where_the_policy_trains_on_them(
    stage: str, trained: Build, make_batch: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts: list[int] = []

    def shift(images: Tensor, pixels: int) -> Tensor:
        shifts.append(pixels)
        return images

    monkeypatch.setattr("lerobot_lafp.training.losses.shift_at_random", shift)
    policy = trained(stage, STATE, FRONT, random_shift=2)
    shifts.clear()  # of its training so far
    batch = make_batch(policy.config)
    policy.train()
    policy.forward(batch)
    assert shifts == [2] * {"joint": 2, "action_decoder": 0}.get(stage, 1)  # stage 1's frames, and the policy's
    shifts.clear()
    policy.eval()
    policy.forward(batch)
    assert not shifts
