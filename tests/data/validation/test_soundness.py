"""Faults of datasets on disk, by what ``lafp check`` and those who meet them say."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata

from lerobot_lafp.cli.main import main
from lerobot_lafp.data.importing import importer as importing
from lerobot_lafp.data.opening import load_dataset
from lerobot_lafp.data.validation import check as checking
from lerobot_lafp.data.validation.soundness import CheckLevel, validate_dataset
from lerobot_lafp.runs.stages import train_stages
from lerobot_lafp.runs.trainings import last_checkpoint, train
from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations

from ...building import lafp
from ...executors import InProcess
from ..conftest import MakeVideo

TABLE = "data/chunk-000/file-000.parquet"
VIDEO = "videos/observation.image/chunk-000/file-00{}.mp4"
LENGTHS = (12, 15, 10)


@pytest.fixture
def filmed(make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three episodes of 10 frames a second, each in a video of its own."""
    monkeypatch.setattr(importing, "ProcessPoolExecutor", InProcess)
    for i, length in enumerate(LENGTHS):
        make_video(tmp_path / "videos" / f"{i}.mp4", range(20, 20 + 10 * length, 10))
    root = tmp_path / "filmed"
    assert not main(["import-videos", str(tmp_path / "videos"), f"--root={root}", "--size=32x48", "--workers=1"])
    return root


@pytest.fixture
def tabled(tmp_path: Path) -> Path:
    """Four demonstrations with their images in the table, the first two labelled."""
    write_demonstrations(tmp_path / "tabled", 4, num_labeled=2, obs_type="pixels_agent_pos")
    return tmp_path / "tabled"


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def edit(root: Path, column: str, change: Callable[[np.ndarray], object]) -> None:
    """Change a column of the only table in place; (frames, ..)."""
    table = pq.read_table(root / TABLE)
    values = np.stack(table[column].to_pylist())
    change(values)
    kind = table.schema.field(column).type
    new = pa.array(list(values) if values.ndim > 1 else values, type=kind)
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, new), root / TABLE)


