"""A store that is built while anything happens to the disk, the process or the dataset, and what is said of it."""

import errno
import logging
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets import factory
from lerobot.policies.act.configuration_act import ACTConfig

from lerobot_lafp import LAFPConfig
from lerobot_lafp.cli.main import main
from lerobot_lafp.errors import UserError
from lerobot_lafp.frames import building, sources
from lerobot_lafp.frames.building import fill, room_bytes
from lerobot_lafp.frames.dataset import StoredDataset
from lerobot_lafp.frames.serving import with_frame_store
from lerobot_lafp.frames.sources import CannotStoreError, source_of
from lerobot_lafp.frames.store import FrameStore, bytes_on_disk, stores

from ..building import lafp
from .conftest import opened

MakeDataset = Callable[..., Path]
FRONT = "observation.images.front"
SIZE = (48, 64)
FRAME = 3 * SIZE[0] * SIZE[1]


@pytest.fixture(scope="module")
def whole(make_dataset: MakeDataset) -> dict[str, Path]:
    """Datasets that no test changes."""
    return {kind: make_dataset({"front": SIZE}, video=kind == "video", lengths=(3, 4, 5, 6)) for kind in KINDS}


KINDS = ("images", "video")


@pytest.fixture
def root(whole: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy that a test may change; of video where it says so."""
    kind = getattr(request, "param", "images")
    shutil.copytree(whole[kind], tmp_path / "data" / "it")
    return tmp_path / "data" / "it"


both_kinds = pytest.mark.parametrize("root", KINDS, indirect=True)


@pytest.fixture
def config() -> LAFPConfig:
    return lafp(stage="latent_action", device="cpu", push_to_hub=False, horizon=4, num_latents=2, n_action_steps=2)


def frames_in(root: Path, config: LAFPConfig) -> torch.Tensor:
    """All frames as LeRobot reads them, bytes."""
    dataset = opened(root, config)
    found = torch.stack([dataset[i][FRONT][0] for i in range(len(dataset))])
    return found if found.dtype == torch.uint8 else (found * 255).round().to(torch.uint8)


def frames_of(store: FrameStore) -> torch.Tensor:
    return torch.from_numpy(store.rows(np.arange(store.record.bounds[-1])))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Episodes that were decoded."""
    done: list[int] = []
    for kind in (sources.ImageSource, sources.VideoSource):
        read = kind.read

        def counted(self: Any, episode: int, read: Any = read) -> Any:
            done.append(episode)
            return read(self, episode)

        monkeypatch.setattr(kind, "read", counted)
    return done


def build(root: Path, config: LAFPConfig, episodes: list[int] | None = None, gigabytes: float | None = None) -> Any:
    return fill(source_of(opened(root, config), FRONT, None), episodes or range(4), gigabytes)


# --- Built once, and anew when the dataset changes ---------------------------------------------------------------


@both_kinds
def test_what_is_stored_is_what_lerobot_reads(root: Path, config: LAFPConfig, reads: list[int]) -> None:
    store = build(root, config)
    assert torch.equal(frames_of(store), frames_in(root, config))
    assert reads == [0, 1, 2, 3]
    build(root, config)
    assert reads == [0, 1, 2, 3], "once"


@both_kinds
def test_building_draws_no_random_numbers(root: Path, config: LAFPConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed gives the same weights, whether or not the store is there already."""
    monkeypatch.setattr(building, "FEW_BYTES", 0)
    before = torch.get_rng_state()
    build(root, config)
    assert torch.equal(torch.get_rng_state(), before)


@both_kinds
def test_only_the_episodes_that_are_trained_on_are_stored(root: Path, config: LAFPConfig, reads: list[int]) -> None:
    store = build(root, config, [2])
    assert reads == [2]
    assert bytes_on_disk(store.folder) < 18 * FRAME, "what is not there takes no room"
    build(root, config, [1, 2])
    assert reads == [2, 1]
    build(root, config)
    assert reads == [2, 1, 0, 3]
    assert torch.equal(frames_of(store), frames_in(root, config))


def rewrite_tables(root: Path) -> None:
    """Every picture of the tables another one, of the same size of file."""
    for file in root.glob("data/*/*.parquet"):
        table = pq.read_table(file)
        cells = table[FRONT].to_pylist()
        column = pa.array(cells[::-1], table[FRONT].type)
        pq.write_table(table.set_column(table.column_names.index(FRONT), table.schema.field(FRONT), column), file)


@both_kinds
def test_a_dataset_that_was_edited_is_never_read_stale(root: Path, config: LAFPConfig, reads: list[int]) -> None:
    before = frames_of(build(root, config))
    if list(root.glob("videos/*")):
        file = next(root.glob("videos/*/*/*.mp4"))
        os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
        build(root, config)
        assert reads == [*range(4)] * 2, "it may be another video"
        return
    rewrite_tables(root)
    after = frames_of(build(root, config))
    assert reads == [*range(4)] * 2
    assert not torch.equal(before, after)
    assert torch.equal(after, frames_in(root, config))


def test_a_dataset_with_other_episodes_replaces_the_store_of_before(
    root: Path, config: LAFPConfig, make_dataset: MakeDataset
) -> None:
    build(root, config)
    shutil.rmtree(root)
    shutil.copytree(make_dataset({"front": SIZE}, lengths=(3, 4), seed=1), root)
    store = fill(source_of(opened(root, config), FRONT, None), range(2), None)
    assert torch.equal(frames_of(store), frames_in(root, config))
    assert [each.folder for each in stores()] == [store.folder]


def test_two_datasets_of_one_name_have_two_stores(root: Path, config: LAFPConfig, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "other" / "it")
    rewrite_tables(tmp_path / "other" / "it")
    one, other = build(root, config), build(tmp_path / "other" / "it", config)
    assert torch.equal(frames_of(one), frames_in(root, config))
    assert torch.equal(frames_of(other), frames_in(tmp_path / "other" / "it", config))
    assert len(stores()) == 2


# --- Killed, or built by two at once -----------------------------------------------------------------------------


@settings(max_examples=25, derandomize=True, suppress_health_check=list(HealthCheck))
@given(writes=st.integers(0, 9))
def test_a_kill_at_any_moment_loses_nothing_and_leaves_nothing_wrong(
    writes: int, whole: dict[str, Path], config: LAFPConfig, home: Path
) -> None:
    """The process dies in a write, of which half is done."""
    shutil.rmtree(home, ignore_errors=True)

    def die() -> None:
        left = [writes]
        write = os.pwrite

        def last(file: int, data: memoryview, place: int) -> int:
            if left[0] == 0:
                write(file, data[: len(data) // 2], place)
                os._exit(9)
            left[0] -= 1
            return write(file, data, place)

        os.pwrite = last
        build(whole["images"], config)

    child = multiprocessing.get_context("fork").Process(target=die)
    child.start()
    child.join()
    assert child.exitcode == (9 if writes < 8 else 0)  # an episode takes two
    source = source_of(opened(whole["images"], config), FRONT, None)
    there = np.count_nonzero(FrameStore(source.record).signatures() == [source.signature(e) for e in range(4)])
    assert there == min(4, writes // 2), "what was finished stays"
    assert torch.equal(frames_of(build(whole["images"], config)), frames_in(whole["images"], config))


def test_two_processes_build_a_store_once(root: Path, config: LAFPConfig, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def run() -> None:
        read = sources.ImageSource.read

        def logged(self: Any, episode: int) -> Any:
            with log.open("a") as file:
                file.write(f"{episode}\n")
            return read(self, episode)

        sources.ImageSource.read = logged
        build(root, config)

    children = [multiprocessing.get_context("fork").Process(target=run) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(log.read_text().split()) == list("0123")
    assert torch.equal(frames_of(build(root, config)), frames_in(root, config))


def test_several_processes_decode(
    root: Path, config: LAFPConfig, monkeypatch: pytest.MonkeyPatch, reads: list[int]
) -> None:
    monkeypatch.setattr(building, "FEW_BYTES", 0)
    assert torch.equal(frames_of(build(root, config)), frames_in(root, config))
    assert reads == [], "not this one"


# --- Where none can be made --------------------------------------------------------------------------------------


def lerobots_loader_takes_over(root: Path, config: LAFPConfig, caplog: pytest.LogCaptureFixture) -> str:
    """Asserts that it does; returns the one line that says why."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "lerobot_lafp"):
        dataset = opened(root, config)
        assert with_frame_store(dataset, config) is dataset
    said = [record.getMessage() for record in caplog.records if record.name.startswith("lerobot_lafp")]
    assert len(said) == 1
    assert said[0].startswith("LeRobot's loader reads local/it: ")
    return said[0]


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk(
    call: str,
    root: Path,
    config: LAFPConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    home: Path,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        assert "the disk of" in lerobots_loader_takes_over(root, config, caplog)
    assert bytes_on_disk(home) == 0, "and it is as full as it was"
    assert isinstance(with_frame_store(opened(root, config), config), StoredDataset)


def test_a_folder_that_cannot_be_written(
    root: Path, config: LAFPConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is there is read, as it takes no writing; what is not, LeRobot reads."""

    def refuse(self: FrameStore) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(FrameStore, "building", refuse)
        assert "cannot be written (Read-only file system)" in lerobots_loader_takes_over(root, config, caplog)
    build(root, config)
    with monkeypatch.context() as patch:
        patch.setattr(FrameStore, "building", refuse)
        assert isinstance(with_frame_store(opened(root, config), config), StoredDataset)


def test_more_than_stores_may_take(root: Path, config: LAFPConfig, caplog: pytest.LogCaptureFixture) -> None:
    config = config.but(frame_store="0.0001")  # of 0.17 MB
    said = lerobots_loader_takes_over(root, config, caplog)
    assert re.search(r"takes 0\.000166 GB, and of 0\.0001 GB for frame stores [\d.e-]+ GB are taken", said)
    assert "--policy.frame_store=" in said
    assert "lafp store" in said
    assert stores() == []
    mended = said.partition("--policy.frame_store=")[2].partition(",")[0]
    assert isinstance(with_frame_store(opened(root, config), config.but(frame_store=mended)), StoredDataset)


def test_what_stores_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def free(count: float) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, int(count)))

    free(50e9)
    assert room_bytes(None) == 10e9
    free(900e9)
    assert room_bytes(None) == 100e9
    assert room_bytes(300.0) == 300e9


@pytest.mark.parametrize("typed", ["off", "OFF", "lots", "-3", "nan", "inf"])
def test_off_and_what_is_no_number(typed: str, root: Path, config: LAFPConfig) -> None:
    if typed == "off":
        config = config.but(frame_store=typed)
        dataset = opened(root, config)
        assert with_frame_store(dataset, config) is dataset
        assert stores() == []
    else:
        with pytest.raises(ValueError, match="`frame_store` must be auto, off or a number of gigabytes"):
            config.but(frame_store=typed)


@pytest.mark.parametrize("fault", ["a frame is missing", "out of order", "an episode twice"])
def test_tables_that_are_not_in_order(
    fault: str, root: Path, config: LAFPConfig, caplog: pytest.LogCaptureFixture
) -> None:
    file = next(root.glob("data/*/*.parquet"))
    table = pq.read_table(file)
    rows = list(range(len(table)))
    if fault == "a frame is missing":
        del rows[5]
    elif fault == "out of order":
        rows[4], rows[5] = rows[5], rows[4]
    else:
        rows += rows[:3]
    pq.write_table(table.take(rows), file)
    assert "do not hold the frames of its episodes in order" in lerobots_loader_takes_over(root, config, caplog)


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_pictures_of_more_than_eight_bits(
    mode: str, root: Path, config: LAFPConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import datasets
    from PIL import Image

    monkeypatch.setattr(datasets.Image, "decode_example", lambda self, cell: Image.new(mode, SIZE[::-1]))
    assert f"more than eight bits ({mode})" in lerobots_loader_takes_over(root, config, caplog)


# --- Datasets that are not whole ---------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["video"], indirect=True)
def test_a_video_that_is_shorter_than_its_table(root: Path, config: LAFPConfig) -> None:
    """Before it is trained on, not when that frame is drawn."""
    file = next(root.glob("videos/*/*/*.mp4"))
    shorter = file.with_name("shorter.mp4")
    with av.open(str(file)) as source, av.open(str(shorter), "w") as target:
        stream = target.add_stream("mpeg4", 10)
        stream.height, stream.width = SIZE
        for frame in list(source.decode(video=0))[:10]:
            again = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
            again.pts, again.time_base = frame.pts, frame.time_base
            target.mux(stream.encode(again.reformat(format="yuv420p")))
        target.mux(stream.encode())
    shorter.replace(file)
    with pytest.raises(ValueError, match=rf"`{FRONT}` in episode [23] .*does not have all \d frames.*--dataset.episod"):
        with_frame_store(opened(root, config), config)
    assert isinstance(with_frame_store(opened(root, config, episodes=[0, 1]), config), StoredDataset)


def test_a_camera_that_changes_its_size(root: Path, config: LAFPConfig, make_dataset: MakeDataset) -> None:
    other = make_dataset({"front": (32, 40)}, lengths=(3, 4, 5, 6), seed=2)
    file = next(root.glob("data/*/*.parquet"))
    table, small = pq.read_table(file), pq.read_table(next(other.glob("data/*/*.parquet")))
    episodes = table["episode_index"].to_pylist()
    columns = table[FRONT].to_pylist(), small[FRONT].to_pylist()
    cells = [b if episode == 2 else a for episode, a, b in zip(episodes, *columns, strict=True)]
    place = table.column_names.index(FRONT)
    pq.write_table(table.set_column(place, table.schema.field(FRONT), pa.array(cells, table[FRONT].type)), file)
    with pytest.raises(ValueError, match=r"frames of \(3, 32, 40\).*episode 2.*says \(3, 48, 64\).*64x48 pixels"):
        with_frame_store(opened(root, config), config)
    assert isinstance(with_frame_store(opened(root, config, episodes=[0, 1, 3]), config), StoredDataset)


@pytest.mark.parametrize("root", ["video"], indirect=True)
def test_a_video_that_is_missing(root: Path, config: LAFPConfig) -> None:
    dataset = opened(root, config)
    shutil.rmtree(root / "videos")
    with pytest.raises(ValueError, match=r"cannot be read .*Download the dataset again"):
        with_frame_store(dataset, config)


# --- Under lerobot-train -----------------------------------------------------------------------------------------


def pipeline(policy: Any, root: Path, tmp_path: Path, **dataset: Any) -> TrainPipelineConfig:
    of = DatasetConfig("local/it", root=str(root), **dataset)
    return TrainPipelineConfig(dataset=of, policy=policy, output_dir=tmp_path / "run")


def test_lerobot_train_reads_from_it(root: Path, config: LAFPConfig, tmp_path: Path) -> None:
    train, held_out = factory.make_train_eval_datasets(pipeline(config, root, tmp_path, eval_split=0.3))
    assert isinstance(train, StoredDataset)
    assert isinstance(held_out, StoredDataset)
    assert train.episodes
    assert sorted([*train.episodes, *held_out.episodes]) == [0, 1, 2, 3]
    assert len(stores()) == 1


def test_other_policies_are_left_to_lerobots_loader(root: Path, tmp_path: Path) -> None:
    policy = ACTConfig(device="cpu", push_to_hub=False, chunk_size=4, n_action_steps=4)
    train, _ = factory.make_train_eval_datasets(pipeline(policy, root, tmp_path))
    assert not isinstance(train, StoredDataset)
    assert stores() == []


# --- lafp store --------------------------------------------------------------------------------------------------


def test_stores_are_built_listed_and_removed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        assert main(["store", *words]) == 0
        return capsys.readouterr().out

    dataset = ["--dataset.repo_id=local/it", f"--dataset.root={root}"]
    assert said().startswith("No frame stores.")
    assert "local/it  observation.images.front  24x32\n" in said("build", *dataset, "--policy.resize_shape=[24,32]")
    assert "local/it  observation.images.front  48x64\n" in said("build", *dataset)
    assert len(said().splitlines()) == 3
    assert "No frame stores of local/other." in said("list", "--dataset.repo_id=local/other")
    assert "No frame stores to remove." in said("remove", "--dataset.repo_id=local/other")
    assert said("remove", "--dataset.repo_id=local/it").count("removed: ") == 2
    assert said().startswith("No frame stores.")


def test_what_stores_are_of_is_told(root: Path, config: LAFPConfig, capsys: pytest.CaptureFixture[str]) -> None:
    build(root, config, [1])
    assert main(["store"]) == 0
    assert "48x64, 1 of 4 episodes\n" in capsys.readouterr().out
    shutil.rmtree(root)
    assert main(["store"]) == 0
    assert "1 of 4 episodes, whose dataset is gone\n" in capsys.readouterr().out
    assert main(["store", "remove", "--all"]) == 0
    assert stores() == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["build"], "add --dataset.repo_id=NAME"),
        (["remove"], "or --all"),
        (["build", "--policy.resize_shape=wide"], "is not [height,width], such as [96,128]"),
        (["build", "--policy.frame_store=0.00001"], "No frame store of local/it: "),
        (["build", "--policy.frame_store=off"], "frame_store=off"),
        (["build", "--policy.frame_store=much"], "must be auto, off or a number"),
    ],
)
def test_what_cannot_be_done_is_said(
    words: list[str], says: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = ["--dataset.repo_id=local/it", f"--dataset.root={root}"] if len(words) > 1 else []
    assert main(["store", *words, *dataset]) == 1
    assert says in capsys.readouterr().err


def test_a_store_that_is_required_is_an_error_where_none_can_be(root: Path, config: LAFPConfig) -> None:
    with pytest.raises(UserError, match=r"No frame store of local/it: .*takes"):
        with_frame_store(opened(root, config), config.but(frame_store="1e-9"), required=True)
    with pytest.raises(CannotStoreError, match="takes"):
        build(root, config, gigabytes=1e-9)
