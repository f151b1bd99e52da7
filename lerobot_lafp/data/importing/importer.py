"""Sources of images -> one action-free LeRobotDataset: in several processes, resumed, with a report of what was not.

Each source becomes a small dataset of its own in ``OUT.partial/parts``; what is there is not imported again. At the end
the parts are assembled into ``OUT``, in the order of the sources, so that an interrupted import ends as any other.
"""

import errno
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets import LeRobotDataset
from scenedetect.detectors import ContentDetector
from tqdm import tqdm

from ...errors import UserError
from ..assembly import assemble
from .processes import end_with_parent, end_workers, worker_context
from .video_files import Framing, Image, UnreadableVideoError

#: Free bytes below which a disk counts as full: what the tables of a large import need in the end.
DISK_RESERVE = 64 << 20

#: Where a dataset says what it was made of.
REPORT = "meta/import.json"


class Source(Protocol):
    """Something that images come from; sent to worker processes."""

    @property
    def name(self) -> str:
        """What the report calls it; unique within an import."""

    @property
    def label(self) -> str:
        """What the column ``source`` says of its frames."""

    def identity(self) -> list[Any]:
        """What makes it another source when it changes; JSON."""

    def clips(self, framing: Framing) -> Iterator[tuple[str, Iterator[Image]]]:
        """Runs of images as ``framing`` wants them, each with its task.

        Raises:
            UnreadableVideoError: It cannot be read; perhaps only after some images.
        """


@dataclass(frozen=True)
class Settings:
    """What is made of every source.

    Attributes:
        framing: Rate and size.
        camera: Name of the images.
        split_cuts: Whether a new episode begins where the scene changes (PySceneDetect's ``ContentDetector``).
        max_frames: Longest episode; a longer clip is split. Unset: any.
        min_frames: Shortest one; what is shorter is left out.
    """

    framing: Framing
    camera: str = "observation.image"
    split_cuts: bool = False
    max_frames: int | None = None
    min_frames: int = 2


@dataclass
class Outcome:
    """What became of a source.

    Attributes:
        source: Its name.
        episodes: Imported.
        frames: Imported.
        too_short: Clips left out.
        skipped: Why nothing was imported, or None.
    """

    source: str
    episodes: int = 0
    frames: int = 0
    too_short: int = 0
    skipped: str | None = None


