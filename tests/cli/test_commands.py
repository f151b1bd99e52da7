"""What a user types, through the real commands."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lerobot_lafp.cli.main import main
from lerobot_lafp.runs.stages import train_stages
from lerobot_lafp.runs.trainings import RunState, last_checkpoint, run_state

from .conftest import SHORT, TINY, Data, Finished


def test_installed_command_finds_the_policy(two_way: Data, tmp_path: Path) -> None:
    """A console script of LeRobot in a process of its own: discovery by the distribution's name, all defaults."""
    command = Path(sys.executable).with_name("lerobot-train")
    arguments = [
        "--policy.type=lafp",
        *two_way.arguments,
        "--policy.labeled_episodes=[0,1]",
        "--policy.push_to_hub=false",
    ]
    done = subprocess.run(
        [command, *arguments, "--policy.device=cpu", *SHORT, f"--output_dir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_file(last_checkpoint(tmp_path / "run") / "model.safetensors")["stage_steps"].tolist()[:2] == [2, 2]


def test_three_stages_then_evaluation(stages: Path, run: Callable[..., Finished], tmp_path: Path) -> None:
    """`lafp train` counts every stage, and LeRobot evaluates the result in the embedded environment."""
    checkpoint = last_checkpoint(stages / "action_decoder")
    assert load_file(checkpoint / "model.safetensors")["stage_steps"].tolist() == [2, 2, 2]

    done = run(
        "lerobot-eval",
        f"--policy.path={checkpoint}",
        "--env.type=lafp_two_way",
        "--env.obs_type=pixels_agent_pos",
        f"--env.episode_log={tmp_path / 'episodes.jsonl'}",
        "--eval.n_episodes=2",
        "--eval.batch_size=2",
        "--eval.use_async_envs=false",
        f"--output_dir={tmp_path / 'evaluation'}",
    )
    assert done.ok, done.output[-2000:]
    metrics = json.loads((tmp_path / "evaluation" / "eval_info.json").read_text())["per_task"][0]["metrics"]
    logged = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    logged.sort(key=lambda episode: episode["seed"])
    assert metrics["successes"] == [episode["is_success"] for episode in logged]
    assert [episode["seed"] for episode in logged] == [1000, 1001]


def test_train_goes_on_where_it_stopped(
    stages: Path, two_way: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Finished stages are skipped; a stage cut off while writing its first checkpoint starts again."""
    arguments = [f"--output_dir={stages}", *two_way.arguments, "--policy.labeled_episodes=[0,1]", *TINY, *SHORT]
    before = (last_checkpoint(stages / "latent_policy") / "model.safetensors").stat().st_mtime_ns
    train_stages(arguments)
    assert capfd.readouterr().out.count("already trained") == 3
    assert (last_checkpoint(stages / "latent_policy") / "model.safetensors").stat().st_mtime_ns == before

    half_written = tmp_path / "latent_action" / "checkpoints" / "000001" / "pretrained_model"
    half_written.mkdir(parents=True)
    (half_written / "config.json").write_text("{")
    assert run_state(tmp_path / "latent_action") is RunState.NEW
    train_stages([f"--output_dir={tmp_path}", *arguments[1:]], until="latent_action")
    assert run_state(tmp_path / "latent_action") is RunState.FINISHED


def test_interrupted_stage_is_resumed(two_way: Data, tmp_path: Path) -> None:
    """A run whose last checkpoint is not at its last step goes on from there, step count and all."""
    arguments = [f"--output_dir={tmp_path}", *two_way.arguments, "--policy.labeled_episodes=[0,1]", *TINY, *SHORT]
    train_stages([*arguments, "--save_freq=1"], until="latent_action")
    run_dir = tmp_path / "latent_action"
    # As if killed after step 1: the checkpoint of step 2 was never written.
    (run_dir / "checkpoints" / "last").unlink()
    (run_dir / "checkpoints" / "last").symlink_to("000001")
    (run_dir / "checkpoints" / "000002").rename(tmp_path / "uninterrupted")
    assert run_state(run_dir) is RunState.INTERRUPTED

    train_stages(arguments, until="latent_action")
    resumed = load_file(last_checkpoint(run_dir) / "model.safetensors")
    uninterrupted = load_file(tmp_path / "uninterrupted" / "pretrained_model" / "model.safetensors")
    assert resumed["stage_steps"].tolist() == [2, 0, 0]
    for name, tensor in uninterrupted.items():
        assert tensor.equal(resumed[name]), f"{name} differs from the uninterrupted run"


def test_configuration_folder(two_way: Data, tmp_path: Path) -> None:
    """Options of a folder's files hold, options of the command line win, and stage options reach that stage alone."""
    for number, stage in enumerate(("latent_action", "latent_policy", "action_decoder"), start=1):
        policy = (
            {"type": "lafp", "stage": stage, "latent_dim": 6} if number == 1 else {"path": "overridden", "stage": stage}
        )
        config = {"dataset": {"repo_id": "elsewhere"}, "policy": policy, "steps": 1, "output_dir": "elsewhere"}
        (tmp_path / f"{number}_{stage}.yaml").write_text(json.dumps(config))  # JSON is YAML
    arguments = [str(tmp_path), f"--output_dir={tmp_path / 'run'}", *two_way.arguments]
    tiny = [option for option in TINY if "latent_dim" not in option]
    short = ["--batch_size=4", "--num_workers=0", "--env_eval_freq=0"]
    train_stages([*arguments, "--policy.labeled_episodes=[0, 1]", *tiny, *short, "--latent_policy.steps=3"])
    saved = load_file(last_checkpoint(tmp_path / "run" / "action_decoder") / "model.safetensors")
    assert saved["stage_steps"].tolist() == [1, 3, 1]
    assert saved["latent_action_model.statistics.low"].shape == (6,)
    trained_on = json.loads((last_checkpoint(tmp_path / "run" / "action_decoder") / "train_config.json").read_text())
    assert trained_on["dataset"]["episodes"] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--dataset.repo_id=a/b"], "--output_dir is missing"),
        (["train", "nowhere"], "must hold one configuration"),
        (["demo", "nowhere"], "is no folder"),
    ],
)
def test_errors_of_lafp_name_the_mend(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert says in capsys.readouterr().err


def test_demo_end_to_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The whole demo at its smallest: eleven LeRobot runs, table, figure, video; a second call repeats none."""
    configs = Path(__file__).parents[2] / "configs" / "two_way"
    arguments = ["demo", str(configs), f"--output_dir={tmp_path}", "--episodes=2", "--smoke"]
    assert main(arguments) == 0
    rows = json.loads((tmp_path / "demo.json").read_text())
    assert [row["episodes"] for row in rows.values()] == [2, 2, 2, 2]
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert (tmp_path / "demo.mp4").stat().st_size > 1_000
    printed = capfd.readouterr().out
    assert "LAFP, decoder on direct samples" in printed

    assert main(arguments) == 0
    assert capfd.readouterr().out.count("already trained") == 7


def test_stage_2_from_labels(stages: Path, two_way: Data, run: Callable[..., Finished], tmp_path: Path) -> None:
    """A dataset is labelled once, and `lerobot-train` distils the policy from the column."""
    checkpoint = last_checkpoint(stages / "latent_action")
    output = tmp_path / "labelled"
    assert main(["label", f"--policy.path={checkpoint}", *two_way.arguments, f"--output_dir={output}"]) == 0
    stage_2 = [
        f"--policy.path={checkpoint}",
        "--policy.stage=latent_policy",
        f"--dataset.repo_id={two_way.repo_id}",
        *SHORT,
    ]
    done = run("lerobot-train", *stage_2, f"--dataset.root={output}", f"--output_dir={tmp_path / 'run'}")
    assert done.ok, done.output[-2000:]
    assert load_file(last_checkpoint(tmp_path / "run") / "model.safetensors")["stage_steps"].tolist() == [2, 2, 0]
