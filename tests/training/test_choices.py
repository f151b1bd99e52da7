"""What the first dataset decides of a policy, and what it leaves alone."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import draccus
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lerobot.configs import PreTrainedConfig
from lerobot.datasets import LeRobotDatasetMetadata

from lerobot_lafp import LAFPConfig
from lerobot_lafp.options.context import TrainingContext
from lerobot_lafp.options.fields import named_fields
from lerobot_lafp.options.groups import Backbone, Labels
from lerobot_lafp.training.choices import CHUNK_S, LONGEST_SIDE, as_table, choose

from ..data.datasets import camera, numbers, write

#: Options that a dataset decides where nobody does.
BY_DATASET = {each.name for each in named_fields(LAFPConfig) if each.by_dataset}
JOINTS = ["pan", "lift", "grip"]


def meta_of(fps: float = 10, lengths: tuple[int, ...] = (300,), **features: Any) -> SimpleNamespace:
    """Metadata without tables."""
    return SimpleNamespace(fps=fps, episodes={"length": list(lengths)}, features=features, root=None, repo_id="me/pick")


def recorded(root: Path, actions: Callable[[Any, Any], Any], **of_action: Any) -> LeRobotDatasetMetadata:
    """Two episodes of three joints that move, and the ``actions`` (state, change) that did it."""
    at = {}

    def frame(episode: int, t: int, draw: np.random.Generator) -> Mapping[str, Any]:
        place = lambda t: np.sin(t / 9 + np.arange(3) + episode)  # noqa: E731
        state, change = place(t), place(t + 1) - place(t)
        at[t] = state
        return {
            "observation.state": state.astype(np.float32),
            "action": np.asarray(actions(state, change), dtype=np.float32),
        }

    features = {"observation.state": numbers(3, JOINTS), "action": {**numbers(3, JOINTS), **of_action}}
    return LeRobotDatasetMetadata(f"local/{root.name}", root=write(root, features, frame, lengths=(40, 40)))


# --- How long a chunk lasts ----------------------------------------------------------------------------------


@given(fps=st.integers(4, 120), length=st.integers(1, 5000))
def test_a_chunk_lasts_as_long_at_any_rate(fps: int, length: int) -> None:
    config = LAFPConfig(device="cpu")
    choose(config, meta_of(fps, (length,)))
    assert config.horizon % config.num_latents == 0
    assert config.n_action_steps == max(1, config.horizon // 2)
    seconds = config.horizon / fps
    assert seconds <= CHUNK_S * 1.25 + 2 / fps
    # As long as wanted, within a frame a latent, where half of an episode is longer than that.
    assert seconds >= CHUNK_S - 2 * config.num_latents / fps or config.horizon + config.num_latents > length / 2


@given(
    typed=st.fixed_dictionaries(
        {}, optional={"horizon": st.sampled_from([4, 6, 10, 12, 30]), "n_action_steps": st.integers(1, 4)}
    ),
    fps=st.integers(4, 60),
)
def test_what_is_set_by_hand_stays(typed: dict[str, int], fps: int) -> None:
    config = LAFPConfig(device="cpu", **typed)
    chosen = {each.name for each in choose(config, meta_of(fps))}
    assert not chosen & set(typed)
    assert {name: getattr(config, name) for name in typed} == typed
    assert config.horizon % config.num_latents == 0


def test_a_chunk_that_is_set_is_divided_and_executed_accordingly() -> None:
    config = LAFPConfig(device="cpu", horizon=10)
    assert (config.horizon, config.num_latents, config.n_action_steps) == (10, 5, 5)


# --- At which size cameras are seen --------------------------------------------------------------------------


@given(height=st.integers(64, 1080), width=st.integers(64, 1920))
def test_large_cameras_are_seen_smaller_in_their_aspect(height: int, width: int) -> None:
    config = LAFPConfig(device="cpu")
    choose(config, meta_of(**{"observation.images.front": camera("video", (height, width))}))
    if max(height, width) <= LONGEST_SIDE:
        assert config.resize_shape is None
    else:
        assert config.resize_shape is not None
        assert max(config.resize_shape) <= LONGEST_SIDE + 4
        assert min(config.resize_shape) >= 8


@given(height=st.integers(8, 1080), width=st.integers(8, 1920))
def test_images_are_shifted_by_a_share_of_what_is_seen(height: int, width: int) -> None:
    config = LAFPConfig(device="cpu")
    choose(config, meta_of(**{"observation.images.front": camera("video", (height, width))}))
    seen = max(config.resize_shape or (height, width))
    assert 1 <= config.random_shift <= seen / 8
    assert abs(config.random_shift - seen / 16) <= 0.5 or config.random_shift == 1


def test_without_cameras_nothing_is_shifted() -> None:
    config = LAFPConfig(device="cpu")
    choose(config, meta_of(**{"observation.state": numbers(3, JOINTS)}))
    assert config.random_shift == 0


def test_the_shift_is_of_the_size_that_is_typed() -> None:
    config = LAFPConfig(device="cpu", resize_shape=(32, 48))
    choose(config, meta_of(**{"observation.images.front": camera("video", (480, 720))}))
    assert config.random_shift == 3


def test_a_camera_that_is_not_observed_does_not_count() -> None:
    config = LAFPConfig(device="cpu", observations=["observation.images.wrist"])
    cameras = {
        "observation.images.front": camera("video", (480, 640)),
        "observation.images.wrist": camera(size=(64, 64)),
    }
    choose(config, meta_of(**cameras))
    assert config.resize_shape is None


def test_an_encoder_that_is_chosen_by_hand_sees_what_it_is_given() -> None:
    config = LAFPConfig(device="cpu", backbone=Backbone(encoder="resnet18"))
    choose(config, meta_of(**{"observation.images.front": camera("video", (480, 640))}))
    assert config.resize_shape is None


# --- What actions are ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "relative"),
    [
        (lambda state, change: state + change, True),
        (lambda state, change: state + 5 * change, True),
        (lambda state, change: change, False),
        (lambda state, change: 10 * change, False),
    ],
    ids=["next state", "ahead of the state", "steps", "velocities"],
)
def test_actions_that_are_places_of_joints_are_relative(
    actions: Callable[[Any, Any], Any], relative: bool, tmp_path: Path
) -> None:
    config = LAFPConfig(device="cpu")
    choose(config, recorded(tmp_path / "data", actions))
    assert config.relative_actions is relative
    assert config.decoder_observes == "state"


def test_the_decoder_asks_for_no_state_that_the_policy_is_not_shown(tmp_path: Path) -> None:
    """Speeds that another dataset than the video tells, or a later stage's, beside states that the video has or not."""
    meta = recorded(tmp_path / "data", lambda state, change: 10 * change)
    for features, observes in ((["observation.state"], "state"), (["observation.image"], "nothing")):
        config = LAFPConfig(device="cpu")
        config.facts.latent_features = features
        choose(config, meta)
        assert (config.decoder_observes or "nothing") == observes
    config = LAFPConfig(device="cpu", labels=Labels(repo_id="local/play"))
    choose(config, meta, of_labels=True)
    assert (config.decoder_observes or "nothing") == "nothing", "what the video has is not known yet"


