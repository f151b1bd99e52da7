"""A view as a recording for rerun, the viewer that LeRobot uses.

| entity | what it holds |
|---|---|
| ``camera/NAME`` | images |
| ``action/NAME/recorded`` | the recorded action of that name |
| ``action/NAME/policy/I`` | samples, one line each; plans that overlap in time lie in different I |
| ``latents/component_1``, ``component_2`` | likewise: ``inverse_model``, ``policy/I``, on principal components |
| ``latents/inverse_model`` | latents of the inverse model, all dimensions |
| ``splits/ratio``, ``splits/bound`` | variance between two clusters of the samples to that within; a split needs more |
| ``splits/moments`` | the moments at which the samples split |
| ``error/mean``, ``error/best`` | error of the samples at each planning moment |
| ``summary`` | what the command prints |

Timelines are named as `lerobot-dataset-viz` names them: ``frame_index`` and ``timestamp``.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .measures import BIMODAL_RATIO
from .view_measures import MOST_DRAWN, Findings
from .view_policy import View
from .view_projection import project

#: Colours that are seen on a dark background and on a light one.
_RECORDED, _POLICY, _INVERSE, _BOUND = (150, 150, 150), (213, 94, 0), (0, 114, 178), (150, 150, 150)
#: More panels than these are too small for a legend in each.
_MOST_LEGENDS = 6


def require_rerun() -> None:
    """Raise an error where rerun is not installed.

    Raises:
        UserError: It is not.
    """
    if importlib.util.find_spec("rerun") is None:
        raise UserError(
            "The recording is for rerun, which is not installed. Install it: pip install 'lerobot_policy_lafp[view]'."
        )


def write_recording(path: Path, view: View, findings: Findings, title: str, summary: Sequence[str]) -> None:
    """Write a recording.

    Args:
        path: RRD file.
        view: What is shown.
        findings: What was measured of it.
        title: Name of the recording.
        summary: Lines of words.
    """
    import rerun as rr

    recording = rr.RecordingStream("lafp_view")
    recording.save(path, default_blueprint=_blueprint(view))
    recording.send_recording_name(title)
    log = _Log(recording, view.fps)
    recording.log("summary", rr.TextDocument("\n\n".join([title, *summary])), static=True)
    for camera, files in view.pictures.items():
        for frame, file in enumerate(files):
            log.at(frame)
            recording.log(_camera(camera), rr.EncodedImage(contents=file, media_type="image/jpeg"))
    for i, name in enumerate(view.names):
        if view.human is not None:
            log.series(["action", name, "recorded"], None, view.human[:, [i]], _RECORDED, "recorded", width=3.0)
        if view.chunks is not None:
            log.fan(["action", name], view.plans, view.chunks[..., i], 1, view.steps)
    _log_latents(log, view)
    _log_findings(log, view, findings)
    recording.disconnect()


def _log_latents(log: "_Log", view: View) -> None:
    projection = project(view)
    if view.latents is not None:
        log.series(["latents", "inverse_model"], None, view.latents)
    for i in range(2 if projection is not None else 0):
        assert projection is not None
        above = ["latents", f"component_{i + 1}"]
        if projection.latents is not None:
            log.series([*above, "inverse_model"], None, projection.latents[:, [i]], _INVERSE, "inverse model", 3.0)
        if projection.samples is not None:
            log.fan(above, view.plans, projection.samples[..., i], view.frame_offset, view.steps)


def _log_findings(log: "_Log", view: View, findings: Findings) -> None:
    import rerun as rr

    found, modes = findings.actions or findings.latents, findings.modes
    if found is not None:
        log.series(["error", "mean"], view.plans, found.mean.unsqueeze(1), _POLICY, "mean of the samples")
        log.series(["error", "best"], view.plans, found.best.unsqueeze(1), (0, 158, 115), "best sample")
    if modes is None:
        return
    ratio = modes.ratio.clamp(max=MOST_DRAWN).unsqueeze(1)
    log.series(["splits", "ratio"], view.plans, ratio, _POLICY, "between / within (at most 50)")
    bound = torch.full((len(view.plans), 1), BIMODAL_RATIO)
    log.series(["splits", "bound"], view.plans, bound, _BOUND, "split above")
    for moment in modes.split.nonzero().flatten().tolist():
        count, smaller = modes.second.shape[1], int(modes.second[moment].sum())
        log.at(int(view.plans[moment]))
        text = f"two modes: {count - smaller} and {smaller} of {count} samples"
        log.recording.log("splits/moments", rr.TextLog(text))


class _Log:
    """Logs rows of numbers at frames of the episode."""

    def __init__(self, recording: Any, fps: float) -> None:
        self.recording, self.fps = recording, fps

    def at(self, frame: int) -> None:
        """Set the time of what is logged next."""
        self.recording.set_time("frame_index", sequence=frame)
        self.recording.set_time("timestamp", duration=frame / self.fps)

    def series(
        self,
        path: Sequence[str],
        frames: Tensor | None,
        values: Tensor,
        color: tuple[int, int, int] | None = None,
        name: str | None = None,
        width: float = 1.5,
    ) -> None:
        """Lines over time, (rows, lines); NaN is a gap. ``frames`` are the rows', in order: unset, 0, 1, .."""
        import rerun as rr

        frames = torch.arange(len(values)) if frames is None else frames
        lines = values.shape[1]
        entity = rr.new_entity_path(list(path))
        if color is not None:
            names = None if name is None else [name] * lines
            style = rr.SeriesLines(colors=[color] * lines, widths=[width] * lines, names=names)
            self.recording.log(entity, style, static=True)
        times = [
            rr.TimeColumn("frame_index", sequence=frames.numpy()),
            rr.TimeColumn("timestamp", duration=(frames / self.fps).double().numpy()),
        ]
        columns = rr.Scalars.columns(scalars=values.double().flatten().numpy()).partition([lines] * len(values))
        self.recording.send_columns(entity, indexes=times, columns=columns)

    def fan(self, above: Sequence[str], plans: Tensor, samples: Tensor, offset: int, steps: int) -> None:
        """Samples (M, S, T) of plans that begin every ``steps`` frames, one value every ``offset`` frames.

        A line that two plans share has a gap between them; so many entities take turns that no plan meets the next one
        of the same.
        """
        reach = samples.shape[2] * offset
        turns = reach // steps + 1
        times = torch.cat([torch.arange(0, reach, offset), torch.tensor([reach])])
        gap = torch.full((len(samples), samples.shape[1], 1), torch.nan)
        rows = torch.cat([samples, gap], dim=2).transpose(1, 2)  # (M, T + 1, S)
        at = plans.unsqueeze(1) + times
        for turn in range(min(turns, len(plans))):
            own = slice(turn, None, turns)
            self.series(
                [*above, "policy", str(turn)], at[own].flatten(), rows[own].flatten(0, 1), _POLICY, "sample", 0.8
            )


