"""A damaged checkpoint, by the message that `from_pretrained` and LeRobot's own commands end with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from draccus.utils import ParsingError
from safetensors.torch import load_file, save_file

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.checkpoint.integrity import seal
from lerobot_lafp.options.constants import CHECKPOINT_FORMAT
from lerobot_lafp.runs.trainings import last_checkpoint

from .conftest import SHORT, Data, Finished

CONFIG, WEIGHTS = "config.json", "model.safetensors"
BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"


def flip(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(data)


def edited(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Other tensors, of which the configuration says that they are what was saved."""

    def edit(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS)
        seal(folder)

    return edit


def become(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    state.clear()
    state.update(other)


def with_options(**changed: Any) -> Callable[[Path], Any]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**config, **changed}))

    return edit


def lose(pattern: str) -> Callable[[Path], Any]:
    return lambda folder: next(folder.glob(pattern)).unlink()


def write(name: str, content: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(content)


def call_a_program(folder: Path) -> None:
    steps = json.loads((folder / BEFORE).read_text())
    program = {"class": "subprocess.Popen", "config": {"args": ["touch", str(folder.parent / "ran")]}}
    (folder / BEFORE).write_text(json.dumps({**steps, "steps": [program, *steps["steps"]]}))


WRONG_WEIGHTS = {
    "flipped": (flip, f"{WEIGHTS} is not what was saved with its config.json"),
    "cut": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1]),
        f"{WEIGHTS} cannot be read",
    ),
    "empty": (write(WEIGHTS, ""), f"{WEIGHTS} cannot be read"),
    "lost": (lose(WEIGHTS), f"{WEIGHTS} cannot be read"),
    "foreign": (edited(lambda state: become(state, {"x": torch.ones(1)})), f"{WEIGHTS} is not a LAFP checkpoint"),
    "missing": (
        edited(lambda state: state.pop("action_decoder.moments.mean")),
        f"{WEIGHTS} does not fit the configuration: `action_decoder.moments.mean` is only in the configuration",
    ),
    "extra": (
        edited(lambda state: state.update({"latent_policy.more": torch.ones(1)})),
        f"{WEIGHTS} does not fit the configuration: `latent_policy.more` is only in the checkpoint",
    ),
    "misshapen": (
        edited(lambda state: state.update({"action_decoder.moments.mean": torch.ones(3)})),
        f"{WEIGHTS} does not fit the configuration: `action_decoder.moments.mean` has shape (3,) there and (2,) here",
    ),
}
WRONG_OPTIONS = {
    "no config": (lose(CONFIG), f"{CONFIG} not found in"),
    "config cut": (write(CONFIG, "{"), f"{CONFIG} cannot be read"),
    "config of a list": (write(CONFIG, "[]"), f"{CONFIG} cannot be read (it holds no options)"),
    "unknown": (with_options(wings=2), "The fields `wings` are not valid for LAFPConfig. The config.json of "),
    "newer": (
        with_options(checkpoint_format=CHECKPOINT_FORMAT + 1),
        f"has format {CHECKPOINT_FORMAT + 1}, and the install",
    ),
    "no digest": (with_options(weights_digest=None), f"{CONFIG} has lost its `weights_digest`"),
}
WRONG_PROCESSORS = {
    "no preprocessor": (lose(BEFORE), f"{BEFORE} cannot be read"),
    "no postprocessor": (lose(AFTER), f"{AFTER} cannot be read"),
    "no statistics": (lose("policy_preprocessor_step*.safetensors"), f"which {BEFORE} names, cannot be read"),
    "a program": (call_a_program, f"{BEFORE} names subprocess.Popen, which is no processor step"),
}
DAMAGES = {**WRONG_WEIGHTS, **WRONG_OPTIONS, **WRONG_PROCESSORS}


@pytest.fixture
def damaged(request: pytest.FixtureRequest, whole: Path, tmp_path: Path) -> tuple[Path, str]:
    """A checkpoint with the damage of that name, and what is to be said of it."""
    damage, says = DAMAGES[request.param]
    shutil.copytree(whole, tmp_path / "damaged")
    damage(tmp_path / "damaged")
    return tmp_path / "damaged", says


@pytest.fixture(scope="module")
def whole(stages: Path) -> Path:
    return last_checkpoint(stages / "action_decoder")


@pytest.mark.parametrize("damaged", DAMAGES, indirect=True)
def test_it_is_not_loaded(damaged: tuple[Path, str], caplog: pytest.LogCaptureFixture) -> None:
    folder, says = damaged
    with pytest.raises((ValueError, OSError, ParsingError)) as raised:
        LAFPPolicy.from_pretrained(folder)
    assert says in f"{raised.value} {caplog.text}"
    assert not (folder.parent / "ran").exists()


@pytest.mark.parametrize("command", ["lerobot-eval", "lerobot-train"])
@pytest.mark.parametrize("damaged", DAMAGES, indirect=True)
def test_it_is_refused(
    command: str, damaged: tuple[Path, str], two_way: Data, run: Callable[..., Finished], tmp_path: Path
) -> None:
    folder, says = damaged
    options = {
        "lerobot-eval": ["--env.type=lafp_two_way", "--env.obs_type=pixels_agent_pos", "--eval.n_episodes=1"],
        "lerobot-train": [*two_way.arguments, *SHORT, "--policy.push_to_hub=false"],
    }[command]
    done = run(command, f"--policy.path={folder}", *options, f"--output_dir={tmp_path / 'run'}")
    assert not done.ok
    assert says in done.output
    assert not (folder.parent / "ran").exists()
    assert not list((tmp_path / "run").rglob("*.safetensors"))
