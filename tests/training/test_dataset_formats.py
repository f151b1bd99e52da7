"""A dataset of another format is refused with the command that converts it, and that command does."""

import json
import shlex
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lerobot.datasets import LeRobotDataset
from lerobot.datasets.utils import BackwardCompatibilityError, ForwardCompatibilityError
from lerobot.scripts import convert_dataset_v21_to_v30
from packaging.version import parse

from lerobot_lafp.cli.main import main
from lerobot_lafp.training import dataset_formats as formats
from lerobot_lafp.training.dataset_formats import refuse_other_format, why_unreadable

from ..data import conftest as of_datasets
from ..data.labelling import NAME

images = of_datasets.images


def in_format_21(source: Path, target: Path) -> Path:
    """The dataset ``source``, of one table of frames, as LeRobot wrote it in v2.1."""
    (target / "meta").mkdir(parents=True)
    info = json.loads((source / "meta/info.json").read_text())
    file = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    info |= {"codebase_version": "v2.1", "total_chunks": 1, "total_videos": 0, "data_path": file, "video_path": None}
    (target / "meta/info.json").write_text(json.dumps(info))
    tasks = LeRobotDataset(NAME, root=source).meta.tasks
    lines: dict[str, list[dict[str, object]]] = {
        "tasks": [{"task_index": int(row.task_index), "task": str(task)} for task, row in tasks.iterrows()],
        "episodes": [],
        "episodes_stats": [],
    }
    frames = pq.read_table(next(source.glob("data/*/*.parquet")))
    for row in pq.read_table(next(source.glob("meta/episodes/*/*.parquet"))).to_pylist():
        place = {"episode_index": row["episode_index"]}
        lines["episodes"].append({**place, "tasks": row["tasks"], "length": row["length"]})
        stats: dict[str, dict[str, object]] = {}
        for name, value in row.items():
            if name.startswith("stats/"):
                _, feature, kind = name.split("/")
                stats.setdefault(feature, {})[kind] = value
        lines["episodes_stats"].append({**place, "stats": stats})
        table = target / file.format(episode_chunk=0, **place)
        table.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(frames.slice(row["dataset_from_index"], row["length"]), table)
    for name, rows in lines.items():
        (target / f"meta/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return target


def refusal(root: Path | None, repo_id: str | None = None) -> str:
    with pytest.raises(ValueError, match="LeRobot") as error:
        refuse_other_format(root, repo_id)
    return str(error.value)


def test_the_command_that_is_named_converts(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = in_format_21(images, tmp_path / "an old one")
    said = refusal(old)
    assert said.startswith(f"The dataset in {old} has format v2.1, and LeRobot reads v3.0: convert it")
    assert main(["import-datasets", str(old), f"--root={tmp_path / 'out'}"]) == 1
    assert said in capsys.readouterr().err
    _, command = said.split(f"{old}_old. ")
    monkeypatch.setattr(sys, "argv", shlex.split(command)[2:])
    assert sys.argv[0] == "lerobot.scripts.convert_dataset_v21_to_v30"
    options = [word.removeprefix("--").split("=", 1) for word in sys.argv[1:]]
    given = {name.replace("-", "_"): value for name, value in options}
    convert_dataset_v21_to_v30.convert_dataset(**{**given, "push_to_hub": given["push_to_hub"] == "true"})
    refuse_other_format(old)
    new, source = LeRobotDataset(NAME, root=old), LeRobotDataset(NAME, root=images)
    assert len(new) == len(source)
    assert (tmp_path / "an old one_old/meta/episodes.jsonl").is_file()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("v2.0", ["lerobot==0.3.3", "convert_dataset_v20_to_v21 --repo-id=local/data", "convert_dataset_v21_to_v30"]),
        ("v1.6", ["convert_dataset_v1_to_v2 --repo-id=local/data", "convert_dataset_v20_to_v21", "v21_to_v30"]),
        ("v4.0", ["has format v4.0", "pip install --upgrade lerobot"]),
    ],
)
def test_formats_that_the_converter_does_not_read(version: str, words: list[str], tmp_path: Path) -> None:
    info = tmp_path / "data/meta/info.json"
    info.parent.mkdir(parents=True)
    info.write_text(json.dumps({"codebase_version": version}))
    said = refusal(tmp_path / "data")
    places = [said.index(word) for word in words]
    assert places == sorted(places), "in this order"


def test_a_dataset_of_the_first_format_has_its_information_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "meta_data").mkdir()
    (tmp_path / "meta_data/info.json").write_text('{"fps": 10}')
    assert "convert_dataset_v1_to_v2" in refusal(tmp_path, "me/pick")


def test_what_can_be_read_is_not_refused(images: Path, tmp_path: Path) -> None:
    """Nor is what says nothing: what is wrong with that is said elsewhere."""
    refuse_other_format(images)
    refuse_other_format(tmp_path / "missing")
    refuse_other_format(None, "me/nowhere")
    refuse_other_format(None)
    (tmp_path / "meta").mkdir()
    for content in ("{", "[]", '{"codebase_version": "new"}', '{"codebase_version": "v3.1"}'):
        (tmp_path / "meta/info.json").write_text(content)
        refuse_other_format(tmp_path)


def test_one_that_lerobot_keeps_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "HF_LEROBOT_HOME", tmp_path)
    info = tmp_path / "me/pick/meta/info.json"
    info.parent.mkdir(parents=True)
    info.write_text('{"codebase_version": "v2.1"}')
    assert f"--repo-id=me/pick --root={tmp_path / 'me/pick'}" in refusal(None, "me/pick")
    (tmp_path / "me/pick/.cache/huggingface/download").mkdir(parents=True)
    refuse_other_format(None, "me/pick")  # LeRobot fetches it anew


def test_what_the_hub_has_is_explained() -> None:
    old, new = BackwardCompatibilityError("me/pick", parse("v2.1")), ForwardCompatibilityError("me/pick", parse("v4.0"))
    said = str(why_unreadable(old, "me/pick"))
    assert said.endswith("convert_dataset_v21_to_v30 --repo-id=me/pick --push-to-hub=false")
    with pytest.raises(NotImplementedError) as oldest:
        BackwardCompatibilityError("me/pick", parse("v2.0"))
    assert "convert_dataset_v20_to_v21" in str(why_unreadable(oldest.value, "me/pick"))
    assert "pip install --upgrade lerobot" in str(why_unreadable(new, "me/pick"))
    assert why_unreadable(OSError("full"), "me/pick") is None
