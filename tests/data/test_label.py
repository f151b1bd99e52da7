"""``lafp label``: the labels are what stage 2 would infer, whoever wrote them and however often it was interrupted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.policies.factory import make_policy
from lerobot.utils.constants import OBS_IMAGE, OBS_STATE

from lerobot_lafp.checkpoint.fingerprints import LABELS_RECORD
from lerobot_lafp.data import latent_labels as module
from lerobot_lafp.options.constants import LATENT_ACTION

from ..building import lafp
from ..conftest import TINY
from .labelling import NAME, PAD, columns, label, losses, stage_2


@pytest.mark.slow
@pytest.mark.parametrize("media", ["images", "videos"])
@pytest.mark.parametrize("hold", [False, True])
def test_stage_2_learns_the_same_from_labels_as_from_video(
    media: str, hold: bool, make_checkpoint: Callable[..., Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(media)
    checkpoint = make_checkpoint(hold_last_frame=hold)
    assert label(checkpoint, root, tmp_path / "out") == 0
    on_the_fly = losses(checkpoint, root)
    torch.testing.assert_close(losses(checkpoint, tmp_path / "out"), on_the_fly)
    _, batch = stage_2(checkpoint, tmp_path / "out")
    assert batch[OBS_STATE].shape[1] == TINY["n_obs_steps"], "no later frame is loaded"
    pad = columns(tmp_path / "out")[PAD]
    assert bool(pad.any()) is not hold
    assert float(on_the_fly.std()) > 0


def test_with_the_frames_as_images_no_video_is_read(
    make_checkpoint: Callable[..., Path],
    videos: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "BLOCK_IMAGES", 40)
    checkpoint = make_checkpoint()
    assert label(checkpoint, videos, tmp_path / "out", "--images") == 0
    torch.testing.assert_close(losses(checkpoint, tmp_path / "out"), losses(checkpoint, videos))
    old, new = LeRobotDataset(NAME, root=videos), LeRobotDataset(NAME, root=tmp_path / "out")
    assert (old.meta.video_keys, new.meta.video_keys, new.meta.image_keys) == ([OBS_IMAGE], [], [OBS_IMAGE])
    assert not list((tmp_path / "out").rglob("*.mp4"))
    for i in range(0, len(old), 7):
        assert torch.equal(new[i][OBS_IMAGE], old[i][OBS_IMAGE]), "every pixel is as it was"
    for name, found in old.meta.stats[OBS_IMAGE].items():
        assert np.array_equal(new.meta.stats[OBS_IMAGE][name], found)

    assert label(checkpoint, videos, tmp_path / "out") == 1
    assert "Choose another --output_dir" in capsys.readouterr().err, "labels without images are something else"
    assert label(checkpoint, images, tmp_path / "other", "--images") == 1
    assert "its cameras are images already. Leave --images out" in capsys.readouterr().err


def test_a_folder_within_the_dataset_is_refused(
    make_checkpoint: Callable[..., Path], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(make_checkpoint(), images, images / "labels") == 1
    assert "lies within the dataset's own folder" in capsys.readouterr().err
    assert not list(images.glob("labels*"))


def test_the_rest_of_the_dataset_is_as_it_was(
    make_checkpoint: Callable[..., Path], videos: Path, tmp_path: Path
) -> None:
    assert label(make_checkpoint(), videos, tmp_path / "out") == 0
    old, new = LeRobotDataset(NAME, root=videos), LeRobotDataset(NAME, root=tmp_path / "out")
    assert new.features.keys() - old.features.keys() == {LATENT_ACTION, PAD}
    assert len(new) == len(old)
    for i in (0, len(old) // 2, len(old) - 1):
        for key, value in old[i].items():
            assert np.array_equal(np.asarray(new[i][key]), np.asarray(value)), key
    file = next(videos.rglob("*.mp4"))
    assert (tmp_path / "out" / file.relative_to(videos)).stat().st_ino == file.stat().st_ino, "linked, not encoded anew"
    for file in (videos / "meta").glob("*"):
        if file.is_file():
            assert (tmp_path / "out" / "meta" / file.name).stat().st_ino != file.stat().st_ino, "an edit stays here"
    assert not (tmp_path / "out.partial").exists()


def test_an_interrupted_run_goes_on_and_ends_the_same(
    make_checkpoint: Callable[..., Path], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_FRAMES", 40)
    checkpoint = make_checkpoint()
    assert label(checkpoint, images, tmp_path / "whole") == 0
    written: list[Path] = []
    write = module._write_block

    def interrupted(file: Path, columns: pa.Table) -> None:
        if written:
            raise KeyboardInterrupt
        write(file, columns)
        written.append(file)

    monkeypatch.setattr(module, "_write_block", interrupted)
    assert label(checkpoint, images, tmp_path / "out") == 130
    assert not (tmp_path / "out").exists()

    def counted(file: Path, columns: pa.Table) -> None:
        write(file, columns)
        written.append(file)

    monkeypatch.setattr(module, "_write_block", counted)
    assert label(checkpoint, images, tmp_path / "out") == 0
    assert len(written) == len({*written}) > 1, "no block twice"
    for key, value in columns(tmp_path / "whole").items():
        assert torch.equal(columns(tmp_path / "out")[key], value)
    assert label(checkpoint, images, tmp_path / "out") == 0, "what is done is left as it is"
    assert written[-1].parent.name == "out.partial"


def test_two_processes_write_what_one_does(
    make_checkpoint: Callable[..., Path], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_FRAMES", 40)
    checkpoint = make_checkpoint()
    assert label(checkpoint, images, tmp_path / "one") == 0
    monkeypatch.setattr(module, "_wait_for", lambda files: None)  # here they come one after the other
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert label(checkpoint, images, tmp_path / "two") == 1  # so the first lacks what the second has still to write
    assert not (tmp_path / "two").exists()
    monkeypatch.setenv("RANK", "1")
    assert label(checkpoint, images, tmp_path / "two") == 0
    monkeypatch.setenv("RANK", "0")
    assert label(checkpoint, images, tmp_path / "two") == 0
    for key, value in columns(tmp_path / "one").items():
        assert torch.equal(columns(tmp_path / "two")[key], value)


def test_stale_labels_are_refused(make_checkpoint: Callable[..., Path], images: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "out"
    assert label(make_checkpoint(), images, labelled) == 0
    other = make_checkpoint(steps=3, name="other")
    with pytest.raises(ValueError, match=r"inferred by another model .*Label it again"):
        losses(other, labelled)
    (labelled / LABELS_RECORD).unlink()
    losses(tmp_path / "checkpoint", labelled)  # the column's own feature says whose labels they are
    info = labelled / "meta" / "info.json"
    written = json.loads(info.read_text())
    del written["features"][LATENT_ACTION]["info"]
    info.write_text(json.dumps(written))
    with pytest.raises(ValueError, match="inferred by another model than this"):
        losses(tmp_path / "checkpoint", labelled)


def test_labels_of_another_chunk_are_refused(
    make_checkpoint: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint()
    assert label(checkpoint, images, tmp_path / "out") == 0
    with pytest.raises(ValueError, match="horizon, num_latents or hold_last_frame changed"):
        losses(checkpoint, tmp_path / "out", num_latents=1, horizon=2, n_action_steps=2)


def test_bad_input_is_named(
    make_checkpoint: Callable[..., Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(checkpoint: Path, *more: str) -> str:
        capsys.readouterr()
        assert label(checkpoint, images, tmp_path / "out", *more) == 1
        return capsys.readouterr().err

    untrained = make_checkpoint(steps=0, name="untrained")
    assert "stage latent_action was never trained" in error(untrained)
    assert "no checkpoint" in error(tmp_path)
    checkpoint = make_checkpoint()
    assert "holds no LeRobotDataset" in error(checkpoint, f"--dataset.root={tmp_path}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert "Choose another --output_dir" in error(checkpoint)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


# --- Features of a frozen ViT ----------------------------------------------------------------------------


@pytest.fixture
def vit_options(make_vit: Callable[..., Path]) -> dict[str, Any]:
    return {"backbone__encoder": "vit", "backbone__weights": str(make_vit()), "backbone__grid": 2}


def encode(checkpoint: Path, root: Path, output: Path) -> Path:
    assert label(checkpoint, root, output, "--features") == 0
    return output


@pytest.mark.slow
@pytest.mark.parametrize("media", ["images", "videos"])
@pytest.mark.parametrize("stage", ["latent_action", "latent_policy", "joint"])
def test_a_stage_learns_the_same_from_features_as_from_video(
    media: str,
    stage: str,
    vit_options: dict[str, Any],
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    root = request.getfixturevalue(media)
    checkpoint = make_checkpoint(**vit_options, resize_shape=(24, 28))
    encoded = encode(checkpoint, root, tmp_path / "out")
    assert not list(encoded.glob("videos/*"))
    sample = LeRobotDataset(NAME, root=encoded)[0]
    assert sample[OBS_IMAGE].shape == (4 * 16,)
    expected = losses(checkpoint, root, stage=stage)
    torch.testing.assert_close(losses(checkpoint, encoded, stage=stage), expected, rtol=1e-4, atol=1e-5)
    assert float(expected.std()) > 0
    if stage == "latent_policy":  # and latents can be labelled on top of them
        assert label(checkpoint, encoded, tmp_path / "both") == 0
        both = losses(checkpoint, tmp_path / "both")
        torch.testing.assert_close(both, expected, rtol=1e-4, atol=1e-5)


def test_a_policy_begun_on_features_acts_on_images(
    vit_options: dict[str, Any], make_checkpoint: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    encoded = encode(make_checkpoint(**vit_options, steps=0), images, tmp_path / "out")
    config = lafp(**{**TINY, **vit_options})
    policy = make_policy(config, ds_meta=LeRobotDatasetMetadata(NAME, root=encoded)).eval()
    assert config.camera_shapes == {OBS_IMAGE: (3, 32, 32)}
    assert config.vector_shapes == {OBS_STATE: (2,)}
    seen = LeRobotDataset(NAME, root=images)[3]
    ready = LeRobotDataset(NAME, root=encoded)[3]
    noise = torch.randn(1, 2, 4)
    actions = [
        policy.predict_action_chunk({key: sample[key].unsqueeze(0) for key in (OBS_IMAGE, OBS_STATE)}, noise=noise)
        for sample in (seen, ready)
    ]
    torch.testing.assert_close(*actions)


def test_features_that_do_not_fit_are_refused(
    vit_options: dict[str, Any],
    make_vit: Callable[..., Path],
    make_checkpoint: Callable[..., Path],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = make_checkpoint(**vit_options, motion__weight=0.5)
    encoded = encode(checkpoint, images, tmp_path / "out")
    other = make_checkpoint(name="other", **{**vit_options, "backbone__weights": str(make_vit(seed=3))})
    with pytest.raises(ValueError, match=rf"`{OBS_IMAGE}` as features of another ViT.*lafp label --features"):
        losses(other, encoded)
    with pytest.raises(ValueError, match=r"`motion\.weight` needs images.*--policy\.motion\.weight=0"):
        losses(checkpoint, encoded, stage="latent_action")
    plain = make_checkpoint(name="plain")
    with pytest.raises(ValueError, match=rf"`{OBS_IMAGE}` as features of a ViT, and this policy has none"):
        losses(plain, encoded)
    assert label(plain, images, tmp_path / "plain_out", "--features") == 1
    assert "no frozen ViT whose features could be written" in capsys.readouterr().err
