"""Where things live: few files at the top, imports in one direction, and one file that reaches into LeRobot."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lerobot_lafp

ROOT = Path(lerobot_lafp.__file__).parent
#: From the top down: a room imports those after it, and none before it.
ROOMS = (
    "cli",
    "runs",
    "diagnostics",
    "data",
    "simulators",
    "modeling_lafp",
    "lerobot_patches",
    "frames",
    "training",
    "checkpoint",
    "acting",
    "model",
    "observation",
    "processor_lafp",
    "configuration_lafp",
    "options",
    "errors",
)


def _module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(file): file for file in ROOT.rglob("*.py")}


def _imports(module: str) -> Iterator[str]:
    """The modules of this package that a module imports, wherever in it, ``TYPE_CHECKING`` included."""
    file = MODULES[module]
    package = module.split(".") if file.stem == "__init__" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.level or str(node.module).startswith("lerobot_lafp")):
            continue
        base = [part for part in package if part][: len([p for p in package if p]) - (node.level - 1)]
        source = str(node.module).removeprefix("lerobot_lafp").lstrip(".") if not node.level else (node.module or "")
        target = ".".join([*(base if node.level else []), *([source] if source else [])])
        for name in node.names:
            inner = f"{target}.{name.name}".lstrip(".")
            yield inner if inner in MODULES else target


IMPORTS = {module: set(_imports(module)) - {module} for module in MODULES}


def test_imports_go_one_way_through_the_rooms() -> None:
    place = {room: index for index, room in enumerate(ROOMS)}
    up = [
        f"{module} imports {target}"
        for module, targets in IMPORTS.items()
        if module  # the package itself, whose names are looked up when they are used
        for target in targets
        if place[target.split(".")[0]] < place[module.split(".")[0]]
    ]
    assert not up


def test_no_modules_import_each_other_in_a_ring() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in IMPORTS.get(module, ()):
                visit(target, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_the_walk_sees_imports() -> None:
    assert "model.flow" in IMPORTS["model.latent_policy"]
    assert "options.names" in IMPORTS["options.observed"]
    assert sum(map(len, IMPORTS.values())) > 200


def test_few_files_lie_at_the_top() -> None:
    assert len([file for file in ROOT.iterdir() if file.is_file()]) <= 8
    assert all(room in MODULES for room in ROOMS), "a room of this test is gone"
    assert {module.split(".")[0] for module in MODULES} - {""} == set(ROOMS)


def test_the_policy_is_lerobots_contract_and_nothing_else() -> None:
    assert len(MODULES["modeling_lafp"].read_text().splitlines()) <= 350


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"", "lerobot_patches", "cli.main", "runs.commands"}))
def test_only_one_module_looks_at_the_command_line_of_the_process(module: str) -> None:
    assert "sys.argv" not in MODULES[module].read_text()
