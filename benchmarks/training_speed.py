"""How long training takes with the frame store, and with LeRobot's loader, in one run each.

    python benchmarks/training_speed.py --pusht_root=FOLDER        # with `pusht` and `pusht_keypoints` in it
    python benchmarks/training_speed.py --pusht_root=FOLDER --parts loaders stage_1     # some of it; the rest stays
    python benchmarks/training_speed.py --pusht_root=FOLDER --device=cuda --parts stages    # a GPU's images a second

Parts: ``keypoints``, the stages of configs/pusht_keypoints by ``lafp train``; ``demo``, ``lafp demo``; ``loaders``
alone; ``stages``, the first batches of stages 1 and 2 on PushT video by ``lerobot-train``; ``memory``, of a million
frames. Where LeRobot's loader would take hours, its first steps are timed, and said to be. Stores are built anew, in a
folder of this run's own, and building them counts. Written to ``results/training_speed.json``.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from record import RESULTS, provenance, write_result

ROOT = Path(__file__).parent.parent
PARTS = ("loaders", "memory", "stages", "keypoints", "demo")
#: Minutes that the issue of speed started from, on this kind of machine, by LeRobot's loader.
BEFORE = {"keypoints": 92.0, "demo": 13.5}
#: Of frames that are made up: how many, and of how many pixels a side.
MANY, SIDE = 1_000_000, 96
#: Samples of a batch of video, and batches that are timed of each loader.
BATCH, BATCHES = 64, 12
#: How often each training of a stage takes its turn.
TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pusht_root", type=Path, required=True, help="folder with pusht and pusht_keypoints in it")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, help="folder for what is made on the way; unset: a temporary one")
    given = parser.parse_args()
    file = RESULTS / "training_speed.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"parts": {}}
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        os.environ["HF_LEROBOT_HOME"] = folder  # read when LeRobot is imported, here and below
        for part in given.parts:
            name = part if given.device == "cpu" else f"{part} on {given.device}"
            measured = globals()[f"measure_{part}"](given, Path(folder))
            result["parts"][name] = {**measured, "provenance": provenance()}
            result["targets"] = [
                target for each in PARTS for target in result["parts"].get(each, {}).get("targets", [])
            ]
            print(json.dumps(measured, indent=1), write_result("training_speed", result), sep="\n", flush=True)
    for target in result["targets"]:
        bound = "at_most" if "at_most" in target else "at_least"
        met = target["value"] <= target[bound] if bound == "at_most" else target["value"] >= target[bound]
        print(f"{target['name']}: {target['value']:g} ({bound} {target[bound]:g}){'' if met else '  MISSED'}")


# --- Loaders alone -----------------------------------------------------------------------------------------------


def measure_loaders(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Samples a CPU second of both loaders, in this process, turn by turn: tables; video, five frames a sample."""
    out: dict[str, Any] = {}
    video = video_of_pusht(given.pusht_root, folder)
    datasets = {"tables": given.pusht_root / "pusht_keypoints", "video": video}
    for name, root in datasets.items():
        turns: dict[str, list[float]] = {"store": [], "lerobot": []}
        opened = {kind: _opened(root, "auto" if kind == "store" else "off") for kind in turns}
        for _ in range(3):
            for kind, of in turns.items():
                of.append(_samples_per_cpu_second(*opened[kind], batches=BATCHES if kind == "lerobot" else 400))
        medians = {kind: statistics.median(of) for kind, of in turns.items()}
        out[name] = {
            "samples_per_cpu_s": {kind: [round(x, 1) for x in of] for kind, of in turns.items()},
            "ratio": round(medians["store"] / medians["lerobot"], 1),
        }
    out["targets"] = [
        {"name": "loader alone, tables, samples/s over LeRobot's", "value": out["tables"]["ratio"], "at_least": 50},
        {"name": "loader alone, 96-pixel video, over LeRobot's", "value": out["video"]["ratio"], "at_least": 30},
    ]
    return out


def video_of_pusht(pusht_root: Path, folder: Path, episodes: int = 40) -> Path:
    """PushT's images as the video that LeRobot records, of the first episodes."""
    from lerobot.datasets import LeRobotDataset

    target = folder / "pusht_video"
    if target.is_dir():
        return target
    source = LeRobotDataset("local/pusht", root=pusht_root / "pusht", episodes=list(range(episodes)))
    features = {k: dict(f) for k, f in source.features.items() if k.startswith(("observation.", "action"))}
    for feature in features.values():
        feature["dtype"] = "video" if feature["dtype"] == "image" else feature["dtype"]
    made = LeRobotDataset.create("local/pusht_video", fps=source.fps, features=features, root=target)
    at = 0
    for episode in range(episodes):
        for _ in range(source.meta.episodes["length"][episode]):
            sample = source[at]
            frame = {k: sample[k].numpy() for k in features}
            frame = {k: _as_bytes(x) if features[k]["dtype"] == "video" else x for k, x in frame.items()}
            made.add_frame({**frame, "task": sample["task"]})
            at += 1
        made.save_episode()
    made.finalize()
    return target


