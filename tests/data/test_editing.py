"""What our commands write, LeRobot's ``lerobot-edit-dataset`` edits, and stage 2 still knows whose labels it reads."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.datasets import LeRobotDataset
from lerobot.scripts import lerobot_edit_dataset
from lerobot.utils.constants import OBS_IMAGE
from torch import Tensor

from lerobot_lafp.data.importing import importer as importing
from lerobot_lafp.options.constants import LATENT_ACTION
from lerobot_lafp.runs.commands import run_command

from ..executors import InProcess
from .conftest import MakeVideo
from .labelling import NAME, PAD, columns, label, losses, main, stage_2

#: Columns that say where a frame is.
PLACE = ("index", "episode_index", "task_index")


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``edit(operation, root, output, *options)``: ``lerobot-edit-dataset`` through its ``main``."""

    def run(operation: str, root: Path | None, output: str, *options: str) -> Path:
        words = [f"--new_repo_id=local/{output}", f"--new_root={tmp_path / output}", f"--operation.type={operation}"]
        if root is not None:
            words += [f"--repo_id={NAME}", f"--root={root}"]
        monkeypatch.setattr(sys, "argv", ["lerobot-edit-dataset", *words, *options])
        monkeypatch.setattr(lerobot_edit_dataset, "init_logging", lambda: None)  # which would last
        lerobot_edit_dataset.main()
        return tmp_path / output

    return run


@pytest.fixture
def delete(edit: Callable[..., Path]) -> Callable[..., Path]:
    """``delete(root, *episodes)``: a dataset without them."""
    return lambda root, *episodes: edit(
        "delete_episodes", root, "deleted", f"--operation.episode_indices={json.dumps(episodes)}"
    )


@pytest.fixture
def merge(edit: Callable[..., Path]) -> Callable[..., Path]:
    """``merge(*roots)``: one dataset of them all."""

    def run(*roots: Path) -> Path:
        names, folders = [NAME] * len(roots), [str(root) for root in roots]
        return edit("merge", None, "merged", f"--operation.repo_ids={names}", f"--operation.roots={folders}")

    return run


