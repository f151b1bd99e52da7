"""A checkpoint is what was saved, or it is refused: its format, the digest of its weights, files that are whole.

``config.json`` says which format the checkpoint has, the SHA-256 of ``model.safetensors`` (the Hub shows the same) and
the versions it was made with. All three are written when it is saved, and are of the files, not of a policy in memory.
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

from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from torch import Tensor

from ..configuration_lafp import CHECKPOINT_FORMAT

_FILES = (SAFETENSORS_SINGLE_FILE, CONFIG_NAME)


@contextmanager
def saved_whole(folder: Path) -> Iterator[Path]:
    """Where to write the weights and the configuration of a checkpoint, which then appear in ``folder`` as a whole.

    A process that is killed leaves none of them half-written, and of two that do not belong together ``refuse_altered``
    tells. Where the disk is full, those that were there before stay.
    """
    fresh = folder / ".saving"
    shutil.rmtree(fresh, ignore_errors=True)  # of a process that was killed here
    fresh.mkdir()
    try:
        yield fresh
        seal(fresh)
        for name in _FILES:
            os.replace(fresh / name, folder / name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def seal(folder: Path) -> None:
    """Write into the configuration of a checkpoint what its weights are now."""
    file = folder / CONFIG_NAME
    config = json.loads(file.read_text())
    config["checkpoint_format"] = CHECKPOINT_FORMAT
    config["weights_digest"] = digest(folder / SAFETENSORS_SINGLE_FILE)
    config["made_with"] = installed_versions()
    file.write_text(json.dumps(config, indent=4))


def installed_versions() -> dict[str, str]:
    """Package -> version, of those that a checkpoint depends on."""
    return {name: importlib.metadata.version(name) for name in ("lerobot_policy_lafp", "lerobot", "torch")}


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_altered(file: Path, saved: Mapping[str, Any]) -> bool:
    """Refuse weights that are not those that were saved.

    Args:
        file: ``model.safetensors``.
        saved: What the ``config.json`` beside it says.

    Returns:
        Whether there was a digest to hold it against. A checkpoint without one is older than digests are.

    Raises:
        ValueError: They are others.
    """
    expected = saved.get("weights_digest")
    if expected is not None and digest(file) != expected:
        raise ValueError(
            f"{file} is not what was saved with its config.json (their SHA-256 differ): it was damaged or replaced, or "
            "one of the two is another checkpoint's. Copy or download both again, or use an earlier checkpoint of the "
            "run."
        )
    return expected is not None


def saved_with(file: Path) -> dict[str, Any]:
    """What the configuration beside ``model.safetensors`` says; nothing where there is none.

    Raises:
        ValueError: It cannot be read.
    """
    config = file.with_name(CONFIG_NAME)
    try:
        return json.loads(config.read_text()) if config.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{config} cannot be read ({error}). Copy or download it again.") from error


def migrate(state: dict[str, Tensor], saved_format: int | None) -> None:
    """Bring the tensors of an older checkpoint to ``CHECKPOINT_FORMAT``, in place, one format after the other.

    Args:
        state: Name -> tensor, as read from the file.
        saved_format: Its ``checkpoint_format``. Unset: 0.
    """
    for migration in _MIGRATIONS[saved_format or 0 :]:
        migration(state)


def _from_0_to_1(state: dict[str, Tensor]) -> None:
    """Format 0 had neither number nor digest; its tensors are the same."""


#: Position N: from format N to N + 1.
_MIGRATIONS: tuple[Callable[[dict[str, Tensor]], None], ...] = (_from_0_to_1,)
