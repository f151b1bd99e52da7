"""What ``lafp inspect`` says of a checkpoint, and which faults it finds."""

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig
from lerobot.processor import ProcessorStepRegistry
from lerobot.utils import constants
from safetensors.torch import load_file, save_file

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.checkpoint import facts as of_facts
from lerobot_lafp.checkpoint.files import PROCESSORS, TRAIN_CONFIG, TYPE
from lerobot_lafp.checkpoint.history import OF_THE_RUN
from lerobot_lafp.checkpoint.inspection import LEROBOTS_FIELDS, inspect
from lerobot_lafp.checkpoint.integrity import digest, seal
from lerobot_lafp.checkpoint.processors import OURS
from lerobot_lafp.checkpoint.tensors import read_tensors
from lerobot_lafp.cli.main import main as lafp
from lerobot_lafp.options.constants import CHECKPOINT_FORMAT
from lerobot_lafp.options.policy import PolicyOptions

from ..conftest import ENV_STATE, FRONT, STATE, WRIST
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
    assert told["statistics"]["action"]["mean"] == moments.mean.tolist()
    assert told["statistics"]["action"]["std"] == pytest.approx(moments.variance.sqrt().tolist())
    assert set(told["statistics"]) == {STATE, "action"}
    assert told["weights"]["numbers"] == sum(x.numel() for x in policy.state_dict().values())
    assert told["limits"] == as_told(policy)


def test_what_the_dataset_chose_is_told_with_its_reason(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    policy = trained("latent_action", FRONT)
    policy.config.facts.chosen = {"num_latents": "each covers 0.2 s"}
    folder = save(policy)
    lafp(["inspect", str(folder)])
    assert f"by dataset num_latents {policy.config.num_latents}: each covers 0.2 s\n" in capsys.readouterr().out
    lafp(["inspect", str(folder), "--json"])
    told = json.loads(capsys.readouterr().out)["chosen"]
    assert told == {"num_latents": {"value": policy.config.num_latents, "reason": "each covers 0.2 s"}}


def as_told(policy: LAFPPolicy) -> dict[str, Any]:
    """The limits of the guard that acts."""
    low, high, change = (x.tolist() for x in policy._guard.bounds)
    return {
        name: {"range": [a, b], "change": most if math.isfinite(most) else None}
        for name, a, b, most in zip(policy._guard.names, low, high, change, strict=True)
    }


@pytest.mark.parametrize(
    "options",
    [
        {"limits__range": {"action 1": [-0.5, 0.25]}, "limits__change": None},
        {"limits__change_per_s": {"lift": 3.3}, "fps": 30.0, "action_names": ["pan", "lift"], "limits__margin": 1 / 3},
        {"names": {"action": ["x", "y"]}, "action_names": ["pan", "lift"], "relative_actions": True},
        {"decoder_observes": "tokens", "limits__change": 0.7},
    ],
)
def test_limits_are_those_that_a_policy_acts_by(
    options: dict[str, Any], trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path]
) -> None:
    policy = trained("joint", STATE, FRONT, **options)
    found = inspect(save(policy))
    assert found.faults == ()
    assert found.facts["limits"] == as_told(policy)


def test_limits_that_name_no_action_are_a_fault(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path]
) -> None:
    folder = save(trained("joint"))
    saved = json.loads((folder / "config.json").read_text())
    edit_config(folder, limits={**saved["limits"], "range": {"wing": [0, 1]}})
    assert inspect(folder).faults == (
        "config.json does not fit: `limits.range` names 'wing', which is no action of this policy: action 0, action 1.",
    )


def test_observations_are_those_of_the_configuration(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path]
) -> None:
    """A state that the decoder alone reads comes last; cameras in the order in which the networks read them."""
    policy = trained("joint", FRONT, WRIST, STATE, ENV_STATE)
    folder = save(policy)
    saved = json.loads((folder / "config.json").read_text())
    latent, order = [WRIST, FRONT, ENV_STATE], [WRIST, FRONT, STATE, ENV_STATE]
    edit_config(folder, facts={**saved["facts"], "latent_features": latent, "feature_order": order})
    config, facts = LAFPConfig.from_pretrained(folder), inspect(folder).facts
    assert list(facts["cameras"].items()) == [(key, list(shape)) for key, shape in config.camera_shapes.items()]
    states = {**config.vector_shapes, **config.decoder_vector_shapes}
    assert list(facts["states"].items()) == [(key, list(shape)) for key, shape in states.items()]
    assert list(facts["cameras"]) == [WRIST, FRONT]
    assert list(facts["states"]) == [ENV_STATE, STATE]


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