def check(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    status = main(["check", str(root), *options])
    return status, capsys.readouterr().out


def test_whole_datasets_are_sound(filmed: Path, tabled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Episodes whose actions are withheld are video, and sound."""
    for root, episodes in ((filmed, 3), (tabled, 4)):
        for options in ([], ["--decode"]):
            status, said = check(root, capsys, *options)
            assert status == 0
            assert f"{episodes} episodes, all sound" in said


@pytest.mark.parametrize("damage", [Path.unlink, cut, lambda f: f.write_bytes(b""), lambda f: f.write_text("no video")])
def test_a_lost_video_costs_its_episode(
    filmed: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object]
) -> None:
    damage(filmed / VIDEO.format(1))
    status, said = check(filmed, capsys)
    assert status == 1
    assert f"{VIDEO.format(1)} " in said
    assert "(episode 1)" in said
    assert "Copy or download again" in said
    assert "2 of 3 episodes are sound. To go on with those, add --dataset.episodes=[0,2]" in said
    LeRobotDataset("local/filmed", root=filmed, episodes=[0, 2])[0]  # and so it is


def test_a_video_that_lacks_frames_is_named(
    filmed: Path, make_video: MakeVideo, capsys: pytest.CaptureFixture[str]
) -> None:
    make_video(filmed / VIDEO.format(2), range(20, 100, 10), size=(32, 48))  # 8 of 10
    status, said = check(filmed, capsys)
    assert status == 1
    assert "has no picture for 2 of 10 frames, the first is 8, due at 0.8000 s of the video" in said
    assert "--dataset.episodes=[0,1]" in said


def test_a_frame_out_of_tolerance_is_named(
    filmed: Path, make_video: MakeVideo, capsys: pytest.CaptureFixture[str]
) -> None:
    times = [i / 10 + 0.02 * (i == 4) for i in range(10)]
    make_video(filmed / VIDEO.format(2), range(20, 120, 10), size=(32, 48), times=times)
    status, said = check(filmed, capsys)
    assert status == 1
    assert "1 of 10 frames, the first is 4, due at 0.4000 s of the video; the nearest is 0.0200 s away" in said
    assert check(filmed, capsys, "--tolerance_s=0.05")[0] == 0


def test_damage_within_a_video_shows_when_it_is_decoded(filmed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = filmed / VIDEO.format(0)
    content = bytearray(file.read_bytes())
    start = content.index(b"mdat") + 4
    size = int.from_bytes(content[start - 8 : start - 4], "big") - 8
    content[start : start + size] = bytes(size)
    file.write_bytes(content)
    assert check(filmed, capsys)[0] == 0
    status, said = check(filmed, capsys, "--decode")
    assert status == 1
    assert "(episode 0)" in said


def test_a_damaged_table_is_named_and_costs_its_episodes(tabled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(tabled / TABLE)
    status, said = check(tabled, capsys)
    assert status == 1
    assert f"{TABLE} cannot be read" in said
    assert "(4 episodes: 0, 1, 2, 3)" in said


@pytest.mark.parametrize(
    ("column", "change", "says"),
    [
        ("action", lambda a: a[2:4].fill(np.nan), "NaN or infinite values in `action` at 2 of {}, the first is 2"),
        ("observation.state", lambda s: s[1].fill(np.inf), "infinite values in `observation.state` at 1 of {}"),
        ("timestamp", lambda t: t[3:4].fill(0.5), "frame 3 at 0.5000 s, which at 10 frames a second is due at 0.3000"),
        ("index", lambda i: i[:2].sort(), None),
        ("index", lambda i: np.copyto(i[:2], i[1::-1].copy()), "has its frames in another order than `index` says"),
        ("episode_index", lambda e: e[:1].fill(7), "has {short} where meta says"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_right(
    tabled: Path,
    capsys: pytest.CaptureFixture[str],
    column: str,
    change: Callable[[np.ndarray], object],
    says: str | None,
) -> None:
    frames = pq.read_table(tabled / TABLE)["episode_index"].to_pylist().count(0)
    edit(tabled, column, change)
    status, said = check(tabled, capsys)
    assert status == (says is not None), said
    if says is not None:
        assert says.format(f"{frames} frames", short=f"{frames - 1} frames") in said
        assert "(episode 0)" in said
        assert "3 of 4 episodes are sound" in said


def test_a_damaged_picture_in_a_table_shows_when_it_is_decoded(
    tabled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(tabled / TABLE)
    cells = table["observation.image"].to_pylist()
    cells[5]["bytes"] = cells[5]["bytes"][:60]
    column = pa.array(cells, type=table.schema.field("observation.image").type)
    at = table.schema.get_field_index("observation.image")
    pq.write_table(table.set_column(at, table.schema.field(at), column), tabled / TABLE)
    assert check(tabled, capsys)[0] == 0
    status, said = check(tabled, capsys, "--decode")
    assert status == 1
    assert "has no picture in `observation.image` at 1 of" in said
    assert "the first is 5" in said


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("meta/info.json", lambda f: f.write_text("{")),
        ("meta/info.json", lambda f: f.write_text("[]")),
        ("meta/tasks.parquet", Path.unlink),
        ("meta/episodes/chunk-000/file-000.parquet", cut),
    ],
)
def test_a_dataset_that_says_nothing_of_itself(
    tabled: Path, capsys: pytest.CaptureFixture[str], file: str, damage: Callable[[Path], object]
) -> None:
    damage(tabled / file)
    status, said = check(tabled, capsys)
    assert status == 1
    assert f"{file} cannot be read" in said
    assert "(the whole dataset)" in said
    assert "--dataset.episodes" not in said


def test_json_for_programs(filmed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (filmed / VIDEO.format(0)).unlink()
    status, said = check(filmed, capsys, "--json")
    found = json.loads(said)
    assert status == 1
    assert found["sound"] is False
    assert found["sound_episodes"] == [1, 2]
    assert [fault["file"] for fault in found["faults"]] == [VIDEO.format(0)]


def test_what_is_no_dataset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = check(tmp_path, capsys)
    assert status == 1
    assert "meta/info.json cannot be read" in said


def test_a_dataset_of_the_hub_is_looked_at_even_if_lerobot_cannot_open_it(
    filmed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (filmed / VIDEO.format(1)).unlink()
    monkeypatch.setattr(checking, "LeRobotDatasetMetadata", lambda name: LeRobotDatasetMetadata(name, root=filmed))
    monkeypatch.setattr(checking, "LeRobotDataset", lambda name: LeRobotDataset(name, root=filmed))
    status = main(["check", "me/filmed"])
    assert status == 1
    assert f"{VIDEO.format(1)} is not there (episode 1)" in capsys.readouterr().out


def test_looking_at_files_alone_opens_them(filmed: Path) -> None:
    assert not validate_dataset(filmed, CheckLevel.FILES).faults
    cut(filmed / VIDEO.format(0))
    assert [fault.episodes for fault in validate_dataset(filmed, CheckLevel.FILES).faults] == [(0,)]


def test_a_probe_names_the_file_that_is_missing(filmed: Path) -> None:
    """LeRobot would ask the Hub for it, and say that it cannot."""
    (filmed / VIDEO.format(1)).unlink()
    with pytest.raises(ValueError, match=rf"{VIDEO.format(1)} is not there \(episode 1\)"):
        load_dataset(lafp(), "local/filmed", filmed, lambda meta: None)


def _lose_a_video(root: Path, make_video: MakeVideo) -> str:
    (root / VIDEO.format(1)).unlink()
    return f"{VIDEO.format(1)} is not there"


def _cut_the_table(root: Path, make_video: MakeVideo) -> str:
    cut(root / TABLE)
    return f"{TABLE} cannot be read"


def _delay_a_frame(root: Path, make_video: MakeVideo) -> str:
    times = [i / 10 + 0.02 * (i == 4) for i in range(15)]
    make_video(root / VIDEO.format(1), range(20, 170, 10), size=(32, 48), times=times)
    return f"{VIDEO.format(1)} has no picture for 1 of 15 frames, the first is 4, due at 0.4000 s"


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_lose_a_video, _cut_the_table, _delay_a_frame])
def test_a_training_that_failed_names_what_is_wrong(
    damage: Callable[[Path, MakeVideo], str], filmed: Path, make_video: MakeVideo, tmp_path: Path
) -> None:
    says = damage(filmed, make_video)
    data = ["--dataset.repo_id=local/filmed", f"--dataset.root={filmed}"]
    options = [*data, "--policy.device=cpu", "--policy.push_to_hub=false", "--num_workers=0"]
    with pytest.raises(RuntimeError, match=rf"(?s)failed with status.*{re.escape(says)}") as error:
        train_stages([*options, f"--output_dir={tmp_path / 'run'}"])
    assert not (tmp_path / "run" / "latent_action" / "checkpoints").exists()
    if damage is not _cut_the_table:
        skip = "--dataset.episodes=[0,2]"
        assert skip in str(error.value)
        train(tmp_path / "skipped", ["--policy.type=lafp", "--policy.stage=latent_action", *options, skip, "--steps=1"])
        assert last_checkpoint(tmp_path / "skipped").is_dir()