@dataclass
class Report:
    """What became of an import.

    Attributes:
        outcomes: Of the sources that were read, in order.
        failed: Source -> an error that says nothing of the source itself; it is tried again with ``--resume``.
        disk_full: Whether it stopped for want of disk.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    disk_full: bool = False

    @property
    def is_whole(self) -> bool:
        return not self.failed and not self.disk_full


def run_import(
    sources: Sequence[Source],
    output_dir: Path,
    repo_id: str,
    settings: Settings,
    workers: int,
    resume: bool,
) -> Report:
    """Import ``sources`` into the new dataset ``output_dir``, with a progress bar.

    Args:
        sources: In the order of the new dataset's episodes.
        output_dir: Its folder.
        repo_id: Its name.
        settings: What is made of every source.
        workers: Processes.
        resume: Go on with an import that was interrupted, or ran out of disk.

    Raises:
        FileExistsError: ``output_dir`` is there already, or an interrupted import of it, and ``resume`` was not asked.
        UserError: Nothing could be imported, or an interrupted import had other settings.
    """
    partial = output_dir.with_name(output_dir.name + ".partial")
    _begin(output_dir, partial, settings, resume)
    parts = {source.name: partial / "parts" / _digest(source) for source in sources}
    report = _import_parts(sources, parts, settings, workers)
    if not any(outcome.episodes for outcome in report.outcomes):
        raise UserError(f"Nothing was imported.{_listing(report)}")
    shutil.rmtree(partial / "dataset", ignore_errors=True)
    assemble((parts[outcome.source] for outcome in report.outcomes if outcome.episodes), partial / "dataset")
    written = {"repo_id": repo_id, "settings": asdict(settings), **asdict(report)}
    (partial / "dataset" / REPORT).write_text(json.dumps(written, indent=1) + "\n")
    if output_dir.exists():
        os.replace(output_dir, partial / "old")
    os.replace(partial / "dataset", output_dir)
    shutil.rmtree(partial / "old", ignore_errors=True)
    if report.is_whole:
        shutil.rmtree(partial)
    return report


def _begin(output_dir: Path, partial: Path, settings: Settings, resume: bool) -> None:
    record = partial / "settings.json"
    if not resume:
        if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
            raise FileExistsError(f"{output_dir} is there already. Choose another --root, or delete it.")
        if partial.exists():
            raise FileExistsError(
                f"{partial} holds an import that did not end. Go on with it: --resume; or delete it to begin anew."
            )
    elif not record.is_file():
        if output_dir.exists():
            raise FileExistsError(f"{output_dir} is whole: there is nothing to resume. Choose another --root.")
    elif json.loads(record.read_text()) != asdict(settings):
        raise UserError(
            f"{partial} was begun with other options: {record.read_text()}. Give the same, or delete it to begin anew."
        )
    if output_dir.exists() and output_dir.is_dir() and not any(output_dir.iterdir()):
        output_dir.rmdir()
    (partial / "parts").mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(asdict(settings)))


def _digest(source: Source) -> str:
    return hashlib.sha256(json.dumps([source.name, *source.identity()]).encode()).hexdigest()[:16]


def _outcome_of(part: Path) -> Outcome | None:
    file = part.with_suffix(".json")
    return Outcome(**json.loads(file.read_text())) if file.is_file() else None


def _write_outcome(part: Path, outcome: Outcome) -> None:
    fresh = part.with_suffix(".json.new")
    fresh.write_text(json.dumps(asdict(outcome)))
    os.replace(fresh, part.with_suffix(".json"))


def _import_parts(sources: Sequence[Source], parts: dict[str, Path], settings: Settings, workers: int) -> Report:
    report = Report()

    def left() -> list[Source]:
        return [s for s in sources if s.name not in report.failed and _outcome_of(parts[s.name]) is None]

    pending = left()
    with tqdm(total=len(sources), initial=len(sources) - len(pending), desc="import", unit="source") as bar:
        while pending and not report.disk_full:
            if not _run_workers(pending, parts, settings, workers, report, bar):
                _try_alone(left(), parts, settings, report, bar)
            pending = left() if not report.disk_full else []
    for part in parts.values():  # what a worker was at when it was stopped
        shutil.rmtree(part.with_suffix(".new"), ignore_errors=True)
    report.outcomes = [outcome for part in parts.values() if (outcome := _outcome_of(part)) is not None]
    return report


def _run_workers(
    pending: Sequence[Source], parts: dict[str, Path], settings: Settings, workers: int, report: Report, bar: tqdm
) -> bool:
    """Import ``pending`` until all is done or the disk is full; false if a worker died, and took the others along."""
    log = parts[pending[0].name].parent / "log.txt"
    with ProcessPoolExecutor(workers, worker_context(), initializer=_start, initargs=(log,)) as pool:
        jobs: dict[Future[None], str] = {
            pool.submit(import_part, source, settings, parts[source.name]): source.name for source in pending
        }
        try:
            for job in as_completed(jobs):
                error = job.exception()
                if isinstance(error, BrokenProcessPool):
                    return False
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    report.disk_full = True
                    break
                if error is not None:
                    report.failed[jobs[job]] = f"{type(error).__name__}: {error}"
                bar.update()
        finally:
            if any(not job.done() for job in jobs):
                pool.shutdown(wait=False, cancel_futures=True)
                end_workers()
    return True


def _try_alone(left: Sequence[Source], parts: dict[str, Path], settings: Settings, report: Report, bar: tqdm) -> None:
    """A worker died: each source that one was at is tried by itself, and left out if it ends that one too."""
    suspects = [source for source in left if parts[source.name].with_suffix(".new").exists()]
    if not suspects:
        raise UserError("Workers die before they begin, perhaps for want of memory. Try --resume --workers=1.")
    for source in suspects:
        if not _run_workers([source], parts, settings, 1, report, bar):
            _write_outcome(parts[source.name], Outcome(source.name, skipped="the process that read it died"))
            bar.update()


def _listing(report: Report) -> str:
    """What was not imported and why, a line each, and what to do about it."""
    lines = [f"\n  skipped {o.source}: {o.skipped}" for o in report.outcomes if o.skipped]
    lines += [f"\n  failed {name}: {error}" for name, error in report.failed.items()]
    if report.disk_full:
        lines.append(
            f"\nThe disk is full (less than {DISK_RESERVE >> 20} MiB free): the rest is missing. Make room, then go on "
            "with --resume."
        )
    elif report.failed:
        lines.append("\nWhat failed is tried again with --resume.")
    return "".join(lines)


def summary(report: Report, output_dir: Path, framing: Framing) -> str:
    """The closing report in words."""
    episodes, frames = sum(o.episodes for o in report.outcomes), sum(o.frames for o in report.outcomes)
    used, short = sum(o.episodes > 0 for o in report.outcomes), sum(o.too_short for o in report.outcomes)
    minutes = frames / framing.fps / 60
    text = f"Imported {episodes} episodes, {frames} frames ({minutes:.1f} minutes), from {used} sources: {output_dir}"
    if short:
        text += f"\nLeft out {short} clips that were too short."
    return text + _listing(report)


# --- In a worker --------------------------------------------------------------------------------------------------


def _start(log: Path) -> None:
    """In a worker: encoders and LeRobot say much, which goes to a file. Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def import_part(source: Source, settings: Settings, part: Path) -> None:
    """Import one source into the dataset ``part``; ``part.json`` says what became of it, and that it is whole.

    Raises:
        OSError: The disk is full (``ENOSPC``), or something else is wrong with it.
    """
    work = part.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    try:
        outcome = _write_part(source, settings, work)
    except UnreadableVideoError as error:
        outcome = Outcome(source.name, skipped=str(error))
    except Exception as error:
        shutil.rmtree(work, ignore_errors=True)
        if not isinstance(error, OSError):
            _require_disk(part.parent)  # what went wrong may well be that: libraries do not always say
        raise
    if outcome.episodes:
        shutil.rmtree(part, ignore_errors=True)
        os.replace(work, part)
    else:
        shutil.rmtree(work, ignore_errors=True)
    _write_outcome(part, outcome)


