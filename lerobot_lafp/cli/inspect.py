"""``lafp inspect``."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..checkpoint.download import fetched, refuse_missing
from ..checkpoint.facts import limit_lines, lines, statistics_lines
from ..checkpoint.inspection import Inspection, inspect
from ..errors import UserError, in_one_line
from .arguments import CommandParser

USAGE = """lafp inspect CHECKPOINT [--json]

Says what a LAFP checkpoint is (a folder, or a repository of the Hub) and whether it is whole: its stages, chunk,
observations, actions, what it normalises by, its limits, digest and the versions it was made with, and every fault
that its files show. Ends with status 0 if it is sound and with 1 if it is not. --json prints the same for programs.
"""


def run_inspect(arguments: Sequence[str]) -> int:
    """Run ``lafp inspect`` as ``USAGE`` says; returns the exit status.

    Raises:
        UserError: There is no such checkpoint.
    """
    parser = CommandParser("inspect", USAGE)
    parser.add_argument("checkpoint")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    found = inspect(_folder(given.checkpoint))
    if given.json:
        print(json.dumps({"sound": found.sound, **found.facts, "faults": found.faults}))
    else:
        print("\n".join([given.checkpoint, *_lines(found)]))
    return 0 if found.sound else 1


def _folder(checkpoint: str) -> Path:
    refuse_missing(checkpoint)
    try:
        return fetched(checkpoint)
    except OSError as error:
        raise UserError(in_one_line(error)) from error


def _lines(found: Inspection) -> Iterator[str]:
    facts = found.facts
    if "format" in facts:
        made = ", ".join(f"{package} {version}" for package, version in (facts["made_with"] or {}).items())
        yield _line("format", f"{facts['format']}{f', made with {made}' if made else ''}")
    yield from (_line(*each) for each in lines(facts).items())
    for name, several in {"mean (std)": statistics_lines(facts), "limits": limit_lines(facts)}.items():
        yield from (_line("" if i else name, line) for i, line in enumerate(several))
    if facts.get("options_changed"):
        yield _line("options", "changed since it was saved")
    if "weights" in facts:
        weights = facts["weights"]
        size = f"{weights['numbers']:,} numbers, {weights['bytes'] / 1e6:.1f} MB"
        same = {True: "as saved", False: "saved without a digest"}.get(weights.get("verified"), "NOT as saved")
        yield _line("weights", f"{size}, {same}")
        if facts.get("digest"):
            yield _line("SHA-256", facts["digest"])
    yield from (f"FAULT: {fault}" for fault in found.faults)
    yield "sound" if found.sound else "not sound"


def _line(name: str, value: str) -> str:
    return f"  {name:<10} {value}"
