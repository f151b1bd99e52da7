"""CPU seconds until ``lafp`` has helped, the package is imported, and a checkpoint is looked at.

    .venv/bin/python benchmarks/startup.py

Each call is a process of its own, of which user and system time count. All are called once before, for Python to
compile what it imports, then in turns; the median counts, and every value is kept.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from record import provenance, write_result

from lerobot_lafp.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
#: Seconds that a call may take.
HELP, LOOK = 0.3, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "two_way")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / given.checkpoint.name
        shutil.copytree(given.checkpoint, checkpoint)
        calls = _calls(checkpoint)
        turns = [{name: _seconds(*call) for name, call in calls.items()} for _ in range(given.turns + 1)][1:]
        size = (checkpoint / "model.safetensors").stat().st_size
    seconds = {name: [round(turn[name], 3) for turn in turns] for name in calls}
    medians = {name: statistics.median(of_name) for name, of_name in seconds.items()}
    at_most = {name: LOOK if name in ("lafp inspect", "lafp card") else HELP for name in calls}
    result = {
        "cpu_seconds": {name: {"median": medians[name], "turns": of_name} for name, of_name in seconds.items()},
        "checkpoint": {"name": given.checkpoint.name, "megabytes": round(size / 1e6, 1)},
        "targets": [{"name": name, "value": medians[name], "at_most": at_most[name]} for name in calls],
        "provenance": provenance(),
    }
    path = write_result("startup", result)
    for name in calls:
        missed = "" if medians[name] <= at_most[name] else "  MISSED"
        print(f"{name:28} {medians[name]:.2f} s (at most {at_most[name]:g}){missed}")
    print(path)


def _calls(checkpoint: Path) -> dict[str, tuple[list[str], int]]:
    """Name -> a command, and the status that it ends with."""
    lafp = str(Path(sys.executable).with_name("lafp"))
    helps = {f"lafp {command.name} --help": ([lafp, command.name, "--help"], 0) for command in COMMANDS}
    return {
        "lafp": ([lafp], 2),
        "lafp --help": ([lafp, "--help"], 0),
        **helps,
        "import lerobot_lafp": ([sys.executable, "-c", "import lerobot_lafp"], 0),
        "lafp inspect": ([lafp, "inspect", str(checkpoint)], 0),
        "lafp card": ([lafp, "card", str(checkpoint), "--overwrite"], 0),
    }


def _seconds(command: list[str], status: int) -> float:
    """CPU time of a process, and of those that it started.

    Raises:
        RuntimeError: It ended with another status.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != status:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