@pytest.mark.parametrize(
    ("observations", "renamed", "observes"),
    [
        (None, "observation.state", "state"),
        (["observation.state"], "observation.state", "state"),
        (["observation.other"], "observation.state", "nothing"),
        (None, "observation.other", "nothing"),
    ],
)
def test_the_decoder_sees_the_state_where_there_is_one(
    observations: list[str] | None, renamed: str, observes: str, tmp_path: Path
) -> None:
    meta = recorded(tmp_path / "data", lambda state, change: 10 * change)
    meta.info.features[renamed] = meta.info.features.pop("observation.state")
    file = next((meta.root / "data").glob("*/*.parquet"))
    table = pq.read_table(file)
    pq.write_table(
        table.rename_columns([renamed if name == "observation.state" else name for name in table.column_names]), file
    )
    config = LAFPConfig(device="cpu", observations=observations)
    choose(config, meta)
    assert not config.relative_actions
    assert (config.decoder_observes or "nothing") == observes


def test_joints_are_matched_by_name(tmp_path: Path) -> None:
    backwards = recorded(tmp_path / "data", lambda state, change: (state + change)[::-1], names=JOINTS[::-1])
    config = LAFPConfig(device="cpu")
    choose(config, backwards)
    assert config.relative_actions


def test_names_that_are_typed_count_as_the_datasets_own(tmp_path: Path) -> None:
    meta = recorded(tmp_path / "own", lambda state, change: state + change, names=["x", "y", "z"])
    for names, near in ((None, False), ({"action": JOINTS}, True)):
        config = LAFPConfig(device="cpu", names=names)
        choose(config, meta)
        assert config.relative_actions is near


def test_a_state_that_is_renamed_is_the_state(tmp_path: Path) -> None:
    meta = recorded(tmp_path / "own", lambda state, change: state + change)
    meta.info.features["observation.joints"] = meta.info.features.pop("observation.state")
    file = next((meta.root / "data").glob("*/*.parquet"))
    table = pq.read_table(file)
    renamed = {"observation.state": "observation.joints"}
    pq.write_table(table.rename_columns([renamed.get(name, name) for name in table.column_names]), file)
    for rename_map, near in (({}, False), ({"observation.joints": "observation.state"}, True)):
        config = LAFPConfig(device="cpu")
        config.context = TrainingContext(rename_map=rename_map)
        choose(config, meta)
        assert config.relative_actions is near