# --- What the viewer shows first ----------------------------------------------------------------------------------


def _camera(camera: str) -> str:
    import rerun as rr

    return rr.new_entity_path(["camera", camera.removeprefix("observation.").removeprefix("images.")])


def _blueprint(view: View) -> Any:
    import rerun as rr
    import rerun.blueprint as rrb

    cameras = [rrb.Spatial2DView(origin=_camera(camera), name=camera) for camera in view.pictures]
    legend = rrb.PlotLegend(visible=len(view.names) <= _MOST_LEGENDS)
    actions = [
        rrb.TimeSeriesView(origin=rr.new_entity_path(["action", name]), name=name, plot_legend=legend)
        for name in view.names
    ]
    latents = []
    if view.latents is not None or view.samples is not None:
        latents = [rrb.TimeSeriesView(origin=f"latents/component_{i}", name=f"latents, component {i}") for i in (1, 2)]
    measured = [
        rrb.TimeSeriesView(origin="splits", name="splits: variance between / within"),
        rrb.TimeSeriesView(origin="error", name="error, deviations"),
        rrb.TextLogView(origin="splits/moments", name="splits"),
        rrb.TextDocumentView(origin="summary", name="summary"),
    ]
    left = [rrb.Vertical(*cameras)] if cameras else []
    middle = [rrb.Grid(*actions)] if actions else []
    right = rrb.Vertical(*latents, rrb.Tabs(*measured))
    shares = [1] * len(left) + [2] * len(middle) + [1]
    return rrb.Blueprint(rrb.Horizontal(*left, *middle, right, column_shares=shares), collapse_panels=True)
