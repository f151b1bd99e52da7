"""``lafp distill``: a checkpoint that took ten steps acts in one call."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.checkpoint.inspection import inspect
from lerobot_lafp.cli.main import main
from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations

from ..conftest import STATE

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "two_way"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The shipped policy of the two-way task."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "checkpoint"))


def test_it_adds_what_acts_in_one_call(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_demonstrations(tmp_path / "demonstrations", 2, seed=5)
    before = LAFPPolicy.from_pretrained(checkpoint).state_dict()
    assert "flow, K 10;" in "\n".join(inspect(checkpoint).lines())
    dataset = ["--dataset.repo_id=local/two_way", f"--dataset.root={tmp_path / 'demonstrations'}"]
    assert main(["distill", str(checkpoint), *dataset, "--steps=5"]) == 0
    assert "acts in one call, off its ten steps by" in capsys.readouterr().out
    policy = LAFPPolicy.from_pretrained(checkpoint)
    assert policy.stages.acts_in_one_call
    found = inspect(checkpoint)
    assert found.sound
    assert "flow, in one call, learnt from K 10" in "\n".join(found.lines())
    after = policy.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in before.items() if not name.startswith("one_call."))
    assert json.loads((checkpoint / "train_config.json").read_text()) == json.loads(
        (SHIPPED / "train_config.json").read_text()
    )
    policy.one_call.steps.zero_()
    policy.save_pretrained(checkpoint)
    assert "its student is older" in "\n".join(inspect(checkpoint).lines())


def test_without_a_dataset_it_says_which_it_looked_for(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "train_config.json").unlink()
    assert main(["distill", str(checkpoint)]) == 1
    assert "add --dataset.repo_id" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "options", "words"),
    [("latent_action", {}, "train stage latent_policy first"), ("joint", {"policy_head": "bc"}, "takes one call")],
)
def test_where_there_is_no_flow_it_says_why(
    stage: str,
    options: dict[str, str],
    words: str,
    trained: Callable[..., LAFPPolicy],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained(stage, STATE, **options).save_pretrained(tmp_path)
    assert main(["distill", str(tmp_path)]) == 1
    assert words in capsys.readouterr().err


def test_a_repository_is_to_be_downloaded_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "somebody/lafp_pusht"]) == 1
    assert "hf download somebody/lafp_pusht" in capsys.readouterr().err
