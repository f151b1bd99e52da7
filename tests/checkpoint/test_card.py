"""A card holds facts, and leaves out what is not known."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.checkpoint.history import commands, runs_before
from lerobot_lafp.cli.main import main as lafp

from ..conftest import FRONT, STATE
from .conftest import edit_config


@pytest.fixture
def checkpoint(trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path]) -> Path:
    policy = trained("action_decoder", STATE, FRONT, labeled_episodes=[0, 1, 2], license="apache-2.0")
    folder = save(policy)
    training = {"dataset": {"repo_id": "me/pick", "episodes": None}, "steps": 30, "batch_size": 4, "seed": 7}
    (folder / "train_config.json").write_text(json.dumps({**training, "policy": {"stage": "action_decoder"}}))
    return folder


def test_every_checkpoint_is_saved_with_one(trained: Callable[..., LAFPPolicy], tmp_path: Path) -> None:
    policy = trained("latent_action", STATE, FRONT, license="mit")
    policy.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "mit"
    assert "| stages trained | latent_action 1 steps; it does not act yet |" in card.text
    assert str(card) == (tmp_path / "README.md").read_text(), "as the Hub's client writes one"
    assert "## Training" not in card.text, "what is not known"
    policy.stage_steps += 1
    policy.save_pretrained(tmp_path)
    assert "latent_action 2, latent_policy 1" in (tmp_path / "README.md").read_text(), "saved anew"
    (tmp_path / "README.md").write_text("by hand")
    policy.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "by hand"


def test_it_says_what_the_files_say_and_no_more(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lafp(["card", str(checkpoint)]) == 0
    assert capsys.readouterr().out.strip() == str(checkpoint / "README.md")
    card = ModelCard.load(checkpoint / "README.md")
    assert card.data.datasets == ["me/pick"]
    assert card.data.tags == ["lafp", "lerobot", "robotics"]
    assert card.data.license == "apache-2.0"
    assert "| chunk | H 4 = L 2 x k 2, 3 executed |" in card.text
    assert "| labelled | 3 episodes of its dataset |" in card.text
    assert "| steps x batch | 30 x 4 |" in card.text
    assert "| seed | 7 |" in card.text
    assert "lerobot-eval --policy.path=CHECKPOINT --env.type=.." in card.text
    assert "| latent actions | Dz 4, continuous |" in card.text
    assert "| observes | observation.images.front (3, 20, 24), observation.state (2,) |" in card.text
    assert "## Limits on its commands" in card.text
    assert "It knows what it was trained on" in card.text
    assert "@article{lafp2026" in card.text
    assert "## Evaluation" not in card.text
    assert "## What the latents are worth" not in card.text
    assert "None" not in card.text


def test_it_says_which_dataset_the_actions_came_from(
    trained: Callable[..., LAFPPolicy], save: Callable[[LAFPPolicy], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"labels__repo_id": "me/play", "labels__root": "/data/play", "labels__episodes": [0, 1]}
    policy = trained("action_decoder", STATE, FRONT, **own)
    folder = save(policy)
    said = {"repo_id": "me/play", "root": "/data/play", "episodes": [0, 1]}
    saved = json.loads((folder / "config.json").read_text()) | {"pretrained_path": None}
    assert saved["labels"] == said
    run = {"dataset": {"repo_id": "me/video", "episodes": [3, 4, 5]}, "steps": 30, "batch_size": 4, "policy": saved}
    (folder / "train_config.json").write_text(json.dumps(run))
    assert lafp(["inspect", str(folder)]) == 0
    assert "labels     2 episodes of me/play, another dataset than the video" in capsys.readouterr().out
    assert lafp(["card", str(folder)]) == 0
    card = ModelCard.load(folder / "README.md")
    assert card.data.datasets == ["me/video", "me/play"]
    assert "| labelled | 2 episodes of me/play, another dataset than the video |" in card.text
    assert "| actions from | me/play |" in card.text
    assert "| episodes used | 2 of me/play |" in card.text
    (command,) = commands([run])
    assert "--dataset.repo_id=me/video" in command
    assert "--policy.labels.repo_id=me/play --policy.labels.episodes=[0,1]" in command
    assert "/data/play" not in command, "which is of this machine; the card says to add it"
    assert "`--dataset.root` and `--policy.labels.root`" in card.text


def test_what_the_dataset_chose_stands_beside_its_training(checkpoint: Path) -> None:
    facts = json.loads((checkpoint / "config.json").read_text())["facts"]
    edit_config(checkpoint, facts={**facts, "chosen": {"horizon": "1.6 s, at 30 frames a second"}})
    assert lafp(["card", str(checkpoint)]) == 0
    text = ModelCard.load(checkpoint / "README.md").text
    assert "chosen by the dataset:\n\n- horizon 4: 1.6 s, at 30 frames a second\n" in text


def test_what_was_found_since_is_added(checkpoint: Path, tmp_path: Path) -> None:
    metrics = {"max_rewards": [1.0, 0.5], "sum_rewards": [3.0, 2.0], "successes": [True, False]}
    (tmp_path / "eval_info.json").write_text(json.dumps({"per_task": [{"metrics": metrics}]}))
    (tmp_path / "probe.json").write_text(json.dumps({"lines": ["probe: good", "policy: fair", "latents: good"]}))
    found = [f"--evaluation={tmp_path}", "--env.type=pusht", "--seed=100000", f"--probe={tmp_path}"]
    assert lafp(["card", str(checkpoint), "--repo_id=me/lafp_pick", "--license=mit", *found]) == 0
    card = ModelCard.load(checkpoint / "README.md")
    assert card.data.license == "mit"
    assert "| success | 0.500 [0.000, 1.000] |" in card.text
    assert "| mean maximum reward | 0.750 [0.500, 1.000] |" in card.text
    evaluation = "lerobot-eval --policy.path=me/lafp_pick --env.type=pusht --seed=100000 --eval.n_episodes=2"
    assert evaluation in card.text
    assert "- policy: fair" in card.text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--evaluation=nowhere"], "nowhere/eval_info.json is not what lerobot-eval writes"),
        (["--probe=nowhere"], "nowhere/probe.json is not what lafp probe writes"),
        (["--env.type=pusht"], "--env.type=pusht is an option of lerobot-eval: it belongs to --evaluation"),
    ],
)
def test_what_is_no_finding_is_an_error(
    arguments: list[str], says: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (checkpoint / "README.md").read_text()
    assert lafp(["card", str(checkpoint), *arguments]) == 1
    assert says in capsys.readouterr().err
    assert (checkpoint / "README.md").read_text() == before


def test_a_card_that_is_there_and_a_checkpoint_that_is_not_sound(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "README.md").write_text("by hand")
    assert lafp(["card", str(checkpoint)]) == 1
    assert "exists. Add --overwrite" in capsys.readouterr().err
    assert (checkpoint / "README.md").read_text() == "by hand"
    assert lafp(["card", str(checkpoint), "--overwrite"]) == 0
    (checkpoint / "model.safetensors").write_bytes(b"short")
    assert lafp(["card", str(checkpoint), "--overwrite"]) == 1
    assert "is not sound: model.safetensors cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["latent_action", "joint"])
def test_lerobots_own_card_is_ours(
    stage: str, trained: Callable[..., LAFPPolicy], make_meta: Callable[..., SimpleNamespace]
) -> None:
    policy = trained(stage, repo_id="me/lafp_pick")
    meta = make_meta([20, 30])
    meta.total_frames, meta.robot_type = 50, "so100_follower"
    cfg = SimpleNamespace(to_dict=lambda: {"dataset": {"repo_id": "me/pick"}, "steps": 30, "batch_size": 4, "seed": 7})
    card = policy.generate_model_card("me/pick", "lafp", "apache-2.0", ["so100"], cfg=cfg, dataset_meta=meta)
    assert card.data.license == "apache-2.0"
    assert "so100" in card.data.tags
    assert "# me/lafp_pick" in card.text
    assert "| frames | 50 |" in card.text
    assert ("It does not act yet" in card.text) == (stage == "latent_action")
    if stage == "joint":
        assert "lerobot-rollout --policy.path=me/lafp_pick --robot.type=so100_follower" in card.text


@pytest.mark.parametrize("resumed", [False, True])
def test_the_runs_before_are_found(resumed: bool, tmp_path: Path) -> None:
    """A run that was resumed gives its own checkpoint as what it began from."""

    def saved(name: str, step: str, began_from: Path | None) -> Path:
        folder = tmp_path / name / "checkpoints" / step / "pretrained_model"
        folder.mkdir(parents=True)
        policy = {"stage": name, "pretrained_path": None if began_from is None else str(began_from)}
        run = {"output_dir": str(tmp_path / name), "policy": policy, "dataset": {"repo_id": "me/pick"}, "steps": 9}
        (folder / "train_config.json").write_text(json.dumps(run))
        return folder

    first = saved("latent_action", "000002", None)
    last = saved("latent_policy", "000002", first)
    if resumed:
        last = saved("latent_policy", "000009", last)
    runs = runs_before(json.loads((last / "train_config.json").read_text()))
    assert [run["policy"]["stage"] for run in runs] == ["latent_action", "latent_policy"]
    assert [command.split()[1] for command in commands(runs)] == [
        "--policy.type=lafp",
        "--policy.path=outputs/latent_action/checkpoints/last/pretrained_model",
    ]
