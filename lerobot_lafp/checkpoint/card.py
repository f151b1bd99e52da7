"""The model card of a checkpoint: what it is, from what, how well it did and how to use it; facts alone.

What is not known is left out. Every checkpoint is saved with one; ``lerobot-train`` writes a fuller one when it pushes
to the Hub, and ``lafp card`` into any checkpoint, with what ``lerobot-eval`` and ``lafp probe`` found since.
"""

import json
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from ..options.constants import Stage
from ..options.fields import read
from .download import refuse_missing
from .evaluation import mean_ci95, read_evaluation
from .facts import chosen_lines, limit_lines, lines
from .files import TRAIN_CONFIG
from .history import commands, runs_before
from .inspection import inspect

CARD_NAME = "README.md"
#: At the end of a card that nobody wrote or asked for, and that may be written over.
SAVED = "<!-- Written when the checkpoint was saved. `lafp card` adds the commands, an evaluation and a probe. -->"
_NAMES = {
    "trained": "stages trained",
    "chunk": "chunk",
    "latents": "latent actions",
    "policy": "policy",
    "observes": "observes",
    "actions": "acts with",
    "angles": "wrapping angles",
    "labels": "labelled",
    "tasks": "tasks",
}
_CITATION = """```bibtex
@article{lafp2026,
    title = {Preserving Latent Action Structure in Latent Policy Learning via Flow Matching},
    journal = {arXiv preprint arXiv:2606.10517},
    year = {2026}
}
@misc{cadene2024lerobot,
    title = {LeRobot: State-of-the-art Machine Learning for Real-World Robotics in Pytorch},
    author = {Cadene, Remi and others},
    howpublished = "\\url{https://github.com/huggingface/lerobot}",
    year = {2024}
}
```"""


def model_card(
    facts: Mapping[str, Any],
    name: str | None = None,
    license: str | None = None,
    tags: Sequence[str] = (),
    runs: Sequence[Mapping[str, Any]] = (),
    dataset: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Sequence[float]] | None = None,
    environment: Sequence[str] = (),
    probe: Sequence[str] = (),
) -> str:
    """Put a card together, in Markdown with what the Hub reads on top.

    Args:
        facts: See ``facts.py``.
        name: The checkpoint's repository.
        license: Of the weights. Unset: not said.
        tags: For the Hub, beside our own.
        runs: ``train_config.json`` of the run, after those of the runs before it (``history.runs_before``).
        dataset: Of what it was trained on: ``episodes``, ``frames``, ``fps``, ``robot_type``.
        evaluation: What it did in an environment, see ``read_evaluation``.
        environment: The options of ``lerobot-eval`` that say which.
        probe: The lines of ``lafp probe``.
    """
    last: Mapping[str, Any] = runs[-1] if runs else {}
    used = [read(last, "dataset.repo_id"), read(last, "policy.labels.repo_id")]
    head = {
        "datasets": [name for name in used if name and not name.startswith("local/")],
        "library_name": "lerobot",
        "license": license,
        "pipeline_tag": "robotics",
        "tags": sorted({*tags, "robotics", "lerobot", "lafp"}),
    }
    data = yaml.safe_dump({name: value for name, value in head.items() if value}, sort_keys=False, allow_unicode=True)
    body = _body(facts, name or "CHECKPOINT", runs, dataset or {}, evaluation, environment, probe)
    return f"---\n{data}---\n\n" + "\n".join(body) + "\n"


