"""Options of older versions: read where a file has them, and refused with their successor where somebody types them."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import draccus
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.configs import PreTrainedConfig
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig
from lerobot.optim.schedulers import DiffuserSchedulerConfig
from safetensors.torch import load_file
from torch import Tensor

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.lerobot_patches import refuse_old_options_of_the_command_line
from lerobot_lafp.options.constants import CHECKPOINT_FORMAT
from lerobot_lafp.options.fields import named_fields, read
from lerobot_lafp.options.migration import GONE, migrate_config, successor

from ..building import lafp

FROZEN = Path(__file__).parents[1] / "checkpoint" / "frozen" / "options"
#: Checkpoints of an older version; together they have every option off its default.
CHECKPOINTS = sorted(file.parent for file in FROZEN.glob("*/config.json"))
DEFAULTS: dict[str, Any] = json.loads((FROZEN / "defaults.json").read_text())
#: LeRobot's own fields, which a checkpoint cannot vary.
OF_LEROBOT = {"device", "use_amp", "use_peft", "pretrained_path", "pretrained_revision", "normalization_mapping"}
NOW = {each.name for each in named_fields(LAFPConfig)}
TASK = "push the block"


def options_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


# --- What is frozen ------------------------------------------------------------------------------------------


def test_every_old_option_is_off_its_default_in_some_checkpoint() -> None:
    changed = {
        name for folder in CHECKPOINTS for name, value in options_of(folder).items() if value != DEFAULTS.get(name)
    }
    assert set(DEFAULTS) - changed == OF_LEROBOT


def test_every_old_option_is_one_still_or_has_a_successor() -> None:
    of_lerobot = {name for name in DEFAULTS if name in PreTrainedConfig.__dataclass_fields__} | OF_LEROBOT
    assert set(DEFAULTS) - of_lerobot - NOW - set(GONE) == set()
    assert {name for name in GONE if name in NOW} == set(), "none of them is an option of that name still"


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_it_acts_as_it_did_and_is_saved_as_the_newest_format(folder: Path, tmp_path: Path) -> None:
    policy = LAFPPolicy.from_pretrained(folder).eval()
    expected = load_file(folder / "expected.safetensors")
    did = acted(policy, expected)
    for name, actions in did.items():
        torch.testing.assert_close(actions, expected[f"{name}.action"], rtol=0, atol=1e-6, msg=lambda m, n=name: n + m)

    policy.save_pretrained(tmp_path)
    saved = options_of(tmp_path)
    assert saved["checkpoint_format"] == CHECKPOINT_FORMAT == 5
    assert set(saved) & set(GONE) == {"limits"}, "the name of a group now"
    assert isinstance(saved["limits"], dict)
    assert saved["facts"]["action_dim"] == 2
    again = LAFPPolicy.from_pretrained(tmp_path).eval()
    assert draccus.encode(again.config) == draccus.encode(policy.config)
    for name, actions in acted(again, expected).items():
        assert torch.equal(actions, did[name]), name


def acted(policy: LAFPPolicy, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """What it does where ``expected`` says what it did: a chunk of two samples, and one command after the other."""
    seen = {
        kind: {
            name.removeprefix(f"{kind}."): x for name, x in expected.items() if name.startswith(f"{kind}.observation.")
        }
        for kind in ("chunk", "step")
    }
    policy.reset()
    count = len(expected["chunk.noise"])
    chunk = policy.predict_action_chunk({**seen["chunk"], "task": [TASK] * count}, noise=expected["chunk.noise"])
    policy.reset()
    steps = [
        policy.select_action({**{k: x[i : i + 1] for k, x in seen["step"].items()}, "task": [TASK]}, noise=noise[None])
        for i, noise in enumerate(expected["step.noise"])
    ]
    return {"chunk": chunk, "step": torch.cat(steps)}


# --- What it is brought to -----------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_every_value_that_has_a_place_is_there(folder: Path) -> None:
    saved = options_of(folder)
    now = migrate_config(saved)
    for name, gone in GONE.items():
        if name in saved and gone.to is not None:
            assert read(now, gone.to) == gone.turned(saved[name]), name
    for name in NOW & set(saved):
        if name not in ("decoder_input", "latent_tokens"):
            assert now[name] == saved[name], name
    config = PreTrainedConfig.from_pretrained(folder)
    assert isinstance(config, LAFPConfig)
    assert config.horizon == saved["horizon"]
    assert config.frame_offset == saved["frame_offset"]
    assert config.bottleneck == saved["bottleneck"]
    assert config.facts.fps == saved["fps"]


@pytest.mark.parametrize(
    ("old", "name", "value"),
    [
        ({"bottleneck": "vq", "codebook_size": 32}, "codebook.size", 32),
        ({"bottleneck": "vq"}, "codebook.size", 64),
        ({"bottleneck": "continuous", "codebook_size": 32}, "codebook.size", 0),
        ({"idm_network": "transformer", "latent_tokens": 2}, "latent_tokens", 2),
        ({"idm_network": "transformer"}, "latent_tokens", 1),
        ({"idm_network": "mlp", "latent_tokens": 1}, "latent_tokens", 0),
        ({"decoder_state": False, "decoder_input": "direct"}, "decoder_input", "samples"),
        ({"decoder_state": False, "decoder_input": "none"}, "decoder_input", "action_head"),
        ({"decoder_state": False, "decoder_input": "interpolation"}, "decoder_input", "interpolation"),
        ({"decoder_state": True}, "decoder_observes", "state"),
        ({"decoder_state": False, "decoder_observation": False}, "decoder_observes", "nothing"),
        ({"decoder_state": True, "decoder_observation": True}, "decoder_observes", "tokens"),
        ({"interpolation_tau_min": 0.1, "interpolation_tau_max": 0.4}, "interpolation_tau", [0.1, 0.4]),
        ({"interpolation_tau_min": 0.1}, "interpolation_tau", [0.1, 1.0]),
        ({"motion_target": "moments"}, "motion.target", "centroid"),
        ({"motion_target": "both"}, "motion.target", "both"),
        ({"motion_weight": 0.2}, "motion.weight", 0.2),
        ({"motion_weight": 0.2}, "facts.motion_weight", 0.2),
        ({"limits": False}, "limits.enabled", False),
        ({"task_encoder": "words"}, "language", "words"),
        ({"task_encoder": "words"}, "facts.task_encoder", "words"),
        ({"task_encoder": "auto"}, "language", "auto"),
        ({"task_encoder": "auto"}, "facts.task_encoder", None),
        ({"task_encoder": "model", "text_model": "me/bert"}, "language", "me/bert"),
        ({"fps": 10.0}, "language", "none"),  # of a version that read no task
        ({"fps": 10.0}, "optimizer_lr", 5e-4),
        ({"fps": 10.0, "optimizer_lr": 0.1}, "optimizer_lr", 0.1),
        ({"action_names": ["a"]}, "facts.action_names", ["a"]),
    ],
)
def test_what_an_old_option_comes_to(old: dict[str, Any], name: str, value: Any) -> None:
    assert read(migrate_config(old), name) == value


_CHANGED = st.dictionaries(
    st.sampled_from(sorted({*DEFAULTS, *GONE} - {"checkpoint_format", "decoder_input"})),
    st.one_of(st.none(), st.booleans(), st.integers(0, 9), st.floats(0, 9), st.text(max_size=4)),
    max_size=6,
)


@settings(derandomize=True, database=None)
@given(
    base=st.sampled_from([{}, DEFAULTS, *map(options_of, CHECKPOINTS)]),
    changed=_CHANGED,
    written=st.sampled_from([None, 0, 1, 2, "2", []]),
    dropped=st.data(),
)
def test_what_was_brought_to_the_newest_format_stays(
    base: dict[str, Any], changed: dict[str, Any], written: Any, dropped: st.DataObject
) -> None:
    old = {**base, **changed, "checkpoint_format": written}
    for name in dropped.draw(st.lists(st.sampled_from(sorted(old)), max_size=9, unique=True)):
        del old[name]
    before = deepcopy(old)
    once = migrate_config(old)
    assert migrate_config(once) == once
    assert old == before, "what was handed over is left as it is"
    assert not {name for name in once if name in GONE and name != "limits"}


@settings(derandomize=True, database=None)
@given(
    options=st.fixed_dictionaries(
        {},
        optional={
            "stage": st.sampled_from(["joint", "latent_action", "latent_policy", "action_decoder"]),
            "latent_tokens": st.sampled_from([0, 1, 2, 4]),
            "decoder_input": st.sampled_from(["idm", "interpolation", "samples"]),
            "decoder_observes": st.sampled_from(["nothing", "state", "tokens"]),
            "language": st.sampled_from(["auto", "words", "none", "me/bert"]),
            "codebook__size": st.integers(0, 64),
            "motion__weight": st.one_of(st.none(), st.floats(0, 1)),
            "limits__enabled": st.booleans(),
            "fps": st.one_of(st.none(), st.floats(1, 100)),
            "action_names": st.one_of(st.none(), st.lists(st.text(max_size=3))),
            "checkpoint_format": st.sampled_from([None, CHECKPOINT_FORMAT, CHECKPOINT_FORMAT + 1]),
        },
    )
)
def test_options_of_this_version_are_left_as_they_are(options: dict[str, Any]) -> None:
    written = options.pop("checkpoint_format", None)
    config = lafp(device="cpu", **options)
    config.checkpoint_format = written
    encoded = json.loads(json.dumps(draccus.encode(config)))
    assert migrate_config(encoded) == encoded


# --- What somebody types -------------------------------------------------------------------------------------


def typed(name: str) -> str:
    """An old option, as somebody types it; ``limits`` is the name of a group now, and was true or false."""
    return f"{name}={'false' if name == 'limits' else 'x'}"


def mend(name: str) -> str:
    return f"`{name}` is an option of an older lerobot_policy_lafp. In its place: {GONE[name].now}."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    lafp(device="cpu").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", GONE)
def test_an_old_option_of_the_command_line_is_refused_with_its_successor(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, _, value = typed(name).partition("=")
    for words in ([f"--policy.{option}={value}"], [f"--policy.{option}", value]):
        for policy_type in (["--policy.type=lafp"], ["--policy.type", "lafp"]):
            monkeypatch.setattr(sys, "argv", ["lerobot-train", *policy_type, *words])
            with pytest.raises(SystemExit, match=re.escape(mend(name))):
                refuse_old_options_of_the_command_line()
        monkeypatch.setattr(sys, "argv", ["lerobot-train", "--policy.type=act", *words])
        refuse_old_options_of_the_command_line()


def test_options_of_this_version_pass_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"--policy.{each.name}=x" for each in named_fields(LAFPConfig) if each.is_option]
    monkeypatch.setattr(sys, "argv", ["lerobot-train", "--policy.type=lafp", *words, "--steps=3", "--fps=3"])
    refuse_old_options_of_the_command_line()


@pytest.mark.parametrize("name", GONE)
def test_an_old_option_beside_a_checkpoint_is_refused_with_its_successor(name: str, checkpoint: Path) -> None:
    for folder in (checkpoint, CHECKPOINTS[0]):
        with pytest.raises(ValueError, match=re.escape(mend(name))):
            PreTrainedConfig.from_pretrained(folder, cli_overrides=[f"--{typed(name)}"])


@pytest.mark.parametrize("file", ["stage.yaml", "stage.json"])
@pytest.mark.parametrize("name", GONE)
def test_an_old_option_in_a_file_is_refused_with_its_successor_and_the_file(
    name: str, file: str | Path, tmp_path: Path
) -> None:
    file = tmp_path / file
    options = {"dataset": {"repo_id": "me/pick"}, "policy": {"type": "lafp", name: False if name == "limits" else 1}}
    file.write_text(json.dumps(options) if file.suffix == ".json" else yaml.safe_dump(options))
    with pytest.raises(ValueError, match=re.escape(f"{file}: {mend(name)}")):
        TrainPipelineConfig.from_pretrained(file)


def test_a_file_of_this_version_is_read(tmp_path: Path) -> None:
    file = tmp_path / "stage.yaml"
    policy = {"type": "lafp", "device": "cpu", "limits": {"margin": 0.3}, "backbone": {"encoder": "resnet18"}}
    file.write_text(yaml.safe_dump({"dataset": {"repo_id": "me/pick"}, "policy": policy}))
    config = TrainPipelineConfig.from_pretrained(file).policy
    assert isinstance(config, LAFPConfig)
    assert (config.limits.margin, config.backbone.encoder) == (0.3, "resnet18")


def named_by(mend: str) -> Iterator[str]:
    yield from re.findall(r"--policy\.([a-z_]+(?:\.[a-z_]+)*)", mend)


@pytest.mark.parametrize("name", GONE)
def test_a_successor_is_an_option_that_a_person_sets(name: str) -> None:
    options = {each.name for each in named_fields(LAFPConfig) if each.is_option}
    assert set(named_by(GONE[name].now)) <= options
    assert GONE[name].now.startswith("nothing: ") or "--" in GONE[name].now
    if GONE[name].to is not None:
        assert GONE[name].to in NOW


@pytest.mark.parametrize("word", ["--policy.limits.margin=0.1", "limits={margin: 0.1}", "limits", "horizon=3", "typo"])
def test_what_is_no_old_option_has_no_successor(word: str) -> None:
    assert successor(word) is None


# --- Runs of older versions ----------------------------------------------------------------------------------


@pytest.fixture
def old_run(tmp_path: Path) -> Callable[..., Path]:
    """``old_run(checkpoint, shares)``: ``train_config.json`` of a run of an older version."""

    def write(checkpoint: str, shares: list[float], **options: Any) -> Path:
        policy = options_of(FROZEN / checkpoint)
        config = draccus.parse(TrainPipelineConfig, args=["--dataset.repo_id=me/pick", "--policy.type=act"])
        run = json.loads(json.dumps(draccus.encode(config)))
        run["policy"] = {name: value for name, value in policy.items() if not name.endswith("_digest")}
        run["optimizer"] = {"type": "adamw", "lr": 0.01, "weight_decay": 0.1, "grad_clip_norm": 1.0}
        run["scheduler"] = {"type": "lafp_group_cosine", "num_warmup_steps": 7, "shares": shares}
        (tmp_path / TRAIN_CONFIG_NAME).write_text(json.dumps({**run, **options}))
        return tmp_path

    return write


@pytest.mark.parametrize(("checkpoint", "shares"), [("direct", [1.0]), ("interpolation", [0.4, 1.0])])
def test_an_old_run_is_read(checkpoint: str, shares: list[float], old_run: Callable[..., Path]) -> None:
    folder = old_run(checkpoint, shares)
    for name in (folder, folder / TRAIN_CONFIG_NAME):
        run = TrainPipelineConfig.from_pretrained(name)
        assert run.policy == PreTrainedConfig.from_pretrained(FROZEN / checkpoint).but(
            weights_digest=None, options_digest=None
        )
        assert run.scheduler == DiffuserSchedulerConfig(name="cosine", num_warmup_steps=7)
        assert run.optimizer.weight_decay == 0.1


@pytest.mark.parametrize(("checkpoint", "shares"), [("direct", [1.0]), ("interpolation", [0.4, 1.0])])
@pytest.mark.parametrize("words", [["--resume=true"], ["--steps=9", "--resume", "true"], None])
def test_an_old_run_is_not_resumed(
    checkpoint: str, shares: list[float], words: list[str] | None, old_run: Callable[..., Path]
) -> None:
    """Stage by stage or joint, by the command line or by the file of one that was resumed before."""
    folder = old_run(checkpoint, shares, resume=words is None)
    mend = re.escape(f"--policy.path={folder}")
    with pytest.raises(ValueError, match=rf"begun by an older lerobot_policy_lafp.*Start a new run.*{mend}.*0\.1\.0"):
        TrainPipelineConfig.from_pretrained(folder / TRAIN_CONFIG_NAME, cli_args=words or [])


def test_a_run_of_this_version_is_resumed(tmp_path: Path) -> None:
    config = draccus.parse(
        TrainPipelineConfig, args=["--dataset.repo_id=me/pick", "--policy.type=lafp", "--policy.device=cpu"]
    )
    config.scheduler = config.policy.get_scheduler_preset()
    (tmp_path / TRAIN_CONFIG_NAME).write_text(json.dumps(draccus.encode(config)))
    run = TrainPipelineConfig.from_pretrained(tmp_path, cli_args=["--resume=true"])
    assert run.resume
    assert run.scheduler == config.scheduler


def test_runs_of_other_policies_are_left_as_they_are(tmp_path: Path) -> None:
    config = draccus.parse(TrainPipelineConfig, args=["--dataset.repo_id=me/pick", "--policy.type=act"])
    encoded = draccus.encode(config)
    (tmp_path / TRAIN_CONFIG_NAME).write_text(json.dumps(encoded))
    assert draccus.encode(TrainPipelineConfig.from_pretrained(tmp_path)) == encoded
