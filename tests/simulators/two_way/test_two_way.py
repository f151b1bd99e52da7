"""The two-way task: geometry, judgement, images, and the LeRobot registration."""

import dataclasses
import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from lerobot.configs import FeatureType
from lerobot.envs.configs import EnvConfig
from lerobot.envs.factory import make_env, make_env_config
from lerobot.envs.utils import env_to_policy_features, preprocess_observation

from lerobot_lafp.simulators.two_way import Episode, Layout, TwoWayEnv, read_episodes
from lerobot_lafp.simulators.two_way.configuration_two_way import TwoWayEnvConfig
from lerobot_lafp.simulators.two_way.two_way import MAX_STEP, OBSTACLE_COLOR, ROBOT_COLOR, contact_fraction, draw_scene

CENTRED = Layout(start=(0.5, 0.1), obstacle=(0.5, 0.5), goal=(0.5, 0.9))

#: From the centred start: out to a side, up past the obstacle, back to the middle.
LEFT = [(-1.0, 0.0)] * 7 + [(0.0, 1.0)] * 14 + [(1.0, 0.3)] * 8
RIGHT = [(-x, y) for x, y in LEFT]
STRAIGHT = [(0.0, 1.0)] * 20


def run(env, actions, layout=CENTRED):
    """Act until the episode ends. Returns the last step's values and the number of steps."""
    env.reset(seed=0, options={"layout": layout})
    for action in actions:
        _, reward, terminated, truncated, info = env.step(np.array(action, dtype=np.float32))
        if terminated or truncated:
            break
    return reward, terminated, truncated, info, len(env.episode.trail) - 1


# --- Geometry ----------------------------------------------------------------------------------------------


def test_contact_is_found_inside_a_segment_whose_ends_are_clear():
    # Through the centre of a circle of radius 1: first reached one unit before it.
    assert contact_fraction((-4, 0), (4, 0), (0, 0), 1.0) == pytest.approx(3 / 8)
    assert contact_fraction((-4, 0.6), (4, 0.6), (0, 0), 1.0) == pytest.approx((4 - 0.8) / 8)


def test_no_contact_beside_before_behind_or_without_motion():
    assert contact_fraction((-4, 1.01), (4, 1.01), (0, 0), 1.0) is None
    assert contact_fraction((-4, 0), (-1.1, 0), (0, 0), 1.0) is None
    assert contact_fraction((1.1, 0), (4, 0), (0, 0), 1.0) is None
    assert contact_fraction((2, 0), (2, 0), (0, 0), 1.0) is None
    assert contact_fraction((0.5, 0), (4, 0), (0, 0), 1.0) == 0.0


def test_grazing_the_obstacle_between_two_clear_points_is_a_failure():
    env = TwoWayEnv()
    distance = CENTRED.contact_distance - 1e-4
    layout = dataclasses.replace(CENTRED, start=(0.5 - distance, 0.5 - MAX_STEP / 2))
    for end in (layout.start[1], layout.start[1] + MAX_STEP):
        assert math.dist((layout.start[0], end), layout.obstacle) > layout.contact_distance
    _, terminated, _, info, count = run(env, [(0.0, 1.0)], layout)
    assert (terminated, count) == (True, 1)
    assert info == {"is_success": False, "touched": True, "mode": "none"}
    assert math.dist(env.position, layout.obstacle) == pytest.approx(layout.contact_distance)


def test_an_action_longer_than_one_is_shortened_and_walls_stop_the_robot():
    env = TwoWayEnv()
    env.reset(options={"layout": CENTRED})
    env.step(np.array([-1.0, 1.0], dtype=np.float32))
    assert math.dist(env.position, CENTRED.start) == pytest.approx(MAX_STEP)
    for _ in range(30):
        env.step(np.array([-1.0, -1.0], dtype=np.float32))
    assert env.position == pytest.approx((CENTRED.robot_radius, CENTRED.robot_radius))


@pytest.mark.parametrize("action", [[np.nan, 0.0], [np.inf, 0.0], [0.0], [[0.0, 0.0]]])
def test_an_action_that_is_not_two_finite_numbers_is_refused(action):
    env = TwoWayEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="two finite numbers"):
        env.step(np.array(action))


