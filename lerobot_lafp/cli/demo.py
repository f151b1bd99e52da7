"""``lafp demo``."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..runs.demo import METHODS, NUM_DEMONSTRATIONS, NUM_LABELED, RUNS, _evaluate, _training, report
from ..runs.trainings import carry_out, refuse_other_trainings
from ..simulators.two_way.demonstrator import write_demonstrations
from ..simulators.two_way.two_way import Episode
from .arguments import CommandParser

USAGE = """lafp demo [FOLDER] [--output_dir=DIR] [--episodes=N] [--smoke]

Writes demonstrations of the embedded two-way task (reach a goal, passing an obstacle on the left or on the right),
trains LAFP and its rivals on them, evaluates each on the same episodes, and prints one table. FOLDER holds the
configurations (default: configs/two_way). --smoke trains for a few steps only: the path is the same, the numbers
mean nothing.
"""


def run_demo(arguments: Sequence[str]) -> dict[str, list[Episode]]:
    """Run the demo as ``USAGE`` says.

    Returns:
        Row of the table -> its episodes.

    Raises:
        UserError: The configurations are missing, or a training or evaluation failed.
    """
    parser = CommandParser("demo", USAGE)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("configs/two_way"))
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/two_way"))
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        raise UserError(f"{given.folder} is no folder. Run this in the repository, or name its configs/two_way.")
    if given.episodes < 1:
        raise UserError(f"--episodes must be at least 1, got {given.episodes}.")
    output: Path = given.output_dir
    smoke = ("--steps=2", "--batch_size=8", "--num_workers=0") if given.smoke else ()

    write_demonstrations(output / "demonstrations", NUM_DEMONSTRATIONS if not smoke else 12, NUM_LABELED)
    refuse_other_trainings([_training(run, given.folder, output, smoke) for run in RUNS])
    for number, run in enumerate(RUNS, start=1):
        print(f"\n=== training {number} of {len(RUNS)}: {run.name}", flush=True)
        carry_out(_training(run, given.folder, output, smoke))
    episodes = {}
    for number, (method, name) in enumerate(METHODS.items(), start=1):
        print(f"\n=== evaluation {number} of {len(METHODS)}: {method}", flush=True)
        episodes[method] = _evaluate(output / name, given.episodes)
    report(output, episodes)
    return episodes
