"""docs/options.md says what the docstrings say."""

import importlib.util
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "options_reference.py"


def test_the_page_is_the_one_that_the_tool_writes() -> None:
    spec = importlib.util.spec_from_file_location("options_reference", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.FILE.read_text() == tool.reference(), f"run python {TOOL.name}"
