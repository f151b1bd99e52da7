"""`benchmarks/` on the path, as running a script in it puts it there; and a small dataset with images."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def two_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of ``local/two_way``: six demonstrations from images and position, all labelled."""
    from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations

    root = tmp_path_factory.mktemp("data") / "two_way"
    write_demonstrations(root, 6, obs_type="pixels_agent_pos")
    return root
