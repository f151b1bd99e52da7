"""Real-time chunking on PushT from keypoints: what each guidance does where inference takes 0 to 4 steps.

    python benchmarks/real_time_chunking.py --policy.path=CHECKPOINT

A chunk is asked for every 8 steps and comes ``delay`` steps later; until then the one before goes on. Episodes are
stepped by LeRobot's ``rollout``. Written: the maximum reward and success of every episode, and how far the commanded
position jumps from the last action of one chunk to the first of the next, beside how far it moves within a chunk; and
what guidance through the decoder gains and costs over all delays but none, episode by episode.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation.tasks import load
from lerobot.envs import make_env, make_env_pre_post_processors
from lerobot.envs.configs import PushtEnv
from lerobot.policies.rtc import RTCConfig
from lerobot.scripts.lerobot_eval import rollout
from lerobot.utils.random_utils import set_seed
from record import provenance, write_result
from torch import Tensor
from tqdm import tqdm

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.checkpoint.evaluation import mean_ci95
from lerobot_lafp.options.constants import Guidance

#: Actions of a chunk that are executed before the next is there.
EVERY = 8
GUIDANCES: tuple[Guidance, ...] = ("none", "latents", "noise", "decoder")
DELAYS = (0, 1, 2, 3, 4)
SIDE_BY_SIDE = 50


class DelayedPolicy(torch.nn.Module):
    """A policy whose chunks come ``delay`` steps after they were asked for, as LeRobot's ``rtc`` inference has them.

    Args:
        policy: The policy.
        delay: In steps, from 0 to ``H - EVERY``. The first chunk of an episode comes at once: the robot waits for it.
    """

    def __init__(self, policy: LAFPPolicy, delay: int) -> None:
        super().__init__()
        self.policy = policy
        self.config = policy.config
        self.delay = delay

    def reset(self) -> None:
        self.policy.reset()
        self._step = 0
        self._chunks: list[tuple[int, Tensor]] = []  # when it was asked for, and its actions

    @torch.inference_mode(False)
    def select_action(self, batch: dict[str, Any]) -> Tensor:
        """The action (B, A) of this step."""
        step = self._step
        self._step += 1
        if step % EVERY == 0:
            left_over = self._chunks[-1][1][:, step - self._chunks[-1][0] :] if self._chunks else None
            chunk = self.policy.predict_action_chunk(
                batch, inference_delay=self.delay, prev_chunk_left_over=left_over
            ).clone()
            self._chunks = [*self._chunks[-1:], (step, chunk)]
        there = [(asked, chunk) for asked, chunk in self._chunks if step >= asked + self.delay or asked == 0]
        asked, chunk = there[-1]
        return chunk[:, step - asked]

    def borders(self, steps: int) -> Tensor:
        """Whether the action of each step is the first of another chunk, (steps,)."""
        at = torch.arange(steps) - self.delay
        return (at % EVERY == 0) & (at > 0)


def measure(policy: LAFPPolicy, processors: Any, guidance: Guidance, delay: int, seeds: range) -> dict[str, Any]:
    """Episodes of ``seeds`` with one guidance and one delay."""
    policy.config.rtc_guidance = guidance
    policy.config.rtc_config = RTCConfig(execution_horizon=policy.config.horizon)
    policy.config.limits.enabled = False  # what a guidance does is not to be hidden by what would bound it
    delayed = DelayedPolicy(policy, delay)
    environment = PushtEnv(obs_type="environment_state_agent_pos")
    envs = make_env(environment, n_envs=min(SIDE_BY_SIDE, len(seeds)))["pusht"][0]
    around = make_env_pre_post_processors(environment, policy.config)
    set_seed(seeds[0])
    rewards, successes, jumps, moves = [], [], [], []
    for first in range(0, len(seeds), envs.num_envs):
        group = list(seeds[first : first + envs.num_envs])
        data = rollout(envs, delayed, *around, *processors, seeds=group)
        actions, done = data["action"], data["done"]
        over = torch.cat([torch.zeros_like(done[:, :1]), done[:, :-1]], dim=1).cummax(dim=1).values
        rewards += torch.where(over, 0, data["reward"]).amax(dim=1).tolist()
        successes += (data["success"] & ~over).any(dim=1).tolist()
        change = (actions[:, 1:] - actions[:, :-1]).norm(dim=-1)
        border = delayed.borders(actions.shape[1])[1:].expand_as(change)
        jumps += change[border & ~over[:, 1:]].tolist()
        moves += change[~border & ~over[:, 1:]].tolist()
    envs.close()
    return {
        "guidance": guidance,
        "delay": delay,
        "max_reward": mean_ci95(rewards),
        "success": mean_ci95([float(x) for x in successes]),
        "jump_at_borders": sum(jumps) / len(jumps),
        "move_within_chunks": sum(moves) / len(moves),
        "episodes": {"max_reward": [round(x, 4) for x in rewards], "success": successes},
    }


def differences(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Guidance through the decoder less each other, the mean of an episode over all delays but none."""
    late = [row for row in rows if row["delay"]]

    def mean(guidance: Guidance, key: str) -> Any:
        return np.mean([row["episodes"][key] for row in late if row["guidance"] == guidance], axis=0)

    return {
        f"decoder - {other}": {
            key: mean_ci95(mean("decoder", key) - mean(other, key)) for key in ("max_reward", "success")
        }
        for other in GUIDANCES
        if other != "decoder" and late
    }


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A table of what was measured, in Markdown."""
    yield "| guidance | delay | mean maximum reward | success | jump at borders | move within chunks |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        reward, success = row["max_reward"], row["success"]
        yield (
            f"| {row['guidance']} | {row['delay']} | {reward['mean']:.3f} [{reward['ci95'][0]:.3f}, "
            f"{reward['ci95'][1]:.3f}] | {success['mean']:.2f} [{success['ci95'][0]:.2f}, {success['ci95'][1]:.2f}] | "
            f"{row['jump_at_borders']:.1f} | {row['move_within_chunks']:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy.path", dest="checkpoint", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--first_seed", type=int, default=100_000)
    parser.add_argument("--delays", type=int, nargs="+", default=DELAYS)
    parser.add_argument("--name", default="real_time_chunking", help="of the result")
    given = parser.parse_args()
    policy, processors = load(given.checkpoint, {"device": "cpu"})
    seeds = range(given.first_seed, given.first_seed + given.episodes)
    jobs = [(guidance, delay) for delay in given.delays for guidance in GUIDANCES]
    rows = [measure(policy, processors, *job, seeds) for job in tqdm(jobs, unit="row")]
    path = write_result(
        given.name,
        {
            "task": "pusht_keypoints",
            "asked_every": EVERY,
            "evaluation_seeds": [seeds[0], seeds[-1]],
            "differences": differences(rows),
            "rows": rows,
            "provenance": provenance(),
        },
    )
    print("\n".join(lines(rows)))
    print(f"written to {path}")


if __name__ == "__main__":
    main()
