"""``lafp inspect``: what a checkpoint is and whether it is whole, from its files alone; no network is built."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import draccus
import numpy as np
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from numpy.typing import NDArray

from ..errors import UserError, in_one_line
from ..options.checks import check
from ..options.constants import CHECKPOINT_FORMAT, STAGES
from ..options.migration import format_of, migrate_config
from ..options.policy import PolicyOptions
from .download import download, refuse_missing
from .facts import chosen_lines, facts_of_config, facts_of_tensors, limit_lines, lines, statistics_lines
from .files import TYPE
from .integrity import migrate, options_changed, read_config, refuse_altered
from .processors import faults_of_processors
from .tensors import read_tensors

#: Fields of a ``config.json`` that LeRobot gives every policy.
LEROBOTS_FIELDS = {
    *("type", "input_features", "output_features", "normalization_mapping", "device", "use_amp", "use_peft"),
    *("push_to_hub", "repo_id", "private", "tags", "license", "pretrained_path", "pretrained_revision"),
}
#: Position of a stage -> what its weights are called.
_PREFIXES = ("latent_action_model.", "latent_policy.", "action_decoder.")


@dataclass
class _Feature:
    type: str
    shape: tuple[int, ...]


@dataclass
class _Saved(PolicyOptions):
    """What is read of a ``config.json``: all options, and of LeRobot's fields these."""

    input_features: dict[str, _Feature] | None = None
    license: str | None = None


@dataclass(frozen=True)
class Inspection:
    """What the files of a checkpoint say.

    Attributes:
        facts: What it is, for JSON; what cannot be read is not there.
        faults: Why it is not whole, and what to do; empty if it is.
    """

    facts: dict[str, Any]
    faults: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def lines(self) -> Iterator[str]:
        """All of it in words."""
        facts = self.facts
        if "format" in facts:
            made = ", ".join(f"{package} {version}" for package, version in (facts["made_with"] or {}).items())
            yield _line("format", f"{facts['format']}{f', made with {made}' if made else ''}")
        yield from (_line(*each) for each in lines(facts).items())
        blocks = {"mean (std)": statistics_lines, "limits": limit_lines, "by dataset": chosen_lines}
        for name, several in ((name, of(facts)) for name, of in blocks.items()):
            yield from (_line("" if i else name, line) for i, line in enumerate(several))
        if facts.get("options_changed"):
            yield _line("options", "changed since it was saved")
        if "weights" in facts:
            weights = facts["weights"]
            size = f"{weights['numbers']:,} numbers, {weights['bytes'] / 1e6:.1f} MB"
            same = {True: "as saved", False: "saved without a digest"}.get(weights.get("verified"), "NOT as saved")
            yield _line("weights", f"{size}, {same}")
            if facts.get("digest"):
                yield _line("SHA-256", facts["digest"])
        yield from (f"FAULT: {fault}" for fault in self.faults)
        yield "sound" if self.sound else "not sound"


def _line(name: str, value: str) -> str:
    return f"  {name:<10} {value}"


def inspect_checkpoint(name: str) -> Inspection:
    """Look at a checkpoint, which is downloaded first if it is a repository of the Hub.

    Args:
        name: Of its folder, or of the repository.

    Raises:
        UserError: There is no such checkpoint.
    """
    refuse_missing(name)
    try:
        return inspect(download(name))
    except OSError as error:
        raise UserError(in_one_line(error)) from error


def inspect(folder: Path) -> Inspection:
    """Look at the checkpoint in ``folder``."""
    facts: dict[str, Any] = {}
    faults: list[str] = []
    try:
        saved = read_config(folder / CONFIG_NAME)
    except ValueError as error:
        saved = None
        faults.append(str(error))
    config = None if saved is None else _read_config(saved, facts, faults)
    tensors = _read_weights(folder, saved, facts, faults)
    if config is not None and tensors:
        _hold_together(config, tensors, facts, faults)
    faults += faults_of_processors(folder)
    return Inspection(facts, tuple(faults))


