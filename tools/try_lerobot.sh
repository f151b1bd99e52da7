#!/usr/bin/env bash
# Runs the tests against a source tree of LeRobot in place of the installed one:
#
#     tools/try_lerobot.sh TREE                                       the whole suite
#     tools/try_lerobot.sh TREE tests/test_next_lerobot.py -k card    what you give to pytest
#
# TREE is a checkout of LeRobot (pyproject.toml, src/lerobot). Nothing is installed, and .venv stays as it is: TREE comes
# first on PYTHONPATH, with the name and the version that its pyproject.toml has. Every other package is .venv's. If TREE
# needs others, install them first: what it requires and .venv lacks is listed. PYTHON names another interpreter than
# .venv's. The exit status is pytest's; 2: TREE is no such tree.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
[ $# -ge 1 ] || usage
[ -f "$1/src/lerobot/__init__.py" ] && [ -f "$1/pyproject.toml" ] || { echo "$1 is no source tree of LeRobot." >&2; usage; }
tree=$(cd "$1" && pwd)
shift
python=${PYTHON:-$(dirname "$0")/../.venv/bin/python}
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
cd "$(dirname "$0")/.."

# What makes the tree known to importlib.metadata: plugins and version checks ask there.
overlay=$(mktemp -d)
trap 'rm -rf "$overlay"' EXIT
"$python" - "$tree/pyproject.toml" "$overlay" <<'PYTHON'
import importlib.metadata
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
folder = Path(sys.argv[2]) / f"lerobot-{project['version']}.dist-info"
folder.mkdir()
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lerobot\nVersion: {project['version']}\n")
for requirement in map(Requirement, project.get("dependencies", [])):
    if requirement.marker is not None and not requirement.marker.evaluate():
        continue
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found is None or not requirement.specifier.contains(found, prereleases=True):
        print(f"It requires {requirement}, and there is {found or 'none'}.", file=sys.stderr)
print(f"LeRobot {project['version']} of {Path(sys.argv[1]).parent}", file=sys.stderr)
PYTHON

export PYTHONPATH="$overlay:$tree/src${PYTHONPATH:+:$PYTHONPATH}"
"$python" -m pytest "$@"
