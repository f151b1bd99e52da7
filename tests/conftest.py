"""Shared builders: tiny configurations, and batches as LeRobot's preprocessor hands them over."""

import copy
import functools
import json
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from draccus.wrappers import docstring
from hypothesis import HealthCheck, settings
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION
from torch import Tensor

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.options.constants import STAGES

from .building import FACTS, lafp, put

# A busy machine is slow, and that is no defect.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# The commands that tests start, beside as many workers as there are cores: more threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")  # read when dm_control is imported, by whichever process does
# draccus looks up the help of a thousand options each time that it reads a command, half a second in which it searches
# the same sources again.
docstring.get_attribute_docstring = functools.cache(docstring.get_attribute_docstring)

STATE, ENV_STATE = "observation.state", "observation.environment_state"
FRONT, WRIST = "observation.images.front", "observation.images.wrist"
#: More than 128 pixels a side, so that stage 1 predicts its features; and few in all.
WIDE = "observation.images.wide"
ACTION_DIM = 2
FEATURES = {
    STATE: PolicyFeature(FeatureType.STATE, (ACTION_DIM,)),
    ENV_STATE: PolicyFeature(FeatureType.ENV, (5,)),
    FRONT: PolicyFeature(FeatureType.VISUAL, (3, 20, 24)),
    WRIST: PolicyFeature(FeatureType.VISUAL, (1, 16, 16)),
    WIDE: PolicyFeature(FeatureType.VISUAL, (3, 8, 132)),
}
TINY = {
    "n_obs_steps": 2,  # where a history of one would test nothing of it
    "horizon": 4,
    "num_latents": 2,
    "n_action_steps": 3,
    "token_dim": 8,
    "latent_dim": 4,
    "codebook__heads": 2,
    "pixel_target_size": 12,
    "latent_model_dim": 16,
    "policy_dim": 16,
    "policy_layers": 1,
    "flow_draws": 2,
    "decoder_dim": 16,
    "device": "cpu",
    "push_to_hub": False,
}


#: The only ones of tests/cli that start no command and train nothing.
QUICK_OF_COMMANDS = ("test_arguments.py", "test_help.py")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """All that commands do is slow; ``make test-fast`` leaves out whatever is."""
    for item in items:
        if item.path.parent.name == "cli" and item.path.name not in QUICK_OF_COMMANDS:
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _small_and_seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to open a connection fails the test."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("something asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def make_config() -> Callable[..., LAFPConfig]:
    """``make_config(*features, actions=True, **options)``: a tiny configuration that observes ``features``."""

    def build(*features: str, actions: bool = True, **options: Any) -> LAFPConfig:
        outputs = {ACTION: PolicyFeature(FeatureType.ACTION, (ACTION_DIM,))} if actions else {}
        inputs = {key: FEATURES[key] for key in features or (STATE,)}
        return lafp(input_features=inputs, output_features=outputs, **{**TINY, **options})

    return build


@pytest.fixture
def make_policy(make_config: Callable[..., LAFPConfig]) -> Callable[..., LAFPPolicy]:
    """``make_policy(*features, **options)``: a policy with fixed random weights, from ``make_config``'s options."""

    def build(*features: str, **options: Any) -> LAFPPolicy:
        config = make_config(*features, **options)
        torch.manual_seed(1)
        return LAFPPolicy(config)

    return build


@pytest.fixture
def make_batch() -> Callable[..., dict[str, Any]]:
    """``make_batch(config, size=4, seed=0, episodes=None, actions=True)``: a preprocessed training batch.

    Cameras are uint8 for odd seeds and float for even ones: LeRobot hands over either.
    """

    def build(
        config: LAFPConfig,
        size: int = 4,
        seed: int = 0,
        episodes: Sequence[int] | None = None,
        actions: bool = True,
    ) -> dict[str, Any]:
        draw = torch.Generator().manual_seed(seed)
        deltas, batch = config.observation_delta_indices, {}
        frames = () if deltas is None else (len(deltas),)  # without a time axis, as of a dataset asked for no offset
        for key, feature in config.input_features.items():
            shape = (size, *frames, *feature.shape)
            if feature.type is not FeatureType.VISUAL:
                batch[key] = torch.randn(shape, generator=draw)
            elif seed % 2:
                batch[key] = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
            else:
                batch[key] = torch.rand(shape, generator=draw)
            if frames:
                batch[f"{key}_is_pad"] = torch.zeros(size, *frames, dtype=torch.bool)
        deltas = config.action_delta_indices
        batch[ACTION] = None
        if actions and deltas is not None:
            batch[ACTION] = torch.randn(size, len(deltas), ACTION_DIM, generator=draw)
            batch[f"{ACTION}_is_pad"] = torch.zeros(size, len(deltas), dtype=torch.bool)
        batch["episode_index"] = torch.arange(size) if episodes is None else torch.tensor(episodes)
        batch["index"] = torch.arange(size)
        batch["timestamp"] = torch.zeros(size)
        batch["task"] = ["push"] * size
        return batch

    return build


