"""What it costs to go from a folder of videos to a policy, at three sizes each of the data and of the latents.

    python benchmarks/scaling.py --videos=FOLDER                      # of mp4 files
    python benchmarks/scaling.py --videos=FOLDER --size=96 --fps=10 --batches=10

A quarter, a half and all of the files are imported and labelled, as ``lafp import-videos`` and ``lafp label`` (without
and with ``--images``) do, each time by one process of its own whose time, memory and disk are taken; then the samples a
second of the trainings, at three widths of the latents. Cost is fitted as a line over frames: what a start takes, and
what a frame takes. Written to ``results/scaling.json``, and printed as the tables of ``docs/scaling.md``. Weights
are random, which changes no speed.
"""

import argparse
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.policies.factory import make_policy, make_policy_config
from record import provenance, write_result
from throughput import NAME, stage_2, train
from tqdm import tqdm

from lerobot_lafp.data.assembly import assemble
from lerobot_lafp.data.importing.importer import Settings, import_part
from lerobot_lafp.data.importing.video_files import Framing
from lerobot_lafp.data.importing.video_sources import VideoFile, video_files
from lerobot_lafp.data.latent_labels import label_dataset
from lerobot_lafp.options.constants import STAGES

OUTPUT = Path("outputs/benchmarks/scaling")
WIDTHS = (16, 128, 512)
HOURS = (10, 100, 1000)
MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What one process took to write a dataset, and what that takes on the disk."""

    frames: int
    cpu_seconds: float
    peak_mib: float
    disk_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder of video files, at least 4")
    parser.add_argument("--size", type=int, default=96, help="pixels a side")
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=10, help="measured of each training, after one that is not")
    parser.add_argument("--num_workers", type=int, default=0, help="of the training's loader")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    result = measure(given)
    path = write_result("scaling", result)
    print(tables(result))
    print(path)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    files = list(video_files([given.videos]).items())
    counts = sorted({max(1, len(files) // share) for share in (4, 2, 1)})
    settings = Settings(Framing(given.fps, given.size, given.size))
    policy = {"stage": STAGES[0], "device": given.device, "push_to_hub": False}
    checkpoint = OUTPUT / "checkpoint"
    costs: dict[str, list[Cost]] = {"import": [], "label": [], "label --images": []}
    for count in tqdm(counts, desc="sizes"):
        root = OUTPUT / f"video-{count}"
        sources = [VideoFile(path, name, "") for name, path in files[:count]]
        costs["import"].append(cost(partial(import_all, sources, settings, root), root))
        if not checkpoint.exists():
            train(make_policy_config("lafp", **policy), root, checkpoint, given, batches=1)
        for name, images in (("label", False), ("label --images", True)):
            labelled = OUTPUT / f"{name}-{count}"
            work = partial(label_dataset, checkpoint, NAME, labelled, root, images=images)
            costs[name].append(cost(work, labelled))
    return {
        "costs": {name: [asdict(each) for each in found] for name, found in costs.items()},
        "lines": {name: line(found) for name, found in costs.items()},
        "training": [speeds(width, OUTPUT / f"video-{counts[-1]}", policy, given) for width in tqdm(WIDTHS, "widths")],
        "settings": {key: value for key, value in vars(given).items() if key != "videos"},
        "provenance": provenance(),
    }


def import_all(sources: Sequence[VideoFile], settings: Settings, root: Path) -> None:
    """What ``lafp import-videos`` does, in this process alone."""
    folder = root.with_suffix(".parts")
    folder.mkdir()
    parts = [folder / str(i) for i in range(len(sources))]
    for source, part in zip(sources, parts, strict=True):
        import_part(source, settings, part)
    assemble([part for part in parts if part.exists()], root)
    shutil.rmtree(folder)


def cost(work: Callable[[], None], root: Path) -> Cost:
    """Of ``work`` in a process of its own that writes ``root``; a video only linked into it takes no disk."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        cpu_seconds, peak_mib = pool.submit(_measured, work).result()
    own = [f for f in root.rglob("*") if f.is_file() and not f.is_symlink() and f.stat().st_nlink == 1]
    frames = LeRobotDatasetMetadata(NAME, root=root).total_frames
    return Cost(frames, round(cpu_seconds, 2), round(peak_mib), round(sum(f.stat().st_size for f in own) / MIB, 3))


