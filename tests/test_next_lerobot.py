"""LeRobot after 0.6.1: all processes save and one writes, cards and queues go by other names, gradients add up."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lerobot
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from accelerate.utils.dataclasses import get_module_class_from_name
from huggingface_hub import ModelCard
from lerobot.common import train_utils
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from lerobot_lafp import LAFPConfig, LAFPPolicy, lerobot_patches
from lerobot_lafp.checkpoint.card import CARD_NAME

from . import next_lerobot
from .conftest import STATE
from .model.test_distributed import FRONT, OPTIONS, free_port, half, steps, uneven_batches

Policies = Callable[..., LAFPPolicy]
Batches = Callable[..., dict[str, Any]]

FILES = [CARD_NAME, "config.json", "model.safetensors"]


@pytest.fixture(autouse=True)
def later_lerobot(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    next_lerobot.put_in_place(monkeypatch.setattr)
    yield
    next_lerobot.take_away()


# --- Checkpoints ---------------------------------------------------------------------------------------------


def test_a_checkpoint_is_what_was_saved(make_policy: Policies, tmp_path: Path) -> None:
    policy = make_policy(STATE)
    policy.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == FILES
    loaded = LAFPPolicy.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], x) for name, x in policy.state_dict().items())


def test_a_disk_that_is_full_leaves_the_checkpoint_of_before(
    make_policy: Policies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(STATE)
    policy.save_pretrained(tmp_path)

    def full(self: Any, folder: Path) -> None:
        (folder / "model.safetensors").write_text("half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(PreTrainedPolicy, "_save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        policy.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == FILES
    LAFPPolicy.from_pretrained(tmp_path)


def wait_for(file: Path) -> None:
    end = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < end, f"{file} never came"
        time.sleep(0.01)


def sharded(policy: LAFPPolicy) -> LAFPPolicy:
    """What accelerate does of the classes that the policy names (FSDP2), but on the CPU, where it refuses to."""
    mesh = init_device_mesh("cpu", (2,))
    units = {get_module_class_from_name(policy, name) for name in type(policy)._fsdp_wrap_modules}
    for module in reversed(list(policy.modules())):
        if type(module) in units:
            fully_shard(module, mesh=mesh)
    fully_shard(policy, mesh=mesh)
    return policy


def save_in_order(policy: LAFPPolicy, folder: Path, rank: int, first: int) -> list[str]:
    """Save in both processes, of which process ``first`` is through before the other goes on; what was renamed here."""
    base, replace, renamed = PreTrainedPolicy._save_pretrained, os.replace, []
    through = folder.with_name(f"{folder.name}-{first}")

    def in_turn(self: Any, save_directory: Path) -> None:
        base(self, save_directory)
        if rank != first:
            wait_for(through)

    def noted(source: Any, target: Any) -> None:
        renamed.append(Path(target).name)
        replace(source, target)

    PreTrainedPolicy._save_pretrained, os.replace = in_turn, noted
    try:
        policy.save_pretrained(folder)
    finally:
        PreTrainedPolicy._save_pretrained, os.replace = base, replace
    if rank == first:
        through.touch()
    dist.barrier()
    return renamed


def in_process(rank: int, folder: Path, port: int) -> None:
    next_lerobot.put_in_place()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    told: dict[str, Any] = {}
    for name in OPTIONS:
        given = torch.load(folder / f"{name}.pt", weights_only=False)
        batches = [half(batch, rank) for batch in given["batches"]]
        for how in ("replicated", "sharded"):
            policy = LAFPPolicy(given["config"])
            policy.load_state_dict(given["state"])
            forward: Any = DistributedDataParallel(policy, find_unused_parameters=True)
            if how == "sharded":
                forward = policy = sharded(policy)
            losses = steps(policy, forward, batches)
            for first in (0, 1):
                renamed = save_in_order(policy, folder / f"{name}-{how}", rank, first)
                told[f"{name}-{how}-{first}"] = {"losses": losses, "renamed": renamed}
    given = torch.load(folder / "latent_action.pt", weights_only=False)
    policy = LAFPPolicy(given["config"])
    policy = sharded(policy)
    optimizer = torch.optim.SGD(policy.get_optim_params(), lr=0.05)
    for number, batch in enumerate(given["batches"]):  # four of them, two a step
        policy.train()
        policy.set_requires_gradient_sync(bool(number % 2))
        policy(half(batch, rank))[0].backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
            policy.update()
    told["steps of shards"] = policy.stage_steps.tolist()
    torch.save(told, folder / f"told-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_save_what_they_learnt_and_one_of_them_writes(
    make_policy: Policies, make_batch: Batches, tmp_path: Path
) -> None:
    expected, states = {}, {}
    for name, options in OPTIONS.items():
        policy = make_policy(STATE, FRONT, **options)
        batches = list(uneven_batches(policy, make_batch))
        given = {"config": policy.config, "state": policy.state_dict(), "batches": batches}
        torch.save(given, tmp_path / f"{name}.pt")
        expected[name] = torch.tensor(steps(policy, policy.forward, batches))
        states[name] = policy.state_dict()
    mp.spawn(in_process, args=(tmp_path, free_port()), nprocs=2)
    writer, other = (torch.load(tmp_path / f"told-{rank}.pt") for rank in range(2))
    for name, state in states.items():
        for how in ("replicated", "sharded"):
            for first in (0, 1):
                each = f"{name}-{how}-{first}"
                assert sorted(writer[each]["renamed"]) == FILES, "each once"
                assert other[each]["renamed"] == []
            losses = torch.tensor([writer[each]["losses"], other[each]["losses"]]).mean(dim=0)
            torch.testing.assert_close(losses, expected[name], rtol=1e-4, atol=1e-5)
            folder = tmp_path / f"{name}-{how}"
            assert sorted(file.name for file in folder.iterdir()) == FILES
            saved = LAFPPolicy.from_pretrained(folder).state_dict()
            for key, x in state.items():  # weights, moving averages, statistics, counts of steps
                torch.testing.assert_close(saved[key], x, rtol=1e-3, atol=1e-5, msg=f"{name} {how} {key}")
    assert writer["steps of shards"] == other["steps of shards"] == [2, 0, 0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"policy_network": "transformer"},
        {"stage": "latent_policy", "decoder_input": "action_head"},
        {"latent_source": "actions", "policy_head": "bc", "ema_decay": 0.0},
    ],
)
def test_every_policy_has_the_classes_that_are_sharded(options: dict[str, Any], make_policy: Policies) -> None:
    policy = make_policy(STATE, **options)
    assert LAFPPolicy._fsdp_wrap_modules
    for name in LAFPPolicy._fsdp_wrap_modules:
        assert get_module_class_from_name(policy, name) is not None
        assert name in policy._no_split_modules


# --- The card ------------------------------------------------------------------------------------------------


def test_the_policys_own_card_is_pushed(make_policy: Policies, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[str] = []

    class Api:
        def create_repo(self, repo_id: str, **_: Any) -> SimpleNamespace:
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, folder_path: Path | None = None, card: str = "", **_: Any) -> SimpleNamespace:
            pushed.append(card if folder_path is None else (Path(folder_path) / CARD_NAME).read_text())
            return SimpleNamespace(repo_url=SimpleNamespace(url="there"))

    monkeypatch.setattr(train_utils, "HfApi", Api)
    monkeypatch.setattr(ModelCard, "validate", lambda self: None)
    monkeypatch.setattr(LAFPPolicy, "push_to_hub", lambda self, repo_id, **_: None)
    options = {"dataset": {"repo_id": "me/pick"}, "steps": 7, "batch_size": 4, "seed": 0}
    cfg = SimpleNamespace(
        dataset=SimpleNamespace(repo_id="me/pick"), to_dict=lambda: options, save_pretrained=lambda folder: None
    )
    policy = make_policy(STATE, repo_id="me/lafp", license="mit")
    before = train_utils.generate_model_card
    train_utils.publish_trained_model(cfg, policy, None, None, None)
    assert train_utils.generate_model_card is before
    (card,) = pushed
    assert "Latent Action Flow Policy" in card
    assert "license: mit" in card
    assert "7 x 4" in card, "steps and batch of the run"


# --- Rollouts ------------------------------------------------------------------------------------------------


def test_dropped_actions_are_predicted_anew(trained: Policies, make_observation: Batches) -> None:
    policy = trained("joint", STATE)
    observation = make_observation(policy.config)
    policy.select_action(observation)
    held = policy._history.stacked()
    assert policy._chunk
    policy.drop_queued_actions()
    assert not policy._chunk
    assert all(torch.equal(x, held[key]) for key, x in policy._history.stacked().items()), "the history stays"
    policy.select_action(observation)
    assert len(policy._chunk) == policy.config.n_action_steps - 1


def test_a_chunk_that_comes_after_a_reset_is_not_gone_on_from(trained: Policies, make_observation: Batches) -> None:
    """LeRobot's inference thread may be in the middle of one when an episode is reset, and throws it away."""
    policy = trained("joint", STATE)
    observation = make_observation(policy.config, size=1)
    noise = torch.randn(1, policy.config.num_latents, policy.config.latent_dim)
    policy.reset()
    alone = policy.predict_action_chunk(observation, noise)
    policy.reset()
    policy.predict_action_chunk(make_observation(policy.config, size=1, seed=5))  # the one that was under way
    policy._following = None
    late = policy.predict_action_chunk(observation, noise, inference_delay=2, prev_chunk_left_over=None)
    assert torch.equal(late, alone)


