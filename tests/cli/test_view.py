"""``lafp view`` as a process of its own, on a checkpoint of an older format."""

import subprocess
import sys
from pathlib import Path

from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "two_way"


def test_the_shipped_checkpoint_splits_before_the_obstacle(tmp_path: Path) -> None:
    write_demonstrations(tmp_path / "demonstrations", 1, seed=5)
    dataset = ["--dataset.repo_id=local/two_way", f"--dataset.root={tmp_path / 'demonstrations'}"]
    options = [f"--policy.path={SHIPPED}", "--policy.device=cpu", f"--output_dir={tmp_path / 'out'}"]
    command = [sys.executable, "-m", "lerobot_lafp.cli", "view", *dataset, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "The samples split into two modes at 1 of 7 planning moments: frame 0." in done.stdout
    for kind in ("rrd", "mp4"):
        assert (tmp_path / "out" / f"local_two_way_episode_0.{kind}").stat().st_size > 20_000
