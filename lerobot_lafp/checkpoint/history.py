"""How a checkpoint came about: the runs that led to it, and the commands that would go that way again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig

from ..configuration_lafp import LAFPConfig
from .integrity import SEALS

Run = Mapping[str, Any]

#: Options of a policy that a run fills in from its dataset, or that are of the machine and of sharing.
_NOT_CHOSEN = {
    *("input_features", "output_features", "latent_features", "action_dim", "action_names", "state_names", "tasks"),
    *("feature_order", "vector_names", "depth_cameras", "actions_are_positions"),
    *("fps", "labels_repo_id", "motion_weight", "task_encoder", "text_dim", "backbone_config", "normalization_mapping"),
    *("device", "use_amp", "use_peft", "push_to_hub", "repo_id", "private", "tags", "license"),
    *("pretrained_path", "pretrained_revision", "stage", *SEALS),
}
#: What a training run is told beside its policy, as far as it decides what comes out.
_OF_THE_RUN = ("steps", "batch_size", "seed")


def runs_before(run: Run) -> list[Run]:
    """The ``train_config.json`` of the runs that led to this one, in order, as far as they are there, and its own.

    A checkpoint says where the one that it began from lay.
    """
    runs = [_as_begun(run)]
    while (path := (runs[0].get("policy") or {}).get("pretrained_path")) is not None:
        file = Path(path) / TRAIN_CONFIG_NAME
        if not file.is_file() or _lies_within(file, runs[0]):
            break
        runs.insert(0, _as_begun(json.loads(file.read_text())))
    return runs


def _as_begun(run: Run) -> Run:
    """A run that was resumed says that it began from itself; its earlier checkpoints know better."""
    policy = run.get("policy") or {}
    if policy.get("pretrained_path") is None or not _lies_within(policy["pretrained_path"], run):
        return run
    for file in sorted(Path(str(run["output_dir"])).glob(f"checkpoints/*/pretrained_model/{TRAIN_CONFIG_NAME}")):
        path = json.loads(file.read_text())["policy"].get("pretrained_path")
        if path is None or not _lies_within(path, run):
            return {**run, "policy": {**policy, "pretrained_path": path}}
    return run


def _lies_within(path: str | Path, run: Run) -> bool:
    return Path(str(run.get("output_dir"))).absolute() in Path(path).absolute().parents


def commands(runs: Sequence[Run]) -> Iterator[str]:
    """``lerobot-train`` of every run in order, with the options that differ from the defaults or the run before."""
    before: Run | None = None
    defaults = {field.name: field.default for field in fields(TrainPipelineConfig)}
    for run in runs:
        policy = run["policy"]
        start = _checkpoint_of(before) if before is not None else policy.get("pretrained_path")
        options = ["--policy.type=lafp"] if start is None else [f"--policy.path={start}"]
        options.append(f"--policy.stage={policy['stage']}")
        options += _differences(policy, None if before is None else before["policy"])
        data = run.get("dataset") or {}
        dataset = f"--dataset.repo_id={data.get('repo_id')}"
        options.append(dataset)
        if policy.get("latent_labels") and start is not None:
            yield f"lafp label --policy.path={start} {dataset} --output_dir=outputs/labels"
            options.append("--dataset.root=outputs/labels")
        if data.get("episodes"):
            options.append(f"--dataset.episodes={_word(data['episodes'])}")
        options += [f"--{name}={run[name]}" for name in _OF_THE_RUN if name in run and run[name] != defaults[name]]
        yield " ".join(["lerobot-train", *options, "--policy.push_to_hub=false", f"--output_dir={_folder(run)}"])
        before = run


def _differences(policy: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[str]:
    base = before if before is not None else json.loads(json.dumps(_defaults()))
    chosen = set(base) - _NOT_CHOSEN
    if base.get("labels_repo_id") is not None:
        chosen.add("labels_repo_id")  # the list of labelled episodes was taken to another dataset
    for name, value in policy.items():
        if name in chosen and value != base[name]:
            yield f"--policy.{name}={_word(value)}"


def _defaults() -> dict[str, Any]:
    default = LAFPConfig(device="cpu")
    return {f.name: getattr(default, f.name) for f in fields(LAFPConfig) if f.name not in _NOT_CHOSEN}


def _word(value: Any) -> str:
    """A value as one word of a command line."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return f"'{text}'" if set(text) & set(' {}"') else text


def _folder(run: Run) -> str:
    return f"outputs/{run['policy']['stage']}"


def _checkpoint_of(run: Run) -> str:
    return f"{_folder(run)}/checkpoints/last/pretrained_model"