# --- Training ------------------------------------------------------------------------------------------------


def weights(module: torch.nn.Module | None) -> torch.Tensor:
    assert module is not None
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_gradients_that_add_up_are_one_step(make_policy: Policies, make_batch: Batches) -> None:
    """``update`` is called once an optimiser step, ``forward`` several times."""
    policy = make_policy(STATE)
    optimizer = torch.optim.SGD(policy.get_optim_params(), lr=0.05)
    batch = make_batch(policy.config)
    average = weights(policy.average_policy)
    for update, decay in enumerate((0.0, 2 / 11, 3 / 12)):
        losses = []
        for _ in range(4):
            policy.train()
            loss, _ = policy(batch)
            (loss / 4).backward()
            losses.append(loss.item())
            assert policy.stage_steps.tolist() == [update] * 3
        assert len(set(losses)) == 4, "noise is drawn anew"
        policy.eval()
        policy(batch)  # an evaluation in between
        assert policy.stage_steps.tolist() == [update] * 3
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
        assert policy.stage_steps.tolist() == [update + 1] * 3
        average = decay * average + (1 - decay) * weights(policy.latent_policy)
        torch.testing.assert_close(weights(policy.average_policy), average)


@pytest.mark.parametrize("labelled", [(True, False), (False, True), (False, False)])
def test_one_label_among_the_batches_of_a_step_trains_the_decoder(
    labelled: tuple[bool, ...], make_policy: Policies, make_batch: Batches
) -> None:
    policy = make_policy(STATE, labeled_episodes=[1])
    optimizer = torch.optim.SGD(policy.get_optim_params(), lr=0.05)
    for has_label in labelled:
        policy.train()
        policy(make_batch(policy.config, episodes=[int(has_label), 0, 0, 0]))[0].backward()
    optimizer.step()
    policy.update()
    assert policy.stage_steps.tolist() == [1, 1, int(any(labelled))]