def frames(root: Path, without: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """Frames of the episodes but for some, and of a frame all but where it is."""
    dataset = LeRobotDataset(NAME, root=root)
    samples = (dataset[i] for i in range(len(dataset)))
    return [{k: v for k, v in s.items() if k not in PLACE} for s in samples if int(s["episode_index"]) not in without]


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]], encoded: bool = False) -> None:
    """To the bit, but for images that were ``encoded`` anew."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if not isinstance(value, Tensor):
                assert value == other[key], key
            elif encoded and value.ndim == 3:
                assert float((value - other[key]).abs().mean()) < 0.03, key
            else:
                torch.testing.assert_close(value, other[key], rtol=0, atol=0, equal_nan=True)


def assert_measured(root: Path, *names: str) -> None:
    """The dataset's statistics are of all its frames."""
    dataset = LeRobotDataset(NAME, root=root)
    for name in names:
        values = torch.stack([dataset[i][name].reshape(-1).double() for i in range(len(dataset))]).numpy()
        stats = dataset.meta.stats[name]
        assert stats.keys() == {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}
        for kind, expected in {"min": values.min(0), "max": values.max(0), "mean": values.mean(0)}.items():
            np.testing.assert_allclose(stats[kind], expected, atol=1e-6, err_msg=f"{kind} of {name}")
        np.testing.assert_allclose(stats["std"], values.std(0), atol=1e-5)
        assert stats["count"].tolist() == [len(values)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("media", "options"),
    [("images", []), ("videos", []), ("videos", ["--images"])],
    ids=["images", "video", "to images"],
)
@pytest.mark.parametrize("latents", [{}, {"num_latents": 1, "horizon": 2, "n_action_steps": 1}])
def test_labels_outlive_an_edit(
    media: str,
    options: list[str],
    latents: dict[str, int],
    make_checkpoint: Callable[..., Path],
    delete: Callable[..., Path],
    merge: Callable[..., Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """A pad of one latent, which LeRobot hands over without an axis, too."""
    checkpoint = make_checkpoint(**latents)
    assert label(checkpoint, request.getfixturevalue(media), tmp_path / "out", *options) == 0
    whole = tmp_path / "out"
    assert_measured(whole, LATENT_ACTION, PAD)
    shorter = delete(whole, 1)
    assert_same(frames(shorter), frames(whole, without=(1,)), encoded=media == "videos" and not options)
    merged = merge(shorter, whole)
    assert_same(frames(merged), frames(shorter) + frames(whole))
    for edited in (shorter, merged):
        assert_measured(edited, LATENT_ACTION, PAD)
        assert torch.isfinite(losses(checkpoint, edited)).all()
        found = columns(edited)
        pad = found[PAD].reshape(len(found[PAD]), -1)
        held = found[LATENT_ACTION].reshape(*pad.shape, -1).any(dim=-1)
        assert torch.equal(held, ~pad), "latents are where the pad says"


@pytest.mark.slow
def test_lerobot_trains_on_an_edited_dataset(
    make_checkpoint: Callable[..., Path], images: Path, delete: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint()
    assert label(checkpoint, images, tmp_path / "out") == 0
    words = [
        f"--policy.path={checkpoint}",
        "--policy.stage=latent_policy",
        f"--dataset.repo_id={NAME}",
        f"--dataset.root={delete(tmp_path / 'out', 0, 2)}",
        f"--output_dir={tmp_path / 'run'}",
        *("--steps=2", "--batch_size=4", "--num_workers=0", "--env_eval_freq=0"),
    ]
    run_command("lerobot-train", words, tmp_path / "train.log")
    assert (tmp_path / "run/checkpoints/last/pretrained_model/model.safetensors").is_file()


def test_labels_of_two_checkpoints_are_not_mixed(
    make_checkpoint: Callable[..., Path],
    images: Path,
    delete: Callable[..., Path],
    merge: Callable[..., Path],
    tmp_path: Path,
) -> None:
    one, other = make_checkpoint(), make_checkpoint(steps=3, name="other")
    for name, checkpoint in (("one", one), ("two", other)):
        assert label(checkpoint, images, tmp_path / name) == 0
    with pytest.raises(ValueError, match="Same features is expected"):
        merge(tmp_path / "one", tmp_path / "two")
    shorter = delete(tmp_path / "one", 1)
    with pytest.raises(ValueError, match="inferred by another model than this"):
        losses(other, shorter)


@pytest.mark.slow
def test_every_other_edit_leaves_the_labels(
    make_checkpoint: Callable[..., Path], images: Path, edit: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint()
    assert label(checkpoint, images, tmp_path / "out") == 0
    whole = tmp_path / "out"
    expected = columns(whole)
    halves = edit("split", whole, "halves", '--operation.splits={"a": [0, 1], "b": [2, 3, 4]}')
    parts = [columns(halves / name) for name in ("a", "b")]
    without = edit("remove_feature", whole, "without", "--operation.feature_names=['observation.state']")
    measured = edit("recompute_stats", whole, "measured")
    video = edit("convert_image_to_video", whole, "video")
    for key, value in expected.items():
        assert torch.equal(torch.cat([part[key] for part in parts]), value)
        assert all(torch.equal(columns(root)[key], value) for root in (without, measured, video))
    for root in (halves / "a", measured, video):
        assert torch.isfinite(losses(checkpoint, root)).all()
    edit("modify_tasks", whole, "tasks", "--operation.new_task=push")
    assert torch.isfinite(losses(checkpoint, whole)).all()


@pytest.mark.slow
def test_features_outlive_an_edit(
    make_vit: Callable[..., Path],
    make_checkpoint: Callable[..., Path],
    videos: Path,
    delete: Callable[..., Path],
    merge: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """And labels beside them."""
    options = {"backbone__encoder": "vit", "backbone__weights": str(make_vit()), "backbone__grid": 2}
    checkpoint = make_checkpoint(**options, resize_shape=(24, 28))
    assert label(checkpoint, videos, tmp_path / "out", "--features") == 0
    assert label(checkpoint, tmp_path / "out", tmp_path / "both") == 0
    whole = tmp_path / "both"
    shorter = delete(whole, 1)
    assert_same(frames(shorter), frames(whole, without=(1,)))
    merged = merge(shorter, whole)
    assert_same(frames(merged), frames(shorter) + frames(whole))
    assert OBS_IMAGE not in LeRobotDataset(NAME, root=merged).meta.stats, "a video's are none of its features"
    for stage in ("latent_action", "latent_policy"):
        assert torch.isfinite(losses(checkpoint, merged, stage=stage)).all()


def as_before(root: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """The dataset in ``root`` as it was written before: columns of two axes, which do not say whose labels they are."""
    import pyarrow.parquet as pq
    from datasets.table import table_cast
    from lerobot.datasets.feature_utils import get_hf_features_from_features

    file = root / "meta" / "info.json"
    info = json.loads(file.read_text())
    for name, shape in shapes.items():
        info["features"][name]["shape"] = shape
        if name == LATENT_ACTION:
            del info["features"][name]["info"]
    file.write_text(json.dumps(info))
    features = {k: {**v, "shape": tuple(v["shape"])} for k, v in info["features"].items()}
    schema = get_hf_features_from_features(features).arrow_schema
    for file in root.glob("data/*/*.parquet"):
        table = pq.read_table(file)
        for name, shape in shapes.items():
            rows = np.stack(table[name].to_pylist()).reshape(-1, *shape).tolist()
            table = table.set_column(table.column_names.index(name), name, [rows])
        pq.write_table(table_cast(table, schema), file)


def test_datasets_that_were_labelled_before_are_read(
    make_vit: Callable[..., Path], make_checkpoint: Callable[..., Path], videos: Path, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(backbone__encoder="vit", backbone__weights=str(make_vit()), backbone__grid=2)
    assert label(checkpoint, videos, tmp_path / "out", "--features") == 0
    assert label(checkpoint, tmp_path / "out", tmp_path / "both") == 0
    expected = [losses(checkpoint, tmp_path / "both", stage=stage) for stage in ("latent_action", "latent_policy")]
    as_before(tmp_path / "both", {OBS_IMAGE: (4, 16), LATENT_ACTION: (2, 4)})
    _, batch = stage_2(checkpoint, tmp_path / "both")
    assert batch[LATENT_ACTION].shape[1:] == (2, 4)
    assert batch[OBS_IMAGE].shape[-2:] == (4, 16)
    for stage, values in zip(("latent_action", "latent_policy"), expected, strict=True):
        torch.testing.assert_close(losses(checkpoint, tmp_path / "both", stage=stage), values)


def test_imported_video_can_be_edited(
    make_video: MakeVideo,
    delete: Callable[..., Path],
    merge: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importing, "ProcessPoolExecutor", InProcess)
    for i in range(3):
        make_video(tmp_path / "in" / f"{i}.mp4", range(20 + 60 * i, 80 + 60 * i, 10))
    words = [f"--root={tmp_path / 'out'}", "--size=32x48", "--workers=1", "--tasks=folder"]
    assert main(["import-videos", str(tmp_path / "in"), *words]) == 0
    whole = tmp_path / "out"
    shorter = delete(whole, 1)
    assert_same(frames(shorter), frames(whole, without=(1,)), encoded=True)
    assert_same(frames(merge(shorter, whole)), frames(shorter) + frames(whole))
