"""Cameras that show nothing are named, and those that show a scene that stands still are not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lerobot_lafp.cli.main import main
from lerobot_lafp.data.validation.cameras import Looks, evenly, find

from ..datasets import LENGTHS, camera, covered, numbers, scene, write

ONE, OTHER = "observation.images.one", "observation.images.other"
STATE = {"observation.state": numbers(2, ["a.pos", "b.pos"]), "action": numbers(2, ["a.pos", "b.pos"])}

Picture = Callable[[int, int, np.random.Generator], NDArray[Any]]


def moving(episode: int, t: int, draw: np.random.Generator) -> NDArray[Any]:
    return scene(t / LENGTHS[episode], draw)


def from_behind(episode: int, t: int, draw: np.random.Generator) -> NDArray[Any]:
    return moving(episode, t, draw)[:, ::-1]


def black_at_first(episode: int, t: int, draw: np.random.Generator) -> NDArray[Any]:
    return covered(draw) if episode == 0 else moving(episode, t, draw)


def frozen_later(episode: int, t: int, draw: np.random.Generator) -> NDArray[Any]:
    return scene(0.5, np.random.default_rng(1)) if episode == 1 else moving(episode, t, draw)


def frozen_from_the_middle(episode: int, t: int, draw: np.random.Generator) -> NDArray[Any]:
    return scene(0.5, np.random.default_rng(1)) if episode == 2 and t >= 10 else moving(episode, t, draw)


def grey(episode: int, t: int, draw: np.random.Generator) -> NDArray[Any]:
    return np.full((32, 48, 3), 128, dtype=np.uint8)


def still_scene(episode: int, t: int, draw: np.random.Generator) -> NDArray[Any]:
    return scene(0.5, draw)


def filmed(tmp_path: Path, dtype: str, one: Picture, other: Picture | None, moves: bool = True) -> Path:
    """Three episodes of a state that moves, or does not, seen by one camera or two."""

    def frame(episode: int, t: int, draw: np.random.Generator) -> dict[str, Any]:
        state = np.array([t / 10 if moves else 0.3, draw.normal(0, 1e-4)], dtype=np.float32)
        pictures = {ONE: one(episode, t, draw)} | ({OTHER: other(episode, t, draw)} if other is not None else {})
        return {"observation.state": state, "action": state, **pictures}

    cameras = {ONE: camera(dtype), **({OTHER: camera(dtype)} if other is not None else {})}
    return write(tmp_path / "filmed", {**cameras, **STATE}, frame)


def found_in(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[list[dict[str, Any]], list[str]]:
    capsys.readouterr()
    assert main(["check", str(root), "--json", *options]) == 0
    said = json.loads(capsys.readouterr().out)
    return said["overview"]["pictures"]["findings"], said["remarks"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--decode"]], ids=["few", "all"])
@pytest.mark.parametrize("dtype", ["image", "video"])
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (moving, None, []),
        (black_at_first, from_behind, [(ONE, "black", [0], True)]),
        (from_behind, frozen_later, [(OTHER, "frozen", [1], True)]),
        (grey, None, [(ONE, "plain", [0, 1, 2], True)]),
    ],
    ids=["sound", "black", "frozen", "plain"],
)
def test_a_camera_that_shows_nothing_is_named_by_episode(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    dtype: str,
    one: Picture,
    other: Picture | None,
    expected: list[tuple[str, str, list[int], bool]],
) -> None:
    found, remarks = found_in(filmed(tmp_path, dtype, one, other), capsys, *options)
    assert [(each["camera"], each["kind"], each["episodes"], each["whole"]) for each in found] == expected
    for name, _, episodes, _ in expected:
        assert any(name in remark for remark in remarks)
        if len(episodes) == 1:
            rest = [episode for episode in range(3) if episode not in episodes]
            assert f"--dataset.episodes={json.dumps(rest, separators=(',', ':'))}" in " ".join(remarks)
        else:
            assert "--policy.observations='[\"observation.state\"]'" in " ".join(remarks)


def test_two_cameras_that_show_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Though each was compressed by itself."""

    def same(episode: int, t: int, draw: np.random.Generator) -> NDArray[Any]:
        return scene(t / LENGTHS[episode], np.random.default_rng(t))

    found, remarks = found_in(filmed(tmp_path, "video", same, same), capsys)
    assert [(each["camera"], each["other"], each["episodes"]) for each in found] == [(OTHER, ONE, [0, 1, 2])]
    assert "show the same pictures in all 3 episodes" in remarks[0]


def test_a_camera_that_freezes_in_the_middle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--decode"]):
        root = filmed(tmp_path / f"{len(options)}", "image", frozen_from_the_middle, from_behind)
        found, _ = found_in(root, capsys, *options)
        assert [(each["camera"], each["kind"], each["episodes"], each["whole"]) for each in found] == [
            (ONE, "frozen", [2], False)
        ]
        assert 0.4 < found[0]["part"] < 0.7


@pytest.mark.parametrize("dtype", ["image", "video"])
def test_a_scene_that_stands_still_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    """Neither with a camera's noise, nor to the bit while nothing moves."""
    assert not found_in(filmed(tmp_path / "noisy", dtype, still_scene, None), capsys)[0]
    root = filmed(tmp_path / "exact", dtype, lambda e, t, draw: scene(0.5, np.random.default_rng(1)), None, moves=False)
    assert not found_in(root, capsys)[0]


def looks(images: list[NDArray[Any]]) -> Looks:
    seen = Looks()
    for frame, image in enumerate(images):
        seen.add(frame, image[..., 1])
    return seen


def test_without_a_state_another_camera_tells_whether_one_is_frozen() -> None:
    draw = np.random.default_rng(0)
    still, goes = looks([scene(0.2, np.random.default_rng(1))] * 8), looks([scene(t / 8, draw) for t in range(8)])
    assert [each.camera for each in find({"still": still, "goes": goes}, 0, None)] == ["still"]
    noisy = looks([scene(0.7, draw) for _ in range(8)])
    assert not list(find({"still": still, "noisy": noisy}, 0, None))
    assert [each.kind for each in find({"still": still}, 0, None)] == ["frozen"]


def test_one_black_picture_is_not_worth_telling() -> None:
    draw = np.random.default_rng(0)
    images = [covered(draw), *(scene(t / 8, draw) for t in range(7))]
    assert not list(find({"a": looks(images)}, 0, None))
    images[1] = covered(draw)
    assert [(each.kind, each.part) for each in find({"a": looks(images)}, 0, None)] == [("black", 0.25)]


@pytest.mark.parametrize(("count", "most", "expected"), [(0, 8, []), (1, 8, [0]), (3, 8, [0, 1, 2]), (9, 3, [0, 4, 8])])
def test_frames_are_spread_evenly(count: int, most: int, expected: list[int]) -> None:
    assert evenly(count, most) == expected
