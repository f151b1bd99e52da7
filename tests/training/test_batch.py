"""What a stage gets of a LeRobot batch, and what is refused at the door."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lerobot_lafp import LAFPConfig
from lerobot_lafp.observation.normalizer import ObservationNormalizer
from lerobot_lafp.training.batch import TrainingBatch, read_batch

STATE, FRONT = "observation.state", "observation.images.front"
NAN, INF = float("nan"), float("inf")
# The tiny configuration looks at frames -1 (history), 0, 2 and 4 (latents), and at 4 actions.
HISTORY, FRAMES = [0, 1], [1, 2, 3]


def read(batch: dict[str, Any], config: LAFPConfig) -> TrainingBatch:
    config.facts.action_dim = 2
    return read_batch(batch, config, ObservationNormalizer(config.camera_shapes, config.vector_shapes))


def pad(batch: dict[str, Any], row: int, frames: slice) -> None:
    """Mark frames as beyond the episode, for every observation, as LeRobot does."""
    for key in (STATE, FRONT):
        batch[f"{key}_is_pad"][row, frames] = True


@pytest.fixture
def joint(make_config: Callable[..., LAFPConfig], make_batch: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """``joint(**options)``: a configuration with state and camera in stage joint, and a batch for it."""

    def build(**options: Any) -> tuple[LAFPConfig, dict[str, Any]]:
        config = make_config(STATE, FRONT, **options)
        return config, make_batch(config, episodes=[5, 6, 7, 5])

    return build


def test_history_and_latent_frames_are_picked_by_their_offsets(joint: Callable[..., Any]) -> None:
    config, batch = joint()
    data = read(batch, config)
    assert config.observation_delta_indices == [-1, 0, 2, 4]
    assert torch.equal(data.history[STATE], batch[STATE][:, HISTORY])
    assert torch.equal(data.frames[STATE], batch[STATE][:, FRAMES])
    torch.testing.assert_close(data.frames[FRONT], 2 * batch[FRONT][:, FRAMES] - 1)
    assert torch.equal(data.actions, batch["action"])
    assert data.valid.all()
    assert data.valid.shape == (4, 2)
    assert data.labeled.all()
    assert data.origins is None


@pytest.mark.parametrize(
    ("stage", "frames", "actions", "has_history"),
    [("latent_action", 2, 2, False), ("latent_policy", 3, 0, True), ("action_decoder", 3, 4, True)],
)
def test_every_stage_reads_its_own_frames(
    stage: str, frames: int, actions: int, has_history: bool, joint: Callable[..., Any]
) -> None:
    config, batch = joint(stage=stage)
    data = read(batch, config)
    assert data.frames[STATE].shape == (4, frames, 2)
    assert data.actions.shape == (4, actions, 2)
    assert data.labeled.shape == (4, actions)
    assert data.history[STATE].shape == (4, 2 if has_history else 0, 2)


def test_a_dataset_without_actions_has_no_labels(joint: Callable[..., Any]) -> None:
    config, batch = joint()
    batch["action"] = None
    data = read(batch, config)
    assert data.actions.shape == (4, 4, 2)
    assert not data.labeled.any()


def test_latents_that_touch_a_padded_frame_are_not_valid(joint: Callable[..., Any]) -> None:
    config, batch = joint()
    pad(batch, 1, slice(3, 4))  # frame 4
    pad(batch, 2, slice(2, 4))  # frames 2 and 4
    pad(batch, 3, slice(0, 1))  # frame -1, before the episode: history, and no latent
    assert read(batch, config).valid.tolist() == [[True, True], [True, False], [False, False], [True, True]]


def test_padded_frames_are_wiped_whatever_they_hold(joint: Callable[..., Any]) -> None:
    config, batch = joint()
    pad(batch, 2, slice(2, 4))
    for key in (STATE, FRONT):
        batch[key][2, 2:] = NAN
    data = read(batch, config)
    for x in data.frames.values():
        assert torch.isfinite(x).all()
        assert not x[2, 1:].any()
        assert x[2, 0].any()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_bad_action_is_named_with_its_episode(value: float, joint: Callable[..., Any]) -> None:
    config, batch = joint()
    batch["action"][1, 2, 0] = value
    with pytest.raises(
        ValueError, match=r"`action` holds NaN or infinite values in episode 6\..*--policy\.labeled_episodes"
    ):
        read(batch, config)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_bad_state_is_named_with_its_episode(value: float, joint: Callable[..., Any]) -> None:
    config, batch = joint(labeled_episodes=[5])
    batch[STATE][2, 1, 1] = value
    with pytest.raises(
        ValueError, match=r"`observation\.state` holds NaN or infinite values in episode 7\. .*lerobot-edit-dataset"
    ) as error:
        read(batch, config)
    assert "labeled_episodes" not in str(error.value), "leaving it unlabelled does not mend a state"


def test_nan_that_nothing_learns_from_passes(joint: Callable[..., Any]) -> None:
    config, batch = joint(labeled_episodes=[5])
    batch["action"][1:3] = NAN  # episodes 6 and 7 are not labelled
    batch["action"][0, 3], batch["action_is_pad"][0, 3] = NAN, True
    batch[STATE][3, 3] = NAN
    pad(batch, 3, slice(3, 4))
    data = read(batch, config)
    assert data.labeled.sum(dim=1).tolist() == [3, 0, 0, 4]
    assert torch.isfinite(data.frames[STATE]).all()


def test_statistics_spoilt_by_a_bad_episode_are_named(joint: Callable[..., Any]) -> None:
    config, batch = joint()
    stats = {STATE: {"mean": torch.tensor([0.0, NAN]), "std": torch.ones(2)}}
    normalizer = ObservationNormalizer(config.camera_shapes, config.vector_shapes, stats)
    with pytest.raises(ValueError, match=r"statistics of `observation\.state` are NaN.*lerobot-edit-dataset"):
        read_batch(batch, config, normalizer)


def test_labels_are_chosen_by_episode(joint: Callable[..., Any]) -> None:
    config, batch = joint(labeled_episodes=[7, 5])
    batch["action_is_pad"][0, 2:] = True
    assert read(batch, config).labeled.sum(dim=1).tolist() == [2, 0, 4, 4]
    batch["episode_index"] = batch["episode_index"].unsqueeze(1)  # some loaders keep the axis
    assert read(batch, config).labeled.sum(dim=1).tolist() == [2, 0, 4, 4]


def test_labels_without_an_episode_index_are_refused(joint: Callable[..., Any]) -> None:
    config, batch = joint(labeled_episodes=[5])
    del batch["episode_index"]
    with pytest.raises(ValueError, match=r"`labeled_episodes` is set, but the batch has no `episode_index`"):
        read(batch, config)


def test_a_wrong_number_of_frames_is_refused(joint: Callable[..., Any]) -> None:
    config, batch = joint()
    for key in (STATE, FRONT):
        batch[key] = batch[key][:, :2]
    with pytest.raises(ValueError, match=r"has 2 frame\(s\), but stage joint trains on 4, at offsets \[-1, 0, 2, 4\]"):
        read(batch, config)


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 2), (4, 4, 3)])
def test_a_wrong_shape_of_action_is_refused(shape: tuple[int, ...], joint: Callable[..., Any]) -> None:
    config, batch = joint()
    batch["action"] = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"`action` has shape .*expected \(4, 4, 2\).*delta_timestamps"):
        read(batch, config)


def test_a_chunk_is_relative_to_the_present_and_a_latent_to_its_first_frame(joint: Callable[..., Any]) -> None:
    config, batch = joint(relative_actions=True)
    data = read(batch, config)
    now, middle = batch[STATE][:, 1], batch[STATE][:, 2]
    torch.testing.assert_close(data.actions_of_chunk(relative=True), batch["action"] - now.unsqueeze(1))
    assert torch.equal(data.actions_of_chunk(relative=False), batch["action"])
    actions, labeled = data.actions_per_latent(relative=True)
    assert actions.shape == (4, 2, 2, 2)
    assert labeled.all()
    torch.testing.assert_close(actions[:, 0], batch["action"][:, :2] - now.unsqueeze(1))
    torch.testing.assert_close(actions[:, 1], batch["action"][:, 2:] - middle.unsqueeze(1))


def test_an_action_of_a_latent_that_is_not_valid_is_no_label_of_stage_one(joint: Callable[..., Any]) -> None:
    config, batch = joint()
    pad(batch, 0, slice(3, 4))
    _, labeled = read(batch, config).actions_per_latent(relative=False)
    assert labeled[0].tolist() == [[True, True], [False, False]]
    assert labeled[1:].all()


def test_a_single_frame_comes_without_a_time_axis_or_with_one(
    make_config: Callable[..., LAFPConfig], make_batch: Callable[..., dict[str, Any]]
) -> None:
    """LeRobot asked for no offset gives (B, 3, H, W); asked for one, that of a video and (B, 1, 3, H, W) of images."""
    config = make_config(
        STATE, FRONT, stage="action_decoder", decoder_input="samples", n_obs_steps=1, relative_actions=True
    )
    batch = make_batch(config)
    assert batch[FRONT].shape == (4, 3, 20, 24)
    data = read(batch, config)
    assert data.history[FRONT].shape == (4, 1, 3, 20, 24)
    with_axis = batch | {key: batch[key].unsqueeze(1) for key in (STATE, FRONT)}
    assert torch.equal(read(with_axis, config).history[FRONT], data.history[FRONT])
    torch.testing.assert_close(data.actions_of_chunk(relative=True), batch["action"] - batch[STATE].unsqueeze(1))
    batch[STATE][3, 0] = NAN
    with pytest.raises(ValueError, match="episode 3"):
        read(batch, config)


def test_a_held_last_frame_is_a_frame_like_any_other(joint: Callable[..., Any]) -> None:
    """Of observations alone: an action beyond the end is still none."""
    config, batch = joint(hold_last_frame=True)
    pad(batch, 1, slice(2, 4))
    batch["action_is_pad"][1, 1:] = True
    for key in (STATE, FRONT):
        batch[key][1, 2:] = batch[key][1, 1:2]  # LeRobot repeats the last frame
    data = read(batch, config)
    assert data.valid.all()
    for key in (STATE, FRONT):
        assert data.frames[key][1, 0].any()
        assert torch.equal(data.frames[key][1, 1:], data.frames[key][1, :1].expand_as(data.frames[key][1, 1:]))
    assert data.labeled.sum(dim=1).tolist() == [4, 1, 4, 4]
    _, labeled = data.actions_per_latent(relative=False)
    assert labeled[1].tolist() == [[True, False], [False, False]]
    config.hold_last_frame = False
    masked = read(batch, config)
    assert masked.valid[1].tolist() == [False, False]
    assert not masked.frames[STATE][1, 1:].any()


def test_a_bad_state_in_a_held_frame_is_named(joint: Callable[..., Any]) -> None:
    config, batch = joint(hold_last_frame=True)
    pad(batch, 2, slice(3, 4))
    batch[STATE][2, 3] = NAN
    with pytest.raises(ValueError, match=r"`observation\.state` holds NaN or infinite values in episode 7"):
        read(batch, config)


@pytest.mark.parametrize("stage", ["joint", "latent_action"])
def test_an_observation_that_is_missing_is_named(stage: str, joint: Callable[..., Any]) -> None:
    config, batch = joint(stage=stage)
    del batch[STATE]
    with pytest.raises(KeyError, match=f"`{STATE}` is missing"):
        read(batch, config)


def test_frames_beyond_the_episode_are_known_under_a_cameras_old_name(joint: Callable[..., Any]) -> None:
    """LeRobot's rename_map renames a camera, and not what says which of its frames are padding."""
    config, batch = joint()
    pad(batch, 0, slice(3, None))
    for key in (STATE, FRONT):
        batch[key.replace("observation.", "observation.old_") + "_is_pad"] = batch.pop(f"{key}_is_pad")
    assert read(batch, config).valid[0].tolist() == [True, False]