def write_card(
    checkpoint: Path,
    repo_id: str | None = None,
    license: str | None = None,
    evaluation: Path | None = None,
    environment: Sequence[str] = (),
    probe: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the card of a checkpoint on disk, from what its files say.

    Args:
        checkpoint: Its folder.
        repo_id: The name that it will have on the Hub.
        license: Of the weights. Unset: the one that was saved.
        evaluation: Output folder of ``lerobot-eval``.
        environment: The options that it ran with.
        probe: Output folder of ``lafp probe``.
        overwrite: Whether a card that somebody wrote is replaced.

    Returns:
        The card's file.

    Raises:
        UserError: The checkpoint is not sound, an argument does not fit, or there is a card already.
        ValueError: ``evaluation`` or ``probe`` cannot be read.
    """
    if environment and evaluation is None:
        raise UserError(f"{environment[0]} is an option of lerobot-eval: it belongs to --evaluation, which is missing.")
    refuse_missing(checkpoint)
    if not checkpoint.is_dir():
        raise UserError(f"{checkpoint} is no folder. Download it first: hf download {checkpoint}.")
    found = inspect(checkpoint)
    if not found.sound:
        raise UserError(f"{checkpoint} is not sound: {found.faults[0]}")
    file = checkpoint / CARD_NAME
    if not is_replaceable(file) and not overwrite:
        raise UserError(f"{file} exists. Add --overwrite to write it again.")
    train_config = checkpoint / TRAIN_CONFIG
    card = model_card(
        found.facts,
        repo_id,
        license or found.facts["license"],
        runs=runs_before(json.loads(train_config.read_text())) if train_config.is_file() else (),
        evaluation=None if evaluation is None else read_evaluation(evaluation),
        environment=environment,
        probe=() if probe is None else _probe_lines(probe),
    )
    file.write_text(card)
    return file


def _probe_lines(folder: Path) -> list[str]:
    file = folder / "probe.json"
    try:
        return [str(line) for line in json.loads(file.read_text())["lines"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{file} is not what lafp probe writes ({error!r}). Name the folder it wrote to.") from error


def save_beside(card: str, folder: Path) -> None:
    """Write a card into a checkpoint that is being saved, unless somebody's own README is there."""
    if is_replaceable(file := folder / CARD_NAME):
        fresh = file.with_suffix(".saving")
        fresh.write_text(f"{card}\n{SAVED}\n")
        os.replace(fresh, file)


def is_replaceable(file: Path) -> bool:
    """Whether there is no card yet, or one that came about by itself."""
    return not file.exists() or file.read_text().rstrip().endswith(SAVED)


def _body(
    facts: Mapping[str, Any],
    name: str,
    runs: Sequence[Mapping[str, Any]],
    dataset: Mapping[str, Any],
    evaluation: Mapping[str, Sequence[float]] | None,
    environment: Sequence[str],
    probe: Sequence[str],
) -> Iterator[str]:
    yield f"# {'LAFP' if name == 'CHECKPOINT' else name}\n"
    yield (
        "A Latent Action Flow Policy ([arXiv 2606.10517](https://arxiv.org/abs/2606.10517)) for "
        "[LeRobot](https://github.com/huggingface/lerobot): latent actions learnt from video, a flow-matching policy "
        "over them, and a decoder to actions learnt from the labelled demonstrations.\n"
    )
    yield from _table({_NAMES[key]: value for key, value in lines(facts).items()})
    made = facts.get("made_with")
    if made:
        yield f"Made with {', '.join(f'{package} {version}' for package, version in made.items())}.\n"
    yield from _training(facts, runs, dataset)
    if evaluation is not None:
        yield from _evaluation(name, evaluation, environment)
    if probe:
        yield "## What the latents are worth\n"
        yield "By `lafp probe`:\n"
        yield "\n".join(f"- {line}" for line in probe) + "\n"
    yield from _use(facts, name, dataset, environment)
    limits = limit_lines(facts)
    if limits:
        yield "## Limits on its commands\n"
        yield "Kept within these by the policy itself, before anything is sent to a robot:\n"
        yield "\n".join(f"- {line}" for line in limits) + "\n"
    yield "## Citation\n"
    yield _CITATION


def _training(facts: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], dataset: Mapping[str, Any]) -> Iterator[str]:
    if not runs:
        return
    train_config = runs[-1]
    data, policy = train_config.get("dataset") or {}, train_config.get("policy") or {}
    labels = read(policy, "labels") or {}
    alone = labels.get("repo_id") if policy.get("stage") == Stage.ACTION_DECODER else None
    used = (data if alone is None else labels).get("episodes")
    episodes = len(used) if used else dataset.get("episodes")
    yield "## Training\n"
    rows = {
        "last stage": policy.get("stage"),
        "dataset": data.get("repo_id"),
        "actions from": labels.get("repo_id"),
        "episodes used": episodes if alone is None or episodes is None else f"{episodes} of {alone}",
        "frames": dataset.get("frames") if not used else None,
        "frames per second": dataset.get("fps") or facts["chunk"]["fps"],
        "robot": dataset.get("robot_type"),
        "steps x batch": f"{train_config.get('steps')} x {train_config.get('batch_size')}",
        "seed": train_config.get("seed"),
    }
    yield from _table({key: value for key, value in rows.items() if value is not None})
    if chosen := chosen_lines(facts):
        yield "Options that nobody set were chosen by the dataset:\n"
        yield "\n".join(f"- {line}" for line in chosen) + "\n"
    if "stage" not in policy:
        return
    roots = "`--dataset.root`" + (" and `--policy.labels.root`" if labels.get("repo_id") else "")
    first = runs[0]["policy"].get("pretrained_path")
    began = "" if first is None else f" The first of them began from {first}, of which nothing more is known here."
    yield (
        f"`{TRAIN_CONFIG}` beside the weights holds every option of the last run. The same again is the "
        f"following, in this order, with {roots} where a dataset lies in a folder.{began}\n"
    )
    yield "\n".join(["```bash", *(_wrapped(command) for command in commands(runs)), "```\n"])


