"""The commands on a model card, typed by somebody who has nothing else."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from lerobot_lafp.cli.main import main as lafp
from lerobot_lafp.runs.trainings import last_checkpoint

from .conftest import Data, Finished, assert_same_weights


def test_they_train_the_same_weights(stages: Path, two_way: Data, run: Callable[..., Finished], tmp_path: Path) -> None:
    carded = tmp_path / "checkpoint"
    shutil.copytree(last_checkpoint(stages / "action_decoder"), carded)
    assert lafp(["card", str(carded)]) == 0
    (block,) = re.findall(r"```bash\n(lerobot-train .*?)```", (carded / "README.md").read_text(), re.DOTALL)
    commands = [shlex.split(line) for line in block.replace("\\\n", "").splitlines()]
    assert [name for name, *_ in commands] == ["lerobot-train"] * 3
    here = [f"--dataset.root={two_way.root}", "--policy.device=cpu", "--num_workers=0", "--env_eval_freq=0"]
    for name, *options in commands:
        done = run(name, *(option.replace("outputs/", f"{tmp_path}/") for option in options), *here)
        assert done.ok, done.output[-2000:]
    for stage in ("latent_action", "latent_policy", "action_decoder"):
        assert_same_weights(stages / stage, tmp_path / stage)
