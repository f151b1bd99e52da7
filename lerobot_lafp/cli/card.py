"""``lafp card``: the model card of a checkpoint on disk, with what was found of it since it was trained."""

import json
from collections.abc import Sequence
from pathlib import Path

from lerobot.configs.train import TRAIN_CONFIG_NAME

from ..checkpoint.card import CARD_NAME, is_replaceable, model_card
from ..checkpoint.download import refuse_missing
from ..checkpoint.evaluation import read_evaluation
from ..checkpoint.history import runs_before
from ..checkpoint.inspection import inspect
from ..errors import UserError
from .arguments import CommandParser

USAGE = """lafp card CHECKPOINT [--repo_id=NAME] [--license=NAME] [--evaluation=FOLDER [--env.type=.. --seed=.. ..]]
          [--probe=FOLDER] [--overwrite]

Writes the model card README.md into a checkpoint's folder, from what its files say. --repo_id is the name that it will
have on the Hub. --evaluation is what lerobot-eval wrote, followed by the options it ran with; --probe what lafp probe
wrote. What is not known is left out. Share it then: hf upload NAME CHECKPOINT
"""


def run_card(arguments: Sequence[str]) -> Path:
    """Run ``lafp card`` as ``USAGE`` says; returns the card's file.

    Raises:
        UserError: The checkpoint is not sound, an argument does not fit, or there is a card already.
        ValueError: An evaluation or a probe cannot be read.
    """
    parser = CommandParser("card", USAGE)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--repo_id")
    parser.add_argument("--license")
    parser.add_argument("--evaluation", type=Path)
    parser.add_argument("--probe", type=Path)
    parser.add_argument("--overwrite", action="store_true")
    given, environment = parser.parse_known_args(arguments)
    wrong = [option for option in environment if not option.startswith(("--env.", "--eval.", "--seed="))]
    if wrong or (environment and given.evaluation is None):
        parser.error(f"{(wrong or environment)[0]} is no option of lerobot-eval that belongs to --evaluation")
    refuse_missing(given.checkpoint)
    if not given.checkpoint.is_dir():
        raise UserError(f"{given.checkpoint} is no folder. Download it first: hf download {given.checkpoint}.")
    found = inspect(given.checkpoint)
    if not found.sound:
        raise UserError(f"{given.checkpoint} is not sound: {found.faults[0]}")
    file = given.checkpoint / CARD_NAME
    if not is_replaceable(file) and not given.overwrite:
        raise UserError(f"{file} exists. Add --overwrite to write it again.")
    train_config = given.checkpoint / TRAIN_CONFIG_NAME
    card = model_card(
        found.facts,
        given.repo_id,
        given.license or found.facts["license"],
        runs=runs_before(json.loads(train_config.read_text())) if train_config.is_file() else (),
        evaluation=None if given.evaluation is None else read_evaluation(given.evaluation),
        environment=environment,
        probe=() if given.probe is None else _probe_lines(given.probe),
    )
    file.write_text(str(card))
    print(file)
    return file


def _probe_lines(folder: Path) -> list[str]:
    file = folder / "probe.json"
    try:
        return [str(line) for line in json.loads(file.read_text())["lines"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{file} is not what lafp probe writes ({error!r}). Name the folder it wrote to.") from error
