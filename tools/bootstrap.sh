#!/usr/bin/env bash
# Makes .venv with Python 3.12 or later and everything the project needs. Called by make; safe to call again.
set -euo pipefail
cd "$(dirname "$0")/.."

# uv, from the machine or in an environment of its own.
uv=$(command -v uv || true)
if [ -z "$uv" ] || ! "$uv" --version >/dev/null 2>&1; then
    [ -x .venv-uv/bin/uv ] || { python3 -m venv .venv-uv && .venv-uv/bin/python -m pip install --quiet uv; }
    uv=.venv-uv/bin/uv
fi

# A Python that fits: on the path, then pyenv's, then whatever uv finds or fetches.
fits() { "$1" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info < (3, 14))' >/dev/null 2>&1; }
python=3.12
for candidate in python3.12 python3.13 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[23].*/bin/python3; do
    if fits "$candidate"; then
        # Within an active environment, the interpreter it was made from: uv takes no other.
        python=$("$candidate" -c 'import sys; print(sys._base_executable)')
        break
    fi
done

[ -x .venv/bin/python ] && fits .venv/bin/python || "$uv" venv --clear --python "$python" .venv
# Where Python may not keep what it compiles, as in many containers, every process would compile LeRobot anew: 20 s.
[ -z "${PYTHONDONTWRITEBYTECODE:-}" ] || export UV_COMPILE_BYTECODE=1
"$uv" pip install --python .venv/bin/python --constraint constraints.txt --override overrides.txt --editable '.[dev]'
touch .venv/installed