def _wrapped(command: str) -> str:
    return " \\\n    ".join(textwrap.wrap(command, 110, break_long_words=False, break_on_hyphens=False))


def _evaluation(name: str, found: Mapping[str, Sequence[float]], environment: Sequence[str]) -> Iterator[str]:
    means = {"success": mean_ci95(found["successes"]), "mean maximum reward": mean_ci95(found["max_rewards"])}
    yield "## Evaluation\n"
    yield f"{len(found['successes'])} episodes, 95 % intervals (bootstrap over episodes):\n"
    yield from _table({key: f"{x['mean']:.3f} [{x['ci95'][0]:.3f}, {x['ci95'][1]:.3f}]" for key, x in means.items()})
    if environment:
        options = " ".join([*environment, f"--eval.n_episodes={len(found['successes'])}"])
        yield f"```bash\nlerobot-eval --policy.path={name} {options}\n```\n"


def _use(facts: Mapping[str, Any], name: str, dataset: Mapping[str, Any], environment: Sequence[str]) -> Iterator[str]:
    yield "## Use\n"
    commands = ["pip install lerobot_policy_lafp"]
    if facts.get("acts"):
        simulated = " ".join(each for each in environment if each.startswith("--env."))
        commands.append(f"lerobot-eval --policy.path={name} {simulated or '--env.type=..'}")
        if not simulated:
            robot = dataset.get("robot_type") or ".."
            commands.append(f"lerobot-rollout --policy.path={name} --robot.type={robot} --robot.port=..")
    else:
        yield "It does not act yet: train the stages that are left, the last of them on labelled demonstrations.\n"
        commands.append(f"lerobot-train --policy.path={name} --policy.stage=action_decoder --dataset.repo_id=..")
    yield "\n".join(["```bash", *commands, "```\n"])
    yield "## Limits on use\n"
    yield (
        "It knows what it was trained on: these cameras where they stood, these objects, this robot. What it does "
        "anywhere else nobody has measured.\n"
    )


def _table(rows: Mapping[str, Any]) -> Iterator[str]:
    yield "| | |\n|---|---|"
    yield "\n".join(f"| {key} | {value} |" for key, value in rows.items()) + "\n"
