"""The pictures of a view's video: cameras, actions with the fan of samples, latents, and the whole episode below.

What stays the same is drawn once; of each frame only the lines that move are drawn over it, so that a frame takes some
30 ms.
"""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .view_layout import WIDTH, Box, Layout, arrange
from .view_measures import MOST_DRAWN, Findings
from .view_policy import View
from .view_projection import Projection, project

_DPI = 100
#: Of Okabe and Ito's colours, which the colour-blind tell apart.
RECORDED, FIRST, SECOND, INVERSE, SPLIT = "#000000", "#d55e00", "#56b4e9", "#0072b2", "#f0e442"
_GREY = "#666666"
#: Letters that fit into the line above all, and the width of one above a panel, in pixels.
_LONGEST, _LETTER = 140, 6


class Panels:
    """Draws a view frame by frame.

    Args:
        view: What is drawn.
        findings: What was measured of it.
        title: Line above it.
    """

    def __init__(self, view: View, findings: Findings, title: str) -> None:
        self.view, self.findings, self.fps = view, findings, view.fps
        self.projection = project(view)
        first = {camera: Image.open(io.BytesIO(files[0])) for camera, files in view.pictures.items()}
        sizes = {camera: (image.height, image.width) for camera, image in first.items()}
        self.layout: Layout = arrange(sizes, len(view.names), self.projection is not None)
        self.figure = Figure(figsize=(WIDTH / _DPI, self.layout.height / _DPI), dpi=_DPI)
        self.canvas = FigureCanvasAgg(self.figure)
        self._moving: list[tuple[Axes | None, Artist]] = []
        with matplotlib.rc_context({"font.size": 9, "axes.linewidth": 0.6}):
            self._draw_header(title)
            self._actions = [self._action_panel(box, i) for i, box in enumerate(self.layout.actions)]
            self._components = [self._component_panel(box, i) for i, box in enumerate(self.layout.latents[:2])]
            self._plane = self._plane_panel(self.layout.latents[2]) if self.layout.latents else None
            self._cursor = self._overview_panel(self.layout.overview)
            for camera, box in self.layout.cameras.items():
                self._text(box.x, box.y - 5, camera.removeprefix("observation.").removeprefix("images."))
            self.canvas.draw()
        self._background = self.canvas.copy_from_bbox(self.figure.bbox)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a picture in pixels."""
        return self.layout.height, WIDTH

    def frame(self, now: int) -> NDArray[np.uint8]:
        """The picture at frame ``now``, (height, width, 3)."""
        moment = now // self.view.steps
        plan = int(self.view.plans[moment])
        self._move_lines(now, moment, plan)
        self.canvas.restore_region(self._background)
        for axes, artist in self._moving:
            (self.figure if axes is None else axes).draw_artist(artist)
        picture = np.asarray(self.canvas.buffer_rgba())[..., :3].copy()
        for camera, box in self.layout.cameras.items():
            image = Image.fromarray(_decoded(self.view.pictures[camera][now]))
            enlarged = image.width * 3 < box.width
            small = image.resize((box.width, box.height), Image.Resampling.NEAREST if enlarged else None)
            picture[box.y : box.y + box.height, box.x : box.x + box.width] = np.asarray(small)
        return picture

    # --- What moves -----------------------------------------------------------------------------------------

    def _move_lines(self, now: int, moment: int, plan: int) -> None:
        view, modes = self.view, self.findings.modes
        second = None if modes is None else modes.second[moment]
        for dimension, (recorded, fans) in enumerate(self._actions):
            if view.human is not None:
                recorded.set_data(self._around(now, view.human[:, dimension]))
            if view.chunks is not None:
                times = (plan - now + torch.arange(view.chunks.shape[2])) / self.fps
                _spread(fans, times, view.chunks[moment, :, :, dimension], second)
        found = self.projection
        for component, (inverse, fans) in enumerate(self._components):
            assert found is not None
            if found.latents is not None:
                inverse.set_data(self._around(now, found.latents[:, component]))
            if found.samples is not None:
                steps = view.frame_offset * torch.arange(found.samples.shape[2])
                _spread(fans, (plan - now + steps) / self.fps, found.samples[moment, :, :, component], second)
        if self._plane is not None and found is not None:
            inverse, fans = self._plane
            if found.latents is not None:
                inverse.set_data(found.latents[[plan], 0].tolist(), found.latents[[plan], 1].tolist())
            if found.samples is not None:
                first = found.samples[moment, :, 0]
                chosen = torch.zeros(len(first), dtype=torch.bool) if second is None else second
                for fan, of in zip(fans, (~chosen, chosen), strict=True):
                    fan.set_data(first[of, 0].tolist(), first[of, 1].tolist())
        self._cursor.set_xdata([now / self.fps] * 2)
        self._status.set_text(self._words(now, moment, plan))

    def _around(self, now: int, values: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
        """Times from now and values of the frames in the window."""
        back, ahead = self._window
        frames = torch.arange(max(0, now - back), min(self.view.length, now + ahead + 1))
        return ((frames - now) / self.fps).numpy(), values[frames].numpy()

    @property
    def _window(self) -> tuple[int, int]:
        """Frames before now and after it that are drawn."""
        reach = self._reach
        return max(self.view.steps, reach // 2), reach

    @property
    def _reach(self) -> int:
        """Frames that a chunk covers."""
        view = self.view
        if view.chunks is not None:
            return view.chunks.shape[2]
        return view.frame_offset * (1 if view.samples is None else view.samples.shape[2])

    def _words(self, now: int, moment: int, plan: int) -> str:
        said = f"frame {now} of {self.view.length}, {now / self.fps:.1f} s"
        modes = self.findings.modes
        if modes is None:
            return said
        said += f"  |  planned at frame {plan}"
        if not bool(modes.split[moment]):
            return said + ": one mode"
        count = int(modes.second[moment].sum())
        return said + f": two modes, {modes.second.shape[1] - count} and {count} samples"

    # --- What stays -----------------------------------------------------------------------------------------

    def _text(self, x: int, y: int, text: str, **options: Any) -> Artist:
        return self.figure.text(x / WIDTH, 1 - y / self.layout.height, text, parse_math=False, **options)

    def _draw_header(self, title: str) -> None:
        self._text(12, 24, _shortened(title, _LONGEST), fontsize=12, fontweight="bold")
        self._status: Any = self._text(12, 46, "", fontsize=11, color=_GREY, animated=True)
        self._moving.append((None, self._status))
        view = self.view
        keys = []
        if view.human is not None:
            keys.append(Line2D([], [], color=RECORDED, lw=2, label="recorded action"))
        if view.chunks is not None or view.samples is not None:
            keys.append(Line2D([], [], color=FIRST, label="sample"))
            keys.append(Line2D([], [], color=SECOND, label="sample of the smaller mode"))
        if view.latents is not None:
            keys.append(Line2D([], [], color=INVERSE, lw=2, label="latent of the inverse model"))
        top = 1 - 28 / self.layout.height
        self.figure.legend(
            handles=keys, loc="upper right", bbox_to_anchor=(1 - 8 / WIDTH, top), ncols=len(keys), frameon=False
        )

    def _axes(self, box: Box, title: str) -> Axes:
        axes = self.figure.add_axes(box.fractions(self.layout.height))
        axes.set_title(_shortened(title, box.width // _LETTER), fontsize=9, loc="left", pad=4, parse_math=False)
        axes.tick_params(labelsize=8, length=2, pad=2)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.spines[["top", "right"]].set_visible(False)
        return axes

    def _over_time(self, box: Box, title: str, values: Sequence[Tensor | None], last: bool) -> Axes:
        """A panel of the seconds around now, high enough for ``values``."""
        axes = self._axes(box, title)
        back, ahead = self._window
        axes.set_xlim(-back / self.fps, ahead / self.fps)
        axes.set_ylim(*_limits(values))
        axes.axvline(0, color=_GREY, lw=0.8)
        if last:
            axes.set_xlabel("seconds from now", fontsize=8, labelpad=1)
        else:
            axes.tick_params(labelbottom=False)
        return axes

    def _lines(self, axes: Axes, color: str, many: bool, marker: str = "") -> tuple[Line2D, tuple[Line2D, Line2D]]:
        """A line of what was done, and two of samples below it."""
        width = 0.9 if many else 1.2
        fans = tuple(
            axes.plot([], [], color=each, lw=width, marker=marker, ms=3, alpha=0.75, animated=True)[0]
            for each in (FIRST, SECOND)
        )
        done = axes.plot([], [], color=color, lw=1.8, animated=True)[0]
        self._moving += [(axes, fans[0]), (axes, fans[1]), (axes, done)]
        return done, (fans[0], fans[1])

    def _action_panel(self, box: Box, dimension: int) -> tuple[Line2D, tuple[Line2D, Line2D]]:
        view, boxes = self.view, self.layout.actions
        below = [other for other in boxes if other.x == box.x and other.y > box.y]
        values = [None if x is None else x[..., dimension] for x in (view.human, view.chunks)]
        axes = self._over_time(box, view.names[dimension], values, last=not below)
        return self._lines(axes, RECORDED, many=len(boxes) > 6)

    def _component_panel(self, box: Box, component: int) -> tuple[Line2D, tuple[Line2D, Line2D]]:
        found = self.projection
        assert found is not None
        title = f"latents, component {component + 1} ({found.shares[component]:.0%} of variance)"
        values = [None if x is None else x[..., component] for x in (found.latents, found.samples)]
        return self._lines(self._over_time(box, title, values, last=True), INVERSE, many=True, marker="o")

    def _plane_panel(self, box: Box) -> tuple[Line2D, tuple[Line2D, Line2D]]:
        found: Projection | None = self.projection
        assert found is not None
        axes = self._axes(box, "first latent: component 1, 2")
        for set_limits, component in ((axes.set_xlim, 0), (axes.set_ylim, 1)):
            values = [None if x is None else x[..., component] for x in (found.latents, found.samples)]
            set_limits(*_limits(values))
        if found.latents is not None:
            axes.plot(found.latents[:, 0].tolist(), found.latents[:, 1].tolist(), ".", color="#bbbbbb", ms=2)
        fans = [axes.plot([], [], "o", color=each, ms=4, alpha=0.75, animated=True)[0] for each in (FIRST, SECOND)]
        inverse = axes.plot([], [], "*", color=INVERSE, ms=12, animated=True)[0]
        self._moving += [(axes, fans[0]), (axes, fans[1]), (axes, inverse)]
        return inverse, (fans[0], fans[1])

    def _overview_panel(self, box: Box) -> Line2D:
        findings, view = self.findings, self.view
        found, of = (findings.actions, "actions") if findings.actions is not None else (findings.latents, "latents")
        seconds = view.plans / self.fps
        modes = findings.modes
        if found is not None:
            axes = self._axes(box, f"whole episode: error of the samples in {of} at each planning moment (deviations)")
            axes.plot(seconds, found.mean, ".-", color=FIRST, lw=1, ms=4, label="mean of the samples")
            axes.plot(seconds, found.best, ".-", color="#009e73", lw=1, ms=4, label="best sample")
            axes.set_ylim(bottom=0)
        elif modes is not None:
            axes = self._axes(box, "whole episode: variance between two clusters of the samples, to that within them")
            axes.plot(
                seconds, modes.ratio.clamp(max=MOST_DRAWN), ".-", color=FIRST, lw=1, ms=4, label="ratio (at most 50)"
            )
            axes.set_ylim(bottom=0)
        else:
            axes = self._axes(box, "whole episode")
            axes.set_yticks([])
        for second in seconds[modes.split].tolist() if modes is not None else []:
            label = "" if axes.patches else "samples split into two modes"
            axes.axvspan(second, second + view.steps / self.fps, color=SPLIT, alpha=0.6, lw=0, label=label)
        axes.set_xlim(0, max(self.view.length - 1, 1) / self.fps)
        axes.set_xlabel("seconds", fontsize=8, labelpad=1)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=3, fontsize=8, frameon=False, borderpad=0)
        cursor = axes.plot([0, 0], [0, 1], color=_GREY, lw=1.2, transform=axes.get_xaxis_transform(), animated=True)[0]
        self._moving.append((axes, cursor))
        return cursor


def _spread(fans: tuple[Line2D, Line2D], times: Tensor, values: Tensor, second: Tensor | None) -> None:
    """Put the samples (S, T) into two lines with gaps, one of each mode."""
    chosen = torch.zeros(len(values), dtype=torch.bool) if second is None else second
    for fan, of in zip(fans, (~chosen, chosen), strict=True):
        rows = values[of]
        gaps = torch.full((len(rows), 1), torch.nan)
        x = torch.cat([times.expand(len(rows), -1), gaps], dim=1)
        fan.set_data(x.flatten().numpy(), torch.cat([rows, gaps], dim=1).flatten().numpy())


def _limits(values: Sequence[Tensor | None]) -> tuple[float, float]:
    """Least and largest of what is known, with some room."""
    there = torch.cat([x[torch.isfinite(x)].flatten() for x in values if x is not None])
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _shortened(text: str, most: int) -> str:
    """``text`` without its beginning, if it is longer: names of joints and paths differ at their ends."""
    return text if len(text) <= most else f"..{text[2 - most :]}"


def _decoded(file: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(file)))
