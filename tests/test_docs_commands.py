"""Every command that README and docs print is one that its program would take."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import draccus
import pytest
from lerobot.cameras import opencv  # noqa: F401  (registers cameras)
from lerobot.configs import parser
from lerobot.configs.eval import EvalPipelineConfig
from lerobot.robots import bi_so_follower, so_follower  # noqa: F401  (registers robots)
from lerobot.rollout.configs import RolloutConfig
from typer.main import get_command

import lerobot_policy_lafp  # noqa: F401  (registers policy, environments and cameras)
from lerobot_lafp.cli.main import app
from lerobot_lafp.runs.asked import read_command
from lerobot_lafp.runs.stages import _read_plans, _words_of_new

from .test_docs import PAGES, ROOT

#: In a block of commands for a version of LeRobot that is not out.
LATER = "# later versions of LeRobot"
#: What stands in a command for more of it, and what that could be.
ELLIPSES = {"..", "..."}
MORE = {
    "lerobot-train": ["--dataset.repo_id=me/pick"],
    "lerobot-eval": ["--env.type=pusht"],
    "lerobot-rollout": ["--robot.type=so100_follower", "--robot.port=/dev/ttyACM0"],
}


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command in fenced blocks, of ``lafp`` and of LeRobot's, with shell variables put in."""
    variables: dict[str, str] = {}
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        variables |= dict(re.findall(r'^(\w+)="([^"]*)"$', block, re.MULTILINE))
        if LATER in block:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            for part in re.split(r"&&|;", re.sub(r"\$\(which ([\w-]+)\)", r"\1", line)):
                split = shlex.split(part, comments=True)
                words = [word for word in split if word.rpartition("=")[2] not in ELLIPSES]
                starts = [
                    i
                    for i, word in enumerate(words)
                    if Path(word).name in LEROBOT or (i == 0 and Path(word).name == "lafp")
                ]
                if starts and not part.strip().startswith(("ssh", "pip")):
                    program = Path(words[starts[0]]).name
                    more = MORE.get(program, []) if len(words) < len(split) else []
                    yield [program, *more, *words[starts[0] + 1 :]]


def _without_checkpoint(words: list[str]) -> list[str]:
    """As if the checkpoint that a page only names had been given by its type."""
    return [re.sub(r"^--policy\.path=.*", "--policy.type=lafp", word) for word in words]


def _trains(words: list[str]) -> None:
    read_command(_without_checkpoint(words), {})


def _parses(config: type) -> Any:
    def parse(words: list[str]) -> None:
        if any(word.startswith("--env.discover_packages_path") for word in words):  # of a package that is not here
            words = [*(word for word in words if not word.startswith("--env.")), "--env.type=pusht"]
        draccus.parse(config, args=_without_checkpoint(words))

    return parse


LEROBOT = {
    "lerobot-train": _trains,
    "lerobot-eval": _parses(EvalPipelineConfig),
    "lerobot-rollout": _parses(RolloutConfig),
}


def check(words: list[str]) -> None:
    """Have the program's own parser read the words; it raises where it would not take them."""
    program, *rest = words
    if program != "lafp":
        LEROBOT[program](rest)
        return
    group: Any = get_command(app)
    name, command, arguments = group.resolve_command(group.make_context("lafp", list(rest)), list(rest))
    if arguments in (["--help"], []):
        return
    command.make_context(name, list(arguments))
    if name == "train":
        for plan in _read_plans(arguments):
            read_command([*_words_of_new(plan, []), *plan.options], {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_taken(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(parser, "load_plugin", lambda name: None)
    for words in commands(page.read_text()):
        try:
            check(words)
        except (SystemExit, Exception) as error:
            raise AssertionError(f"{shlex.join(words)}\n{error}") from error


@pytest.mark.parametrize(
    "line",
    [
        "lafp train --dataset.repo_id=a/b --polcy.horizon=3 --output_dir=out",
        "lafp nothing",
        "lafp inspect --jsn x",
        "lerobot-train --policy.type=lafp --policy.horizn=3 --dataset.repo_id=a/b",
        "lerobot-eval --policy.path=x --env.type=pusht --eval.episodes=3",
        "lerobot-rollout --policy.path=x --policy.limits.range=shoulder --robot.type=so100_follower --robot.port=p",
    ],
)
def test_misspelt_commands_are_not(line: str) -> None:
    (words,) = commands(f"```bash\n{line}\n```")
    with pytest.raises((SystemExit, Exception)):
        check(words)
