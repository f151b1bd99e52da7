"""What the runs took, each training counted once, whichever rows share it."""

import json
from collections import defaultdict
from pathlib import Path

#: Task, stage (or rival, or ``evaluation``), steps (or episodes) and batch size: what is the same work.
Kind = tuple[str, str, int, int]


def hours(results: Path) -> dict[str, dict[str, float]]:
    """Task -> stage, rival or ``evaluation`` -> CPU hours of all its runs in ``results``."""
    spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for kind, seconds in _spans(results):
        spent[kind[0]][kind[1]] += seconds / 3600
    return {task: dict(parts) for task, parts in spent.items()}


def least_hours(results: Path) -> dict[str, float]:
    """Task -> CPU hours, had everything taken the least that something of its kind took.

    The runs were made on machines of several speeds that other work shared.
    """
    spans = _spans(results)
    least: dict[Kind, float] = {}
    for kind, seconds in spans:
        if seconds:  # not every file knows
            least[kind] = min(seconds, least.get(kind, seconds))
    total: dict[str, float] = defaultdict(float)
    for kind, _ in spans:
        total[kind[0]] += least.get(kind, 0.0) / 3600
    return dict(total)


def _spans(results: Path) -> list[tuple[Kind, float]]:
    """Everything that was done, and its CPU seconds."""
    spans: list[tuple[Kind, float]] = []
    counted = set()
    for file in sorted(results.glob("*/*/seed*.json")):
        run = json.loads(file.read_text())
        task, took, trainings = run["task"], run["cpu_seconds"], run["configuration"]["trainings"]
        episodes = len(run["evaluation"]["success"])
        spans.append(((task, "evaluation", episodes, 0), took.get("evaluation") or 0.0))
        for end, training in enumerate(trainings, start=1):
            chain = json.dumps([task, trainings[:end]], sort_keys=True)
            if chain not in counted:
                counted.add(chain)
                kind = (task, training["stage"], training.get("steps", 0), training.get("batch_size", 0))
                spans.append((kind, took.get(training["stage"]) or 0.0))
    return spans
