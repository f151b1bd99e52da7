"""`lafp train` into a folder that holds stages already: the same command goes on, another one is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from lerobot_lafp.cli.main import main
from lerobot_lafp.errors import UserError
from lerobot_lafp.runs.stages import train_stages
from lerobot_lafp.runs.trainings import last_checkpoint

from .conftest import SHORT, TINY, Data


@pytest.fixture
def trained(stages: Path, tmp_path: Path) -> Path:
    """A copy of the three stages, as trained on ``two_way``."""
    return Path(shutil.copytree(stages, tmp_path / "trained", symlinks=True))


def command(output: Path, data: Data) -> list[str]:
    return [f"--output_dir={output}", *data.arguments, "--policy.labeled_episodes=[0,1]", *TINY, *SHORT]


def train_config(output: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((last_checkpoint(output) / "train_config.json").read_text())
    return config


def refused(arguments: list[str]) -> str:
    with pytest.raises(UserError) as error:
        train_stages(arguments)
    return str(error.value)


def test_another_command_is_refused(
    trained: Path, two_way: Data, video: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    same = command(trained, two_way)
    train_stages([*same, "--policy.labeled_episodes=[1, 0]", "--num_workers=1"])
    assert capsys.readouterr().out.count("already trained, skipped") == 3

    assert main(["train", *same, "--steps=6"]) == 1
    said = capsys.readouterr().err
    assert "latent_action was trained with --steps=2, and this command asks for --steps=6" in said
    assert "--dataset.repo_id=local/video" in refused(command(trained, video))
    fewer = [option for option in same if "token_dim" not in option]
    assert "--policy.token_dim=8, and this command asks for --policy.token_dim=128" in refused(fewer)
    said = refused([*same, "--latent_policy.seed=7"])
    assert f"move or delete {trained / 'latent_policy'} and {trained / 'action_decoder'} to train anew" in said


def test_later_stages_of_an_earlier_first_stage(trained: Path, two_way: Data, stages: Path) -> None:
    same = command(trained, two_way)
    shutil.rmtree(trained / "latent_action")
    said = refused(same)
    assert f"{trained / 'latent_action'} is not trained yet" in said
    assert f"Move or delete {trained / 'latent_policy'} and {trained / 'action_decoder'}" in said

    anew = [*same, "--latent_action.seed=7"]
    for stage in ("latent_policy", "action_decoder"):
        shutil.rmtree(trained / stage)
    train_stages(anew, until="latent_action")
    for stage in ("latent_policy", "action_decoder"):
        shutil.copytree(stages / stage, trained / stage, symlinks=True)
    said = refused(anew)
    assert f"{trained / 'latent_policy'} was not built on the weights in {trained / 'latent_action'}" in said


def test_fine_tuning(stages: Path, two_way: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stage 1 starts from the checkpoint, with its options, and the others from the stage before."""
    start = last_checkpoint(stages / "action_decoder")
    plain = ["--policy.push_to_hub=false", "--policy.device=cpu", *SHORT, "--steps=1", f"--output_dir={tmp_path}"]
    plain.append("--policy.labeled_episodes=[0,1]")
    arguments = [f"--policy.path={start}", *two_way.arguments, *plain]
    checkpoint = train_stages(arguments)
    assert load_file(checkpoint / "model.safetensors")["stage_steps"].tolist() == [3, 1, 1]
    policy = train_config(tmp_path / "latent_action")["policy"]
    assert (policy["pretrained_path"], policy["token_dim"]) == (str(start), 8)
    assert train_config(tmp_path / "latent_policy")["policy"]["stage"] == "latent_policy"

    capsys.readouterr()
    train_stages(arguments)
    assert capsys.readouterr().out.count("already trained, skipped") == 3
    said = refused([*two_way.arguments, *TINY, *plain])
    assert f"--policy.path={start}, and this command asks for no --policy.path" in said
