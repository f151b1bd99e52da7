"""Datasets of a format that this LeRobot does not read: refused by the command that converts them.

LeRobot's own message names the converter for a dataset of the Hub, even where the dataset is a folder; of formats older
than v2.1 it says whom to ask, and those of a later version it reads until something is missing.
"""

import json
import shlex
from importlib.metadata import version
from pathlib import Path

from lerobot.datasets import CODEBASE_VERSION
from lerobot.datasets.utils import (
    INFO_PATH,
    BackwardCompatibilityError,
    ForwardCompatibilityError,
    has_legacy_hub_download_metadata,
)
from lerobot.utils.constants import HF_LEROBOT_HOME
from packaging.version import Version, parse

#: The one format that LeRobot's converter reads.
CONVERTED = parse("v2.1")
#: Where formats before v2.0 kept what is in ``INFO_PATH`` now.
FIRST_INFO_PATH = "meta_data/info.json"


def refuse_other_format(root: str | Path | None, repo_id: str | None = None) -> None:
    """Refuse a dataset on disk whose format LeRobot does not read.

    Args:
        root: Its folder, which need not be one; unset: where LeRobot keeps ``repo_id`` on this machine.
        repo_id: Its name, for the command; unset: the folder's.

    Raises:
        ValueError: It has another format; the message names the command that converts it.
    """
    if root is None:
        kept = HF_LEROBOT_HOME / (repo_id or "")
        if repo_id is not None and not has_legacy_hub_download_metadata(kept):  # else LeRobot asks the Hub
            refuse_other_format(kept, repo_id)
        return
    folder = Path(root).resolve()
    found = _format_of(folder)
    if found is not None and found.major != parse(CODEBASE_VERSION).major:
        name = repo_id or f"local/{folder.name}"
        raise ValueError(_refusal(f"The dataset in {folder}", found, name, folder))


def why_unreadable(error: BaseException, repo_id: str) -> str | None:
    """What to do about a dataset of the Hub that has no version which LeRobot reads; None of any other error.

    Args:
        error: Raised when the dataset was opened.
        repo_id: Its name.
    """
    dataset = f"Dataset {repo_id} on the Hub"
    if isinstance(error, BackwardCompatibilityError):
        return _refusal(dataset, CONVERTED, repo_id)
    if isinstance(error, NotImplementedError):  # LeRobot's word for what is older
        return _refusal(dataset, None, repo_id)
    if isinstance(error, ForwardCompatibilityError):
        return _too_new(dataset, "a later format")
    return None


def _format_of(folder: Path) -> Version | None:
    """What a dataset says of its format; None where it says nothing, or nothing that can be read."""
    try:
        return parse(str(json.loads((folder / INFO_PATH).read_text())["codebase_version"]))
    except (OSError, ValueError, KeyError, TypeError):
        return parse("v1.6") if (folder / FIRST_INFO_PATH).is_file() else None


def _refusal(dataset: str, found: Version | None, repo_id: str, folder: Path | None = None) -> str:
    """Why ``dataset`` is refused and what converts it; ``found`` unset: some format older than ``CONVERTED``."""
    if found is not None and found > CONVERTED:
        return _too_new(dataset, f"format v{found}")
    name = shlex.quote(repo_id)
    where = "" if folder is None else f" --root={shlex.quote(str(folder))}"
    convert = f"python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id={name}{where} --push-to-hub=false"
    if found == CONVERTED:
        kept = "" if folder is None else f" in place, where the old one is kept as {folder}_old"
        return f"{dataset} has format v{found}, and LeRobot reads {CODEBASE_VERSION}: convert it{kept}. {convert}"
    steps = [
        "pip install lerobot==0.3.3",
        f"python -m lerobot.datasets.v21.convert_dataset_v20_to_v21 --repo-id={name}",
    ]
    if found is None or found.major < 2:
        steps.insert(1, f"python -m lerobot.datasets.v2.convert_dataset_v1_to_v2 --repo-id={name} --single-task=TASK")
    has = f"a format older than v{CONVERTED}" if found is None else f"format v{found}"
    return (
        f"{dataset} has {has}. LeRobot {version('lerobot')} reads {CODEBASE_VERSION} and converts v{CONVERTED} only: "
        f"convert it to v{CONVERTED} on the Hub first, in an environment of its own ({'; '.join(steps)}), then here. "
        f"{convert}"
    )


def _too_new(dataset: str, has: str) -> str:
    return (
        f"{dataset} has {has}, and LeRobot {version('lerobot')} reads {CODEBASE_VERSION}: upgrade it. "
        "pip install --upgrade lerobot"
    )
