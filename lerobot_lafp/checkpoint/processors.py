"""The pipelines beside a checkpoint's weights. LeRobot builds what their files name, so nothing may be named that runs.

A step is named by its entry in LeRobot's registry, or by any Python object that can be imported, which LeRobot would
call with the arguments that the file gives (`L/processor/pipeline.py`). Ours are all of the registry.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import in_one_line
from .files import PROCESSORS, TRAIN_CONFIG

#: Names in LeRobot's registry of the steps that a policy is saved with.
OURS = frozenset(
    {"rename_observations_processor", "to_batch_processor", "device_processor"}
    | {"normalizer_processor", "unnormalizer_processor"}
)


def faults_of_processors(folder: Path) -> Iterator[str]:
    """Why the pipelines in ``folder`` cannot be built, and the mend; nothing if they can."""
    for name in PROCESSORS:
        yield from _faults(folder, name)


def refuse_processors(folder: Path) -> None:
    """Refuse a checkpoint whose pipelines cannot or must not be built. One that a policy alone was saved as has none.

    Raises:
        ValueError: One of a run's checkpoint is missing or cannot be read, or it names what is no processor.
    """
    if any((folder / name).exists() for name in (*PROCESSORS, TRAIN_CONFIG)):
        for fault in faults_of_processors(folder):
            raise ValueError(f"{folder}: {fault}")


def _faults(folder: Path, name: str) -> Iterator[str]:
    try:
        steps = json.loads((folder / name).read_text())["steps"]
        states = [step["state_file"] for step in steps if "state_file" in step]
        unknown = _unregistered(steps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{name} cannot be read ({in_one_line(error)}). Copy or download it again."
        return
    if unknown:
        yield (
            f"{name} names {', '.join(unknown)}, which is no processor step that is installed here and would be "
            "imported and called. If you trust it, install and import the package that registers it with "
            "ProcessorStepRegistry."
        )
    for state in states:
        try:
            with safe_open(folder / state, framework="np"):
                pass
        except (OSError, SafetensorError) as error:
            yield f"{state}, which {name} names, cannot be read ({in_one_line(error)}). Copy or download it again."


def _unregistered(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    """What pipelines name that LeRobot's registry does not; the registry is imported for other steps than ours."""
    others = [step for step in steps if step.get("registry_name") not in OURS]
    if not others:
        return []
    from lerobot.processor import ProcessorStepRegistry

    known = ProcessorStepRegistry.list()
    return [
        str(each.get("class", each.get("registry_name"))) for each in others if each.get("registry_name") not in known
    ]
