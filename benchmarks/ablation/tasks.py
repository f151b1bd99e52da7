"""The tasks: what is observed, how much is trained, and how an episode is judged."""

import importlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from filelock import FileLock
from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.envs.configs import EnvConfig, PushtEnv
from lerobot.envs.factory import make_env, make_env_pre_post_processors
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.scripts.lerobot_eval import eval_policy
from lerobot.utils.random_utils import set_seed

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.simulators.two_way.configuration_two_way import TwoWayEnvConfig
from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations
from lerobot_lafp.simulators.two_way.two_way import read_episodes

from .data import Data
from .vocabulary import put

OUTPUT = Path("outputs/ablation")
#: Evaluation episodes start at this seed, of every run alike. Nothing is ever chosen by looking at them.
EVALUATION_SEED = 100_000


@dataclass(frozen=True)
class Budget:
    """Optimiser steps of a training, samples a step, and whether the forward pass runs in bfloat16.

    The last is what ``ACCELERATE_MIXED_PRECISION=bf16 lerobot-train`` does. It saves a fifth of the flow's time on a
    CPU that has bfloat16; on one that has not, float32 takes its place, and the result says so.
    """

    steps: int
    batch_size: int
    bf16: bool = False


@dataclass(frozen=True)
class Task:
    """One task of the ablation.

    Attributes:
        name: As in the results.
        options: ``LAFPConfig`` options that all variants share.
        budgets: Stage (or rival) -> how much it is trained.
        labels: Labelled episodes where a variant does not say.
        episodes: Evaluation episodes of a run.
        rivals: LeRobot policy type -> its options.
        environments: Stepped together in an evaluation; those that render, in as many processes.
    """

    name: str
    options: Mapping[str, Any]
    budgets: Mapping[str, Budget]
    labels: int
    episodes: int
    rivals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environments: int = 50

    @property
    def data(self) -> Data:
        return _data(self.name)

    def labeled_episodes(self, count: int, seed: int) -> list[int]:
        """The labelled episodes of a training seed: drawn at random, the smaller sets within the larger ones."""
        rng = np.random.default_rng(seed)
        if self.name == "two_way":  # episodes 2i and 2i + 1 pass on different sides, so that few labels cover both
            pairs = rng.permutation(NUM_TWO_WAY // 2)[: (count + 1) // 2]
            return sorted([int(e) for pair in pairs for e in (2 * pair, 2 * pair + 1)][:count])
        return sorted(int(e) for e in rng.permutation(self.data.num_episodes)[:count])

    def environment(self, log: Path | None = None) -> EnvConfig:
        if self.name == "two_way":
            return TwoWayEnvConfig(episode_log=None if log is None else str(log))
        return PushtEnv(obs_type="pixels_agent_pos" if self.renders else "environment_state_agent_pos")

    @property
    def renders(self) -> bool:
        """Whether it is rendering that takes the time of an evaluation."""
        return self.name == "pusht"

    def evaluate(
        self,
        checkpoint: Path,
        acting: Mapping[str, Any],
        episodes: int,
        first_seed: int,
        change: Callable[[LAFPPolicy], None] | None = None,
    ) -> dict[str, Any]:
        """Per-episode outcomes of a checkpoint by LeRobot's own ``eval_policy``.

        Args:
            checkpoint: As ``load`` takes it, with the options to act by.
            acting: Likewise.
            episodes: How many.
            first_seed: Of the first of them.
            change: What is done to the policy before it acts.
        """
        policy, processors = load(checkpoint, acting)
        if change is not None:
            change(policy)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "episodes.jsonl"
            environment = self.environment(log)
            count = min(episodes, self.environments)
            if self.renders:
                envs = rendering(environment, count)
            else:
                envs = next(iter(make_env(environment, n_envs=count).values()))[0]
            around = make_env_pre_post_processors(environment, policy.config)
            set_seed(first_seed)
            with torch.no_grad():
                result = eval_policy(envs, policy, *around, *processors, n_episodes=episodes, start_seed=first_seed)
            envs.close()
            per_episode = result["per_episode"][:episodes]
            out: dict[str, Any] = {
                "first_seed": first_seed,
                "success": [bool(e["success"]) for e in per_episode],
                "reward": [round(float(e["max_reward"]), 4) for e in per_episode],
            }
            if self.name == "two_way":
                logged = read_episodes(log)[:episodes]
                out["mode"] = [e.mode for e in logged]
                out["touched"] = [e.touched for e in logged]
        return out


def rendering(environment: EnvConfig, count: int) -> gym.vector.VectorEnv:
    """As LeRobot's ``make_env``, a process each: its own asynchronous ones do not find gym-pusht (0.6.1)."""
    importlib.import_module(environment.package_name)  # registers the environment, here and in what is forked

    def make() -> gym.Env[Any, Any]:
        env = gym.make(
            environment.gym_id, disable_env_checker=environment.disable_env_checker, **environment.gym_kwargs
        )
        env.unwrapped.task = env.unwrapped.task_description = ""  # LeRobot asks, and a process without them ends
        return env

    return gym.vector.AsyncVectorEnv([make] * count, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP, context="fork")


def load(checkpoint: Path, acting: Mapping[str, Any]) -> tuple[Any, tuple[Any, Any]]:
    """A policy ready to act, and its processors.

    Args:
        checkpoint: Its folder.
        acting: Options that need no training (sampler steps).
    """
    config = PreTrainedConfig.from_pretrained(checkpoint)
    put(config, acting)
    config.pretrained_path = checkpoint
    policy = get_policy_class(config.type).from_pretrained(checkpoint, config=config)
    policy.eval()
    return policy, make_pre_post_processors(config, pretrained_path=str(checkpoint))


#: Demonstrations of the two-way task; their video is cheap, so there is much of it.
NUM_TWO_WAY = 1000

#: Where the PushT datasets lie; unset: LeRobot's cache or the Hub.
PUSHT_ROOT: Path | None = None


#: What LeRobot's ``diffusion`` and ``act`` do to states and actions, done to keypoints too: by their defaults
#: ``observation.environment_state`` stays in pixels up to 512, from which neither learns anything.
MIN_MAX, MEAN_STD = (
    dict.fromkeys(("ENV", "STATE", "ACTION"), mode) for mode in (NormalizationMode.MIN_MAX, NormalizationMode.MEAN_STD)
)


@cache
def _data(name: str) -> Data:
    if name == "two_way":
        root = OUTPUT / "two_way_demonstrations"
        OUTPUT.mkdir(parents=True, exist_ok=True)
        with FileLock(OUTPUT / "two_way_demonstrations.lock"):  # the first of several processes writes them
            write_demonstrations(root, NUM_TWO_WAY)
        return Data("local/two_way", root)
    root = None if PUSHT_ROOT is None else PUSHT_ROOT / name
    return Data("lerobot/pusht_image" if name == "pusht" else f"lerobot/{name}", root)


TASKS = {
    task.name: task
    for task in (
        Task(
            name="two_way",
            options={
                "n_obs_steps": 1,
                "horizon": 8,
                "num_latents": 2,
                "n_action_steps": 8,
                "num_flow_steps": 10,
                "flow_draws": 1,  # more would save data loading, which costs nothing here
                "pixel_target_size": 16,
                "motion_weight": 0.1,
                "motion_target": "flow",  # as LAOF has it; rows with the shift of brightness in its place say so
                "policy_dim": 256,
                "optimizer_lr": 1e-3,
                "hold_last_frame": True,
            },
            budgets={
                "latent_action": Budget(2000, 64),
                "latent_policy": Budget(5000, 64),
                "action_decoder": Budget(600, 64),
                "flow_on_actions": Budget(9000, 64),
            },
            labels=10,
            episodes=500,
        ),
        Task(
            name="pusht_keypoints",
            options={
                "n_obs_steps": 1,
                "relative_actions": True,
                "policy_dim": 384,
                "num_flow_steps": 10,
                "flow_draws": 1,
                "optimizer_lr": 1e-3,
            },
            budgets={
                "latent_action": Budget(4000, 128),
                "latent_policy": Budget(6000, 256, bf16=True),
                "action_decoder": Budget(2000, 128),
                "joint": Budget(6000, 256, bf16=True),
                # As long as LAFP's three stages take in all, on one core.
                "flow_on_actions": Budget(9000, 256, bf16=True),
                "diffusion": Budget(5000, 64, bf16=True),
                "act": Budget(3200, 64, bf16=True),
            },
            labels=20,
            episodes=100,
            rivals={
                # LeRobot's policies, shrunk to what two cores can train in the time LAFP has, and at a learning rate
                # for that: theirs (1e-4, 1e-5) are meant for many times as many steps.
                "diffusion": {
                    "normalization_mapping": MIN_MAX,
                    "optimizer_lr": 1e-3,
                    "n_obs_steps": 2,
                    "horizon": 16,
                    "n_action_steps": 8,
                    "down_dims": (32, 64, 128),
                    "diffusion_step_embed_dim": 64,
                    "noise_scheduler_type": "DDIM",
                    "num_inference_steps": 10,
                },
                "act": {
                    "normalization_mapping": MEAN_STD,
                    "optimizer_lr": 3e-4,
                    "chunk_size": 16,
                    "n_action_steps": 8,
                    "dim_model": 128,
                    "n_heads": 4,
                    "dim_feedforward": 512,
                    "n_encoder_layers": 3,
                    "latent_dim": 16,
                    "n_vae_encoder_layers": 2,
                },
            },
        ),
        Task(  # for a GPU
            name="pusht",
            options={
                "n_obs_steps": 1,
                "relative_actions": True,
                "num_flow_steps": 10,
                "motion_weight": 0.1,
                "random_shift": 4,
                "optimizer_lr": 1e-3,
            },
            budgets={
                # Four and a half minutes on an H200 with all three at it, LAFP's three stages in all like each rival.
                "latent_action": Budget(3_500, 128),
                "latent_policy": Budget(8_750, 256),
                "action_decoder": Budget(1_250, 128),
                "diffusion": Budget(5_000, 64),
            },
            labels=20,
            episodes=500,
            environments=250,
            rivals={
                # As the published lerobot/diffusion_pusht (200,000 steps); the defaults have moved since.
                "diffusion": {
                    "n_obs_steps": 2,
                    "horizon": 16,
                    "n_action_steps": 8,
                    "drop_n_last_frames": 7,
                    "crop_shape": (84, 84),
                    "use_group_norm": True,
                    "pretrained_backbone_weights": None,
                    "down_dims": (512, 1024, 2048),
                },
            },
        ),
    )
}
