"""Whether a dataset of video and one that has the actions go together, said before anything is read of them."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from lerobot.configs.default import DatasetConfig

from lerobot_lafp.options.context import TrainingContext
from lerobot_lafp.training import joined as module
from lerobot_lafp.training.joined import check_labels, fit_together, open_metadata

from ..building import lafp
from ..conftest import FRONT, STATE, WRIST

ACTION = "action"
Metas = Callable[..., SimpleNamespace]
Change = Callable[[dict[str, Any]], Any]


def numbers(*names: str) -> dict[str, Any]:
    return {"dtype": "float32", "shape": (len(names),), "names": list(names)}


def camera(height: int, width: int, dtype: str = "video", **info: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": (height, width, 3), "names": ["height", "width", "channels"], "info": info}


@pytest.fixture
def both(make_meta: Metas) -> tuple[SimpleNamespace, SimpleNamespace]:
    """Video of two cameras and a state, without actions; and the same with actions, and an observation more."""
    video, labels = make_meta([30, 30], "me/video"), make_meta([20, 20, 20], "me/play")
    video.features = {FRONT: camera(48, 64), WRIST: camera(32, 32), STATE: numbers("a", "b")}
    labels.features = {**copy.deepcopy(video.features), "observation.force": numbers("f"), ACTION: numbers("x", "y")}
    return video, labels


def test_a_dataset_that_there_is_not_is_named_by_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("no such repository")

    monkeypatch.setattr(module, "LeRobotDatasetMetadata", unknown)
    with pytest.raises(ValueError, match=r"me/ply cannot be read \(no such .*--policy\.labels\.repo_id.*labels\.root"):
        open_metadata(DatasetConfig("me/ply"), "policy.labels")


def test_what_both_have_is_read(both: Any) -> None:
    video, labels = both
    labels.features[FRONT] = camera(48, 64, "image")  # in its tables, where the other has videos
    video.features["observation.said"] = {"dtype": "string", "shape": (1,), "names": None}
    fit = fit_together(lafp(device="cpu"), video, labels)
    assert sorted(fit.observations) == sorted([FRONT, WRIST, STATE])
    assert fit.order == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda of: of.pop(ACTION), r"me/play has no `action` column.*--policy\.labels\.repo_id"),
        (
            lambda of: of.pop(WRIST),
            r"no `observation\.images\.wrist`.*--policy\.observations=\[[^]]*front,[^]]*state\]",
        ),
        (lambda of: of.pop(STATE), r"no `observation\.state`, which the policy reads of me/video"),
        (
            lambda of: of.update({FRONT: camera(24, 32)}),
            r"pictures of \(3, 48, 64\).*in me/video and \(3, 24, 32\) in me/play.*--policy\.resize_shape=\[24,32\]",
        ),
        (lambda of: of.update({FRONT: camera(48, 48)}), r"\(3, 48, 48\) in me/play\. Record them alike.*aspect"),
        (
            lambda of: of.update({WRIST: camera(32, 32, is_depth_map=True)}),
            r"is a camera in .* a camera that tells dist",
        ),
        (lambda of: of.update({WRIST: numbers("x")}), r"is a camera in me/video and numbers in me/play"),
        (lambda of: of.update({STATE: numbers("a", "b", "c")}), r"shape \(2,\) in me/video and \(3,\) in me/play"),
        (lambda of: of.update({STATE: numbers("a", "z")}), r"is a, b in me/video and a, z in me/play.*meta/info\.json"),
    ],
)
def test_what_does_not_go_together_is_named_with_its_mend(change: Change, says: str, both: Any) -> None:
    video, labels = both
    change(labels.features)
    with pytest.raises(ValueError, match=says):
        fit_together(lafp(device="cpu"), video, labels)


def test_another_rate_is_refused(both: Any) -> None:
    video, labels = both
    labels.fps = 15
    with pytest.raises(ValueError, match=r"me/play has 15 frames per second and me/video 10.*import-datasets --fps=10"):
        fit_together(lafp(device="cpu"), video, labels)


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"observations": [FRONT, STATE]}, lambda of: of.pop(WRIST)),
        ({"latent_features": [STATE]}, lambda of: [of.pop(key) for key in (FRONT, WRIST)]),
        ({"resize_shape": (12, 16)}, lambda of: of.update({FRONT: camera(24, 32), WRIST: camera(64, 64)})),
        ({}, lambda of: of[STATE].update(names=None)),
        ({}, lambda of: of.update({ACTION: numbers("x", "y", "z")})),
    ],
)
def test_what_does_not_matter_is_no_matter(options: dict[str, Any], change: Change, both: Any) -> None:
    video, labels = both
    video.features[ACTION] = numbers("of", "another", "robot", "it", "is")
    change(labels.features)
    fit_together(lafp(device="cpu", **options), video, labels)


def test_a_policy_that_was_trained_needs_what_it_was_trained_with(both: Any) -> None:
    """Nothing can be left out any more."""
    video, labels = both
    del labels.features[WRIST]
    with pytest.raises(ValueError, match=r"no `observation\.images\.wrist`.*Name a dataset of the same robot") as said:
        fit_together(lafp(device="cpu", latent_features=[FRONT, STATE, WRIST]), video, labels)
    assert "--policy.observations" not in str(said.value)


def test_names_that_the_run_gives_its_cameras(both: Any) -> None:
    video, labels = both
    for meta in (video, labels):
        meta.features["observation.images.top"] = meta.features.pop(FRONT)
    config = lafp(device="cpu", latent_features=[FRONT, STATE])
    config.context = TrainingContext(rename_map={"observation.images.top": FRONT})
    assert sorted(fit_together(config, video, labels).observations) == ["observation.images.top", STATE]


def test_joints_are_put_in_order_by_name(both: Any) -> None:
    video, labels = both
    labels.features[STATE] = numbers("b", "a")
    assert fit_together(lafp(device="cpu"), video, labels).order == {STATE: [1, 0]}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"labels__episodes": [0, 3]}, r"`labels\.episodes` names episode 3, but me/play has 3 episodes \(0 to 2\)"),
        ({"relative_actions": True}, r"`relative_actions` reads `observation\.state`.*me/play has none"),
        ({"decoder_observes": "state"}, r"`decoder_observes` reads `observation\.state`.*me/play has none"),
    ],
)
def test_what_is_asked_of_the_labels_alone(options: dict[str, Any], says: str, both: Any) -> None:
    """Stage 3 would find it after hours."""
    _, labels = both
    if "labels__episodes" not in options:
        del labels.features[STATE]
    with pytest.raises(ValueError, match=says):
        check_labels(lafp(device="cpu", labels__repo_id="me/play", **options), labels)
