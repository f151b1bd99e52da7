"""What video without actions buys on recordings of real robots, offline: against what the person did next.

    python benchmarks/real_video.py --data=FOLDER                              # with g1, droid and cr5_banana in it
    python benchmarks/real_video.py --data=FOLDER --recordings g1 --draws 0    # some of it; the rest stays

A fifth of the episodes is held out; of the rest a few are labelled and all are video. At every third frame of the
held-out ones each policy gives 16 chunks. They are scored in units of the actions' deviations, as root mean square over
the chunk: the *energy score* E|X - y| - E|X - X'| / 2, a proper score for a distribution; the error of their mean; the
error of the best. Deterministic policies give the same chunk 16 times. A *draw* chooses the episodes and seeds the
training. What OUTPUT_DIR has is not trained again. Each value goes there as one JSON, with the commit it was measured
at, and all of them into ``results/real_video.json``, beside those that it has from elsewhere.

The rows: ``lafp``, which is ``lafp train`` with nothing else typed: cameras and joints in the video; ``lafp_camera``,
the cameras alone in it; ``latent_bc``, behaviour cloning of the latents of ``lafp``; ``flow_few`` and ``flow_all``, the
same flow over the actions of the labelled episodes, or of all; LeRobot's ``act`` on the labelled episodes, with as
many steps as ``flow_few`` and images as small as the others see them; and to ``hold`` still. ``probe``: a linear map
from latents that saw cameras and no label to actions.
"""

import argparse
import json
import math
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import rivals
import torch
from ablation.statistics import align, paired_difference, stack, summarize
from lerobot.configs import PreTrainedConfig
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_STATE
from record import RESULTS, provenance, write_result
from torch import Tensor
from tqdm import tqdm

import lerobot_policy_lafp  # noqa: F401  (registers the policy)
from lerobot_lafp.configuration_lafp import LAFPConfig
from lerobot_lafp.diagnostics.measures import linear_probe
from lerobot_lafp.diagnostics.view_measures import accuracy
from lerobot_lafp.frames.dataset import StoredDataset
from lerobot_lafp.frames.serving import with_frame_store
from lerobot_lafp.modeling_lafp import LAFPPolicy
from lerobot_lafp.observation.angles import Angle, apart
from lerobot_lafp.options.constants import STAGES, Stage
from lerobot_lafp.runs.budget import AMOUNTS, BATCH
from lerobot_lafp.runs.stages import train_stages
from lerobot_lafp.runs.trainings import last_checkpoint, train
from lerobot_lafp.training.choices import choose, chunk_of

OUTPUT = Path("outputs/benchmarks/real_video")
SAMPLES, STRIDE = 16, 3
DRAWS = (0, 1, 2)
ROWS = ("lafp", "lafp_camera", "flow_few", "latent_bc", "act", "hold", "flow_all", "probe")


@dataclass(frozen=True)
class Recording:
    """A dataset of ``--data``.

    Attributes:
        episodes: How many of its first episodes are used.
        labeled: Numbers of labelled episodes.
        angles: Actions that are angles and wrap around.
        positions: Whether actions are places of the joints of ``observation.state``; else they are velocities.
    """

    name: str
    episodes: int
    labeled: tuple[int, ...]
    angles: tuple[str, ...] = ()
    positions: bool = True

    def split(self, draw: int) -> tuple[list[int], list[int]]:
        """Held-out episodes, and the others in the order in which they are labelled."""
        order = np.random.default_rng(draw).permutation(self.episodes).tolist()
        count = round(self.episodes / 5)
        return sorted(order[:count]), order[count:]


RECORDINGS = {
    each.name: each
    for each in (
        Recording("g1", 93, (5, 10, 20)),
        Recording("droid", 13, (5,), angles=("rx", "ry", "rz")),
        Recording("cr5_banana", 81, (5, 10, 20), positions=False),
    )
}


