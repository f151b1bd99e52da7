"""The two-way task as a LeRobot environment: ``--env.type=lafp_two_way``."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_IMAGE, OBS_STATE

from .two_way import FPS, MAX_EPISODE_STEPS, TwoWayEnv


@EnvConfig.register_subclass("lafp_two_way")
@dataclass
class TwoWayEnvConfig(EnvConfig):
    """Configuration of the two-way task.

    Args:
        task: A name, no choice: there is one task.
        fps: Frames per second, of videos and of the demonstrations.
        episode_length: Steps until an episode is cut off.
        obs_type: ``pixels`` gives ``observation.image``, ``pixels_agent_pos`` also ``observation.state`` (2,).
        image_size: Side of ``observation.image`` in pixels, 32 to 64; the policy's must be the same.
        render_size: Side of the recorded videos in pixels.
        episode_log: File that gets a line per evaluated episode: seed, layout, trail, side, outcome
            (``lerobot_lafp.envs.read_episodes``). ``lerobot-eval`` itself reports success alone.
        features: Filled in from the options above.
        features_map: What LeRobot calls each observation.
    """

    task: str | None = "two_way"
    fps: int = FPS
    episode_length: int = MAX_EPISODE_STEPS
    obs_type: str = "pixels"  # no Literal: it would narrow --env.obs_type of every other environment
    image_size: int = 32
    render_size: int = 256
    episode_log: str | None = None
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(
        default_factory=lambda: {ACTION: ACTION, "pixels": OBS_IMAGE, "agent_pos": OBS_STATE}
    )

    def __post_init__(self) -> None:
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, (2,)),
            "pixels": PolicyFeature(FeatureType.VISUAL, (self.image_size, self.image_size, 3)),
        }
        if self.obs_type == "pixels_agent_pos":
            self.features["agent_pos"] = PolicyFeature(FeatureType.STATE, (2,))

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {
            "obs_type": self.obs_type,
            "image_size": self.image_size,
            "render_size": self.render_size,
            "max_episode_steps": self.episode_length,
            "episode_log": self.episode_log,
        }

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, gym.vector.VectorEnv]]:
        """``{"lafp_two_way": {0: vectorised environment}}``.

        The class itself goes to the workers, not an id in Gymnasium's registry, which their processes would not
        have. Success of a finished episode is in ``info["final_info"]`` (autoreset SAME_STEP), where LeRobot looks.
        """
        make_one = partial(TwoWayEnv, **self.gym_kwargs)
        mode = gym.vector.AutoresetMode.SAME_STEP
        vector_env: gym.vector.VectorEnv
        if use_async_envs and n_envs > 1:
            vector_env = gym.vector.AsyncVectorEnv([make_one] * n_envs, context="forkserver", autoreset_mode=mode)
        else:
            vector_env = gym.vector.SyncVectorEnv([make_one] * n_envs, autoreset_mode=mode)
        return {self.type: {0: vector_env}}
