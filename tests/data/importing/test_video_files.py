"""Frames come out at the rate and size asked for, whatever the file has; what is no video says so."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lerobot_lafp.data.importing.video_files import Framing, Image, UnreadableVideoError, at_rate, fitted, read_images

from ..conftest import MakeVideo

GREYS = range(20, 240, 10)
#: What a player shows: (48, 96) pixels, a grey in each quarter.
SHOWN = np.kron(np.array([[40, 100], [160, 220]], dtype=np.uint8), np.ones((24, 48), dtype=np.uint8))
#: (a, b, c, d) of a track's matrix, by which the stored (x, y) is shown at (a x + c y, b x + d y).
MATRICES = {
    "as it is": (1, 0, 0, 1),
    "a quarter right": (0, 1, -1, 0),
    "upside down": (-1, 0, 0, -1),
    "a quarter left": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "mirrored up and down": (1, 0, 0, -1),
    "mirrored and a quarter": (0, 1, 1, 0),
    "mirrored and three quarters": (0, -1, -1, 0),
}


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
    out = fitted(np.full((*shape, 3), 255, dtype=np.uint8), 1.0, Framing(10, 16, 16, fit))
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


def stored(shown: Image, matrix: Sequence[int]) -> Image:
    """The image (H, W, 3) that ``matrix`` turns into ``shown`` (H, W)."""
    a, b, c, d = matrix
    height, width = shown.shape if a else shown.shape[::-1]
    y, x = np.mgrid[:height, :width]
    across, down = a * x + c * y, b * x + d * y
    return np.repeat(shown[down - down.min(), across - across.min()][..., None], 3, axis=2)


def with_matrix(file: Path, matrix: Sequence[int]) -> Path:
    """``file`` (MP4), its track's header saying ``matrix``."""
    a, b, c, d = (value << 16 for value in matrix)
    content = bytearray(file.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    file.write_bytes(content)
    return file


def is_shown(image: Image, shown: Image = SHOWN) -> bool:
    """Whether no pixel is further off than an encoder puts it, but for those at the quarters' edges."""
    off = np.abs(image.astype(int) - shown[..., None]).max(axis=2) > 25
    off[20:28] = off[:, 44:52] = False
    return not off.any()


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("pixel_aspect", [None, Fraction(2), Fraction(1, 2)])
def test_what_a_player_shows(pixel_aspect: Fraction | None, name: str, make_video: MakeVideo, tmp_path: Path) -> None:
    """The aspect is that of the stored pixels, so of those that are turned afterwards."""
    image = stored(SHOWN, MATRICES[name])
    if pixel_aspect is not None:
        image = image[:, ::2] if pixel_aspect > 1 else image[::2]
    size = (image.shape[0], image.shape[1])
    file = make_video(tmp_path / "a.mp4", [image] * 3, size=size, pixel_aspect=pixel_aspect)
    found = list(read_images(with_matrix(file, MATRICES[name]), Framing(10, 48, 96)))
    assert len(found) == 3
    assert all(is_shown(each) for each in found)
    (padded, *_) = read_images(file, Framing(10, 96, 96))
    assert is_shown(padded[24:72])
    assert not padded[:24].any()


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", ".mkv"), ("libx264", ".ts"), ("mjpeg", ".mov"), ("libvpx-vp9", ".mp4")]
)
def test_whoever_says_that_pixels_are_not_square(
    codec: str, suffix: str, make_video: MakeVideo, tmp_path: Path
) -> None:
    """The codec, the container or both."""
    image = stored(SHOWN, MATRICES["as it is"])[:, ::2]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    size = (image.shape[0], image.shape[1])
    file = make_video(
        tmp_path / f"a{suffix}", [image], size=size, codec=codec, pix_fmt=pix_fmt, pixel_aspect=Fraction(2)
    )
    (found,) = read_images(file, Framing(10, 48, 96))
    assert is_shown(found)


def test_an_aspect_that_changes(tmp_path: Path) -> None:
    """A broadcast goes on in another aspect: every frame is shown in its own."""
    with av.open(str(tmp_path / "a.ts"), "w") as container:
        stream = container.add_stream("mpeg2video", 10)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        for part, aspect in enumerate((Fraction(1), Fraction(4, 3))):
            encoder = av.CodecContext.create("mpeg2video", "w")
            encoder.width, encoder.height, encoder.pix_fmt = 48, 48, "yuv420p"
            encoder.time_base, encoder.sample_aspect_ratio = Fraction(1, 10), aspect
            for i in range(4):
                frame = av.VideoFrame.from_ndarray(np.full((48, 48, 3), 200, dtype=np.uint8)).reformat(format="yuv420p")
                frame.pts = 4 * part + i
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
            for packet in encoder.encode(None):
                packet.stream = stream
                container.mux(packet)
    found = list(read_images(tmp_path / "a.ts", Framing(10, 48, 96)))
    assert [int((image[24, :, 0] > 100).sum()) for image in found] == [48] * 4 + [64] * 4


def with_pixel_aspect(file: Path, aspect: tuple[int, int]) -> None:
    """``file`` (MP4) saying ``aspect``, whatever its codec says."""
    content = bytearray(file.read_bytes())
    at = content.index(b"pasp") + 4
    content[at : at + 8] = struct.pack(">2I", *aspect)
    file.write_bytes(content)


def test_the_container_overrules_the_codec(make_video: MakeVideo, tmp_path: Path) -> None:
    """As in players: AV1 says of all its pixels that they are square, and MP4 what they are."""
    image = stored(SHOWN, MATRICES["as it is"])
    file = make_video(tmp_path / "a.mp4", [image[:, ::2]] * 3, size=(48, 48), pixel_aspect=Fraction(4, 3))
    with_pixel_aspect(file, (2, 1))
    assert all(is_shown(found) for found in read_images(file, Framing(10, 48, 96)))


@pytest.mark.parametrize("aspect", [(0, 1), (1, 65535), (65535, 1)])
def test_what_cannot_be_meant_is_square(aspect: tuple[int, int], make_video: MakeVideo, tmp_path: Path) -> None:
    """Of a codec that says nothing of its pixels."""
    image, vp9 = stored(SHOWN, MATRICES["as it is"]), "libvpx-vp9"
    file = make_video(tmp_path / "a.mp4", [image], size=(48, 96), codec=vp9, pixel_aspect=Fraction(2))
    with_pixel_aspect(file, aspect)
    (found,) = read_images(file, Framing(10, 48, 96))
    assert is_shown(found)


def test_a_side_that_shrinks_is_averaged_though_the_other_grows() -> None:
    stripes = np.zeros((16, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    grey = fitted(stripes, 0.5, Framing(10, 32, 64))
    assert grey.shape == (32, 64, 3)
    stripes = np.zeros((16, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    grey = fitted(stripes, 0.25, Framing(10, 32, 32))
    assert np.abs(grey.astype(int) - 127).max() <= 1