@dataclass(frozen=True)
class Case:
    """One split of one recording."""

    recording: Recording
    root: Path
    draw: int
    labeled: int
    output: Path
    options: tuple[str, ...] = ()

    @property
    def held_out(self) -> list[int]:
        return self.recording.split(self.draw)[0]

    @property
    def pool(self) -> list[int]:
        return sorted(self.recording.split(self.draw)[1])

    @property
    def few(self) -> list[int]:
        return sorted(self.recording.split(self.draw)[1][: self.labeled])

    @cached_property
    def meta(self) -> LeRobotDatasetMetadata:
        return LeRobotDatasetMetadata(f"local/{self.recording.name}", root=self.root)

    @property
    def angles(self) -> list[Angle]:
        """Which actions wrap around."""
        names = self.meta.features[ACTION]["names"] or []
        turn = 2 * math.pi
        return [Angle(i, turn, -turn / 2, 0.0) for i, name in enumerate(names) if name in self.recording.angles]

    @property
    def dataset(self) -> list[str]:
        return [f"--dataset.repo_id=local/{self.recording.name}", f"--dataset.root={self.root}"]

    @property
    def common(self) -> list[str]:
        """``use_amp``: bfloat16, in half the time of 32 bits."""
        seed, load = f"--seed={1000 + self.draw}", "--num_workers=0"
        return [seed, load, "--policy.device=cpu", "--policy.push_to_hub=false", "--policy.use_amp=true"]

    @property
    def video_only(self) -> str:
        """The cameras: what film without a robot's log has."""
        return f"--policy.observations=[{','.join(self.meta.camera_keys)}]"


# --- Rows: case -> checkpoint ------------------------------------------------------------------------------------


def train_lafp(case: Case, name: str, *options: str, stage_1: Path | None = None, until: str = STAGES[-1]) -> Path:
    output = case.output / f"{name}_{case.labeled}"
    if stage_1 is not None and not (output / STAGES[0]).exists():
        shutil.copytree(stage_1 / STAGES[0], output / STAGES[0], symlinks=True)
    episodes = [f"--dataset.episodes={case.pool}", f"--action_decoder.dataset.episodes={case.few}"]
    labels = [f"--policy.labeled_episodes={case.few}", f"--output_dir={output}"]
    return train_stages([*case.dataset, *episodes, *labels, *case.common, *options, *case.options], until)


def lafp(case: Case) -> Path:
    return train_lafp(case, "lafp")


def lafp_camera(case: Case) -> Path:
    return train_lafp(case, "lafp_camera", case.video_only)


def latent_bc(case: Case) -> Path:
    lafp(case)
    stage_1 = case.output / f"lafp_{case.labeled}"
    return train_lafp(case, "latent_bc", "--policy.policy_head=bc", stage_1=stage_1)


def _flow(case: Case, name: str, episodes: list[int]) -> Path:
    output = case.output / name
    words = ["--policy.type=lafp", "--policy.latent_source=actions", *_amount(case, episodes)]
    train(output, [*words, *case.dataset, *case.common, *case.options])
    return last_checkpoint(output)


def _amount(case: Case, episodes: list[int]) -> list[str]:
    """What a rival is trained on; steps and batch are those of ``lafp train`` for stage 2 of as many frames."""
    lengths = case.meta.episodes["length"]
    steps = AMOUNTS[Stage.LATENT_POLICY].steps(sum(lengths[e] for e in episodes), BATCH)
    return [f"--dataset.episodes={episodes}", f"--batch_size={BATCH}", f"--steps={steps}", f"--save_freq={steps}"]


def flow_few(case: Case) -> Path:
    return _flow(case, f"flow_few_{case.labeled}", case.few)


def flow_all(case: Case) -> Path:
    return _flow(case, "flow_all", case.pool)


def act(case: Case) -> Path:
    output, (horizon, _) = case.output / f"act_{case.labeled}", chunk_of(case.meta)
    words = [*rivals.ACT, f"--policy.chunk_size={horizon}", f"--policy.n_action_steps={horizon}"]
    dataset = [f"--dataset.repo_id=local/{case.recording.name}", f"--dataset.root={small_copy(case)}"]
    train(output, [*words, *_amount(case, case.few), *dataset, *case.common])
    return last_checkpoint(output)