def test_other_names_than_the_joints_are_no_places(tmp_path: Path) -> None:
    config = LAFPConfig(device="cpu")
    choose(config, recorded(tmp_path / "data", lambda state, change: state, names=["x", "y", "z"]))
    assert not config.relative_actions


def test_only_labelled_episodes_are_looked_at(tmp_path: Path) -> None:
    """The first episode's actions are places, the second's are not: what is not labelled is not read."""
    meta = recorded(tmp_path / "data", lambda state, change: state)
    file = next((tmp_path / "data").glob("data/chunk-*/*.parquet"))
    table = pq.read_table(file)
    second = table["episode_index"].to_numpy() == 1
    values = np.stack(table["action"].to_numpy(zero_copy_only=False))
    values[second] = np.nan
    at = table.schema.get_field_index("action")
    pq.write_table(
        table.set_column(at, table.schema.field(at), pa.array(list(values), table.schema.field(at).type)), file
    )
    config = LAFPConfig(device="cpu", labeled_episodes=[0])
    choose(config, meta)
    assert config.relative_actions


# --- When it is decided --------------------------------------------------------------------------------------


def test_video_without_actions_leaves_them_to_the_dataset_that_has_some(tmp_path: Path) -> None:
    config = LAFPConfig(device="cpu", stage="latent_action")
    choose(config, meta_of(30, **{"observation.images.front": camera("video", (480, 640))}))
    assert {"relative_actions", "decoder_observes"} <= set(config.facts.undecided or ())
    config.facts.latent_features = ["observation.images.front"]
    config.save_pretrained(tmp_path / "saved")
    later = PreTrainedConfig.from_pretrained(tmp_path / "saved")
    assert isinstance(later, LAFPConfig)
    assert (later.horizon, later.resize_shape) == (config.horizon, config.resize_shape)
    choose(later, recorded(tmp_path / "data", lambda state, change: state + change))
    assert later.relative_actions
    assert later.horizon == config.horizon  # decided before


def test_the_video_of_a_labels_dataset_decides_nothing_of_actions(tmp_path: Path) -> None:
    video = recorded(tmp_path / "video", lambda state, change: state)
    play = recorded(tmp_path / "play", lambda state, change: change)
    config = LAFPConfig(device="cpu", labels=Labels(repo_id="local/play"))
    choose(config, video)
    assert "relative_actions" in (config.facts.undecided or ())
    choose(config, play, of_labels=True)
    assert config.facts.chosen is not None
    assert not config.relative_actions
    assert "relative_actions" in config.facts.chosen


def test_an_option_typed_beside_a_checkpoint_is_decided(tmp_path: Path) -> None:
    LAFPConfig(device="cpu").save_pretrained(tmp_path)
    later = PreTrainedConfig.from_pretrained(tmp_path, cli_overrides=["--relative_actions=false"])
    assert isinstance(later, LAFPConfig)
    assert "relative_actions" not in (later.facts.undecided or ())


def test_a_checkpoint_that_is_older_stays_as_it_was(tmp_path: Path) -> None:
    LAFPConfig(device="cpu").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    saved = json.loads(file.read_text())
    saved["facts"] |= {"undecided": None, "chosen": None, "latent_features": ["observation.images.front"]}
    file.write_text(json.dumps(saved))
    older = PreTrainedConfig.from_pretrained(tmp_path)
    assert isinstance(older, LAFPConfig)
    assert choose(older, meta_of(30, **{"observation.images.front": camera("video", (480, 640))})) == []
    assert (older.horizon, older.resize_shape) == (16, None)


# --- What is said of it --------------------------------------------------------------------------------------


def test_every_choice_is_said_with_its_reason_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = LAFPConfig(device="cpu")
    meta = recorded(tmp_path / "data", lambda state, change: state)
    found = choose(config, meta)
    assert {each.name for each in found} == BY_DATASET - {"resize_shape", "random_shift"}
    assert all(each.typed in caplog.text and each.reason in caplog.text for each in found)
    assert as_table(found) in caplog.text
    caplog.clear()
    assert choose(config, meta) == []
    assert not caplog.records


def test_a_choice_can_be_typed(tmp_path: Path) -> None:
    """What the table says, typed, gives the same policy."""
    config = LAFPConfig(device="cpu")
    meta = recorded(tmp_path / "data", lambda state, change: state)
    words = [each.typed.replace("--policy.", "--") for each in choose(config, meta)]
    typed = draccus.parse(LAFPConfig, args=["--device=cpu", *words])
    assert {name: getattr(typed, name) for name in BY_DATASET} == {name: getattr(config, name) for name in BY_DATASET}