def _write_part(source: Source, settings: Settings, work: Path) -> Outcome:
    framing = settings.framing
    features = {
        settings.camera: {
            "dtype": "video",
            "shape": (framing.height, framing.width, 3),
            "names": ["height", "width", "channels"],
        },
        "source": {"dtype": "string", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create(
        "local/part", framing.fps, features, root=work, rgb_encoder=RGBEncoderConfig(), encoder_threads=1
    )
    outcome, seen = Outcome(source.name), 0
    for task, images in source.clips(framing):
        length = 0
        is_cut = _cuts() if settings.split_cuts else None
        for image in images:
            seen += 1
            new_scene = is_cut(image) if is_cut is not None else False
            if length and (new_scene or length == settings.max_frames):
                _end_episode(dataset, length, settings, outcome)
                length = 0
            dataset.add_frame({settings.camera: image, "source": source.label, "task": task})
            length += 1
        _end_episode(dataset, length, settings, outcome)
    dataset.finalize()
    if not outcome.episodes:
        what = {0: "it has no frame", 1: "it has but one frame"}
        outcome.skipped = what.get(seen, f"no clip of it has {settings.min_frames} frames")
    _require_all_frames(work, outcome)
    return outcome


def _end_episode(dataset: LeRobotDataset, length: int, settings: Settings, outcome: Outcome) -> None:
    if length < settings.min_frames:
        if length:
            dataset.clear_episode_buffer()
            outcome.too_short += 1
        return
    _require_disk(dataset.root)
    dataset.save_episode()
    outcome.episodes += 1
    outcome.frames += length


def _cuts() -> Any:
    """A function that says of each image in turn whether it begins a new scene."""
    detector, count = ContentDetector(min_scene_len=1), 0

    def is_cut(image: Image) -> bool:
        nonlocal count
        found = detector.process_frame(count, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        count += 1
        return bool(found) and count > 1

    return is_cut


def _require_disk(folder: Path) -> None:
    if shutil.disk_usage(folder).free < DISK_RESERVE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _require_all_frames(work: Path, outcome: Outcome) -> None:
    """LeRobot's image writer logs that it cannot write, and goes on."""
    there = 0
    for file in work.glob("videos/*/*/*.mp4"):
        with av.open(str(file)) as container:
            there += sum(packet.size > 0 for packet in container.demux(video=0))
    if there != outcome.frames:
        raise OSError(errno.EIO, f"only {there} of {outcome.frames} frames were written", str(work))