def small_copy(case: Case) -> Path:
    """The recordings, with cameras of the size at which LAFP sees them: `act` has no option for it."""
    root = case.output.parent / "small"
    if (root / "meta" / "stats.json").is_file():
        return root
    shutil.rmtree(root, ignore_errors=True)
    config = LAFPConfig(device="cpu")
    choose(config, case.meta)
    plain = LeRobotDataset(case.meta.repo_id, root=case.root, return_uint8=True)
    source = with_frame_store(plain, config, required=True)
    assert isinstance(source, StoredDataset)
    features = {key: dict(case.meta.features[key]) for key in (*case.meta.camera_keys, ACTION, OBS_STATE)}
    height, width = config.resize_shape or case.meta.features[case.meta.camera_keys[0]]["shape"][:2]
    for key in case.meta.camera_keys:
        features[key] = {"dtype": "image", "shape": (height, width, 3), "names": ["height", "width", "channels"]}
    copy = LeRobotDataset.create(case.meta.repo_id, int(case.meta.fps), features, root=root, use_videos=False)
    for episode in tqdm(source.episodes_there(), desc="small copy", unit="episode"):
        for block in source.frames_of(episode, list(features), 64):
            for i in range(len(block[ACTION])):
                frame = {key: x[i].numpy() for key, x in block.items()}
                small = {key: frame[key].transpose(1, 2, 0) for key in case.meta.camera_keys}
                copy.add_frame({**frame, **small, "task": case.recording.name})
        copy.save_episode()
    copy.finalize()
    return root


def stage_1_alone(case: Case) -> Path:
    """Stage 1 that sees no label."""
    return train_lafp(case, "probe", case.video_only, "--policy.label_weight=0", until=STAGES[0])


# --- Scores ------------------------------------------------------------------------------------------------------


def load(case: Case, checkpoint: Path) -> Any:
    config = PreTrainedConfig.from_pretrained(checkpoint)
    config.pretrained_path = checkpoint
    if isinstance(config, LAFPConfig):
        config.limits.enabled = False  # frames stand alone: there is no command before
        return make_policy(config, ds_meta=case.meta).eval()
    return make_policy(config, ds_meta=LeRobotDatasetMetadata(case.meta.repo_id, root=small_copy(case))).eval()


def batches(case: Case, config: Any, horizon: int, size: int = 8) -> Iterator[dict[str, Any]]:
    """Held-out frames, B of them, with what was done next, (B, H, A)."""
    deltas = {ACTION: [i / case.meta.fps for i in range(horizon)]}
    small = config is not None and not isinstance(config, LAFPConfig)
    root = small_copy(case) if small else case.root
    dataset = LeRobotDataset(case.meta.repo_id, root=root, delta_timestamps=deltas, return_uint8=not small)
    frames = frames_of(case.meta, case.held_out, horizon)
    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(dataset, frames), batch_size=size)
    yield from tqdm(loader, desc=f"{case.recording.name} {case.draw}", unit="batch", leave=False)


def frames_of(meta: Any, episodes: Sequence[int], count: int) -> list[int]:
    """Every third frame of these episodes that has ``count`` from itself on."""
    ends = ([meta.episodes[f"dataset_{end}_index"][e] for end in ("from", "to")] for e in episodes)
    return [frame for first, last in ends for frame in range(first, last - count + 1, STRIDE)]


@torch.no_grad()
def chunks(policy: Any, processors: Any, batch: Mapping[str, Any]) -> Tensor:
    """(B, S, H, A)."""
    pre, post = processors
    batch = {k: x for k, x in batch.items() if k.startswith("observation.") or k == "task"}
    rows = len(next(iter(batch.values())))
    repeated = {
        k: x.repeat_interleave(SAMPLES, 0) if isinstance(x, Tensor) else [one for one in x for _ in range(SAMPLES)]
        for k, x in batch.items()
    }
    return post(policy.predict_action_chunk(pre(repeated))).unflatten(0, (rows, SAMPLES))


