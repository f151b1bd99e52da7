"""What every benchmark writes beside its numbers."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def provenance() -> dict[str, Any]:
    """Command, commit, versions and machine of this run."""
    root = Path(__file__).parent.parent
    commit = _git(root, "rev-parse", "HEAD")
    changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no", "--", "lerobot_lafp", "configs"))
    packages = ("lerobot_policy_lafp", "lerobot", "torch", "diffusers", "gym-pusht", "gymnasium", "numpy")
    return {
        "command": " ".join(["python", os.path.relpath(sys.argv[0], root), *map(_without_place, sys.argv[1:])]),
        "commit": f"{commit}{' with uncommitted changes' if changed else ''}",
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "machine": {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count(), **_gpu()},
    }


def _without_place(word: str) -> str:
    """An argument; where it is a folder of this machine, ``FOLDER``."""
    name, equals, value = word.rpartition("=")
    return f"{name}{equals}FOLDER" if os.path.isabs(value) else word


def _gpu() -> dict[str, str]:
    """The GPU, if this process has used one."""
    torch = sys.modules.get("torch")
    return {"gpu": torch.cuda.get_device_name()} if torch is not None and torch.cuda.is_initialized() else {}


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write ``result`` as ``benchmarks/results/<name>.json``."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
