"""`SO101PickPlace-v0` of the package `lerobot-env-so101`, as `--env.type=so101_pick_place`.

The package's own `--env.type=so101` (0.4.0) cannot be evaluated on this task. Five things are added here:

- Its configuration passes `reward_type`, which the task does not take: `gym.make` fails.
- It reports success as `info["succeed"]`; LeRobot reads `info["is_success"]`, and would count none.
- It declares a state of the block alone, and no camera. The task's state also has the goal.
- The goal is not in the picture. Here it is a green disc as large as the region that counts.
- A picture takes about a second on a CPU. Without shadows, multisampling and reflections it takes a fifteenth.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.envs.utils import freeze_after_episode_end
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE
from lerobot_env_so101.configuration_so101 import ACTION_DIM, AGENT_POS_DIM, SO101Env
from lerobot_env_so101.mujoco_env import GymRenderingSpec
from lerobot_env_so101.pick_place_env import PLACE_SUCCESS_DISTANCE, SO101PickPlaceGymEnv
from lerobot_env_so101.policy import DEFAULT_ACTION_SCALE
from numpy.typing import NDArray

FPS = 10
#: Steps after which the package cuts an episode of this task off.
EPISODE_LENGTH = 300
#: Width of `observation.environment_state`: where the block is, and where it should be.
ENV_STATE_DIM = 6
CAMERA = "front"
_GOAL_COLOUR = (0.1, 0.8, 0.2, 1.0)


class PickPlace(SO101PickPlaceGymEnv):
    """The package's task, cheaply rendered, with its goal in the picture and success where LeRobot looks for it.

    Args:
        image_size: Side of the picture in pixels.
        episode_length: Steps after which an episode is cut off.
        image_obs: The camera in place of the block's and the goal's position.
        random_block_position: Draw both for every episode.
        action_scale: Metres of a position action of 1.
    """

    task = task_description = "Put the cube on the green disc."

    def __init__(
        self,
        image_size: int = 96,
        episode_length: int = EPISODE_LENGTH,
        image_obs: bool = False,
        random_block_position: bool = True,
        action_scale: float = DEFAULT_ACTION_SCALE,
    ) -> None:
        super().__init__(
            render_spec=GymRenderingSpec(image_size, image_size),
            image_obs=image_obs,
            random_block_position=random_block_position,
            action_scale=action_scale,
        )
        quality = self.model.vis.quality
        quality.shadowsize = quality.offsamples = 0
        self._max_episode_steps, self._steps = episode_length, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps = 0
        observation, info = super().reset(seed=seed)
        return observation, {**info, "is_success": False}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, _, info = super().step(action)
        self._steps += 1
        return (
            observation,
            reward,
            terminated,
            self._steps >= self._max_episode_steps,
            {"is_success": info["succeed"]},
        )

    @property
    def block_pos(self) -> NDArray[np.float64]:
        """Centre of the block, metres, (3,)."""
        return np.array(self.data.sensor("block_pos").data)

    def put_block(self, place: NDArray[np.float64]) -> None:
        """Lay the block on the table at ``place`` (x, y), metres, as it lies at the start of an episode."""
        block = self.data.jnt("block")
        block.qpos[:] = (*place, self._block_z, 1, 0, 0, 0)
        block.qvel[:] = 0

    def render(self) -> NDArray[np.uint8]:
        """The camera's picture, (S, S, 3)."""
        if self._viewer is None:
            spec = self._render_specs
            self._viewer = mujoco.Renderer(self.model, spec.height, spec.width)
            self._viewer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        scene = self._viewer.scene
        self._viewer.update_scene(self.data, camera=CAMERA)
        mujoco.mjv_initGeom(
            scene.geoms[scene.ngeom],
            mujoco.mjtGeom.mjGEOM_CYLINDER,
            np.array([PLACE_SUCCESS_DISTANCE, 0.001, 0]),
            np.array([*self.goal_pos[:2], 0.001]),
            np.eye(3).ravel(),
            np.array(_GOAL_COLOUR, dtype=np.float32),
        )
        scene.ngeom += 1
        return self._viewer.render()


@EnvConfig.register_subclass("so101_pick_place")
@dataclass
class PickPlaceConfig(SO101Env):
    """Options of the environment, `--env.*`; see `PickPlace`."""

    task: str | None = "SO101PickPlace-v0"
    episode_length: int = EPISODE_LENGTH
    random_block_position: bool = True
    action_scale: float = DEFAULT_ACTION_SCALE
    image_size: int = 96

    def __post_init__(self) -> None:
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, (ACTION_DIM,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (AGENT_POS_DIM,)),
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE}
        if self.image_obs:
            self.features[f"pixels/{CAMERA}"] = PolicyFeature(FeatureType.VISUAL, (self.image_size, self.image_size, 3))
            self.features_map[f"pixels/{CAMERA}"] = f"{OBS_IMAGES}.{CAMERA}"
        else:
            self.features["environment_state"] = PolicyFeature(FeatureType.ENV, (ENV_STATE_DIM,))
            self.features_map["environment_state"] = OBS_ENV_STATE

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        names = ("image_size", "episode_length", "image_obs", "random_block_position", "action_scale")
        return {name: getattr(self, name) for name in names}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, gym.vector.VectorEnv]]:
        """Environments that stop to simulate and to render once their episode has ended, as LeRobot's lazy ones do."""
        makers = [freeze_after_episode_end(partial(PickPlace, **self.gym_kwargs))] * n_envs
        mode = gym.vector.AutoresetMode.NEXT_STEP
        vector_env: gym.vector.VectorEnv
        if use_async_envs and n_envs > 1:
            vector_env = gym.vector.AsyncVectorEnv(makers, context="forkserver", autoreset_mode=mode)
        else:
            vector_env = gym.vector.SyncVectorEnv(makers, autoreset_mode=mode)
        return {self.type: {0: vector_env}}
