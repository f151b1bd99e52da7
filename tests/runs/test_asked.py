"""What a command asks for, compared by meaning with what a checkpoint was trained with."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lerobot_lafp.runs.asked import another_start, differences, is_built_on, neutral_options, read_command

PLAIN = ("--policy.type=lafp", "--policy.stage=latent_action", "--policy.device=cpu", "--dataset.repo_id=me/pick")
LABELS = ("--policy.labels.repo_id=me/play", "--policy.labels.root=data")
#: Options of an older version.
DEFAULTS = Path(__file__).parents[1] / "checkpoint" / "frozen" / "options" / "defaults.json"
#: What a run fills in.
FILLED_IN = {
    "facts": {
        "fps": 10.0,
        "action_dim": 2,
        "action_names": ["x", "y"],
        "labels_repo_id": "me/pick",
        "latent_features": ["observation.state"],
        "motion_weight": 0.1,
        "task_encoder": "words",
        "tasks": ["pick"],
    },
    "input_features": {"observation.state": {"type": "STATE", "shape": [2]}},
}


@cache
def _read(options: tuple[str, ...]) -> dict[str, Any]:
    return read_command([*PLAIN, *options], {}).config


def trained(*options: str) -> dict[str, Any]:
    """``train_config.json`` of a run with these options."""
    config = copy.deepcopy(_read(options))
    config["policy"] |= FILLED_IN
    return config


def changed(options: list[str], config: dict[str, Any]) -> list[str]:
    return [each.name for each in differences(read_command([*PLAIN, *options], config), config)]


def test_values_are_compared_by_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = trained(
        *("--policy.optimizer_lr=0.001", "--policy.labeled_episodes=[0, 1, 2]", "--dataset.root=data/pick"),
        *("--policy.resize_shape=[8,8]", "--policy.limits.change=null", "--policy.backbone.weights=vit"),
        *("--policy.backbone.encoder=resnet18", '--policy.limits.range={"x": [0, 1]}'),
    )
    same = [
        *("--policy.optimizer_lr", "1e-3", "--policy.labeled_episodes=[2,1,0]", f"--dataset.root={tmp_path}/data/pick"),
        *("--policy.resize_shape=[8, 8]", "--policy.limits.change=null", "--policy.backbone.encoder=resnet18"),
        *(f"--policy.backbone.weights={tmp_path}/vit", "--policy.limits.range={x: [0.0, 1.0]}"),
        *("--policy.limits.enabled=true", "--steps=100000", "--seed=1000"),
    ]
    assert changed(same, config) == []


def test_an_option_whose_default_is_now_unset_is_compared_by_what_unset_comes_to() -> None:
    name = "policy.num_flow_steps"
    assert changed([], trained(f"--{name}=10")) == changed([f"--{name}=10"], trained()) == []
    assert changed([], trained(f"--{name}=3")) == changed([f"--{name}=3"], trained()) == [name]


def test_options_that_leave_the_weights_as_they_are() -> None:
    neutral = [
        *("--num_workers=1", "--log_freq=3", "--save_freq=7", "--wandb.enable=true", "--job_name=x"),
        *("--env.type=pusht", "--env_eval_freq=0"),
        *("--output_dir=elsewhere", "--policy.push_to_hub=false", "--policy.repo_id=me/x", "--policy.tags=[a]"),
        *("--eval.n_episodes=3", "--dataset.video_backend=pyav", "--prefetch_factor=1"),
    ]
    assert changed(neutral, trained()) == []
    assert "--policy.push_to_hub=false" in neutral_options([*neutral, "--steps=3", "--policy.latent_dim=3"])
    assert len(neutral_options([*neutral, "--steps=3", "--policy.latent_dim=3"])) == len(neutral) - 1


def test_options_that_change_the_result_are_named() -> None:
    options = [
        *("--steps=6", "--batch_size=2", "--seed=null", "--dataset.repo_id=me/other", "--dataset.episodes=[0]"),
        *("--policy.token_dim=8", "--policy.labeled_episodes=[0]", "--policy.limits.enabled=false"),
        *("--policy.backbone.encoder=small_conv", "--dataset.image_transforms.enable=true"),
        *("--policy.motion.weight=0.2", "--policy.names={action: [a, b]}", "--policy.interpolation_tau=[0.5, 1]"),
    ]
    assert changed(options, trained()) == sorted(
        "dataset.image_transforms" if "image_transforms" in word else word[2:].partition("=")[0] for word in options
    )


def test_labels_are_compared_as_datasets_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = trained(*LABELS, "--policy.labels.episodes=[0, 2]")
    same = [
        "--policy.labels.repo_id=me/play",
        f"--policy.labels.root={tmp_path}/data",
        "--policy.labels.episodes=[2,0]",
    ]
    assert changed(same, config) == []
    assert changed([*LABELS], config) == ["policy.labels.episodes"]
    assert changed([], config) == [f"policy.labels.{name}" for name in ("episodes", "repo_id", "root")]
    older = trained()
    del older["policy"]["labels"]
    assert changed([], older) == []
    assert changed([*LABELS], older) == ["policy.labels.repo_id", "policy.labels.root"]


def test_options_that_were_given_and_are_left_out_now() -> None:
    config = trained("--policy.token_dim=8", "--policy.optimizer_lr=0.1", "--policy.labeled_episodes=[0]", "--steps=3")
    assert changed([], config) == ["policy.labeled_episodes", "policy.optimizer_lr", "policy.token_dim", "steps"]


def test_what_a_run_fills_in_is_not_what_was_asked_for() -> None:
    config = trained()
    assert changed(["--policy.language=auto", "--policy.motion.weight=null"], config) == []
    asked = ["--policy.language=none", "--policy.motion.weight=0.1"]
    assert changed(asked, config) == ["policy.language", "policy.motion.weight"]


def test_a_run_of_an_older_version_is_compared_by_what_its_options_are_now() -> None:
    """Of what it settled by itself no file says whether it was asked for."""
    config = trained()
    config["policy"] = {"type": "lafp", **json.loads(DEFAULTS.read_text()), "device": "cpu", "stage": "latent_action"}
    config["policy"] |= {"motion_weight": 0.1, "task_encoder": "none", "fps": 10.0, "limit_margin": 0.3}
    assert changed(["--policy.limits.margin=0.3"], config) == ["policy.motion.target"], (
        "of which the default is another"
    )
    then = "--policy.motion.target=centroid"
    assert changed([then, "--policy.limits.margin=0.3"], config) == []
    settled = ["--policy.language=none", "--policy.motion.weight=0.1"]
    assert changed([then, "--policy.limits.margin=0.3", *settled], config) == []
    other = [then, "--policy.limits.margin=0.2", "--policy.language=words", "--policy.motion.weight=0"]
    assert changed(other, config) == ["policy.language", "policy.limits.margin", "policy.motion.weight"]


def test_files_and_checkpoints_are_read_too(tmp_path: Path) -> None:
    """From a checkpoint a run has its options, but for those of the file and of the command line."""
    config = trained("--policy.token_dim=8", "--policy.latent_dim=6")
    (tmp_path / "config.json").write_text(json.dumps(config["policy"]))
    file = tmp_path / "stage.yaml"
    file.write_text(f"dataset: {{repo_id: me/pick}}\npolicy: {{path: {tmp_path}, policy_dim: 24}}\nsteps: 5\n")
    asked = read_command([f"--config_path={file}", "--policy.stage=latent_policy"], config)
    policy = asked.config["policy"]
    assert (policy["token_dim"], policy["policy_dim"], policy["stage"]) == (8, 24, "latent_policy")
    assert asked.config["steps"] == 5
    (tmp_path / "config.json").unlink()  # what was fine-tuned is there no more, and the same command is given again
    assert read_command([f"--config_path={file}", "--policy.stage=latent_policy"], config) == asked
    with pytest.raises(ValueError, match=r"nowhere.yaml cannot be read"):
        read_command(["--config_path=nowhere.yaml"], config)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--policy.typo=1", "unrecognized arguments: --policy.typo=1"),
        ("--policy.latent_dim=0", "`latent_dim` must be at least 1, got 0."),
        ("--steps=many", "Couldn't parse 'many' into an int"),
    ],
)
def test_options_that_cannot_be_read(option: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=says):
        read_command([*PLAIN, option], {})
    assert "usage" not in capsys.readouterr().err


def test_the_checkpoint_that_a_run_began_from(tmp_path: Path) -> None:
    """A resumed run says that it began from itself; its first checkpoint knows better."""
    config = trained() | {"output_dir": str(tmp_path / "run")}
    config["policy"]["pretrained_path"] = "me/pretrained"
    first = tmp_path / "run/checkpoints/000001/pretrained_model"
    first.mkdir(parents=True)
    (first / "train_config.json").write_text(json.dumps(config))
    resumed = copy.deepcopy(config)
    resumed["policy"]["pretrained_path"] = str(tmp_path / "run/checkpoints/last/pretrained_model")
    (tmp_path / "config.json").write_text(json.dumps(config["policy"]))
    for saved in (config, resumed):
        scratch = another_start(read_command(PLAIN, saved), saved, tmp_path / "run")
        assert scratch is not None
        assert (scratch.then, scratch.now) == ("me/pretrained", None)
        other = [*PLAIN[1:], f"--policy.path={tmp_path}"]
        assert another_start(read_command(other, saved), saved, tmp_path / "run") is not None
    first.joinpath("train_config.json").unlink()
    assert another_start(read_command(PLAIN, resumed), resumed, tmp_path / "run") is None, "not known any more"


def test_a_stage_holds_the_weights_of_the_one_before(tmp_path: Path) -> None:
    names = ("latent_action_model.idm.0.weight", "latent_action_model.motion_head.x", "latent_policy.x", "limits.x")
    weights = {name: torch.ones(2) for name in names}
    (tmp_path / "start").mkdir()
    save_file(weights, tmp_path / "start/model.safetensors")

    def built(stage: str, *other: str, **options: Any) -> bool:
        changed = {name: x * (2 if name in other else 1) for name, x in weights.items()}
        (tmp_path / "run").mkdir(exist_ok=True)
        save_file(changed, tmp_path / "run/model.safetensors")
        return is_built_on(tmp_path / "run", tmp_path / "start", {"stage": stage, **options})

    assert built("latent_policy", *names[1:])
    assert not built("latent_policy", names[0])
    assert built("action_decoder", names[1], names[3])
    assert not built("action_decoder", names[0])
    assert not built("action_decoder", names[2])
    assert built("action_decoder", names[2], finetune_policy=True)
    assert is_built_on(tmp_path / "run", tmp_path / "nowhere", {"stage": "latent_policy"}), "nothing to compare with"
