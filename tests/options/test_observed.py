"""Which observations a policy reads, and whose labels it has: chosen by a person, kept by the checkpoint."""

from pathlib import Path
from typing import Any

import pytest
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig

from ..building import lafp

STATE, FRONT, WRIST, ACTION = "observation.state", "observation.images.front", "observation.images.wrist", "action"
FEATURES: dict[str, dict[str, Any]] = {
    STATE: {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
    FRONT: {"dtype": "video", "shape": (20, 24, 3), "names": ["height", "width", "channels"]},
    WRIST: {"dtype": "video", "shape": (20, 24, 3), "names": ["height", "width", "channels"]},
    ACTION: {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
}


def inputs() -> dict[str, PolicyFeature]:
    """As LeRobot reads them of the dataset."""
    seen = dict.fromkeys((FRONT, WRIST), PolicyFeature(FeatureType.VISUAL, (3, 20, 24)))
    return {STATE: PolicyFeature(FeatureType.STATE, (2,)), **seen}


def test_all_observations_are_read_unless_some_are_named() -> None:
    config = lafp(input_features=inputs())
    config.set_dataset_feature_metadata(FEATURES)
    assert config.facts.latent_features == sorted((STATE, FRONT, WRIST))


def test_those_that_are_named_are_all_that_a_robot_must_have(tmp_path: Path) -> None:
    config = lafp(input_features=inputs(), observations=[FRONT, STATE])
    config.set_dataset_feature_metadata(FEATURES)
    assert set(config.input_features) == {FRONT, STATE}
    assert (list(config.camera_shapes), list(config.vector_shapes)) == ([FRONT], [STATE])
    config.save_pretrained(tmp_path)
    later = PreTrainedConfig.from_pretrained(tmp_path)
    later.set_dataset_feature_metadata({key: each for key, each in FEATURES.items() if key != WRIST})
    assert set(later.input_features) == {FRONT, STATE}


def test_an_observation_that_is_not_there_is_named() -> None:
    config = lafp(input_features=inputs(), observations=["observation.images.top"])
    with pytest.raises(ValueError, match=r"`observations` names observation.images.top.*It has \['observation.images"):
        config.set_dataset_feature_metadata(FEATURES)


@pytest.mark.parametrize(("typed", "kept"), [([], "me/first"), (["--labeled_episodes=[1]"], None)])
def test_a_list_that_is_typed_anew_is_for_the_dataset_of_its_run(
    typed: list[str], kept: str | None, tmp_path: Path
) -> None:
    lafp(labeled_episodes=[0, 1], labels_repo_id="me/first").save_pretrained(tmp_path)
    config = PreTrainedConfig.from_pretrained(tmp_path, cli_overrides=["--stage=latent_policy", *typed])
    assert config.facts.labels_repo_id == kept


@pytest.mark.parametrize(
    ("typed", "kept", "labels"),
    [
        ([], "me/video", ("me/play", "data/play", [1])),
        (["--labels.episodes=[2]"], None, ("me/play", "data/play", [2])),
        (["--labels.repo_id=me/other"], None, ("me/other", None, None)),
        (["--labels.repo_id=me/other", "--labels.episodes=[0]"], None, ("me/other", None, [0])),
        (['--labels={"repo_id": "me/other"}'], None, ("me/other", None, None)),
        (["--labels.repo_id=null"], None, (None, None, None)),
    ],
)
def test_labels_that_are_typed_anew_bring_nothing_of_those_before(
    typed: list[str], kept: str | None, labels: tuple[Any, ...], tmp_path: Path
) -> None:
    named = {"labels__repo_id": "me/play", "labels__root": "data/play", "labels__episodes": [1]}
    lafp(**named, labels_repo_id="me/video").save_pretrained(tmp_path)
    config = PreTrainedConfig.from_pretrained(tmp_path, cli_overrides=["--stage=latent_policy", *typed])
    assert config.facts.labels_repo_id == kept
    assert (config.labels.repo_id, config.labels.root, config.labels.episodes) == labels


def test_names_that_are_typed_stand_before_those_of_the_dataset() -> None:
    config = lafp(input_features=inputs(), action_dim=2, action_names=["a", "b"], names={ACTION: ["x", "y"]})
    assert config.names_of(ACTION) == ["x", "y"]
    config.match_names({ACTION: {"names": ["y", "x"], "shape": (2,)}})
    assert config.orders == {ACTION: [1, 0]}
