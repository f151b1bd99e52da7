"""Small video files, each frame of a grey that says which it is, or an image."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

MakeVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def make_video() -> MakeVideo:
    """``make_video(path, greys, fps=10, size=(32, 48), times=None)``: one frame a grey, (height, width) pixels.

    A grey may be an image of that size. ``times`` are the frames' seconds, for a rate that varies; ``pix_fmt`` and
    ``codec`` are FFmpeg's; ``pixel_aspect`` is what the codec says of its pixels, width / height.
    """

    def build(
        path: Path,
        greys: Sequence[int | NDArray[np.uint8]],
        fps: int = 10,
        size: tuple[int, int] = (32, 48),
        times: Sequence[float] | None = None,
        codec: str = "mpeg4",
        pix_fmt: str = "yuv420p",
        pixel_aspect: Fraction | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, fps)
            stream.height, stream.width = size
            stream.pix_fmt = pix_fmt
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.bit_rate = 4_000_000
            if pixel_aspect is not None:
                stream.codec_context.sample_aspect_ratio = pixel_aspect
            for i, grey in enumerate(greys):
                frame = av.VideoFrame.from_ndarray(np.full((*size, 3), grey, dtype=np.uint8), format="rgb24")
                frame = frame.reformat(format=pix_fmt)
                frame.pts = round(1000 * (i / fps if times is None else times[i]))
                frame.time_base = Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return build
