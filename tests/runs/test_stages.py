"""Which `lerobot-train` runs `lafp train` makes of its arguments, and which arguments it refuses."""

import json
from pathlib import Path

import pytest

from lerobot_lafp.errors import UserError
from lerobot_lafp.options.constants import STAGES
from lerobot_lafp.runs import stages
from lerobot_lafp.runs.stages import train_stages
from lerobot_lafp.runs.trainings import Training

from ..building import lafp

DATA = "--dataset.repo_id=me/pick"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """The runs that would have been started."""
    runs: list[Training] = []
    monkeypatch.setattr(stages, "carry_out", runs.append)
    return runs


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A LAFP checkpoint, as far as its options go."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    lafp(device="cpu").save_pretrained(folder)
    return folder


def write_folder(folder: Path, **policy: object) -> Path:
    """One configuration file a stage, with these options of stage latent_policy."""
    for number, stage in enumerate(STAGES, start=1):
        own = policy if stage == "latent_policy" else {}
        config = {"dataset": {"repo_id": "me/pick"}, "policy": {"type": "lafp", "stage": stage, **own}}
        (folder / f"{number}_{stage}.yaml").write_text(json.dumps(config))  # JSON is YAML
    return folder


def test_from_scratch(trained: list[Training], tmp_path: Path) -> None:
    train_stages([DATA, "--policy.type=lafp", "--latent_policy.steps", "7", f"--output_dir={tmp_path}"])
    assert [run.output_dir for run in trained] == [tmp_path / stage for stage in STAGES]
    assert [run.start for run in trained] == [None, tmp_path / STAGES[0], tmp_path / STAGES[1]]
    assert trained[0].arguments == ["--policy.type=lafp", "--policy.stage=latent_action", DATA]
    assert trained[1].arguments == [
        f"--policy.path={tmp_path}/latent_action/checkpoints/last/pretrained_model",
        *("--policy.stage=latent_policy", DATA, "--steps=7"),
    ]


@pytest.mark.parametrize("option", ["--policy.path", "--latent_action.policy.path"])
def test_a_checkpoint_is_fine_tuned_by_its_first_stage(
    option: str, trained: list[Training], checkpoint: Path, tmp_path: Path
) -> None:
    train_stages([DATA, f"{option}={checkpoint}", f"--output_dir={tmp_path}"])
    assert trained[0].arguments == [f"--policy.path={checkpoint}", "--policy.stage=latent_action", DATA]
    assert "latent_action/checkpoints" in trained[1].arguments[0]


def test_a_folder_keeps_its_options_beside_a_path(trained: list[Training], checkpoint: Path, tmp_path: Path) -> None:
    """LeRobot reads nothing of a file's policy beside --policy.path, and no lists of one that has a path."""
    folder = write_folder(tmp_path, policy_dim=24, labeled_episodes=[0, 3], resize_shape=None)
    train_stages([str(folder), f"--policy.path={checkpoint}", f"--output_dir={tmp_path / 'run'}"])
    assert trained[0].arguments[1] == f"--policy.path={checkpoint}"
    assert trained[1].arguments[2:] == [
        *("--policy.policy_dim=24", "--policy.labeled_episodes=[0, 3]", "--policy.resize_shape=null"),
        "--policy.stage=latent_policy",
    ]


def test_a_path_in_the_first_file_is_where_it_starts(trained: list[Training], checkpoint: Path, tmp_path: Path) -> None:
    file = write_folder(tmp_path) / "1_latent_action.yaml"
    file.write_text(json.dumps({"policy": {"path": str(checkpoint)}, "steps": 3}))
    train_stages([str(tmp_path), f"--output_dir={tmp_path / 'run'}"])
    assert trained[0].arguments[1:] == [f"--policy.path={checkpoint}", "--policy.stage=latent_action"]


def test_without_a_decoder_there_are_two_stages(trained: list[Training], tmp_path: Path) -> None:
    last = train_stages([DATA, "--policy.decoder_input=action_head", f"--output_dir={tmp_path}"])
    assert [run.output_dir.name for run in trained] == ["latent_action", "latent_policy"]
    assert "latent_policy" in str(last)


