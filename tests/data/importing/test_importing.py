"""``lafp import-videos`` and ``import-datasets`` through the command, on folders with all that folders have."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset

from lerobot_lafp.cli.main import main
from lerobot_lafp.data.importing import importer as importing
from lerobot_lafp.data.importing.importer import REPORT, Settings, import_part
from lerobot_lafp.data.importing.video_files import Framing, Image
from lerobot_lafp.data.importing.video_sources import VideoFile, video_files
from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations

from ...executors import InProcess
from ..conftest import MakeVideo

CAMERA = "observation.image"
#: Of ``folder``'s files, in order: greys of the frames.
FILES = {
    "pour/b.mp4": range(20, 140, 10),
    "push/a.mkv": range(240, 90, -10),
    "push/deep/a.mp4": range(100, 200, 10),
}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "ProcessPoolExecutor", InProcess)


@pytest.fixture
def folder(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Three videos, two of one name, a file that is no video, and a link to the folder itself."""
    root = tmp_path / "videos"
    for name, greys in FILES.items():
        make_video(root / name, greys)
    (root / "notes.txt").write_text("a file of another kind")
    (root / "push" / "loop").symlink_to(root)
    return root


def run(*arguments: Any) -> int:
    return main(["import-videos", "--size=32x48", "--workers=1", *map(str, arguments)])