def pipeline(policy: LAFPConfig, tmp_path: Path) -> TrainPipelineConfig:
    dataset = DatasetConfig(repo_id="local/x", episodes=[0, 1, 2])
    return TrainPipelineConfig(dataset=dataset, policy=policy, output_dir=tmp_path / "out", steps=100, env_eval_freq=0)


def test_episodes_that_are_left_out_are_not_trained_on(
    make_config: Callable[..., LAFPConfig], make_meta: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    policy = make_config()
    cfg = pipeline(policy, tmp_path)
    cfg.dataset.exclude_episodes = [1, 7]
    cfg.validate()
    assert policy.context is not None
    assert policy.context.trained_on(make_meta([9, 9, 9, 9])) == [0, 2]


@pytest.mark.parametrize(("enable", "decay", "warned"), [(True, 0.99, True), (True, 0.0, False), (False, 0.99, False)])
def test_two_averages_of_the_weights_are_warned_of(
    enable: bool,
    decay: float,
    warned: bool,
    make_config: Callable[..., LAFPConfig],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cfg = pipeline(make_config(ema_decay=decay), tmp_path)
    cfg.ema = SimpleNamespace(enable=enable)
    cfg.validate()
    assert ("two moving averages" in caplog.text) == warned


@pytest.mark.parametrize(
    ("use_amp", "precision", "warned"), [(True, "no", True), (True, "bf16", False), (False, "no", False)]
)
def test_a_precision_that_is_not_read_is_warned_of(
    use_amp: bool,
    precision: str,
    warned: bool,
    make_config: Callable[..., LAFPConfig],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cfg = SimpleNamespace(accelerator=SimpleNamespace(mixed_precision=precision))
    lerobot_patches._check_later_options(cfg, make_config(use_amp=use_amp))
    assert ("--accelerator.mixed_precision=bf16" in caplog.text) == warned


def test_checkpoints_of_shards_alone_are_refused(make_config: Callable[..., LAFPConfig]) -> None:
    cfg = SimpleNamespace(checkpoint_format=SimpleNamespace(value="dcp", wants_dcp=True))
    with pytest.raises(ValueError, match="--checkpoint_format=dcp resumes from shards"):
        lerobot_patches._check_later_options(cfg, make_config())
    lerobot_patches._check_later_options(SimpleNamespace(), make_config())


def test_lerobot_finds_one_set_of_offsets(make_config: Callable[..., LAFPConfig]) -> None:
    """Offsets of images alone would have it refuse a dataset that has none."""
    for name in ("image_observation_delta_indices", "state_observation_delta_indices"):
        assert not hasattr(make_config(), name)


# --- A source tree -------------------------------------------------------------------------------------------


def test_a_source_tree_takes_the_place_of_the_installed_lerobot(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "src").mkdir(parents=True)
    (tree / "src" / "lerobot").symlink_to(Path(lerobot.__file__).parent)
    (tree / "pyproject.toml").write_text(
        '[project]\nname = "lerobot"\nversion = "0.6.9"\ndependencies = ["torch<1", "no_such_package", "einops"]\n'
    )
    looks = tmp_path / "test_looks.py"
    looks.write_text(
        "import importlib.metadata\nimport lerobot\n\n\ndef test_looks():\n"
        f"    assert lerobot.__file__.startswith({str(tree)!r})\n"
        '    assert importlib.metadata.version("lerobot") == "0.6.9"\n'
    )
    script = Path(__file__).parents[1] / "tools" / "try_lerobot.sh"
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([script, tree, looks], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "It requires torch<1, and there is 2" in done.stderr
    assert "It requires no_such_package, and there is none" in done.stderr
    assert "einops" not in done.stderr
    refused = subprocess.run([script, tmp_path], env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "is no source tree of LeRobot" in refused.stderr