@pytest.mark.parametrize(
    ("options", "last"), [([], "action_decoder"), (["--policy.decoder_input=action_head"], "latent_policy")]
)
def test_an_evaluation_is_of_the_stage_that_can_act(
    options: list[str], last: str, trained: list[Training], tmp_path: Path
) -> None:
    evaluation = ["--env.type=pusht", "--eval.n_episodes=3", "--env_eval_freq=10"]
    train_stages([DATA, *options, *evaluation, "--latent_action.env_eval_freq=0", f"--output_dir={tmp_path}"])
    for run in trained:
        assert ("--env.type=pusht" in run.arguments) == (run.output_dir.name == last)
    assert "--env_eval_freq=0" in trained[0].arguments


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--policy.type=act", "lafp train trains LAFP; for another policy, use lerobot-train"),
        ("--latent_policy.policy.type=act", "--latent_policy.policy.type=act is not possible"),
        ("--policy.stage=joint", "To train one stage, use lerobot-train"),
        ("--latent_action.policy.stage=joint", "--latent_action.policy.stage=joint is not an option"),
        ("--policy.path=/nowhere/at/all", "/nowhere/at/all does not exist"),
        ("--latent_policy.policy.path=me/other", "use lerobot-train --policy.path=CHECKPOINT"),
        ("--policy.pretrained_path=x", "give --policy.path=CHECKPOINT"),
        ("--policy=x.yaml", "give the options one by one"),
        ("--resume=true", "give the same command again"),
        ("--config_path=x.yaml", "lafp train FOLDER"),
        ("--latent_policy.output_dir=x", "each stage is saved in DIR/STAGE"),
        ("--reward_model.type=x", "no reward model"),
        ("--save_checkpoint=false", "each stage starts from the checkpoint"),
        ("--job.target=a100", "on this machine"),
        ("--optimizer.lr=1", "Set --policy.optimizer_lr"),
        ("one two", "two is one argument too many"),
        ("--policy.labeled_episodes=[0] --action_decoder.dataset.repo_id=me/other", "Give each stage its own"),
        (
            "--labels.repo=me/play",
            "--labels.repo=me/play is not an option of lafp train. Of the labels dataset there are",
        ),
        ("--latent_action.labels.repo=me/play", "--labels.repo_id, --labels.root, --labels.episodes"),
        ("--labels.repo_id=me/play --policy.labeled_episodes=[0]", "use --labels.episodes=[..]"),
        ("--labels.repo_id=me/play --action_decoder.dataset.repo_id=me/x", "Stage action_decoder reads nothing of"),
        ("--labels.repo_id=me/play --action_decoder.policy.finetune_policy=true", "would teach the policy"),
    ],
)
def test_what_would_not_be_followed_is_refused(
    options: str, says: str, trained: list[Training], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        train_stages([DATA, *options.split(), f"--output_dir={tmp_path}"])
    assert says in str(refused.value)
    assert trained == []


@pytest.mark.parametrize(
    ("policy", "says"),
    [({"type": "act"}, "use lerobot-train"), ({"stage": "joint"}, "--policy.stage=joint is not an option")],
)
def test_files_are_refused_alike(policy: dict[str, str], says: str, trained: list[Training], tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        train_stages([str(write_folder(tmp_path, **policy)), f"--output_dir={tmp_path / 'run'}"])
    assert says in str(refused.value)
    assert trained == []


def test_labels_are_named_as_the_dataset_is(trained: list[Training], tmp_path: Path) -> None:
    """For all stages, or for one; LeRobot knows them as the policy's."""
    one = ["--labels.repo_id", "me/play", "--labels.root=data/play", "--action_decoder.labels.episodes=[0,1]"]
    train_stages([DATA, *one, f"--output_dir={tmp_path}"])
    own = ["--policy.labels.repo_id=me/play", "--policy.labels.root=data/play"]
    assert [run.arguments[2:] for run in trained] == [
        [DATA, *own],
        [DATA, *own],
        [DATA, *own, "--policy.labels.episodes=[0,1]"],
    ]


def test_labels_in_a_file_are_the_policys(trained: list[Training], tmp_path: Path) -> None:
    folder = write_folder(tmp_path, labels={"repo_id": "me/play"})
    train_stages([str(folder), f"--output_dir={tmp_path / 'run'}"])
    assert '--policy.labels={"repo_id": "me/play"}' in trained[1].arguments
    file = folder / "1_latent_action.yaml"
    file.write_text(json.dumps({**json.loads(file.read_text()), "labels": {"repo_id": "me/play"}}))
    with pytest.raises(UserError, match=r"--labels\.repo_id=me/play is not an option.*policy: \{labels: \{repo_id"):
        train_stages([str(folder), f"--output_dir={tmp_path / 'run'}"])


def test_a_list_of_labelled_episodes_in_a_file_can_be_taken_back(trained: list[Training], tmp_path: Path) -> None:
    folder = write_folder(tmp_path, labeled_episodes=[0, 3])
    words = [str(folder), "--labels.repo_id=me/play", f"--output_dir={tmp_path / 'run'}"]
    with pytest.raises(UserError, match=r"in a configuration file, add --policy\.labeled_episodes=null"):
        train_stages(words)
    train_stages([*words, "--policy.labeled_episodes=null"])
    assert len(trained) == 3


def test_a_checkpoint_of_another_policy_is_refused(trained: list[Training], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"type": "act", "device": "cpu"}))
    with pytest.raises(UserError, match="is no LAFP checkpoint, but one of policy type act"):
        train_stages([DATA, f"--policy.path={tmp_path}", f"--output_dir={tmp_path / 'run'}"])
    assert trained == []


def test_an_optimiser_of_ones_own_is_followed(trained: list[Training], tmp_path: Path) -> None:
    own = ["--use_policy_training_preset=false", "--optimizer.type=adam", "--scheduler.type=diffuser"]
    train_stages([DATA, *own, f"--output_dir={tmp_path}"])
    assert trained[0].arguments[-3:] == own