# --- Judgement ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("actions", "mode"), [(LEFT, "left"), (RIGHT, "right")])
def test_either_way_round_succeeds_and_is_named(actions, mode):
    env = TwoWayEnv()
    reward, terminated, truncated, info, count = run(env, actions)
    assert info == {"is_success": True, "touched": False, "mode": mode}
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert env.episode == Episode(0, CENTRED, env.episode.trail, mode, is_success=True, touched=False)
    assert count == len(env.episode.trail) - 1 < 60


def test_the_mean_of_both_ways_touches_the_obstacle():
    env = TwoWayEnv()
    reward, terminated, truncated, info, count = run(env, STRAIGHT)
    assert info == {"is_success": False, "touched": True, "mode": "none"}
    assert (reward, terminated, truncated) == (0.0, True, False)
    # The gap between robot and obstacle is 0.4 - 0.24 = 3.2 steps long.
    assert count == math.ceil(0.16 / MAX_STEP)


def test_the_mode_is_none_until_the_centre_is_passed_and_stays_from_then_on():
    env = TwoWayEnv()
    env.reset(options={"layout": CENTRED})
    modes = [env.step(np.array(action, dtype=np.float32))[-1]["mode"] for action in LEFT]
    passed = next(i for i, point in enumerate(env.episode.trail) if point[1] >= 0.5)
    assert set(modes[: passed - 1]) == {"none"}
    assert set(modes[passed - 1 :]) == {"left"}


def test_standing_still_is_cut_off_without_success():
    env = TwoWayEnv(max_episode_steps=12)
    reward, terminated, truncated, info, count = run(env, [(0.0, 0.0)] * 50)
    assert (reward, terminated, truncated, count) == (0.0, False, True, 12)
    assert info == {"is_success": False, "touched": False, "mode": "none"}


def test_the_log_holds_seeded_episodes_in_the_order_of_their_seeds(tmp_path):
    log = tmp_path / "episodes.jsonl"
    assert read_episodes(log) == []
    env = TwoWayEnv(episode_log=log, max_episode_steps=3)
    expected = {}
    for seed in (9, 2, None, 4, 2):
        env.reset(seed=seed)
        for _ in range(3):
            env.step(np.array([0.1 * len(expected), 0.5]))
        expected[seed] = env.episode
    assert read_episodes(log) == [expected[2], expected[4], expected[9]]


# --- Layouts and images ------------------------------------------------------------------------------------


def test_a_seed_fixes_the_layout_and_the_first_image():
    first, second = TwoWayEnv(), TwoWayEnv()
    image, _ = first.reset(seed=7)
    again, _ = second.reset(seed=7)
    assert first.layout == second.layout
    np.testing.assert_array_equal(image["pixels"], again["pixels"])
    second.reset()
    assert second.layout != first.layout
    second.reset(seed=8)
    assert second.layout != first.layout
    second.reset(seed=7)
    assert second.layout == first.layout


