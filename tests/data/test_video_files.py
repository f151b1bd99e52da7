"""Frames come out at the rate and size asked for, whatever the file has; what is no video says so."""

from pathlib import Path

import numpy as np
import pytest

from lerobot_lafp.data.video_files import Framing, UnreadableVideoError, at_rate, fitted, read_images

from .conftest import MakeVideo

GREYS = range(20, 240, 10)


def greys(file: Path, fps: int, **span: float) -> list[int]:
    """The middle pixel of every frame, rounded to the tens that ``GREYS`` has."""
    images = list(read_images(file, Framing(fps, 32, 48), **span))
    assert {image.shape for image in images} == {(32, 48, 3)}
    return [10 * round(float(image[16, 24].mean()) / 10) for image in images]


@pytest.mark.parametrize(("fps", "expected"), [(10, list(GREYS)), (5, list(GREYS)[::2])])
def test_every_frame_or_every_second(fps: int, expected: list[int], make_video: MakeVideo, tmp_path: Path) -> None:
    assert greys(make_video(tmp_path / "a.mp4", GREYS), fps) == expected


def test_a_slower_video_repeats_frames(make_video: MakeVideo, tmp_path: Path) -> None:
    assert greys(make_video(tmp_path / "a.mp4", [20, 40, 60], fps=5), 10) == [20, 20, 40, 40, 60]


def test_a_span_of_a_file(make_video: MakeVideo, tmp_path: Path) -> None:
    file = make_video(tmp_path / "a.mp4", GREYS)
    assert greys(file, 10, start=0.5, end=0.9) == [70, 80, 90, 100]
    assert greys(file, 10, start=0.0, end=0.2) == [20, 30]


def test_a_rate_that_varies(make_video: MakeVideo, tmp_path: Path) -> None:
    file = make_video(tmp_path / "a.mp4", [20, 40, 60, 80], times=[0.0, 0.04, 0.3, 0.41])
    assert greys(file, 10) == [20, 40, 60, 60, 80]


@pytest.mark.parametrize(
    ("times", "fps", "expected"),
    [
        ([0.0, 0.1, 0.2], 10, [0, 1, 2]),
        ([5.0, 5.1, 5.2], 10, [0, 1, 2]),  # seconds count from the first frame
        ([0.0], 10, [0]),
        ([], 10, []),
        ([i / 30 for i in range(7)], 10, [0, 3, 6]),
        ([i / 30 for i in range(6)], 15, [0, 2, 4]),
        ([0.0, 0.34, 1.0], 2, [0, 1, 2]),
    ],
)
def test_the_nearest_frame_is_taken(times: list[float], fps: int, expected: list[int]) -> None:
    assert list(at_rate(((time, i) for i, time in enumerate(times)), fps)) == expected


@pytest.mark.parametrize("shape", [(10, 20), (21, 20), (64, 37), (1, 300), (16, 16)])
@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_the_aspect_is_kept(shape: tuple[int, int], fit: str) -> None:
    """A white image: what is black was padded, as much on one side as on the other."""
    out = fitted(np.full((*shape, 3), 255, dtype=np.uint8), Framing(10, 16, 16, fit))
    assert out.shape == (16, 16, 3)
    filled = out[..., 0] > 0
    height, width = int(filled.any(axis=1).sum()), int(filled.any(axis=0).sum())
    if fit == "crop":
        assert filled.all()
    else:
        assert max(height, width) == 16
        assert abs(height / width - shape[0] / shape[1]) <= max(1 / height, 1 / width) * max(1, shape[0] / shape[1])
        assert abs(int(filled.any(axis=1).argmax()) - (16 - height) // 2) == 0


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"), [("ffv1", "gray", ".mkv"), ("ffv1", "yuva420p", ".mkv"), ("png", "rgb24", ".mov")]
)
def test_grey_and_transparent_video(
    codec: str, pix_fmt: str, suffix: str, make_video: MakeVideo, tmp_path: Path
) -> None:
    file = make_video(tmp_path / f"a{suffix}", [20, 40, 60], codec=codec, pix_fmt=pix_fmt)
    assert greys(file, 10) == [20, 40, 60]


def test_odd_sizes(make_video: MakeVideo, tmp_path: Path) -> None:
    file = make_video(tmp_path / "a.mov", [20, 40, 60], size=(33, 47), codec="png", pix_fmt="rgb24")
    assert len(list(read_images(file, Framing(10, 32, 48)))) == 3
    with pytest.raises(ValueError, match="even number of pixels"):
        Framing(10, 33, 48)


def test_what_is_no_video_is_named(make_video: MakeVideo, tmp_path: Path) -> None:
    framing = Framing(10, 32, 48)
    text, nothing = tmp_path / "text.mp4", tmp_path / "nothing.mp4"
    text.write_text("no video at all\n" * 100)
    nothing.touch()
    for file in (text, nothing, tmp_path / "missing.mp4"):
        with pytest.raises(UnreadableVideoError, match="cannot be decoded"):
            list(read_images(file, framing))
    whole = make_video(tmp_path / "a.mp4", GREYS, size=(128, 128))
    for share in (0.3, 0.6, 0.9):  # its index lies at the end
        cut = tmp_path / f"{share}.mp4"
        cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        with pytest.raises(UnreadableVideoError):
            list(read_images(cut, framing))
