"""Tensors of a safetensors file as NumPy arrays, without torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..errors import in_one_line


def read_tensors(file: Path) -> dict[str, NDArray[Any]]:
    """Name -> array of all that a file holds; bfloat16 as float32.

    Raises:
        ValueError: It is missing, cut short, or no safetensors file.
    """
    try:
        with safe_open(file, framework="np") as opened:
            names = opened.keys()
            halves = {name for name in names if opened.get_slice(name).get_dtype() == "BF16"}
            tensors = {name: opened.get_tensor(name) for name in names if name not in halves}
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: of types that NumPy does not have
        raise ValueError(f"{file.name} cannot be read ({in_one_line(error)}). Copy or download it again.") from error
    return tensors | _bfloat16(file, halves)


def _bfloat16(file: Path, names: set[str]) -> dict[str, NDArray[np.float32]]:
    """The tensors ``names``, whose numbers are the upper halves of float32."""
    if not names:
        return {}
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    found = {}
    for name in names:
        start, end = header[name]["data_offsets"]
        upper = np.fromfile(file, dtype="<u2", count=(end - start) // 2, offset=8 + length + start)
        found[name] = (upper.astype(np.uint32) << 16).view(np.float32).reshape(header[name]["shape"])
    return found
