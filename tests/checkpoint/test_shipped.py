"""The checkpoints in `checkpoints/`: each is sound, and does in its environment what its card says."""

import re
import shlex
from pathlib import Path

import pytest

from lerobot_lafp.checkpoint.card import CARD_NAME
from lerobot_lafp.checkpoint.evaluation import mean_ci95, read_evaluation
from lerobot_lafp.checkpoint.inspection import inspect
from lerobot_lafp.runs.commands import run_command

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path.parent for path in (ROOT / "checkpoints").glob(f"*/{CARD_NAME}"))
#: Row of the card's table -> of what ``lerobot-eval`` writes.
ROWS = {"success": "successes", "mean maximum reward": "max_rewards"}


def test_there_is_one_of_each_task() -> None:
    assert [path.name for path in SHIPPED] == ["pusht_keypoints", "two_way"]


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", SHIPPED, ids=lambda path: path.name)
def test_it_does_what_its_card_says(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inspect(checkpoint).sound
    card = (checkpoint / CARD_NAME).read_text()
    command = re.search(r"^lerobot-eval .*--seed=.*$", card, re.MULTILINE)
    assert command is not None
    name, *arguments = shlex.split(command[0])
    monkeypatch.chdir(ROOT)  # where the card's path holds
    run_command(name, [*arguments, f"--output_dir={tmp_path}"])
    found = read_evaluation(tmp_path)
    for row, key in ROWS.items():
        said = re.search(rf"^\| {row} \| \S+ \[(\S+), (\S+)\] \|$", card, re.MULTILINE)
        assert said is not None
        assert float(said[1]) <= mean_ci95(found[key])["mean"] <= float(said[2]), row
