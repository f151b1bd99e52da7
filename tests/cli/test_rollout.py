"""`lerobot-rollout` with a LAFP checkpoint, on a robot without hardware."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets import LeRobotDataset

from lerobot_lafp.runs.trainings import last_checkpoint, train

from .conftest import SHORT, TINY


def test_rollout_commands_the_robot(tmp_path: Path) -> None:
    joints = {"dtype": "float32", "shape": (2,), "names": ["x.pos", "y.pos"]}
    dataset = LeRobotDataset.create(
        "local/arm", fps=10, features={"observation.state": joints, "action": joints}, root=tmp_path / "arm"
    )
    rng = np.random.default_rng(0)
    for _ in range(20):
        state, action = rng.normal(size=(2, 2)).astype(np.float32)
        dataset.add_frame({"task": "move", "observation.state": state, "action": action})
    dataset.save_episode()
    dataset.finalize()
    data = ["--dataset.repo_id=local/arm", f"--dataset.root={tmp_path / 'arm'}"]
    train(tmp_path / "run", ["--policy.type=lafp", *data, *TINY, *SHORT])

    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("lerobot_robot_fake.py"),
            f"--policy.path={last_checkpoint(tmp_path / 'run')}",
            "--robot.type=fake",
            "--device=cpu",
            "--fps=10",
            "--duration=2",
            "--play_sounds=false",
            "--return_to_initial_position=false",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    commands = [line for line in done.stdout.splitlines() if line.startswith("command")]
    assert len(commands) in (20, 21), done.stdout[-1000:]
    assert len(set(commands)) > 1