def _measured(work: Callable[[], None]) -> tuple[float, float]:
    log = os.open(OUTPUT / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # encoders say much
    os.dup2(log, 1)
    os.dup2(log, 2)
    start = time.process_time()
    work()
    cpu_seconds = time.process_time() - start
    # Not getrusage, whose maximum a process inherits from the one that started it.
    peak = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return cpu_seconds, int(peak.split()[1]) / 1024


def line(costs: Sequence[Cost]) -> dict[str, float]:
    """CPU seconds as a line over frames; memory and disk of the largest."""
    per_frame, start = np.polyfit([c.frames for c in costs], [c.cpu_seconds for c in costs], 1)
    last = costs[-1]
    return {
        "cpu_seconds_of_start": round(float(start), 2),
        "cpu_ms_per_frame": round(float(per_frame) * 1e3, 3),
        "bytes_per_frame": round(last.disk_mib * MIB / last.frames, 1),
        "peak_mib": last.peak_mib,
    }


def speeds(width: int, root: Path, policy: Mapping[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """Samples a second of each training with latents of ``width``, the labels' size, and each stage's parameters."""
    folder = OUTPUT / f"width-{width}"
    config = make_policy_config("lafp", latent_dim=width, **policy)
    seconds = {"stage 1": train(config, root, folder / "1", given, given.batches).seconds}
    labels, images = folder / "labels", folder / "images"
    labelled = cost(partial(label_dataset, folder / "1", NAME, labels, root), labels)
    cost(partial(label_dataset, folder / "1", NAME, images, root, images=True), images)
    sources = {"video": root, "labels": labels, "labels and images": images}
    for name, source in ((f"stage 2 from {name}", source) for name, source in sources.items()):
        config = stage_2(folder / "1", from_labels=source != root)
        seconds[name] = train(config, source, folder / "2", given, given.batches).seconds
    config.device = "cpu"
    built = make_policy(config, ds_meta=LeRobotDatasetMetadata(NAME, root=labels))
    trained = sum(p.numel() for group in built.get_optim_params() for p in group["params"])
    return {
        "latent_dim": width,
        "samples_per_s": {name: round(given.batches * given.batch_size / s, 2) for name, s in seconds.items()},
        "label_bytes_per_frame": round(labelled.disk_mib * MIB / labelled.frames, 1),
        "label_peak_mib": labelled.peak_mib,
        "stage_2_gradient_mib": round(trained * 4 / MIB, 2),
    }


def tables(result: Mapping[str, Any]) -> str:
    """Markdown."""
    fps = result["settings"]["fps"]
    rows = ["| | frames | CPU s | peak MiB | MiB on disk |", "|---|---|---|---|---|"]
    for name, costs in result["costs"].items():
        rows += [
            f"| {name} | {c['frames']} | {c['cpu_seconds']:.0f} | {c['peak_mib']:.0f} | {c['disk_mib']:.2f} |"
            for c in costs
        ]
    rows += ["", "| hours of video | " + " | ".join(f"{h}" for h in HOURS) + " |", "|---|" + "---|" * len(HOURS)]
    for name, fitted in result["lines"].items():
        cpu = [fitted["cpu_ms_per_frame"] * h * 3600 * fps / 3.6e6 for h in HOURS]
        disk = [fitted["bytes_per_frame"] * h * 3600 * fps / (1 << 30) for h in HOURS]
        rows.append(f"| {name}: CPU hours | " + " | ".join(f"{x:.3g}" for x in cpu) + " |")
        rows.append(f"| {name}: GiB on disk | " + " | ".join(f"{x:.3g}" for x in disk) + " |")
    names = list(result["training"][0]["samples_per_s"])
    rows += [
        "",
        f"| Dz | {' | '.join(names)} | bytes of labels a frame | MiB of gradients |",
        "|---|" + "---|" * (len(names) + 2),
    ]
    for each in result["training"]:
        found = " | ".join(f"{each['samples_per_s'][name]:.1f}" for name in names)
        rows.append(
            f"| {each['latent_dim']} | {found} | {each['label_bytes_per_frame']:.0f} | {each['stage_2_gradient_mib']} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
