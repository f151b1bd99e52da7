"""A checkpoint of the Hub as a folder, its files all of one revision; or a sentence on why there is none."""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

#: What of a repository is a checkpoint.
_FILES = ("*.json", "*.safetensors")


def fetched(checkpoint: str | Path, revision: str | None = None, **options: Any) -> Path:
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
    name = str(checkpoint)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_FILES), **options))
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f"{name} has no revision {revision}: give a branch, tag or commit of it.") from error
    except (HFValidationError, GatedRepoError, RepositoryNotFoundError) as error:
        raise FileNotFoundError(
            f"{name} is no folder here, and no repository of the Hub that may be read. Check the name; if it is "
            "private, log in with `hf auth login` or set HF_TOKEN."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ConnectionError(
            f"{name} is not in the cache, and the Hub cannot be reached ({error.__cause__ or error}). Try again "
            "later, or copy the checkpoint here and give its folder."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise FileNotFoundError(f"The Hub refuses the token for {name}. Log in again: `hf auth login`.") from error
        raise ConnectionError(f"The Hub cannot send {name} now (status {status}). Try again later.") from error