def deviations(case: Case) -> Tensor:
    """Unit of every action, (A,)."""
    dataset = LeRobotDataset(case.meta.repo_id, root=case.root, return_uint8=True)
    table = dataset.hf_dataset.with_format("numpy")
    actions = torch.from_numpy(np.stack(table[ACTION][:])).double()
    used = torch.from_numpy(np.isin(table["episode_index"][:], case.pool))
    actions = actions[used]
    middle = actions.mean(dim=0)
    for i in (angle.dimension for angle in case.angles):
        middle[i] = torch.atan2(actions[:, i].sin().mean(), actions[:, i].cos().mean())
    return apart(actions - middle, case.angles).square().mean(dim=0).sqrt()


def score(samples: Tensor, actual: Tensor, unit: Tensor, angles: Sequence[Angle]) -> dict[str, Tensor]:
    """Of samples (B, S, H, A) for what was done (B, H, A): one value an observation, (B,)."""
    off = apart(samples.double() - actual.double().unsqueeze(1), angles) / unit
    found = accuracy(off, torch.zeros_like(off[:, 0]), torch.ones(off[:, 0].shape[:2], dtype=torch.bool))
    return {"energy": found.energy_score, "mean": found.mean, "best": found.best}


def scored(case: Case, config: Any, horizon: int, said: Callable[[Mapping[str, Any]], Tensor]) -> dict[str, Any]:
    """Means over all held-out frames, and the energy score of each of their episodes.

    Args:
        case: Whose frames.
        config: Of the policy that sees them; None where none does.
        horizon: H.
        said: Batch -> the chunks for it, (B, S, H, A).
    """
    unit = deviations(case)
    found = []
    for batch in batches(case, config, horizon):
        scores = score(said(batch), batch[ACTION], unit, case.angles)
        found.append({**scores, "episode": batch["episode_index"].reshape(-1)})
    values = {key: torch.cat([each[key] for each in found]) for key in found[0]}
    episodes = values.pop("episode")
    means = {key: round(float(value.mean()), 4) for key, value in values.items()}
    each = [round(float(values["energy"][episodes == e].mean()), 4) for e in episodes.unique()]
    return {**means, "frames": len(episodes), "horizon": horizon, "episodes": each}


def evaluate(case: Case, checkpoint: Path) -> dict[str, Any]:
    policy = load(case, checkpoint)
    processors = make_pre_post_processors(policy.config, pretrained_path=str(checkpoint))
    horizon = policy.config.horizon if isinstance(policy, LAFPPolicy) else policy.config.chunk_size
    torch.manual_seed(case.draw)
    return scored(case, policy.config, horizon, lambda batch: chunks(policy, processors, batch))


@torch.no_grad()
def probe(case: Case) -> dict[str, Any]:
    """R^2 on the held-out episodes of a linear map from latents that saw no label to what was done meanwhile."""
    checkpoint = stage_1_alone(case)
    policy = load(case, checkpoint)
    assert isinstance(policy, LAFPPolicy)
    assert policy.latent_action_model is not None
    meta, k = case.meta, policy.config.frame_offset
    deltas = resolve_delta_timestamps(policy.config, meta)
    deltas[ACTION] = [i / meta.fps for i in range(k)]
    dataset: Any = LeRobotDataset(meta.repo_id, root=case.root, delta_timestamps=deltas, return_uint8=True)
    dataset = with_frame_store(dataset, policy.config)
    frames = frames_of(meta, range(case.recording.episodes), k + 1)
    z, y, e = [], [], []
    for batch in torch.utils.data.DataLoader(torch.utils.data.Subset(dataset, frames), batch_size=64):
        seen = policy.normalizer(policy.in_own_terms(batch), stored=True)
        valid = torch.ones(len(batch[ACTION]), 1, dtype=torch.bool)
        z.append(policy.latent_action_model.encode(seen, valid).z[:, 0])
        action = batch[ACTION].mean(dim=1)
        if case.recording.positions:
            state = batch[OBS_STATE]
            state = state[:, 0] if state.ndim == 3 else state
            action = apart(action - state, case.angles)
        y.append(action)
        e.append(batch["episode_index"].reshape(-1))
    actions, episodes = torch.cat(y), torch.cat(e)
    found = linear_probe(torch.cat(z), actions, episodes, held_out=case.held_out)
    moving = moves(actions, episodes)
    r2 = [round(x, 3) for x in found.r2]
    return {
        "mean_r2": round(float(np.mean([x for x, m in zip(r2, moving, strict=True) if m])), 4),
        "r2": r2,
        "moving": moving,
    }


