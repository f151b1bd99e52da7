"""What ``lafp inspect`` says of a checkpoint, and which faults it finds."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.checkpoint.inspection import inspect
from lerobot_lafp.checkpoint.integrity import digest, seal
from lerobot_lafp.cli.main import main as lafp
from lerobot_lafp.options.constants import CHECKPOINT_FORMAT

from ..conftest import FRONT, STATE
from .conftest import edit_config


def test_a_sound_checkpoint_is_described(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    policy = trained("action_decoder", STATE, FRONT, labeled_episodes=[0, 1, 2], tasks=["push"])
    folder = save(policy)
    assert lafp(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"format     {CHECKPOINT_FORMAT}, made with lerobot_policy_lafp" in said
    assert "trained    latent_action 1, latent_policy 1, action_decoder 1 steps; it acts" in said
    assert "H 4 = L 2 x k 2, 3 executed" in said
    assert "observation.images.front (3, 20, 24), observation.state (2,)" in said
    assert re.search(r"mean \(std\) observation\.state: \S+ \(\S+\), \S+ \(\S+\)\n +action: \S+ \(", said)
    assert said.endswith(f"as saved\n  SHA-256    {digest(folder / 'model.safetensors')}\nsound\n")
    assert lafp(["inspect", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sound"] is True
    assert told["faults"] == []
    assert told["labeled_episodes"] == 3
    moments = policy.action_decoder.moments
    assert told["statistics"]["action"] == {"mean": moments.mean.tolist(), "std": moments.variance.sqrt().tolist()}
    assert set(told["statistics"]) == {STATE, "action"}
    assert told["weights"]["numbers"] == sum(x.numel() for x in policy.state_dict().values())
    low, high, _ = (x.tolist() for x in policy._guard.bounds)
    assert [limit["range"] for limit in told["limits"].values()] == [[*pair] for pair in zip(low, high, strict=True)]


def test_no_network_is_built(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(trained("joint", STATE, FRONT))

    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("a network was built")

    monkeypatch.setattr(LAFPPolicy, "__init__", refuse)
    for layer in (torch.nn.Linear, torch.nn.Conv2d):
        monkeypatch.setattr(layer, "__init__", refuse)
    assert inspect(folder).sound


def test_an_option_that_was_changed_is_told(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(trained("joint"))
    edit_config(folder, n_action_steps=1)
    assert lafp(["inspect", str(folder)]) == 0
    assert "options    changed since it was saved" in capsys.readouterr().out


def test_a_stage_that_does_not_act_is_sound_all_the_same(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert lafp(["inspect", str(save(trained("latent_action", actions=False)))]) == 0
    said = capsys.readouterr().out
    assert "trained    latent_action 1 steps; it does not act yet" in said
    assert "actions" not in said


def _weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")
        seal(folder)

    return edit


def _flip(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda f: edit_config(f, type="act"), "one of policy type act"),
        (lambda f: edit_config(f, type=None), "one of policy type None"),
        (lambda f: edit_config(f, wings=2), "fields that this version does not know: wings"),
        (lambda f: edit_config(f, checkpoint_format=99), "It has format 99"),
        (lambda f: edit_config(f, horizon=5), "`num_latents` (2) must divide `horizon` (5)"),
        (lambda f: edit_config(f, limit_margin=0.2), "fields that this version does not know: limit_margin"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"short"), "model.safetensors cannot be read"),
        (_flip, "is not what was saved with its config.json"),
        (_weights(lambda s: s.pop("stage_steps")), "it holds no `stage_steps`"),
        (_weights(lambda s: s["action_decoder.moments.mean"].fill_(torch.nan)), "the first is action_decoder.moments."),
        (
            _weights(lambda s: [s.pop(name) for name in list(s) if name.startswith("action_decoder.")]),
            "Stage action_decoder was trained for 1 steps, and there is no tensor action_decoder.*",
        ),
        (lambda f: (f / "policy_preprocessor.json").unlink(), "policy_preprocessor.json cannot be read"),
        (lambda f: (f / "policy_postprocessor.json").write_text("[]"), "policy_postprocessor.json cannot be read"),
    ],
)
def test_a_fault_is_named_and_the_status_says_so(
    damage: Callable[[Path], Any],
    fault: str,
    trained: Callable[..., LAFPPolicy],
    save: Callable[[LAFPPolicy], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = save(trained("joint"))
    assert inspect(folder).sound
    damage(folder)
    found = inspect(folder)
    assert fault in "\n".join(found.faults)
    assert not found.sound
    if (folder / "config.json").exists():
        assert lafp(["inspect", str(folder)]) == 1
        assert capsys.readouterr().out.endswith("not sound\n")


def test_a_state_file_that_a_processor_names_must_be_there(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path]
) -> None:
    folder = save(trained("joint"))
    states = list(folder.glob("policy_p*processor_*.safetensors"))
    assert states
    for state in states:
        state.unlink()
    assert len(inspect(folder).faults) == len(states)


def test_without_a_digest_it_is_not_known_whether_it_is_as_saved(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(trained("joint"))
    edit_config(folder, weights_digest=None)
    assert lafp(["inspect", str(folder)]) == 1
    assert "has lost its `weights_digest`" in capsys.readouterr().out
    edit_config(folder, checkpoint_format=None)
    assert lafp(["inspect", str(folder)]) == 0
    assert "saved without a digest" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/at/all", "."])
def test_what_is_no_checkpoint_is_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lafp(["inspect", name]) == 1
    assert "Name a folder that holds config.json" in capsys.readouterr().err
