"""The demonstrator succeeds on both ways; its dataset holds what it should, and is written once."""

import json

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_lafp.simulators.two_way import TwoWayEnv
from lerobot_lafp.simulators.two_way import demonstrator as module
from lerobot_lafp.simulators.two_way.demonstrator import (
    MIN_EPISODE_FRAMES,
    Demonstrator,
    demonstrate,
    demonstrations,
    taut_path,
    write_demonstrations,
)
from lerobot_lafp.simulators.two_way.two_way import MAX_EPISODE_STEPS, TASK, sample_layout

# --- The demonstrator --------------------------------------------------------------------------------------


def test_it_always_succeeds_on_either_side_within_a_chunk_and_the_time_limit():
    env = TwoWayEnv()
    episodes, modes = [], []
    for seed in range(100):
        episodes.append(demonstrate(env, np.random.default_rng(seed)))
        modes.append(env.episode.mode)
    lengths = [len(episode.actions) for episode in episodes]
    assert all(episode.is_success for episode in episodes)
    assert modes == [episode.side for episode in episodes]
    # 100 fair coins: outside 35 to 65 once in 500 draws, and the seeds are fixed.
    assert 35 <= sum(episode.side == "left" for episode in episodes) <= 65
    assert min(lengths) >= MIN_EPISODE_FRAMES
    assert max(lengths) <= MAX_EPISODE_STEPS
    assert 25 <= np.mean(lengths) <= 35
    assert all(np.linalg.norm(episode.actions, axis=1).max() <= 1 + 1e-6 for episode in episodes)


def test_actions_are_what_moved_the_robot():
    env = TwoWayEnv()
    episode = demonstrate(env, np.random.default_rng(0))
    env.reset(options={"layout": episode.layout})
    for image, position, action in zip(episode.images, episode.positions, episode.actions, strict=True):
        np.testing.assert_allclose(env.position, position, atol=1e-6)
        np.testing.assert_array_equal(env._observation()["pixels"], image)
        *_, info = env.step(action)
    assert info["is_success"]


def test_the_taut_path_keeps_its_clearance_and_joins_start_and_goal():
    for seed in range(50):
        layout = sample_layout(np.random.default_rng(seed))
        for side in ("left", "right"):
            path = taut_path(layout, side, clearance=0.06)
            distance = np.linalg.norm(path - np.array(layout.obstacle), axis=1)
            assert distance.min() == pytest.approx(layout.contact_distance + 0.06, abs=1e-6)
            np.testing.assert_allclose(path[0], layout.start)
            np.testing.assert_allclose(path[-1], layout.goal)
            assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 0.011
            beside = path[np.abs(path[:, 1] - layout.obstacle[1]).argmin()]
            assert (beside[0] < layout.obstacle[0]) == (side == "left")


def test_the_mean_of_both_sides_runs_into_the_obstacle():
    env = TwoWayEnv()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        layout = sample_layout(rng)
        env.reset(options={"layout": layout})
        ways = []
        for side in ("left", "right"):
            env.reset(options={"layout": layout})
            demonstrator, actions, done = Demonstrator(layout, rng, side), [], False
            while not done:
                actions.append(demonstrator.act(env.position))
                done = env.step(actions[-1])[2]
            ways.append(actions)
        env.reset(options={"layout": layout})
        for left, right in zip(*ways, strict=False):
            *_, info = env.step((left + right) / 2)
            if info["touched"]:
                break
        assert info["touched"]


def test_consecutive_pairs_cover_both_sides_and_prefixes_do_not_change():
    six, four = list(demonstrations(6, seed=3)), list(demonstrations(4, seed=3))
    for first, second in zip(six[::2], six[1::2], strict=True):
        assert {first.side, second.side} == {"left", "right"}
    for a, b in zip(six, four, strict=False):
        np.testing.assert_array_equal(a.actions, b.actions)
    assert next(demonstrations(1, seed=4)).layout != six[0].layout


def test_layouts_are_not_those_of_evaluation():
    shown = {episode.layout for seed in (0, 1000) for episode in demonstrations(10, seed)}
    env = TwoWayEnv()
    for seed in [*range(50), *range(1000, 1050)]:
        env.reset(seed=seed)
        assert env.layout not in shown


# --- The dataset -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("demonstrations") / "two_way"
    labeled = write_demonstrations(root, 4, num_labeled=2, seed=1, image_size=40, obs_type="pixels_agent_pos")
    return root, labeled