def test_a_fraction_of_a_pixel_of_motion_changes_the_image():
    size = 32
    image = draw_scene(CENTRED, (0.5, 0.1), size).astype(int)
    for fraction in (0.1, 0.25, 0.5):
        moved = draw_scene(CENTRED, (0.5 + fraction / size, 0.1), size).astype(int)
        change = np.abs(moved - image)
        assert change.max() > 10
        assert not change[: size // 2].any()  # the upper half shows goal and obstacle only


@pytest.mark.parametrize("size", [32, 48, 64])
def test_the_image_shows_each_disc_where_and_as_large_as_it_is(size):
    image = draw_scene(CENTRED, CENTRED.start, size).astype(float)
    for color, (x, y), radius in [
        (ROBOT_COLOR, CENTRED.start, CENTRED.robot_radius),
        (OBSTACLE_COLOR, CENTRED.obstacle, CENTRED.obstacle_radius),
    ]:
        # A pixel is covered by as much as it has moved from the background's colour to the disc's.
        axis = np.array(color, dtype=float) - 240
        covered = np.clip(((image - 240) @ axis) / (axis @ axis), 0, 1)
        covered[np.abs(image - 240 - covered[..., None] * axis).max(axis=-1) > 2] = 0
        rows, columns = np.mgrid[:size, :size]
        assert covered.sum() / size**2 == pytest.approx(math.pi * radius**2, rel=0.03)
        assert (covered * columns).sum() / covered.sum() == pytest.approx(x * size - 0.5, abs=0.1)
        assert (covered * rows).sum() / covered.sum() == pytest.approx((1 - y) * size - 0.5, abs=0.1)


def test_render_shows_the_same_scene_larger_with_the_trail():
    env = TwoWayEnv(render_size=128)
    env.reset(options={"layout": CENTRED})
    before = env.render()
    env.step(np.array([-1.0, 0.0], dtype=np.float32))
    after = env.render()
    assert before.shape == after.shape == (128, 128, 3)
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(before, draw_scene(CENTRED, CENTRED.start, 128, [CENTRED.start]))
    np.testing.assert_array_equal(after, draw_scene(CENTRED, env.position, 128, env.episode.trail))


# --- Gymnasium and LeRobot ---------------------------------------------------------------------------------


@pytest.mark.parametrize("obs_type", ["pixels", "pixels_agent_pos"])
def test_gymnasium_accepts_the_environment(obs_type):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*due to the environment not having a spec.*")
        check_env(TwoWayEnv(obs_type=obs_type))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"obs_type": "state"}, "obs_type"),
        ({"image_size": 16}, "image_size"),
        ({"image_size": 96}, "image_size"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        TwoWayEnv(**options)


def test_lerobot_knows_the_environment_once_the_plugin_is_imported():
    import lerobot_policy_lafp  # noqa: F401

    assert EnvConfig.get_choice_class("lafp_two_way") is TwoWayEnvConfig
    config = make_env_config("lafp_two_way", obs_type="pixels_agent_pos", image_size=48)
    features = env_to_policy_features(config)
    assert {key: (f.type, tuple(f.shape)) for key, f in features.items()} == {
        "action": (FeatureType.ACTION, (2,)),
        "observation.image": (FeatureType.VISUAL, (3, 48, 48)),
        "observation.state": (FeatureType.STATE, (2,)),
    }
    assert "observation.state" not in env_to_policy_features(make_env_config("lafp_two_way"))


@pytest.mark.parametrize("use_async_envs", [False, True])
def test_vectorised_episodes_report_success_and_mode_where_lerobot_looks(use_async_envs, tmp_path):
    log = tmp_path / "logs" / "episodes.jsonl"
    config = TwoWayEnvConfig(obs_type="pixels_agent_pos", episode_log=str(log))
    env = make_env(config, n_envs=2, use_async_envs=use_async_envs)["lafp_two_way"][0]
    try:
        assert isinstance(env, gym.vector.AsyncVectorEnv if use_async_envs else gym.vector.SyncVectorEnv)
        assert env.call("_max_episode_steps") == (60, 60)
        assert env.call("task_description")[0]
        assert env.unwrapped.metadata["render_fps"] == config.fps == 10

        observation, info = env.reset(seed=[5, 6], options={"layout": CENTRED})
        batch = preprocess_observation(observation)
        assert {key: tuple(x.shape) for key, x in batch.items()} == {
            "observation.image": (2, 3, 32, 32),
            "observation.state": (2, 2),
        }
        assert info["mode"].tolist() == ["none", "none"]
        assert np.stack(env.call("render")).shape == (2, 256, 256, 3)

        ended = {}
        for step in range(60):
            actions = np.array([LEFT[min(step, len(LEFT) - 1)], STRAIGHT[0]], dtype=np.float32)
            _, _, terminated, _, info = env.step(actions)
            for index in np.flatnonzero(terminated):
                final = info["final_info"]
                ended.setdefault(int(index), (bool(final["is_success"][index]), final["mode"][index]))
            if len(ended) == 2:
                break
        assert ended == {0: (True, "left"), 1: (False, "none")}
        episodes = read_episodes(log)  # the second environment has ended episodes of its own since
        assert [(e.seed, e.mode, e.is_success, e.touched) for e in episodes] == [
            (5, "left", True, False),
            (6, "none", False, True),
        ]
    finally:
        env.close()
