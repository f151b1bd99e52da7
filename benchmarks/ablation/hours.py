"""What the runs took, each training counted once, whichever rows share it."""

import json
from collections import defaultdict
from pathlib import Path


def hours(results: Path) -> dict[str, dict[str, float]]:
    """Task -> stage, rival or ``evaluation`` -> CPU hours of all its runs in ``results``."""
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    counted = set()
    for file in sorted(results.glob("*/*/seed*.json")):
        run = json.loads(file.read_text())
        took, spent = run["cpu_seconds"], seconds[run["task"]]
        spent["evaluation"] += took.get("evaluation") or 0.0  # not every file knows
        trainings = run["configuration"]["trainings"]
        for end, training in enumerate(trainings, start=1):
            chain = json.dumps([run["task"], trainings[:end]], sort_keys=True)
            if chain not in counted:
                counted.add(chain)
                spent[training["stage"]] += took.get(training["stage"]) or 0.0
    return {task: {part: each / 3600 for part, each in parts.items()} for task, parts in seconds.items()}
