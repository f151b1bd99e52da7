"""Models that ``transformers`` saved, from a folder or the Hub: whole, from safetensors, or an error says why."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

#: What weights may lack: nothing of ours reads these.
_UNUSED = ("pooler.", "mask_token", "embeddings.mask_token")


def load_pretrained(source: str, kind: str, option: str) -> tuple[dict[str, Any], nn.Module]:
    """Read a model with its weights.

    Args:
        source: A folder as ``save_pretrained`` writes it, or a repository of the Hub.
        kind: What it is, for the errors.
        option: The option of ``LAFPConfig`` that named it, for the errors.

    Returns:
        Its configuration, and the model, in evaluation mode.

    Raises:
        ImportError: ``transformers`` is not installed.
        ValueError: There is no such model, it cannot be fetched, its weights are no safetensors or not all there.
    """
    transformers = transformers_library(kind)
    mend = f"Check `{option}={source}`: it must be a folder with config.json and model.safetensors"
    try:
        model, report = transformers.AutoModel.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        offline = "" if Path(source).expanduser().exists() else ", or a repository that this machine can reach"
        raise ValueError(
            f"The {kind} {source} cannot be loaded: {_first_line(error)}. {mend}{offline}. Where there is no network, "
            "copy such a folder there and give its path."
        ) from error
    missing = sorted(k for k in report["missing_keys"] if not k.startswith(_UNUSED))
    if missing or report["mismatched_keys"]:
        raise ValueError(
            f"The {kind} {source} lacks weights that its configuration asks for ({(missing or ['shapes'])[0]}, "
            f"{len(missing) + len(report['mismatched_keys'])} in all), which would be random. {mend} of one model."
        )
    return model.config.to_dict(), model.eval()


def load_tokenizer(source: str, option: str) -> Any:
    """The tokenizer beside a text model.

    Raises:
        ValueError: There is none, or it cannot be read.
    """
    try:
        return transformers_library("text model").AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # whatever the many tokenizers raise
        raise ValueError(
            f"The text model {source} has no tokenizer that can be read: {_first_line(error)}. Check "
            f"`{option}={source}`: the folder must hold tokenizer.json and tokenizer_config.json beside the model."
        ) from error


def transformers_library(kind: str) -> Any:
    """The module ``transformers``, which is an extra of this package."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            f"A {kind} is read by transformers, which is not installed. Install it: "
            "pip install 'lerobot_policy_lafp[transformers]'."
        ) from error
    return transformers


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
