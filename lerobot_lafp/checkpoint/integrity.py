"""A checkpoint is what was saved, or it is refused: its format, the digest of its weights, files that are whole.

``config.json`` says which format the checkpoint has, the versions it was made with, the SHA-256 of
``model.safetensors`` (the Hub shows the same) and of all that it says itself. These are written when it is saved, and
are of the files, not of a policy in memory.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from numpy.typing import NDArray

from ..errors import in_one_line
from ..options.constants import CHECKPOINT_FORMAT

_FILES = (SAFETENSORS_SINGLE_FILE, CONFIG_NAME)
#: What `seal` writes, no option of anybody's.
SEALS = ("checkpoint_format", "weights_digest", "options_digest", "made_with")


@contextmanager
def atomic_save(folder: Path) -> Iterator[Path]:
    """Provide a folder for the weights and the configuration of a checkpoint, then move both into ``folder`` at once.

    A process that is killed leaves none of them half-written, and of two that do not belong together ``refuse_altered``
    tells. Where the disk is full, those that were there before stay.

    Where several processes train, each has a folder of its own, and one that writes nothing into it moves nothing:
    after 0.6.1 LeRobot saves in every process, and only the first of them writes.
    """
    from ..model.distributed import process_index  # torch, which reading a checkpoint does without

    rank = process_index()
    fresh = folder / (f".saving-{rank}" if rank else ".saving")
    shutil.rmtree(fresh, ignore_errors=True)  # of a process that was killed here
    fresh.mkdir()
    try:
        yield fresh
        if rank == 0 or has_written(fresh):
            seal(fresh)
            for name in _FILES:
                os.replace(fresh / name, folder / name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def has_written(fresh: Path) -> bool:
    """Whether this process wrote a checkpoint into the folder that ``atomic_save`` gave it."""
    return any(fresh.iterdir())


def seal(folder: Path) -> None:
    """Write into the configuration of a checkpoint what its weights are now."""
    file = folder / CONFIG_NAME
    config = json.loads(file.read_text())
    config["checkpoint_format"] = CHECKPOINT_FORMAT
    config["weights_digest"] = digest(folder / SAFETENSORS_SINGLE_FILE)
    config["made_with"] = installed_versions()
    config["options_digest"] = options_digest(config)
    file.write_text(json.dumps(config, indent=4))


def installed_versions() -> dict[str, str]:
    """Package -> version, of those that a checkpoint depends on."""
    return {name: importlib.metadata.version(name) for name in ("lerobot_policy_lafp", "lerobot", "torch")}


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def options_digest(saved: Mapping[str, Any]) -> str:
    """SHA-256 of all else in a ``config.json``, in hexadecimal, however it is laid out there."""
    options = {name: value for name, value in saved.items() if name != "options_digest"}
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def options_changed(saved: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` was edited, or damaged, since it was saved; older ones do not tell."""
    return saved.get("options_digest") not in (None, options_digest(saved))


def refuse_altered(file: Path, saved: Mapping[str, Any]) -> bool:
    """Refuse weights that are not those that were saved.

    Args:
        file: ``model.safetensors``.
        saved: What the ``config.json`` beside it says.

    Returns:
        Whether there was a digest to hold it against. A checkpoint of format 0 is older than digests are.

    Raises:
        ValueError: They are others, or there is no digest although its format has one.
    """
    expected = saved.get("weights_digest")
    if expected is None and saved.get("checkpoint_format"):
        raise ValueError(
            f"{file.with_name(CONFIG_NAME)} has lost its `weights_digest`, by which it would be known whether {file} "
            "is what was saved. Copy or download both again, or use an earlier checkpoint of the run."
        )
    if expected is not None and digest(file) != expected:
        raise ValueError(
            f"{file} is not what was saved with its config.json (their SHA-256 differ): it was damaged or replaced, or "
            "one of the two is another checkpoint's. Copy or download both again, or use an earlier checkpoint of the "
            "run."
        )
    return expected is not None