def _names_step(step: dict[str, Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / "policy_preprocessor.json").write_text(json.dumps({"steps": [{**step, "config": {}}]}))

    return edit


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
        (lambda f: edit_config(f, horizon="many"), "`horizon`: Couldn't parse 'many' into an int"),
        (lambda f: edit_config(f, limits={"wings": 2}), "`limits`: The fields `wings` are not valid for Limits"),
        (lambda f: edit_config(f, input_features={STATE: 3}), "does not hold valid options"),
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
        (_names_step({"registry_name": "wings"}), "names wings, which is no processor step that is installed here"),
        (_names_step({"class": "os.system"}), "names os.system, which is no processor step that is installed here"),
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


def test_steps_of_lerobots_that_a_policy_is_not_saved_with_are_sound(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path]
) -> None:
    folder = save(trained("joint"))
    assert "tokenizer_processor" not in OURS
    _names_step({"registry_name": "tokenizer_processor"})(folder)
    assert inspect(folder).sound


def test_numbers_of_half_the_size_are_read(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path], tmp_path: Path
) -> None:
    x = torch.randn(3, 5)
    save_file({"x": x.bfloat16(), "y": x.half(), "n": torch.tensor(7)}, tmp_path / "x.safetensors")
    read = read_tensors(tmp_path / "x.safetensors")
    assert read["x"].tolist() == x.bfloat16().float().tolist()
    assert read["y"].tolist() == x.half().tolist()
    assert int(read["n"]) == 7
    folder = save(trained("joint"))
    _weights(lambda s: s.update({"action_decoder.moments.mean": torch.full((2,), torch.nan).bfloat16()}))(folder)
    assert "the first is action_decoder.moments.mean" in "\n".join(inspect(folder).faults)


def test_what_is_known_without_lerobot_is_as_lerobot_has_it(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path]
) -> None:
    """Constants that are written down, so that neither LeRobot nor torch has to be imported."""
    folder = save(trained("joint"))
    saved = [step for name in PROCESSORS for step in json.loads((folder / name).read_text())["steps"]]
    assert {step["registry_name"] for step in saved} == OURS
    assert set(ProcessorStepRegistry.list()) >= OURS
    names = (constants.POLICY_PREPROCESSOR_DEFAULT_NAME, constants.POLICY_POSTPROCESSOR_DEFAULT_NAME)
    assert tuple(f"{name}.json" for name in names) == PROCESSORS
    assert (constants.ACTION, constants.OBS_STATE) == (of_facts.ACTION, of_facts.OBS_STATE)
    assert (TRAIN_CONFIG_NAME, LAFPConfig.get_choice_name(LAFPConfig)) == (TRAIN_CONFIG, TYPE)
    assert {"type", *(field.name for field in fields(LAFPConfig))} == LEROBOTS_FIELDS | {
        field.name for field in fields(PolicyOptions)
    }
    assert {
        field.name: field.default for field in fields(TrainPipelineConfig) if field.name in OF_THE_RUN
    } == OF_THE_RUN


@pytest.mark.parametrize("command", ["inspect", "card"])
def test_neither_torch_nor_lerobot_is_imported(command: str, tmp_path: Path) -> None:
    shipped, folder = Path(__file__).parents[2] / "checkpoints" / "two_way", tmp_path / "checkpoint"
    shutil.copytree(shipped, folder)
    program = f"""
import sys
from lerobot_lafp.cli.main import main
assert main([{command!r}, {str(folder)!r}, *{["--overwrite"] if command == "card" else []!r}]) == 0
print(*{{"torch", "torchvision", "lerobot", "matplotlib"}} & sys.modules.keys(), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


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
