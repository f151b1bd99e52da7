"""A view as an MP4 video (PyAV, H.264)."""

from fractions import Fraction
from pathlib import Path

import av
from tqdm import tqdm

from .view_panels import Panels


def write_video(path: Path, panels: Panels) -> None:
    """Write a video of every frame of the episode, at its rate, with a progress bar.

    Args:
        path: MP4 file.
        panels: What draws a frame.
    """
    height, width = panels.size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", Fraction(panels.view.fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "20"}
        for now in tqdm(range(panels.view.length), desc="video", unit="frame", leave=False):
            frame = av.VideoFrame.from_ndarray(panels.frame(now), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
