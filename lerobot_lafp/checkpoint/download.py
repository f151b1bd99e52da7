"""A checkpoint of the Hub as a folder, its files all of one revision; or a sentence on why there is none."""

from pathlib import Path
from typing import Any

from ..errors import UserError

#: What of a repository is a checkpoint.
_FILES = ("*.json", "*.safetensors")


def download(checkpoint: str | Path, revision: str | None = None, **options: Any) -> Path:
    """The folder of ``checkpoint``, which is downloaded first if it is a repository of the Hub.

    Args:
        checkpoint: A folder, or a repository.
        revision: Of the repository. Unset: its newest.
        options: Of ``huggingface_hub.snapshot_download``.

    Raises:
        FileNotFoundError: There is no such repository or revision, or it is private and this is nobody it knows.
        ConnectionError: The Hub does not answer, and has not before.
    """
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    # Only now: the client takes half a second to import.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = str(checkpoint)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_FILES), **options))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise explained(name, error, revision) from error


def explained(name: str, error: Exception, revision: str | None = None) -> OSError:
    """Why ``name`` could not be had of the Hub, and the mend, for what the Hub's client raised."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, RevisionNotFoundError):
        return FileNotFoundError(f"{name} has no revision {revision}: give a branch, tag or commit of it.")
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return FileNotFoundError(f"{name} is a repository without config.json: it holds no policy.")
    unknown = isinstance(error, (HFValidationError, GatedRepoError, RepositoryNotFoundError))
    if unknown or (isinstance(error, HfHubHTTPError) and error.response.status_code == 401):
        return FileNotFoundError(
            f"{name} is no folder here, and no repository of the Hub that may be read. Check the name; if it is "
            "private, log in with `hf auth login` or set HF_TOKEN."
        )
    return ConnectionError(
        f"{name} is not in the cache, and the Hub cannot be reached ({error.__cause__ or error}). Try again later, or "
        "copy the checkpoint here and give its folder."
    )


MEND = "Name a folder that holds config.json and model.safetensors (a run's .../pretrained_model), or a Hub name."


def refuse_missing(checkpoint: str | Path) -> None:
    """Refuse a path where no checkpoint lies, and what cannot be the name of a repository.

    Raises:
        UserError: It is one of these.
    """
    path = Path(checkpoint)
    if path.exists() and not (path / "config.json").is_file():
        raise UserError(f"{checkpoint} holds no checkpoint. {MEND}")
    if not path.exists() and (path.is_absolute() or len(path.parts) != 2):
        raise UserError(f"{checkpoint} does not exist. {MEND}")
