"""A checkpoint is what was saved, or it is refused in words."""

import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.checkpoint import integrity
from lerobot_lafp.checkpoint.card import CARD_NAME
from lerobot_lafp.checkpoint.integrity import digest
from lerobot_lafp.options.constants import CHECKPOINT_FORMAT

from ..building import lafp
from ..conftest import ACTION_DIM, FEATURES, STATE, TINY
from .conftest import edit_config

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@pytest.fixture
def saved(make_policy: Callable[..., LAFPPolicy], tmp_path: Path) -> Path:
    """A checkpoint of random weights."""
    make_policy(STATE).save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_a_checkpoint_says_what_it_is(saved: Path) -> None:
    config = json.loads((saved / CONFIG).read_text())
    assert config["checkpoint_format"] == CHECKPOINT_FORMAT
    assert config["weights_digest"] == digest(saved / WEIGHTS)
    assert set(config["made_with"]) == {"lerobot_policy_lafp", "lerobot", "torch"}
    assert sorted(f.name for f in saved.iterdir()) == [CARD_NAME, CONFIG, WEIGHTS]


def test_what_it_says_is_of_the_file_and_not_of_the_policy_that_goes_on(saved: Path) -> None:
    policy = LAFPPolicy.from_pretrained(saved)
    assert policy.config.weights_digest is policy.config.checkpoint_format is policy.config.made_with is None
    policy.stage_steps += 1
    policy.save_pretrained(saved)
    assert LAFPPolicy.from_pretrained(saved).stage_steps.tolist() == [1, 1, 1]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One checkpoint for all examples of a property: its folder, and its weights."""
    folder = tmp_path_factory.mktemp("kept")
    torch.manual_seed(0)
    config = lafp(**TINY)
    config.input_features = {STATE: FEATURES[STATE]}
    config.output_features = {ACTION: PolicyFeature(FeatureType.ACTION, (ACTION_DIM,))}
    LAFPPolicy(config).save_pretrained(folder)
    return {"folder": folder, "weights": (folder / WEIGHTS).read_bytes()}


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_no_damage_to_the_weights_is_loaded(where: float, bit: int, cut: bool, kept: dict[str, Any]) -> None:
    data = bytearray(kept["weights"])
    at = int(where * len(data))
    data[at] ^= 1 << bit
    file = kept["folder"] / WEIGHTS
    file.write_bytes(data[:at] if cut else data)
    with pytest.raises(
        ValueError, match=r"model\.safetensors (cannot be read|is not what was saved).*[Cc]opy or download"
    ):
        LAFPPolicy.from_pretrained(kept["folder"])


@settings(max_examples=60, deadline=None, derandomize=True)
@example(where=0.953125, to=ord(" "))  # in the versions it was made with
@example(where=0.026, to=ord(","))  # in the name of a feature
@given(where=st.floats(0, 1, exclude_max=True), to=st.integers(0, 255))
def test_damage_to_the_configuration_is_an_error_or_another_option(
    where: float, to: int, kept: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It holds options that people change; but never is damage a crash that names no cause, or passes in silence."""
    folder = tmp_path_factory.mktemp("config")
    (folder / WEIGHTS).write_bytes(kept["weights"])
    data = bytearray((kept["folder"] / CONFIG).read_bytes())
    data[int(where * len(data))] = to
    (folder / CONFIG).write_bytes(data)
    told: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("lerobot_lafp").addHandler(listener)
    try:
        LAFPPolicy.from_pretrained(folder)
    except Exception as error:
        told += [str(error), str(error.__cause__)]
        assert re.search(r"config\.json|LAFPConfig|`[\w.]+`", "\n".join(told))
    else:
        same = json.loads(data) == json.loads((kept["folder"] / CONFIG).read_text())
        assert same or "is not as it was saved" in "\n".join(told)
    finally:
        logging.getLogger("lerobot_lafp").removeHandler(listener)


