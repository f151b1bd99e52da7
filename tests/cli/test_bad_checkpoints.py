"""A damaged checkpoint, by the message that LeRobot's own commands end with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lerobot_lafp.checkpoint.integrity import seal
from lerobot_lafp.runs import last_checkpoint

from .conftest import SHORT, Data, Finished


def flip(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def cut(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])


def lose_a_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state.pop("action_decoder.moments.mean")
    save_file(state, folder / "model.safetensors")
    seal(folder)


def add_a_field(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "wings": 2}))


DAMAGES = [
    (flip, "is not what was saved with its config.json"),
    (cut, "model.safetensors cannot be read"),
    (lose_a_tensor, "`action_decoder.moments.mean` is only in the configuration"),
    (add_a_field, "The fields `wings` are not valid for LAFPConfig. The config.json of "),
    (lambda folder: (folder / "config.json").unlink(), "config.json not found in"),
    (lambda folder: (folder / "policy_preprocessor.json").unlink(), "policy_preprocessor.json"),
]


@pytest.fixture(scope="module")
def whole(stages: Path) -> Path:
    return last_checkpoint(stages / "action_decoder")


@pytest.mark.parametrize("command", ["lerobot-eval", "lerobot-train"])
@pytest.mark.parametrize(("damage", "says"), DAMAGES)
def test_it_is_refused(
    command: str,
    damage: Callable[[Path], None],
    says: str,
    whole: Path,
    two_way: Data,
    run: Callable[..., Finished],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(whole, folder)
    damage(folder)
    options = {
        "lerobot-eval": ["--env.type=lafp_two_way", "--env.obs_type=pixels_agent_pos", "--eval.n_episodes=1"],
        "lerobot-train": [*two_way.arguments, *SHORT, "--policy.push_to_hub=false"],
    }[command]
    done = run(command, f"--policy.path={folder}", *options, f"--output_dir={tmp_path / 'run'}")
    assert not done.ok
    assert says in done.output
    assert not list((tmp_path / "run").rglob("*.safetensors"))
