"""How a checkpoint came about: the runs that led to it, and the commands that would go that way again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..options.fields import named_fields, read
from ..options.migration import migrate_config
from ..options.policy import PolicyOptions
from .files import TRAIN_CONFIG

Run = Mapping[str, Any]

#: What a training run is told beside its policy, as far as it decides what comes out -> its default in LeRobot.
OF_THE_RUN = {"steps": 100_000, "batch_size": 8, "seed": 1000}


def runs_before(run: Run) -> list[Run]:
    """The ``train_config.json`` of the runs that led to this one, in order, as far as they are there, and its own.

    A checkpoint says where the one that it began from lay.
    """
    runs = [_as_begun(run)]
    while (path := (runs[0].get("policy") or {}).get("pretrained_path")) is not None:
        file = Path(path) / TRAIN_CONFIG
        if not file.is_file() or _lies_within(file, runs[0]):
            break
        runs.insert(0, _as_begun(json.loads(file.read_text())))
    return runs


def _as_begun(run: Run) -> Run:
    """A run that was resumed says that it began from itself; its earlier checkpoints know better."""
    policy = run.get("policy") or {}
    if policy.get("pretrained_path") is None or not _lies_within(policy["pretrained_path"], run):
        return run
    for file in sorted(Path(str(run["output_dir"])).glob(f"checkpoints/*/pretrained_model/{TRAIN_CONFIG}")):
        path = json.loads(file.read_text())["policy"].get("pretrained_path")
        if path is None or not _lies_within(path, run):
            return {**run, "policy": {**policy, "pretrained_path": path}}
    return run


def _lies_within(path: str | Path, run: Run) -> bool:
    return Path(str(run.get("output_dir"))).absolute() in Path(path).absolute().parents


def commands(runs: Sequence[Run]) -> Iterator[str]:
    """``lerobot-train`` of every run in order, with the options that differ from the defaults or the run before."""
    before: Run | None = None
    for run in runs:
        policy = migrate_config(run["policy"])
        start = _checkpoint_of(before) if before is not None else policy.get("pretrained_path")
        options = ["--policy.type=lafp"] if start is None else [f"--policy.path={start}"]
        options.append(f"--policy.stage={policy['stage']}")
        options += _differences(policy, None if before is None else migrate_config(before["policy"]))
        data = run.get("dataset") or {}
        dataset = f"--dataset.repo_id={data.get('repo_id')}"
        options.append(dataset)
        if any(run["policy"].get(name) for name in OF_LABELS) and start is not None:
            yield f"lafp label --policy.path={start} {dataset} --output_dir=outputs/labels"
            options.append("--dataset.root=outputs/labels")
        if data.get("episodes"):
            options.append(f"--dataset.episodes={_word(data['episodes'])}")
        options += [f"--{name}={run[name]}" for name, usual in OF_THE_RUN.items() if run.get(name, usual) != usual]
        yield " ".join(["lerobot-train", *options, "--policy.push_to_hub=false", f"--output_dir={_folder(run)}"])
        before = run


def _differences(policy: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[str]:
    """The options that differ from those of the run before, or from the defaults."""
    base = PolicyOptions() if before is None else before
    again = before is not None and read(policy, "facts.labels_repo_id") != read(before, "facts.labels_repo_id")
    for name in (each.name for each in named_fields(PolicyOptions) if each.is_option and each.name not in _NOT_TOLD):
        now, then = read(policy, name, _ABSENT), json.loads(json.dumps(read(base, name)))
        # The list of labelled episodes may be the same, and of another dataset.
        if now is not _ABSENT and (now != then or (again and name == "labeled_episodes" and now is not None)):
            yield f"--policy.{name}={_word(now)}"


_ABSENT = object()
#: What a command says otherwise, and the folder of a dataset, which is of one machine.
_NOT_TOLD = ("stage", "labels.root")
#: Options by which older versions were told to read a labelled dataset.
OF_LABELS = ("latent_labels", "precomputed_latents")


def _word(value: Any) -> str:
    """A value as one word of a command line."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return f"'{text}'" if set(text) & set(' {}"') else text


def _folder(run: Run) -> str:
    return f"outputs/{run['policy']['stage']}"


def _checkpoint_of(run: Run) -> str:
    return f"{_folder(run)}/checkpoints/last/pretrained_model"