def test_an_option_changed_by_hand_is_warned_of(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    LAFPPolicy.from_pretrained(saved)
    assert "is not as it was saved" not in caplog.text
    edit_config(saved, n_action_steps=1)
    assert LAFPPolicy.from_pretrained(saved).config.n_action_steps == 1
    assert "config.json is not as it was saved: options of it were changed" in caplog.text


def test_tensors_go_through_every_migration(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(integrity._MIGRATIONS) == CHECKPOINT_FORMAT
    passed: list[int] = []
    migrations = tuple(lambda state, i=i: passed.append(i) for i in range(CHECKPOINT_FORMAT))
    monkeypatch.setattr(integrity, "_MIGRATIONS", migrations)
    LAFPPolicy.from_pretrained(saved)
    assert passed == []
    edit_config(saved, checkpoint_format=None, weights_digest=None, options_digest=None, made_with=None)
    LAFPPolicy.from_pretrained(saved)
    assert passed == list(range(CHECKPOINT_FORMAT))


def test_weights_of_another_checkpoint_are_refused(
    saved: Path, make_policy: Callable[..., LAFPPolicy], tmp_path: Path
) -> None:
    other = make_policy(STATE)
    other.stage_steps += 1
    other.save_pretrained(tmp_path / "other")
    os.replace(tmp_path / "other" / WEIGHTS, saved / WEIGHTS)
    with pytest.raises(ValueError, match="is not what was saved with its config"):
        LAFPPolicy.from_pretrained(saved)


def test_a_checkpoint_without_a_digest_is_loaded_with_a_warning(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit_config(saved, weights_digest=None, checkpoint_format=None, made_with=None)
    LAFPPolicy.from_pretrained(saved)
    assert "has no digest beside it" in caplog.text


def test_a_newer_format_is_refused(saved: Path) -> None:
    """Whatever its options are, of which this version knows nothing."""
    edit_config(saved, checkpoint_format=CHECKPOINT_FORMAT + 1, made_with={"lerobot_policy_lafp": "9.0"}, wings=2)
    with pytest.raises(ValueError, match=rf"has format {CHECKPOINT_FORMAT + 1}.*9\.0.*Install that version"):
        LAFPPolicy.from_pretrained(saved)


@pytest.mark.parametrize("found", ["6", [5], {"a": 1}])
def test_a_format_that_is_none_is_refused(saved: Path, found: Any) -> None:
    edit_config(saved, checkpoint_format=found)
    with pytest.raises(Exception, match=r"checkpoint_format|has format 6"):
        LAFPPolicy.from_pretrained(saved)


def test_a_configuration_that_is_none_is_named(saved: Path) -> None:
    config = LAFPConfig.from_pretrained(saved)
    (saved / CONFIG).write_text("{")
    with pytest.raises(ValueError, match=r"config\.json cannot be read.*Copy or download it again"):
        LAFPPolicy.from_pretrained(saved, config=config)


# --- Saving --------------------------------------------------------------------------------------------------


def test_what_is_killed_between_two_files_is_refused_and_saved_again(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = LAFPPolicy.from_pretrained(saved)
    policy.stage_steps += 1
    replace = os.replace

    class Killed(BaseException):
        pass

    def killed(source: Path, target: Path) -> None:
        if target.name == CONFIG:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(Killed):
            policy.save_pretrained(saved)
    with pytest.raises(ValueError, match="is not what was saved"):
        LAFPPolicy.from_pretrained(saved)
    (saved / ".saving").mkdir()
    (saved / ".saving" / "more").touch()
    policy.save_pretrained(saved)
    assert LAFPPolicy.from_pretrained(saved).stage_steps.tolist() == [1, 1, 1]
    assert sorted(f.name for f in saved.iterdir()) == [CARD_NAME, CONFIG, WEIGHTS]


def test_a_full_disk_leaves_the_checkpoint_that_was_there(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {f.name: f.read_bytes() for f in saved.iterdir()}
    policy = LAFPPolicy.from_pretrained(saved)
    policy.stage_steps += 1
    write = PreTrainedPolicy._save_pretrained

    def full(self: LAFPPolicy, folder: Path, **of_lerobot: Any) -> None:
        write(self, folder, **of_lerobot)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PreTrainedPolicy, "_save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        policy.save_pretrained(saved)
    assert {f.name: f.read_bytes() for f in saved.iterdir()} == before
