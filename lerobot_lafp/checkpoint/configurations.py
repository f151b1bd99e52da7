"""Configurations of older versions, on their way through LeRobot's parser, which knows this version's options alone."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.constants import CONFIG_NAME
from lerobot.configs.train import TRAIN_CONFIG_NAME

from ..options.constants import CHECKPOINT_FORMAT
from ..options.migration import GONE, format_of, is_before_3, migrate_config, successor
from .files import TYPE
from .integrity import read_config


def refuse_old_words(words: Iterable[str], prefix: str = "") -> None:
    """Refuse options of an older version as they are typed.

    Args:
        words: ``--policy.limit_margin=0.2``, or without ``policy.`` where LeRobot has taken that off.
        prefix: What our options begin with in ``words``.

    Raises:
        ValueError: One of them; the message names what to type in its place.
    """
    for word in words:
        if word.startswith(f"--{prefix}") and (mend := successor(word.removeprefix(f"--{prefix}"))) is not None:
            raise ValueError(mend)


def refuse_newer(saved: Mapping[str, Any]) -> None:
    """Refuse a ``config.json`` of a format that this version does not know.

    Raises:
        ValueError: It is one.
    """
    found = format_of(saved)
    if found > CHECKPOINT_FORMAT:
        raise ValueError(
            f"This checkpoint has format {found}, and the installed lerobot_policy_lafp reads up to "
            f"{CHECKPOINT_FORMAT}: it was made with {saved.get('made_with')}. Install that version or a newer one."
        )


@contextmanager
def as_now(folder: Path) -> Iterator[Path]:
    """A folder whose ``config.json`` has this version's options: ``folder`` itself, if its own does.

    Raises:
        ValueError: It cannot be read, or is of a newer format.
    """
    saved = read_config(folder / CONFIG_NAME)
    if saved.get("type") != TYPE:
        yield folder
        return
    refuse_newer(saved)
    if (now := migrate_config(saved)) == saved:
        yield folder
        return
    with tempfile.TemporaryDirectory() as other:
        (Path(other) / CONFIG_NAME).write_text(json.dumps(now))
        yield Path(other)


@contextmanager
def run_as_now(file: Path, words: Sequence[str] = ()) -> Iterator[Path]:
    """A configuration of ``lerobot-train`` whose policy has this version's options.

    What a run saved, ``train_config.json``, is brought to them; in a file that somebody wrote, old ones are refused.

    Args:
        file: What ``--config_path`` names.
        words: The command line beside it.

    Raises:
        ValueError: They are; or a run is to be resumed that this version cannot go on with.
    """
    try:
        text = file.read_text()
        options = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        yield file  # LeRobot says what is wrong
        return
    policy = options.get("policy") if isinstance(options, dict) else None
    if not isinstance(policy, dict) or policy.get("type") != TYPE:
        yield file
        return
    if file.name != TRAIN_CONFIG_NAME:
        _refuse_old_names(file, policy)
        yield file
        return
    now = {**options, "policy": migrate_config(policy), "scheduler": _scheduler(options)}
    if now == options:
        yield file
        return
    if is_before_3(policy) and (options.get("resume") or _resumes(words)):
        raise ValueError(
            f"The run of {file} was begun by an older lerobot_policy_lafp, whose schedule this one cannot go on with. "
            f"Start a new run from its checkpoint (--policy.path={file.parent}), or go on with "
            f"{(policy.get('made_with') or {}).get('lerobot_policy_lafp', 'the version that it was begun with')}."
        )
    with tempfile.TemporaryDirectory() as other:
        (Path(other) / file.name).write_text(json.dumps(now))
        yield Path(other) / file.name


def _refuse_old_names(file: Path, policy: Mapping[str, Any]) -> None:
    for name, value in policy.items():
        if name in GONE and (mend := successor(f"{name}={json.dumps(value)}")) is not None:
            raise ValueError(f"{file}: {mend}")


def _scheduler(options: Mapping[str, Any]) -> Any:
    """The schedule of a run; formats 0 to 2 had one of their own, which was this one where there was one stage."""
    scheduler = options.get("scheduler")
    if not isinstance(scheduler, dict) or scheduler.get("type") != "lafp_group_cosine":
        return scheduler
    return {"type": "diffuser", "name": "cosine", "num_warmup_steps": scheduler.get("num_warmup_steps", 100)}


def _resumes(words: Sequence[str]) -> bool:
    """Whether ``--resume=true``, or ``--resume true``, is among the words of a command line."""
    typed = [*words, *(f"{name}={value}" for name, value in pairwise(words))]
    return "--resume=true" in [word.lower() for word in typed]
