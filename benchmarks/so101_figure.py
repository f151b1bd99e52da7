"""The picture of ``so101.py``: success of every row, and an episode of LAFP as the front camera sees it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

LABELS = {
    "lafp": "LAFP, 10 of 150 labelled",
    "lafp_play": "LAFP, 150 videos, 10 of play labelled",
    "flow_on_actions": "the same flow on the 10 alone",
    "act": "LeRobot act on the 10",
    "diffusion": "LeRobot diffusion on the 10",
    "act_all": "LeRobot act on all 150",
}
TITLES = {"state": "from positions", "front": "from the front camera"}
OURS, OTHERS = "#0072b2", "#999999"
#: Frames a second of the videos.
FPS = 10


def draw(path: Path, observed: Mapping[str, Any], film: Path, moments: int = 5) -> None:
    """Draw success rates with their intervals, and frames of the first video in ``film``."""
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.1, 1.3))
    frames = _frames(film)
    shown = np.linspace(0, len(frames) - 1, moments).round().astype(int)
    for axis, number in zip(above.subplots(1, moments), shown, strict=True):
        axis.imshow(frames[number])
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"{number / FPS:.1f} s", fontsize=9)
    names = [name for name in LABELS if any(name in found["methods"] for found in observed.values())]
    axes = below.subplots(1, len(observed), sharey=True, squeeze=False)[0]
    for axis, (kind, found) in zip(axes, observed.items(), strict=True):
        for row, name in enumerate(names):
            if name in found["methods"]:
                _bar(axis, row, found["methods"][name]["success"], OURS if name.startswith("lafp") else OTHERS)
        axis.set(xlim=(0, 1), xlabel="success (training seeds)", title=TITLES[kind])
        axis.set_yticks(range(len(names)), [LABELS[name] for name in names], fontsize=8)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=130)


def _bar(axis: Axes, row: int, success: Mapping[str, Any], colour: str) -> None:
    """A mean with its interval."""
    axis.barh(row, success["mean"], color=colour)
    axis.plot(success["ci95"], [row, row], color="black", linewidth=1.2)
    axis.text(1.01, row, f"{success['mean']:.2f} ({success['seeds']})", va="center", fontsize=8)


def _frames(film: Path) -> list[NDArray[np.uint8]]:
    """The frames of the first video in a folder."""
    with av.open(str(min(film.rglob("*.mp4")))) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
