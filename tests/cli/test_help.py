"""What ``lafp`` says without doing anything: help, completion, one line over what it cannot read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from lerobot_lafp.cli.main import COMMANDS, app, main

NAMES = [command.name for command in COMMANDS]
#: What takes seconds to import.
HEAVY = {"torch", "torchvision", "lerobot", "numpy", "matplotlib", "pydantic", "rich"}
PARSER = get_command(app)


def imported_by(program: str) -> list[str]:
    """Which of ``HEAVY`` a program of its own has imported when it ends."""
    asked = f"import sys\n{program}\nprint(*{HEAVY} & sys.modules.keys(), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return done.stderr.split()


def options(name: str) -> list[typer.core.TyperOption | typer.core.TyperArgument]:
    return PARSER.commands[name].params


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert imported_by("import lerobot_lafp") == []


def test_help_imports_nothing_heavy() -> None:
    calls = [["--help"], *([name, "--help"] for name in NAMES)]
    program = f"from lerobot_lafp.cli.main import main\nassert not any([main(c) for c in {calls}])"
    assert imported_by(program) == []


def test_all_commands_are_listed_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for command in COMMANDS:
        summary = str(command.run.__doc__).splitlines()[0]
        assert re.search(rf"^ +{command.name} +{re.escape(summary)}$", said, re.MULTILINE), command.name
    assert main(["help"]) == 0
    assert capsys.readouterr().out == said
    assert main([]) == 2
    assert capsys.readouterr() == ("", said), "on stderr"


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_described(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"Usage: lafp {name} " in said
    assert len(options(name)) > 1
    for option in options(name):
        assert option.help, option.name
        named = isinstance(option, typer.core.TyperOption)
        typed = option.opts[0] if named else option.name
        assert re.search(rf"^ +{re.escape(typed)}\b", said, re.MULTILINE), typed
        assert not named or option.required or option.is_flag or option.show_default, f"{typed} has no default"


@pytest.mark.parametrize("name", NAMES)
def test_an_option_that_there_is_not_is_named_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "train":
        pytest.skip("what it does not know is lerobot-train's")
    assert main([name, "--colour=red"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"lafp {name}: [^\n]*--colour[^\n]* \(lafp {name} --help lists what there is\)\n", said)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "lafp: No such command 'frobnicate'"),
        (["probe", "--dataset.repo_id=a/b"], "lafp probe: Missing option '--policy.path'"),
        (["demo", "--episodes=many"], "lafp demo: Invalid value for '--episodes'"),
        (["inspect"], "lafp inspect: Missing argument"),
        (["import-videos", "x", "--root=y", "--fit=stretch"], "lafp import-videos: Invalid value for '--fit'"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(says)
    assert said.count("\n") == 1


def test_an_interrupted_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lerobot_lafp.runs.stages.train_stages", interrupt)
    assert main(["train", "--output_dir=x"]) == 130
    said = capsys.readouterr().err
    assert said == "\nlafp train: interrupted. The same command goes on where this one stopped.\n"


def test_train_hands_on_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which it was typed, since the last of two wins; a value may follow after a space."""
    handed = []
    monkeypatch.setattr("lerobot_lafp.runs.stages.train_stages", lambda words: handed.append(list(words)))
    typed = ["--steps", "3", "configs/x", "--policy.path=a", "--latent_action.policy.path=b", "--output_dir", "d"]
    assert main(["train", *typed]) == 0
    assert handed == [typed]


def test_the_shell_completes_commands_and_options() -> None:
    def completed(typed: str) -> list[str]:
        asked = {"_LAFP_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)}
        command = [sys.executable, "-m", "lerobot_lafp.cli"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **asked})
        return done.stdout.split()

    assert completed("lafp import-") == ["import-videos", "import-datasets"]
    assert completed("lafp probe --policy") == ["--policy.path"]


def test_completion_can_be_installed(tmp_path: Path) -> None:
    told = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # no terminal to ask
    command = [sys.executable, "-m", "lerobot_lafp.cli", "--install-completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **told})
    assert done.returncode == 0, done.stderr
    assert "_LAFP_COMPLETE" in (tmp_path / ".bash_completions" / "lafp.sh").read_text()