def _as_bytes(image: Any) -> Any:
    return (image.transpose(1, 2, 0) * 255).round().astype("uint8")


def _opened(root: Path, frame_store: str) -> tuple[Any, Any]:
    """A dataset as ``lerobot-train`` makes it for a joint run, and the run's configuration."""
    from lerobot.configs.default import DatasetConfig
    from lerobot.configs.train import TrainPipelineConfig
    from lerobot.datasets import factory

    from lerobot_lafp import LAFPConfig

    policy = LAFPConfig(frame_store=frame_store, device="cpu", push_to_hub=False)
    cfg = TrainPipelineConfig(dataset=DatasetConfig(f"local/{root.name}", root=str(root)), policy=policy)
    return factory.make_train_eval_datasets(cfg)[0], policy


def _samples_per_cpu_second(dataset: Any, policy: Any, batches: int) -> float:
    import torch
    from lerobot.datasets import EpisodeAwareSampler
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    about = dataset.meta.episodes
    bounds = about["dataset_from_index"], about["dataset_to_index"]
    sampler = EpisodeAwareSampler(*bounds, drop_n_last_frames=policy.drop_n_last_frames, shuffle=True, seed=1)
    found = 0
    loader = iter(DataLoader(dataset, batch_size=BATCH, sampler=sampler))
    next(loader)  # opens files, draws the order
    start = time.process_time()
    for _, batch in zip(range(batches), loader, strict=False):
        found += len(batch["index"])
    return found / (time.process_time() - start)


# --- Memory ------------------------------------------------------------------------------------------------------


def measure_memory(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What a process that draws batches from a million frames has for itself, beyond what it had before.

    Frames are made up: a store's file of the size of a million of 96 pixels a side, of which the file system holds no
    more than is written. What the kernel keeps of a file it gives back when it is asked for; that is told, too.
    """
    import numpy as np
    import torch

    from lerobot_lafp.frames.dataset import InMemory, OnDisk, StoredDataset
    from lerobot_lafp.frames.store import FrameStore, Record

    length = 1000
    bounds = tuple(range(0, MANY + 1, length))
    store = FrameStore(Record("local/many", str(folder), "observation.image", (3, SIDE, SIDE), "uint8", bounds))
    with store.building():
        pass
    frame = np.random.default_rng(0).integers(0, 256, (length, 3, SIDE, SIDE), dtype=np.uint8)
    for episode in range(0, store.episodes, 100):
        store.write(episode, frame, 1)
    before = _memory()
    dataset = StoredDataset.__new__(StoredDataset)
    index = torch.arange(MANY)
    values = torch.zeros(MANY, 2)
    dataset.columns = {
        "observation.image": OnDisk(store),
        **{key: InMemory(values.clone()) for key in ("observation.state", "action")},
        **{key: InMemory(index.clone()) for key in ("index", "frame_index", "episode_index", "task_index")},
        "timestamp": InMemory(torch.zeros(MANY)),
    }
    tables = _memory()
    draw = np.random.default_rng(1)
    for _ in range(100):
        frames = draw.integers(0, MANY - 16, BATCH)
        around = frames[:, None] + np.arange(0, 17, 4)
        for column in dataset.columns.values():
            column.take(around, around)
    after = _memory()
    own = (after["RssAnon"] - before["RssAnon"]) / 1e3
    store.remove()
    return {
        "frames": MANY,
        "megabytes": {
            "own": round(own, 1),
            "of which tables": round((tables["RssAnon"] - before["RssAnon"]) / 1e3, 1),
            "of the store's file, which the kernel can take back": round(
                (after["RssFile"] - before["RssFile"]) / 1e3, 1
            ),
            "store": round(store.record.frame_bytes * MANY / 1e6),
        },
        "targets": [{"name": "memory of its own at 1,000,000 frames, MB", "value": round(own, 1), "at_most": 200}],
    }


def _memory() -> dict[str, int]:
    """KiB of this process, by kind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}


# --- Stages ------------------------------------------------------------------------------------------------------


