"""``torchrun`` before ``lerobot-train``: two processes train one policy, and go on where they were interrupted."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .conftest import SHORT, TINY, Data, assert_same_weights

PROCESSES = 2


def train(*arguments: str) -> str:
    """What a training by ``torchrun`` prints, on the CPU."""
    scripts = Path(sys.executable).parent
    command = [scripts / "torchrun", "--standalone", f"--nproc_per_node={PROCESSES}", scripts / "lerobot-train"]
    surroundings = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], env=surroundings, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-3000:]
    return done.stderr


def test_two_processes_train_and_go_on(two_way: Data, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    labels = "--policy.labeled_episodes=[0,1]"
    printed = train(
        *("--policy.type=lafp", *two_way.arguments, labels, *TINY, *SHORT),
        *("--steps=4", "--save_freq=2", f"--output_dir={whole}"),
    )
    assert re.search(rf"Effective batch size: 4 x {PROCESSES} .*= 8", printed)

    shutil.copytree(whole, cut, symlinks=True)
    shutil.rmtree(cut / "checkpoints" / "000004")
    (cut / "checkpoints" / "last").unlink()
    train(
        f"--config_path={cut / 'checkpoints' / '000002' / 'pretrained_model' / 'train_config.json'}",
        *("--resume=true", f"--output_dir={cut}"),
    )
    assert_same_weights(whole, cut)