@pytest.fixture
def make_observation() -> Callable[..., dict[str, Any]]:
    """``make_observation(config, size=3, seed=0)``: what an environment shows, one frame without a time axis."""

    def build(config: LAFPConfig, size: int = 3, seed: int = 0) -> dict[str, Any]:
        draw = torch.Generator().manual_seed(seed)
        batch: dict[str, Any] = {
            key: torch.rand(size, *feature.shape, generator=draw) for key, feature in config.input_features.items()
        }
        batch["task"] = ["push"] * size
        return batch

    return build


@pytest.fixture
def train() -> Callable[..., list[float]]:
    """``train(policy, batch, steps=1, lr=1e-2)``: optimiser steps, calling the policy as lerobot-train does."""

    def run(policy: LAFPPolicy, batch: dict[str, Any], steps: int = 1, lr: float = 1e-2) -> list[float]:
        optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=lr, weight_decay=0.1)
        losses = []
        for _ in range(steps):
            policy.train()
            loss, _ = policy.forward(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            policy.update()
            losses.append(loss.item())
        return losses

    return run


@pytest.fixture
def next_stage(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LAFPPolicy]:
    """``next_stage(policy, stage, **options)``: ``policy`` saved, and loaded with other options, as a new run does."""

    def reload(policy: LAFPPolicy, stage: str | None = None, **options: Any) -> LAFPPolicy:
        folder = tmp_path_factory.mktemp("checkpoint")
        policy.save_pretrained(folder)
        changed = {"stage": stage or policy.config.stage, **options}
        typed = {name.replace("__", "."): value for name, value in changed.items() if name not in FACTS}
        overrides = [f"--{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in typed.items()]
        config = LAFPConfig.from_pretrained(folder, cli_overrides=overrides)
        put(config, {name: value for name, value in changed.items() if name in FACTS})
        return LAFPPolicy.from_pretrained(folder, config=config)

    return reload


@pytest.fixture
def trained(
    make_policy: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
    next_stage: Callable[..., LAFPPolicy],
) -> Callable[..., LAFPPolicy]:
    """``trained(stage, *features, **options)``: a policy with one step in every stage up to and with ``stage``."""

    def build(stage: str, *features: str, **options: Any) -> LAFPPolicy:
        first, *later = ["joint"] if stage == "joint" else STAGES[: STAGES.index(stage) + 1]
        policy = make_policy(*features, stage=first, **options)
        train(policy, make_batch(policy.config))
        for following in later:
            policy = next_stage(policy, following)
            train(policy, make_batch(policy.config))
        return policy

    return build


@pytest.fixture
def make_vit(tmp_path: Path) -> Callable[..., Path]:
    """``make_vit(kind="dinov2", seed=2)``: the folder of a tiny random ViT, saved as ``transformers`` saves one."""
    from transformers import AutoModel, Dinov2Config, Dinov2WithRegistersConfig, DINOv3ViTConfig

    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4, "image_size": 20}
    kinds = {
        "dinov2": Dinov2Config(**size, mlp_ratio=2),
        "dinov2_registers": Dinov2WithRegistersConfig(**size, mlp_ratio=2, num_register_tokens=3),
        "dinov3": DINOv3ViTConfig(**size, intermediate_size=32, num_register_tokens=3),
    }

    def save(kind: str = "dinov2", seed: int = 2) -> Path:
        torch.manual_seed(seed)
        AutoModel.from_config(kinds[kind]).save_pretrained(tmp_path / f"{kind}-{seed}")
        return tmp_path / f"{kind}-{seed}"

    return save


@pytest.fixture
def make_meta() -> Callable[..., SimpleNamespace]:
    """``make_meta(lengths, repo_id="me/pick")``: what the policy asks of a dataset's metadata."""

    def build(lengths: Sequence[int], repo_id: str = "me/pick") -> SimpleNamespace:
        episodes = {"length": list(lengths)}
        tasks = pd.DataFrame({"task_index": [0]}, index=pd.Index(["push"], name="task"))
        meta = {"tasks": tasks, "total_episodes": len(lengths), "episodes": episodes, "features": {}, "fps": 10}
        return SimpleNamespace(repo_id=repo_id, **meta)

    return build


@pytest.fixture
def snapshot() -> Callable[[torch.nn.Module], dict[str, Tensor]]:
    """``snapshot(module)``: a copy of every weight and buffer."""
    return lambda module: copy.deepcopy(dict(module.state_dict()))
