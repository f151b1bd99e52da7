"""Load a LAFP checkpoint and act with it, without any command: the loop a robot runs.

lafp demo && python examples/act.py outputs/two_way/lafp/action_decoder/checkpoints/last/pretrained_model
"""

import sys

import torch
from lerobot.envs.utils import preprocess_observation
from lerobot.policies import make_pre_post_processors

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.simulators.two_way import TwoWayEnv

checkpoint = sys.argv[1]
policy = LAFPPolicy.from_pretrained(checkpoint)
preprocess, postprocess = make_pre_post_processors(policy.config, pretrained_path=checkpoint)

torch.manual_seed(0)
env = TwoWayEnv()
for seed in range(5):
    observation, info = env.reset(seed=seed)
    policy.reset()
    done = False
    while not done:
        batch = preprocess(preprocess_observation({key: x[None] for key, x in observation.items()}))
        action = postprocess(policy.select_action(batch))
        observation, _, terminated, truncated, info = env.step(action[0].numpy())
        done = terminated or truncated
    print(f"episode {seed}: {'reached the goal' if info['is_success'] else 'failed'}, passed {info['mode']}")