def episodes(root: Path) -> list[tuple[str, str, list[int]]]:
    """Of every episode: its source, its task, and its frames' greys to the nearest ten."""
    dataset = LeRobotDataset("local/out", root=root)
    assert dataset.features.keys() == {CAMERA, "source"} | {
        "timestamp",
        "frame_index",
        "episode_index",
        "index",
        "task_index",
    }
    found: list[tuple[str, str, list[int]]] = []
    for i in range(len(dataset)):
        frame = dataset[i]
        if frame["frame_index"] == 0:
            found.append((frame["source"], frame["task"], []))
        found[-1][2].append(10 * round(float(frame[CAMERA].mean()) * 255 / 10))
    assert len(found) == dataset.num_episodes
    return found


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a dataset, but for the report's time-independent names: all of it."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.slow  # in processes, each of which imports LeRobot
def test_a_folder_becomes_a_dataset(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With worker processes, as the user runs it."""
    assert run(folder, f"--root={tmp_path / 'out'}", "--tasks=folder") == 0
    expected = [
        ("videos/pour/b.mp4", "pour", list(FILES["pour/b.mp4"])),
        ("videos/push/a.mkv", "push", list(FILES["push/a.mkv"])),
        ("videos/push/deep/a.mp4", "deep", list(FILES["push/deep/a.mp4"])),
    ]
    assert episodes(tmp_path / "out") == expected
    assert "Imported 3 episodes, 37 frames" in capsys.readouterr().out
    assert not (tmp_path / "out.partial").exists()
    assert multiprocessing.active_children() == []
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert [outcome["frames"] for outcome in report["outcomes"]] == [12, 15, 10]
    stats = LeRobotDataset("local/out", root=tmp_path / "out").meta.stats[CAMERA]
    greys = np.concatenate([list(greys) for greys in FILES.values()]) / 255
    assert stats["mean"].shape == (3, 1, 1)
    assert abs(float(stats["mean"].mean()) - greys.mean()) < 0.03
    assert int(stats["count"][0]) == 37


@pytest.mark.usefixtures("in_process")
def test_long_videos_are_split_and_cut(make_video: MakeVideo, tmp_path: Path) -> None:
    scene = [30] * 7 + [220] * 12
    make_video(tmp_path / "in" / "a.mp4", scene)
    assert run(tmp_path / "in", f"--root={tmp_path / 'cuts'}", "--split_cuts") == 0
    assert [len(greys) for _, _, greys in episodes(tmp_path / "cuts")] == [7, 12]
    assert run(tmp_path / "in", f"--root={tmp_path / 'short'}", "--max_seconds=0.8", "--min_frames=4") == 0
    assert [len(greys) for _, _, greys in episodes(tmp_path / "short")] == [8, 8], "3 frames were too few"


@pytest.mark.usefixtures("in_process")
def test_tasks_from_a_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "tasks.csv"
    table.write_text("file,task\npour/b.mp4,pour the tea\na.mkv,push it\n")
    assert run(folder, f"--root={tmp_path / 'out'}", f"--tasks={table}") == 1
    assert "does not list 1 of 3 files, as ['videos/push/deep/a.mp4']" in capsys.readouterr().err
    table.write_text(table.read_text() + "push/deep/a.mp4,push it\n")
    assert run(folder, f"--root={tmp_path / 'out'}", f"--tasks={table}") == 0
    assert [task for _, task, _ in episodes(tmp_path / "out")] == ["pour the tea", "push it", "push it"]


@pytest.mark.usefixtures("in_process")
def test_what_cannot_be_read_is_skipped_and_named(
    folder: Path, make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text.mp4").write_text("no video")
    (folder / "nothing.mp4").touch()
    make_video(folder / "one.mp4", [90])
    make_video(folder / "whole.mp4", range(20, 240, 5), size=(96, 96))
    whole = (folder / "whole.mp4").read_bytes()
    (folder / "whole.mp4").write_bytes(whole[: int(0.7 * len(whole))])
    assert run(folder, f"--root={tmp_path / 'out'}") == 0
    assert len(episodes(tmp_path / "out")) == 3
    said = capsys.readouterr().out
    assert said.count("skipped") == 4
    for name in ("text", "nothing", "whole"):
        assert f"skipped videos/{name}.mp4: it cannot be decoded" in said
    assert "skipped videos/one.mp4: it has but one frame" in said


class Deadly:
    """A source whose reading ends the process."""

    name = label = "deadly"

    def identity(self) -> list[Any]:
        return []

    def clips(self, framing: Framing) -> Iterator[tuple[str, Iterator[Image]]]:
        os._exit(1)


@pytest.mark.slow
def test_a_file_that_kills_its_reader_is_skipped(folder: Path, tmp_path: Path) -> None:
    sources = [VideoFile(path, name, "") for name, path in video_files([folder]).items()]
    settings = Settings(Framing(10, 32, 48))
    report = importing.run_import([Deadly(), *sources], tmp_path / "out", "local/out", settings, 2, False)
    assert [outcome.skipped for outcome in report.outcomes] == ["the process that read it died", None, None, None]
    assert len(episodes(tmp_path / "out")) == 3


@pytest.mark.usefixtures("in_process")
def test_an_interrupted_import_ends_as_any_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, f"--root={tmp_path / 'whole'}") == 0
    done: list[str] = []

    def interrupted(source: VideoFile, settings: Settings, part: Path) -> None:
        if done:
            part.with_suffix(".new").mkdir()  # what a killed worker leaves
            raise KeyboardInterrupt
        import_part(source, settings, part)
        done.append(source.name)

    monkeypatch.setattr(importing, "import_part", interrupted)
    assert run(folder, f"--root={tmp_path / 'out'}") == 130
    assert "--resume" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    def counted(source: VideoFile, settings: Settings, part: Path) -> None:
        import_part(source, settings, part)
        done.append(source.name)

    monkeypatch.setattr(importing, "import_part", counted)
    assert run(folder, f"--root={tmp_path / 'out'}") == 1
    assert "holds an import that did not end. Go on with it: --resume" in capsys.readouterr().err
    assert run(folder, f"--root={tmp_path / 'out'}", "--resume", "--fps=5") == 1
    assert "was begun with other options" in capsys.readouterr().err
    assert run(folder, f"--root={tmp_path / 'out'}", "--resume") == 0
    assert sorted(done) == sorted(video_files([folder])), "nothing twice"
    one, other = contents(tmp_path / "whole"), contents(tmp_path / "out")
    one.pop(REPORT), other.pop(REPORT)  # it holds the dataset's name
    assert one == other


@pytest.mark.usefixtures("in_process")
def test_a_full_disk_leaves_a_whole_dataset(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage, full_after = shutil.disk_usage, [0]

    def filling(path: Any) -> Any:
        full_after[0] -= 1
        return usage(path) if full_after[0] >= 0 else usage(path)._replace(free=0)

    monkeypatch.setattr(importing.shutil, "disk_usage", filling)
    assert run(folder, f"--root={tmp_path / 'out'}") == 1
    error = capsys.readouterr().err
    assert "Nothing was imported" in error
    assert "The disk is full" in error
    assert not (tmp_path / "out").exists()
    full_after[0] = 2
    assert run(folder, f"--root={tmp_path / 'out'}", "--resume") == 1
    assert "The disk is full" in capsys.readouterr().out
    assert [source for source, _, _ in episodes(tmp_path / "out")] == ["videos/pour/b.mp4", "videos/push/a.mkv"]
    monkeypatch.setattr(importing.shutil, "disk_usage", usage)
    assert run(folder, f"--root={tmp_path / 'out'}", "--resume") == 0
    assert len(episodes(tmp_path / "out")) == 3


@pytest.mark.usefixtures("in_process")
def test_bad_arguments_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: Any) -> str:
        capsys.readouterr()
        assert run(*arguments) == 1
        return capsys.readouterr().err

    root = f"--root={tmp_path / 'out'}"
    (tmp_path / "empty").mkdir()
    assert "There is no video" in error(tmp_path / "empty", root)
    assert "neither a folder nor a file" in error(tmp_path / "missing", root)
    assert "even number" in error(folder, root, "--size=33")
    assert "--fps" in error(folder, root, "--fps=0")
    assert "must begin with observation.image" in error(folder, root, "--camera=front")
    assert "--max_seconds" in error(folder, root, "--max_seconds=0.1")
    (tmp_path / "file").write_text("mine")
    assert "is there already" in error(folder, f"--root={tmp_path / 'file'}")
    assert "out/of" in error(folder, f"--root={tmp_path / 'file' / 'out/of'}"), "no folder can be made in a file"
    assert (tmp_path / "file").read_text() == "mine"
    (folder / "bad.mp4").write_text("no video")
    assert "skipped bad.mp4" in error(folder / "bad.mp4", root)
    assert not (tmp_path / "out").exists()


def test_same_names_are_told_apart(make_video: MakeVideo, tmp_path: Path) -> None:
    for place in ("one/videos", "two/videos"):
        make_video(tmp_path / place / "a.mp4", [20, 30])
    names = list(video_files([tmp_path / "one/videos", tmp_path / "two/videos"]))
    assert names == [str(tmp_path / "one/videos/a.mp4"), str(tmp_path / "two/videos/a.mp4")]


@pytest.mark.usefixtures("in_process")
def test_datasets_of_different_cameras_and_rates_become_one(
    make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of video at 5 Hz, one of images at its own rate with states and actions."""
    make_video(tmp_path / "in" / "a.mp4", range(20, 140, 10), fps=5)
    make_video(tmp_path / "in" / "b.mp4", range(140, 20, -10), fps=5)
    assert (
        run(
            tmp_path / "in",
            f"--root={tmp_path / 'slow'}",
            "--fps=5",
            "--tasks=folder",
            "--camera=observation.images.top",
        )
        == 0
    )
    write_demonstrations(tmp_path / "robot", 2, obs_type="pixels_agent_pos")
    robot = LeRobotDataset("local/robot", root=tmp_path / "robot")
    arguments = [f"--root={tmp_path / 'out'}", "--size=32x48", f"--fps={robot.fps}", "--workers=1"]
    assert main(["import-datasets", str(tmp_path / "slow"), str(tmp_path / "robot"), *arguments]) == 0
    found = episodes(tmp_path / "out")
    repeats = robot.fps // 5
    assert [(source, task) for source, task, _ in found[:2]] == [("slow", "in"), ("slow", "in")]
    assert [len(greys) for _, _, greys in found[:2]] == [11 * repeats + 1] * 2
    assert found[0][2][::repeats] == list(range(20, 140, 10))
    assert [len(greys) for _, _, greys in found[2:]] == list(robot.meta.episodes["length"])
    assert found[2][:2] == ("robot", robot[0]["task"])
    capsys.readouterr()
    assert main(["import-datasets", f"{tmp_path / 'robot'},observation.image2", *arguments]) == 1
    assert "has no camera observation.image2: name one of ['observation.image']" in capsys.readouterr().err