def _read_config(saved: Mapping[str, Any], facts: dict[str, Any], faults: list[str]) -> dict[str, Any] | None:
    """The configuration in the newest format, with every option in it; None where it cannot be read."""
    facts["type"] = saved.get("type")
    if saved.get("type") != TYPE:
        faults.append(f"It is no LAFP checkpoint, but one of policy type {saved.get('type')}.")
        return None
    facts["format"], facts["made_with"] = format_of(saved), saved.get("made_with")
    facts["options_changed"], facts["digest"] = options_changed(saved), saved.get("weights_digest")
    if facts["format"] > CHECKPOINT_FORMAT:
        faults.append(
            f"It has format {facts['format']}, and this version reads up to {CHECKPOINT_FORMAT}. Install "
            f"{facts['made_with']} or newer."
        )
        return None
    try:
        now = migrate_config(saved)
        if unknown := _unknown(now):
            faults.append(
                f"{CONFIG_NAME} has fields that this version does not know: {', '.join(unknown)}. Install the version "
                f"it was made with ({facts['made_with'] or 'not recorded'}), or remove what was added by hand."
            )
            return None
        read = {field.name for field in fields(_Saved)}
        options = draccus.decode(_Saved, {name: value for name, value in now.items() if name in read})
        check(options)
        config: dict[str, Any] = draccus.encode(options)
        facts |= facts_of_config(config)
    except Exception as error:  # of the parser, which has several
        faults.append(f"{CONFIG_NAME} does not hold valid options ({in_one_line(error)}).")
        return None
    return config


def _unknown(saved: Mapping[str, Any]) -> list[str]:
    """Fields of a ``config.json`` that are nobody's."""
    unknown = set(saved) - LEROBOTS_FIELDS - {field.name for field in fields(PolicyOptions)}
    if unknown:  # perhaps of another LeRobot, which is only now imported: that takes seconds
        from ..configuration_lafp import LAFPConfig

        unknown -= {field.name for field in fields(LAFPConfig)}
    return sorted(unknown)


def _read_weights(
    folder: Path, saved: Mapping[str, Any] | None, facts: dict[str, Any], faults: list[str]
) -> dict[str, NDArray[Any]]:
    file = folder / SAFETENSORS_SINGLE_FILE
    try:
        tensors = read_tensors(file)
    except ValueError as error:
        faults.append(str(error))
        return {}
    facts["weights"] = {
        "tensors": len(tensors),
        "numbers": sum(tensor.size for tensor in tensors.values()),
        "bytes": file.stat().st_size,
    }
    try:
        if saved is not None:
            facts["weights"]["verified"] = refuse_altered(file, saved)
    except ValueError as error:
        faults.append(str(error))
    wrong = [name for name, tensor in tensors.items() if not _is_bound(name) and not bool(np.isfinite(tensor).all())]
    if wrong:
        faults.append(f"{len(wrong)} of its tensors hold NaN or infinite values, the first is {wrong[0]}. Train again.")
    if saved is not None and "stage_steps" in tensors:
        migrate(tensors, format_of(saved))
    return tensors


def _is_bound(name: str) -> bool:
    """Whether a tensor holds bounds, which are infinite where nothing was seen, or nothing is bounded."""
    return name.startswith("limits.") or (name.startswith("normalizer.") and name.endswith((".low", ".high")))


def _hold_together(
    config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], facts: dict[str, Any], faults: list[str]
) -> None:
    """Weights against configuration, as far as that shows without the network."""
    if "stage_steps" not in tensors or len(tensors["stage_steps"]) != len(STAGES):
        faults.append(f"{SAFETENSORS_SINGLE_FILE} is not a LAFP checkpoint's: it holds no `stage_steps`.")
        return
    try:
        facts |= facts_of_tensors(config, tensors)
    except ValueError as error:
        faults.append(f"{CONFIG_NAME} does not fit: {error}")
        return
    for (stage, trained), prefix in zip(facts["steps"].items(), _PREFIXES, strict=True):
        needed = config["latent_source"] == "idm" or stage == "latent_policy"
        if trained and needed and not any(name.startswith(prefix) for name in tensors):
            faults.append(f"Stage {stage} was trained for {trained} steps, and there is no tensor {prefix}*.")
