"""Frames in memory are the samples that LeRobot's own loader gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ablation.frames import Frames
from lerobot.datasets import EpisodeAwareSampler, LeRobotDataset
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.policies.factory import make_policy_config
from torch.utils.data import default_collate

from lerobot_lafp.options.constants import STAGES

DATA = Path(__file__).parents[3] / "shared" / "data" / "lerobot"
KEYPOINTS = DATA / "pusht_keypoints"

#: What a batch depends on: stages of LAFP, the flow on actions, and one of LeRobot's policies.
DELTAS: dict[str, dict[str, Any]] = {
    **{stage: {"stage": stage} for stage in ("joint", *STAGES)},
    "direct": {"stage": "action_decoder", "decoder_input": "samples"},
    "single frame": {"stage": "action_decoder", "decoder_input": "samples", "n_obs_steps": 1},
    "long chunk": {"stage": "joint", "n_obs_steps": 3, "horizon": 40, "num_latents": 20},
    "flow_on_actions": {"stage": "joint", "latent_source": "actions"},
    "act": {},
}


@pytest.fixture
def config_of(make_config: Callable[..., Any]) -> Callable[[str], Any]:
    def build(name: str) -> Any:
        if name == "act":  # no offsets at all for observations
            return make_policy_config("act", chunk_size=5, n_action_steps=5, device="cpu", push_to_hub=False)
        return make_config(**DELTAS[name])

    return build


@pytest.fixture(params=["two_way", "pusht_keypoints"])
def dataset(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """Name and root: one dataset with images, one of vectors alone."""
    if request.param == "two_way":
        return "local/two_way", request.getfixturevalue("two_way")
    if not KEYPOINTS.is_dir():
        pytest.skip(f"needs the PushT demonstrations in {KEYPOINTS}")
    return "lerobot/pusht_keypoints", KEYPOINTS


@pytest.mark.parametrize("name", DELTAS)
def test_a_batch_is_what_lerobots_loader_collates(
    name: str, dataset: tuple[str, Path], config_of: Callable[[str], Any]
) -> None:
    repo_id, root = dataset
    frames, config = Frames(repo_id, root), config_of(name)
    loader = LeRobotDataset(repo_id, root=root, delta_timestamps=resolve_delta_timestamps(config, frames.meta))
    # Both ends of the first, second and last episode, and the middle; out of order, as a shuffle gives them.
    at = [bound for e in (0, 1, -1) for bound in (int(frames.first[e]), int(frames.first[e]) + 1)]
    at += [int(frames.end[e]) - back for e in (0, 1, -1) for back in (1, 2, 4)]
    index = torch.tensor([len(frames.episode) // 2, *reversed(at)])
    expected = default_collate([loader[int(i)] for i in index])
    batch = frames.batch(index, config)
    read = ("observation.", "action", "episode_index")
    assert batch.keys() == {key for key in expected if key.startswith(read)}
    for key, x in batch.items():
        assert x.dtype == expected[key].dtype, key
        assert torch.equal(x, expected[key]), key
    padded = [key for key in batch if key.endswith("_is_pad") and batch[key].any()]
    ahead = [d for d in (config.observation_delta_indices, config.action_delta_indices) if d is not None and len(d) > 1]
    assert bool(padded) == bool(ahead), "the frames chosen reach beyond their episodes"


@pytest.mark.parametrize("episodes", [None, [1], [0, 3, 5]])
@pytest.mark.parametrize("dropped", [0, 4])
def test_usable_frames_are_those_of_lerobots_sampler(
    dropped: int, episodes: list[int] | None, dataset: tuple[str, Path]
) -> None:
    frames = Frames(*dataset)
    about = frames.meta.episodes
    sampler = EpisodeAwareSampler(
        about["dataset_from_index"],
        about["dataset_to_index"],
        episode_indices_to_use=episodes,
        drop_n_last_frames=dropped,
    )
    assert frames.usable(episodes, dropped).tolist() == sampler.indices


def test_episodes_are_told_apart_by_their_bounds(dataset: tuple[str, Path]) -> None:
    frames = Frames(*dataset)
    assert frames.num_episodes == frames.meta.total_episodes
    assert int(frames.end[-1]) == len(frames.episode) == frames.meta.total_frames
    assert frames.first.tolist() == list(frames.meta.episodes["dataset_from_index"])
    assert frames.end.tolist() == list(frames.meta.episodes["dataset_to_index"])