def measure_stages(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Stages 1 and 2 on PushT video by ``lerobot-train``, with the store and without: what a step takes."""
    root = video_of_pusht(given.pusht_root, folder)
    steps = 12 if given.device == "cpu" else 200
    turns: dict[str, dict[str, list[tuple[float, float]]]] = {}
    start = folder / "stage_1" / "checkpoints" / "last" / "pretrained_model"
    common = [f"--policy.device={given.device}", "--dataset.repo_id=local/pusht_video", f"--dataset.root={root}"]
    common += [f"--batch_size={BATCH}", "--env_eval_freq=0", "--policy.push_to_hub=false", "--log_freq=2"]
    stage_1 = ["--policy.type=lafp", "--policy.stage=latent_action", *common]
    lerobot_train([*stage_1, "--steps=2", "--num_workers=0"], folder / "stage_1", "auto")
    stage_2 = [f"--policy.path={start}", "--policy.stage=latent_policy", *common]
    for turn in range(TURNS):
        for stage, words in (("stage_1", stage_1), ("stage_2", stage_2)):
            for kind in ("auto", "off"):
                # One process loads for LeRobot's loader, which leaves a core to the network.
                many = [f"--steps={steps if stage == 'stage_1' else 3 * steps}", f"--num_workers={int(kind == 'off')}"]
                of = turns.setdefault(stage, {}).setdefault(kind, [])
                of.append(lerobot_train([*words, *many], folder / f"{stage}-{kind}-{turn}", kind))
    out: dict[str, Any] = {"seconds_a_step": {}}
    for stage, of_stage in turns.items():
        out["seconds_a_step"][stage] = {
            {"auto": "store", "off": "lerobot"}[kind]: [
                {"network": round(network, 4), "waiting": round(waiting, 4)} for network, waiting in of
            ]
            for kind, of in of_stage.items()
        }
        out[f"{stage}_ratio"] = round(_median(of_stage["off"]) / _median(of_stage["auto"]), 2)
        out[f"{stage}_waiting"] = round(
            statistics.median(waiting / (network + waiting) for network, waiting in of_stage["auto"]), 4
        )
        out[f"{stage}_images_per_s"] = round(BATCH / _median(of_stage["auto"]) * (2 if stage == "stage_1" else 1), 1)
    waits, ratio = out["stage_1_waiting"], out["stage_1_ratio"]
    reached = ratio >= 3 or waits <= 0.05
    out["targets"] = [
        {"name": "stage 1, PushT video: share of the time that waits for data", "value": waits, "at_most": 0.05}
        if reached and ratio < 3
        else {"name": "stage 1, PushT video, over LeRobot's loader", "value": ratio, "at_least": 3},
        {"name": "stage 2, PushT video, over LeRobot's on the fly", "value": out["stage_2_ratio"], "at_least": 5},
    ]
    return out


def _median(turns: list[tuple[float, float]]) -> float:
    return statistics.median(network + waiting for network, waiting in turns)


def lerobot_train(words: list[str], output_dir: Path, frame_store: str) -> tuple[float, float]:
    """Seconds a step of the network, and of waiting for data, as ``lerobot-train`` logs them, without the first two."""
    shutil.rmtree(output_dir, ignore_errors=True)
    command = [str(Path(sys.executable).with_name("lerobot-train")), *words]
    command += [f"--output_dir={output_dir}", f"--policy.frame_store={frame_store}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-4000:]}")
    found = re.findall(r"updt_s:([\d.]+) data_s:([\d.]+)", done.stderr + done.stdout)[1:]
    if not found:  # a run of two steps, of which nothing is left
        return 0.0, 0.0
    network, waiting = zip(*found, strict=True)
    return statistics.median(map(float, network)), statistics.median(map(float, waiting))


# --- Whole trainings ---------------------------------------------------------------------------------------------


def measure_keypoints(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """``lafp train configs/pusht_keypoints``, start to end, and what LeRobot's loader takes for the first steps."""
    root = given.pusht_root / "pusht_keypoints"
    words = ["train", str(ROOT / "configs" / "pusht_keypoints"), f"--dataset.root={root}"]
    with timed() as clock:
        lafp([*words, f"--output_dir={folder / 'keypoints'}"])
    steps = 200
    some = [f"--steps={steps}", "--policy.frame_store=off", f"--output_dir={folder / 'first'}", "--num_workers=2"]
    with timed() as first:
        lafp([*words, *some])
    minutes = round(clock[0] / 60, 2)
    return {
        "minutes": minutes,
        "before": BEFORE["keypoints"],
        "lerobots_loader": {"steps_of_each_stage": steps, "minutes": round(first[0] / 60, 2)},
        "targets": [{"name": "PushT keypoints, three stages by lafp train, minutes", "value": minutes, "at_most": 12}],
    }


def measure_demo(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """``lafp demo configs/two_way``, start to end, and its table."""
    with timed() as clock:
        lafp(["demo", str(ROOT / "configs" / "two_way"), f"--output_dir={folder / 'two_way'}"])
    rows = json.loads((folder / "two_way" / "demo.json").read_text())
    minutes = round(clock[0] / 60, 2)
    return {
        "minutes": minutes,
        "before": BEFORE["demo"],
        "success": {method: row["success"] for method, row in rows.items()},
        "targets": [
            {"name": "make demo after installation, minutes", "value": minutes, "at_most": 6},
            {"name": "demo, success of LAFP", "value": rows["LAFP"]["success"], "at_least": 0.9},
            {"name": "demo, success of BC", "value": rows["BC (LAOM)"]["success"], "at_most": 0.6},
        ],
    }


def lafp(words: list[str]) -> None:
    subprocess.run([str(Path(sys.executable).with_name("lafp")), *words], check=True)


@contextmanager
def timed() -> Iterator[list[float]]:
    """Seconds that pass within."""
    found = [0.0]
    start = time.monotonic()
    yield found
    found[0] = time.monotonic() - start


if __name__ == "__main__":
    main()