def moves(actions: Tensor, episodes: Tensor) -> list[bool]:
    """Which dimensions move in most episodes: by over a tenth of their deviation over all of them."""
    deviation = actions.std(dim=0)
    each = torch.stack([actions[episodes == e].std(dim=0) for e in episodes.unique()])
    return (each.median(dim=0).values > deviation / 10).tolist()


def hold(case: Case) -> dict[str, Any]:
    """To stay where the joints are; of velocities not to move, with the gripper as it is."""

    def still(batch: Mapping[str, Any]) -> Tensor:
        actual = batch[ACTION]
        if case.recording.positions:
            chunk = batch[OBS_STATE].unsqueeze(1).expand_as(actual)
        else:
            chunk = torch.zeros_like(actual)
            chunk[..., -1] = actual[:, :1, -1]
        return chunk.unsqueeze(1).expand(-1, SAMPLES, -1, -1)

    return scored(case, None, chunk_of(case.meta)[0], still)


#: What is scored without a training of its own kind.
MEASURES = {"probe": probe, "hold": hold}


# --- Result ------------------------------------------------------------------------------------------------------


def collect(output: Path, before: Mapping[str, Any]) -> dict[str, Any]:
    """What is measured so far: recording -> labelled episodes -> row -> draw -> values.

    Args:
        output: Where values lie.
        before: What was measured elsewhere, likewise; values in ``output`` take its place.
    """
    found: dict[str, Any] = {}
    for recording in RECORDINGS.values():
        for labeled in map(str, recording.labeled):
            for row in ROWS:
                draws = dict(before.get(recording.name, {}).get(labeled, {}).get(row, {}))
                for draw in DRAWS:
                    file = output / recording.name / f"draw{draw}" / f"{row}_{labeled}.json"
                    if file.is_file():
                        draws[str(draw)] = json.loads(file.read_text())
                if draws:
                    found.setdefault(recording.name, {}).setdefault(labeled, {})[row] = dict(sorted(draws.items()))
    return found


def share_closed(rows: Mapping[str, Any], row: str) -> list[float]:
    """Of every draw: how much of the gap between the flow on few labels and that on all a row closes, by energy."""

    def energy(row: str, draw: str) -> float:
        return float(rows[row][draw]["energy"])

    few, most = "flow_few", "flow_all"
    return [(energy(few, d) - energy(row, d)) / (energy(few, d) - energy(most, d)) for d in rows[row]]


def ahead(rows: Mapping[str, Any], row: str, of: Sequence[str]) -> list[float]:
    """Of every draw: by how much the energy score of a row is below the least of others."""
    return [min(rows[other][d]["energy"] for other in of) - rows[row][d]["energy"] for d in rows[row]]