def read_config(file: Path) -> dict[str, Any]:
    """What a ``config.json`` says.

    Raises:
        ValueError: It is missing or cannot be read.
    """
    try:
        saved = json.loads(file.read_text())
        if not isinstance(saved, dict):
            raise ValueError("it holds no options")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({in_one_line(error)}). Copy or download it again.") from error
    return saved


#: What the names of the tensors begin or end with that migrations read and write.
_BEGINS, _ENDS = ("normalizer.vectors.", "limits."), ("moments.variance",)


def is_migrated(name: str) -> bool:
    """Whether ``migrate`` needs the tensor of this name; all of these are small."""
    return name.startswith(_BEGINS) or name.endswith(_ENDS)


def migrate(state: dict[str, NDArray[Any]], saved_format: int | None) -> None:
    """Bring the tensors of an older checkpoint to ``CHECKPOINT_FORMAT``, in place, one format after the other.

    Args:
        state: Name -> array, as read from the file; of those that ``is_migrated`` names, all.
        saved_format: Its ``checkpoint_format``. Unset: 0.
    """
    for migration in _MIGRATIONS[saved_format or 0 :]:
        migration(state)


def _from_0_to_1(state: dict[str, NDArray[Any]]) -> None:
    """Format 0 had neither number nor digest; its tensors are the same."""


def _from_1_to_2(state: dict[str, NDArray[Any]]) -> None:
    """Format 1 had floors across dimensions: of a state's deviation for the guard, of what an action may do, a tenth of
    the widest dimension's. They become numbers of each dimension, so that it acts as it did. What never changed counted
    in its own unit."""

    def at_least_a_tenth(x: NDArray[Any]) -> NDArray[Any]:
        return np.maximum(x, x.dtype.type(float(x.max()) * 0.1))

    for name in [name for name in state if name.startswith("normalizer.vectors.") and name.endswith(".std")]:
        state[name.removesuffix("std") + "low"] = np.full_like(state[name], -np.inf)
        state[name.removesuffix("std") + "high"] = np.full_like(state[name], np.inf)
    for name in [name for name in state if name.endswith("moments.variance") or name == "limits.tokens.variance"]:
        state[name] = np.where(np.sqrt(state[name]) > 1e-6, state[name], np.ones_like(state[name]))
    if "limits.action.low" not in state:
        return
    width = state["limits.action.high"] - state["limits.action.low"]
    state["limits.width"] = at_least_a_tenth(width) if bool((width >= 0).all()) else np.zeros_like(width)
    for name in ("limits.change.high", "limits.lead.high"):
        if name in state and bool((state[name] >= 0).all()):
            state[name] = at_least_a_tenth(state[name])
    mean, std = (state.get(f"normalizer.vectors.observation__state.{name}") for name in ("mean", "std"))
    if mean is None or std is None:
        mean = std = np.zeros(0, dtype=width.dtype)
    elif "limits.lead.low" not in state:  # never measured, for want of the action's width
        state["limits.lead.low"], state["limits.lead.high"] = (np.full_like(width, n) for n in (np.inf, -np.inf))
    deviation = at_least_a_tenth(std.flatten()) if std.size else std
    state["limits.state_deviation"] = deviation
    state["limits.state.low"], state["limits.state.high"] = (mean.flatten() + n * deviation for n in (-3, 3))


def _from_2_to_3(state: dict[str, NDArray[Any]]) -> None:
    """Format 2 had other options (`lerobot_lafp/options/migration.py`); its tensors are the same."""


def _from_3_to_4(state: dict[str, NDArray[Any]]) -> None:
    """Format 3 had an option less and one more; its tensors are the same."""


def _from_4_to_5(state: dict[str, NDArray[Any]]) -> None:
    """Format 4 had no student of the flow; its tensors are the same."""


#: Position N: from format N to N + 1.
_MIGRATIONS: tuple[Callable[[dict[str, NDArray[Any]]], None], ...] = (
    _from_0_to_1,
    _from_1_to_2,
    _from_2_to_3,
    _from_3_to_4,
    _from_4_to_5,
)