def test_the_dataset_loads_with_actions_for_the_labelled_episodes_only(written):
    root, labeled = written
    assert labeled == [0, 1]
    dataset = LeRobotDataset("local/two_way", root=root)
    truth = list(demonstrations(4, seed=1, image_size=40))
    assert dataset.num_episodes == 4
    assert dataset.fps == 10
    assert [int(n) for n in dataset.meta.episodes["length"]] == [len(episode.actions) for episode in truth]
    assert dataset.meta.features["observation.image"]["dtype"] == "image"
    index = 0
    for number, episode in enumerate(truth):
        for step in range(len(episode.actions)):
            if step % 9 == 0:
                frame = dataset[index]
                assert int(frame["episode_index"]) == number
                assert frame["task"] == TASK
                assert tuple(frame["observation.image"].shape) == (3, 40, 40)
                image = torch.from_numpy(episode.images[step]).permute(2, 0, 1) / 255
                torch.testing.assert_close(frame["observation.image"], image)
                torch.testing.assert_close(frame["observation.state"], torch.from_numpy(episode.positions[step]))
                if number in labeled:
                    torch.testing.assert_close(frame["action"], torch.from_numpy(episode.actions[step]))
                else:
                    assert frame["action"].shape == (2,)
                    assert frame["action"].isnan().all()
            index += 1
    assert index == len(dataset)


def test_the_statistics_of_observations_are_finite_and_those_of_withheld_actions_are_not(written):
    stats = LeRobotDataset("local/two_way", root=written[0]).meta.stats
    for key in ("observation.image", "observation.state"):
        assert all(np.isfinite(value).all() for value in stats[key].values())
    assert np.isnan(stats["action"]["mean"]).all()


def test_nothing_is_left_over(written):
    root, _ = written
    assert sorted(path.name for path in root.iterdir()) == ["data", "meta"]
    assert [path.name for path in root.parent.iterdir()] == [root.name]


def test_a_complete_dataset_is_left_as_it_is(written, monkeypatch):
    root, labeled = written
    monkeypatch.setattr(module, "LeRobotDataset", None)  # nothing can be written
    arguments = {"num_labeled": 2, "seed": 1, "image_size": 40, "obs_type": "pixels_agent_pos"}
    assert write_demonstrations(root, 4, **arguments) == labeled


def test_a_dataset_of_other_arguments_or_of_someone_else_is_not_overwritten(written, tmp_path):
    with pytest.raises(FileExistsError, match=r"seed=1 \(asked for: 2\)"):
        write_demonstrations(written[0], 4, num_labeled=2, seed=2, image_size=40, obs_type="pixels_agent_pos")
    (tmp_path / "mine.txt").write_text("not a dataset")
    with pytest.raises(FileExistsError, match="no two-way demonstrations"):
        write_demonstrations(tmp_path, 2)
    assert (tmp_path / "mine.txt").exists()


def test_a_run_that_was_killed_is_written_again(tmp_path, monkeypatch):
    root = tmp_path / "two_way"
    add_episode = module._add_episode
    calls = []

    def killed_in_the_second_episode(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        add_episode(*args, **kwargs)

    monkeypatch.setattr(module, "_add_episode", killed_in_the_second_episode)
    with pytest.raises(KeyboardInterrupt):
        write_demonstrations(root, 2)
    assert not root.exists()
    assert (tmp_path / "two_way.partial").exists()
    monkeypatch.setattr(module, "_add_episode", add_episode)
    assert write_demonstrations(root, 2) == [0, 1]
    assert not (tmp_path / "two_way.partial").exists()
    assert LeRobotDataset("local/two_way", root=root).num_episodes == 2


def test_without_labels_there_is_no_action_column(tmp_path):
    root = tmp_path / "two_way"
    root.mkdir()  # an empty folder is taken over
    assert write_demonstrations(root, 1, num_labeled=0) == []
    dataset = LeRobotDataset("local/two_way", root=root)
    assert "action" not in dataset.features
    assert "observation.state" not in dataset.features
    assert json.loads((root / "meta" / "lafp_demonstrations.json").read_text())["num_labeled"] == 0


@pytest.mark.parametrize(("episodes", "labeled"), [(0, None), (2, 3), (2, -1)])
def test_impossible_numbers_are_refused(tmp_path, episodes, labeled):
    with pytest.raises(ValueError, match="num_episodes"):
        write_demonstrations(tmp_path / "two_way", episodes, num_labeled=labeled)