def targets(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was to be reached, beside what was, of the worst draw; None where not all draws are measured.

    Of ``lafp_camera``, which nobody asked for, what is measured.
    """
    found = []
    g1, droid, cr5 = (
        {row: draws for row, draws in measured.get(name, {}).get(labeled, {}).items() if len(draws) == len(DRAWS)}
        for name, labeled in (("g1", "10"), ("droid", "5"), ("cr5_banana", "10"))
    )
    others = ["flow_few", "latent_bc", "act", "hold"]
    for row in ("lafp", "lafp_camera"):
        for what, rows, at_least, needed, values in (
            ("g1, 10 labelled: share of the gap", g1, 0.8, ["flow_few", "flow_all"], share_closed),
            ("g1, 10 labelled: ahead of every other row by", g1, 0, others, partial(ahead, of=others)),
            ("cr5, 10 labelled: share of the gap", cr5, 0.65, ["flow_few", "flow_all"], share_closed),
            ("droid, 5 labelled: ahead of flow_few by", droid, 0, ["flow_few"], partial(ahead, of=["flow_few"])),
        ):
            there = {row, *needed} <= {*rows}
            value = round(min(values(rows, row)), 4) if there else None
            if there or row == "lafp":
                found.append({"name": f"{row}, {what}, worst draw", "value": value, "at_least": at_least})
    for name, rows, at_least in (("g1", g1, 0.5), ("cr5", cr5, 0.3)):
        probes = [each["mean_r2"] for each in rows.get("probe", {}).values()]
        value = round(sum(probes) / len(probes), 4) if probes else None
        found.append({"name": f"{name}: R^2 of the probe, mean of the draws", "value": value, "at_least": at_least})
    return found


def intervals(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Recording -> labelled -> row: its energy score with the interval over draws and held-out episodes, an episode
    counting as much as another, and by how much it is below that of the flow on few labels, paired."""
    found: dict[str, Any] = {}
    for name, by_labeled in measured.items():
        for labeled, rows in by_labeled.items():
            energies = {
                row: {int(d): x["episodes"] for d, x in draws.items()} for row, draws in rows.items() if row != "probe"
            }
            of_rows = found.setdefault(name, {}).setdefault(labeled, {})
            for row, energy in energies.items():
                of_rows[row] = {"energy": summarize(stack(energy))}
                if row != "flow_few" and {*energy} & {*energies.get("flow_few", {})}:
                    of_rows[row]["below_flow_few"] = paired_difference(*align(energies["flow_few"], energy))
    return found


def as_markdown(measured: Mapping[str, Any]) -> str:
    """A table of energy scores, one line a row, and the share of the gap."""
    of = intervals(measured)
    lines = []
    for name, by_labeled in measured.items():
        for labeled, rows in by_labeled.items():
            lines += [
                f"\n{name}, {labeled} labelled",
                "| row | energy | mean | best | below the flow on few | of the gap |",
                "|---|---|---|---|---|---|",
            ]
            for row, interval in of[name][labeled].items():
                draws = rows[row]
                means = [sum(x[k] for x in draws.values()) / len(draws) for k in ("energy", "mean", "best")]
                whole = all({*draws} <= {*rows.get(other, {})} for other in ("flow_few", "flow_all"))
                shares = " ".join(f"{x:.0%}" for x in share_closed(rows, row)) if whole else ""
                below = interval.get("below_flow_few")
                off = "" if below is None else "{:.3f} [{:.3f}, {:.3f}]".format(below["mean"], *below["ci95"])
                lines.append(f"| {row} ({len(draws)}) | {' | '.join(f'{x:.3f}' for x in means)} | {off} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recordings", nargs="+", choices=list(RECORDINGS), default=list(RECORDINGS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--draws", nargs="+", type=int, default=list(DRAWS))
    parser.add_argument("--labeled", nargs="+", type=int)
    parser.add_argument("--output_dir", type=Path, default=OUTPUT)
    parser.add_argument(
        "--options", default="", help="further options of the trainings, to explore: no result is written"
    )
    given = parser.parse_args()
    for name in given.recordings:
        recording = RECORDINGS[name]
        for draw in given.draws:
            for labeled in given.labeled or recording.labeled:
                output = given.output_dir / name / f"draw{draw}"
                case = Case(recording, given.data / name, draw, labeled, output, tuple(shlex.split(given.options)))
                for row in given.rows:
                    file = output / f"{row}_{labeled}.json"
                    if file.is_file():
                        found = json.loads(file.read_text())
                    else:
                        found = MEASURES[row](case) if row in MEASURES else evaluate(case, globals()[row](case))
                        found["commit"] = provenance()["commit"]
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_text(json.dumps(found))
                    print(name, draw, labeled, row, {k: found[k] for k in found if k != "episodes"}, flush=True)
    file = RESULTS / "real_video.json"
    written = json.loads(file.read_text())["measured"] if file.is_file() and not given.options else {}
    measured = collect(given.output_dir, written)
    print(as_markdown(measured))
    if measured and not given.options:
        result = {
            "measured": measured,
            "intervals": intervals(measured),
            "targets": targets(measured),
            "provenance": provenance(),
        }
        print(write_result("real_video", result))


if __name__ == "__main__":
    main()
