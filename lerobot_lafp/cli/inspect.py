"""``lafp inspect``."""

import json
from typing import Annotated

import typer


def inspect(
    checkpoint: Annotated[str, typer.Argument(help="Folder, or repository on the Hub.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> int:
    """Describe a checkpoint and check that it is complete.

    The command prints the trained stages, chunk, observations, actions, normalisation statistics, limits, digest and
    versions of a LAFP checkpoint, and every fault of its files. The exit status is 0 if there is no fault, else 1.
    """
    from ..checkpoint.inspection import inspect_checkpoint

    found = inspect_checkpoint(checkpoint)
    if as_json:
        print(json.dumps({"sound": found.sound, **found.facts, "faults": found.faults}))
    else:
        print("\n".join([checkpoint, *found.lines()]))
    return 0 if found.sound else 1
