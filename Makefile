# `make demo` and `make test` install all they need into .venv; nothing has to be there but python3 and make.

.PHONY: demo test test-fast lint clean

demo: .venv/installed
	.venv/bin/lafp demo configs/two_way

test: .venv/installed
	.venv/bin/python -m pytest -n 2 --dist worksteal

# All but what starts LeRobot's commands or trains for long: minutes instead of a quarter of an hour.
test-fast: .venv/installed
	.venv/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv/installed: pyproject.toml constraints.txt overrides.txt tools/bootstrap.sh
	tools/bootstrap.sh

clean:
	rm -rf .venv .venv-uv .mypy_cache .pytest_cache .ruff_cache
