"""``benchmarks/ablation/tasks.py``: environments that render."""

import numpy as np
from ablation.tasks import TASKS, rendering
from lerobot.envs.factory import make_env

PUSHT = TASKS["pusht"]


def test_environments_in_processes_see_what_lerobots_own_see_and_answer_what_it_asks() -> None:
    environment, seeds = PUSHT.environment(), [5, 6]
    own, expected = rendering(environment, 2), next(iter(make_env(environment, n_envs=2).values()))[0]
    try:
        action = np.full((2, 2), 200.0, dtype=np.float32)
        for ours, theirs in (
            (own.reset(seed=seeds)[0], expected.reset(seed=seeds)[0]),
            (own.step(action)[0], expected.step(action)[0]),
        ):
            assert ours["pixels"].shape == (2, 96, 96, 3)
            assert np.array_equal(ours["pixels"], theirs["pixels"])
            assert np.array_equal(ours["agent_pos"], theirs["agent_pos"])
        assert own.call("task_description") == own.call("task") == ("", "")
        own.step(action)  # a process that has no answer ends, and steps no more
    finally:
        own.close()
        expected.close()
