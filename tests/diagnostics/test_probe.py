"""``lafp probe`` through the real command, what it collects, and what it says of answers that are known."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, OBS_IMAGE, OBS_STATE

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.cli.main import main
from lerobot_lafp.diagnostics import Collected, collect, dataset_batches, diagnose, probe_config
from lerobot_lafp.diagnostics.collect import TAUS
from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations

IMAGE = {OBS_IMAGE: PolicyFeature(FeatureType.VISUAL, (3, 32, 32))}
STATE = {OBS_STATE: PolicyFeature(FeatureType.STATE, (2,))}
NUM_EPISODES = 7


@pytest.fixture(scope="module")
def two_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations from images and position; the actions of the first three are known, of the others NaN."""
    root = tmp_path_factory.mktemp("data") / "two_way"
    write_demonstrations(root, NUM_EPISODES, num_labeled=3, obs_type="pixels_agent_pos")
    return root


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations from images alone, without actions."""
    root = tmp_path_factory.mktemp("data") / "video"
    write_demonstrations(root, 3, num_labeled=0)
    return root


def command(checkpoint: Path, root: Path, output: Path, *more: str) -> list[str]:
    dataset = ["--dataset.repo_id=local/two_way", f"--dataset.root={root}"]
    return ["probe", f"--policy.path={checkpoint}", *dataset, f"--output_dir={output}", *more]


# --- The command ------------------------------------------------------------------------------------------------


def test_three_lines_numbers_and_figure(
    two_way: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy of all stages, on a dataset most of whose actions are withheld, with known modes."""
    checkpoint = make_checkpoint(
        IMAGE | STATE, relative_actions=True, labeled_episodes=[0], labels_repo_id="else/where"
    )
    modes = tmp_path / "modes.json"
    modes.write_text(json.dumps(["left", "right", None, "left", "right", "left", "right"]))
    assert main(command(checkpoint, two_way, tmp_path / "out", f"--modes={modes}", "--max_frames=90")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "Latents" in lines[0]
    assert "held-out linear probe R2" in lines[0]
    assert "The policy" in lines[1]
    assert "energy distance" in lines[1]
    assert "S-PCFC" in lines[2]

    numbers = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert numbers["lines"] == lines
    assert (numbers["frames"], numbers["episodes"]) == (90, NUM_EPISODES)
    assert numbers["linear_probe"]["held_out_episodes"] == 1  # of the three whose actions are not NaN
    assert numbers["linear_probe"]["target"] == "action relative to the state"
    assert numbers["structure"]["neighbours"] == NUM_EPISODES - 1
    assert numbers["structure"]["modes"] == "given"
    assert len(numbers["flow_time"]["distance_to_idm"]) == len(TAUS)
    assert (tmp_path / "out" / "probe.png").stat().st_size > 10_000


def test_latents_of_film_are_held_against_motions(
    two_way: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint that has not seen an action yet, on demonstrations whose actions are positions, as the states."""
    checkpoint = make_checkpoint(IMAGE, stage="latent_action", actions=False)
    assert LAFPConfig.from_pretrained(checkpoint).facts.action_dim is None
    assert main(command(checkpoint, two_way, tmp_path / "out", "--max_frames=60")) == 0
    assert "the actions relative to the state" in capsys.readouterr().out.splitlines()[0]


def test_stage_1_alone_on_video(
    video: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither actions nor policy: each line says what is missing, and what can be said all the same."""
    options: dict[str, Any] = {"stage": "latent_action", "codebook__size": 4, "codebook__heads": 2}
    checkpoint = make_checkpoint(IMAGE, horizon=2, num_latents=1, n_action_steps=1, **options)
    assert main(command(checkpoint, video, tmp_path / "out", "--max_frames=40", "--seed=3")) == 0
    told, policy, codebook = capsys.readouterr().out.splitlines()
    assert told.startswith("No actions in this dataset")
    assert "of 4 dimensions" in told
    assert "stage latent_policy is not trained" in policy
    assert codebook.startswith("Codebook ")
    assert "of its 4 codes" in codebook
    numbers = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert numbers["structure"] is None
    assert numbers["s_pcfc"] is not None  # from two transitions, although a chunk has but one
    assert (tmp_path / "out" / "probe.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--policy.path=nowhere", "--dataset.repo_id=a/b"], "nowhere does not exist"),
        (["--policy.path={data}", "--dataset.repo_id=a/b"], "holds no checkpoint"),
        (["--policy.path={checkpoint}", "--dataset.repo_id=a/b", "--dataset.root=/no"], "/no holds no LeRobotDataset"),
        (["--policy.path={checkpoint}", "--dataset.repo_id=a/b", "--max_frames=0"], "--max_frames must be at least 1"),
        (["--policy.path={checkpoint}", "--dataset.repo_id=a/b", "--modes=/no.json"], "cannot be read as JSON"),
        (["--policy.path={checkpoint}", "--dataset.repo_id=a/b", "--modes={not_a_list}"], "must be a list"),
        (
            ["--policy.path={checkpoint}", "--dataset.repo_id=a/b", "--dataset.root={data}", "--modes={short}"],
            f"names 2 episodes, but the dataset has at least {NUM_EPISODES}",
        ),
        (
            ["--policy.path={checkpoint}", "--dataset.repo_id=a/b", "--dataset.root={video}"],
            "Dataset a/b has no `observation.state`",
        ),
    ],
)
def test_bad_input_gives_one_line(
    arguments: Sequence[str],
    says: str,
    two_way: Path,
    video: Path,
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    no_network: None,
) -> None:
    (tmp_path / "short.json").write_text('["left", "right"]')
    (tmp_path / "not_a_list.json").write_text('{"0": "left"}')
    there = {
        "checkpoint": make_checkpoint(STATE),
        "data": two_way,
        "video": video,
        "short": tmp_path / "short.json",
        "not_a_list": tmp_path / "not_a_list.json",
    }
    capsys.readouterr()
    assert main(["probe", f"--output_dir={tmp_path / 'out'}", *(word.format(**there) for word in arguments)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    error = said.err.strip().splitlines()[-1].split("\r")[-1].strip()
    assert error.startswith("lafp probe: ")
    assert says in error
    assert not (tmp_path / "out").exists()


def test_checkpoints_without_latents(
    two_way: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, says in (
        ({"latent_source": "actions"}, "latent_source=actions"),
        ({"steps": 0}, "stage latent_action was never trained"),
    ):
        checkpoint = make_checkpoint(STATE, **options)
        assert main(command(checkpoint, two_way, tmp_path / "out")) == 1
        assert says in capsys.readouterr().err


# --- Collecting -------------------------------------------------------------------------------------------------


def test_collect_takes_batches_from_anywhere(
    make_policy: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
    snapshot: Callable[..., Any],
) -> None:
    """Latents are those of training, whatever stage the checkpoint ends in; the policy stays as it was."""
    policy = make_policy(stage="joint", labeled_episodes=[1])
    train(policy, make_batch(policy.config))
    policy.config.stage, policy.config.decoder_input = "action_decoder", "direct"
    batch = make_batch(probe_config(policy.config), size=6)
    batch[ACTION][2, 1] = torch.nan
    batch["observation.state_is_pad"][3, -1] = True
    policy.eval()
    before = snapshot(policy)
    found = collect(policy, [batch, batch], num_samples=5, seed=1)
    again = collect(policy, [batch, batch], num_samples=5, seed=1)

    assert found.z_idm.shape == (12, 2, 4)
    assert found.samples is not None
    assert found.aligned is not None
    assert again.samples is not None
    assert found.samples.shape == (12, 5, 2, 4)
    assert found.aligned.shape == (12, len(TAUS), 2, 4)
    assert found.samples.equal(again.samples)
    assert found.labeled.sum(dim=1).tolist() == [4, 4, 3, 4, 4, 4] * 2
    assert found.valid.tolist() == [[True, row % 6 != 3] for row in range(12)]
    assert found.z_past.shape == found.z_future.shape == (10, 4)
    assert all(tensor.equal(before[name]) for name, tensor in policy.state_dict().items())
    assert bool(torch.isnan(batch[ACTION]).any())

    frames = {"observation.state": policy.normalizer(batch)["observation.state"][:, 1:]}
    model = policy.latent_action_model
    assert model is not None
    with torch.no_grad():
        expected = model.normalized_latents(frames, torch.ones(6, 2, dtype=torch.bool))
    torch.testing.assert_close(found.z_idm[:3], expected[:3])
    torch.testing.assert_close(found.features[:6], frames["observation.state"][:, 0])
    torch.testing.assert_close(found.changes[:6], frames["observation.state"].diff(dim=1)[:, 0])


def test_codes_are_those_of_the_quantised_latents(
    make_policy: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
) -> None:
    policy = make_policy(stage="latent_action", codebook__size=4)
    train(policy, make_batch(policy.config, size=16), steps=3)
    found = collect(policy, [make_batch(probe_config(policy.config), size=6)])
    model = policy.latent_action_model
    assert model is not None
    assert found.codes is not None
    codebook = model.bottleneck.quantize.codebook
    built = torch.cat([codebook[head, found.codes[:, head]] for head in range(2)], dim=1)
    torch.testing.assert_close(model.statistics.unnormalize(found.z_idm).flatten(0, 1), built)
    assert found.samples is None


def test_frames_are_a_seeded_choice(two_way: Path, make_config: Callable[..., LAFPConfig]) -> None:
    def indices(**options: Any) -> list[int]:
        loader = dataset_batches(make_config(), "local/two_way", two_way, batch_size=500, **options)
        return next(iter(loader))["index"].tolist()

    chosen = indices(max_frames=20, seed=1)
    assert chosen == indices(max_frames=20, seed=1) == sorted(chosen)
    assert len(chosen) == 20
    assert chosen != indices(max_frames=20, seed=2)
    every = next(iter(dataset_batches(make_config(), "local/two_way", two_way, batch_size=500)))
    assert not bool(every["observation.state_is_pad"][:, 2].any())  # the end of the first latent


# --- What is said ------------------------------------------------------------------------------------------------


def collected(spread: float = 0.05, **changes: Any) -> Collected:
    """200 observations of 20 episodes, all alike; every other episode goes one way, and its action says which."""
    draw = torch.Generator().manual_seed(0)
    episodes = torch.arange(20).repeat_interleave(10)
    way = (2.0 * (episodes % 2) - 1).reshape(-1, 1, 1)
    z_idm = way + spread * torch.randn(200, 2, 4, generator=draw)
    ways = torch.randn(200, 16, 1, 1, generator=draw).sign()
    given = Collected(
        z_idm=z_idm,
        valid=torch.ones(200, 2, dtype=torch.bool),
        actions=z_idm[:, :1, :2].expand(-1, 4, -1),
        labeled=torch.ones(200, 4, dtype=torch.bool),
        relative=False,
        changes=z_idm[:, 0, :1],
        episodes=episodes,
        features=torch.rand(200, 3, generator=draw),
        samples=ways + spread * torch.randn(200, 16, 2, 4, generator=draw),
        aligned=z_idm.unsqueeze(1).expand(-1, len(TAUS), -1, -1),
        z_past=z_idm[:, 0],
        z_future=-z_idm[:, 0],
        codes=None,
        codebook_size=0,
        frame_offset=2,
    )
    return replace(given, **changes)


def test_good_latents_are_called_good() -> None:
    for modes in (None, ["left", "right"] * 10):
        found = diagnose(collected(), modes)
        assert found.lines[0] == "Latents tell the actions well: held-out linear probe R2 1.00 over 4 episodes."
        assert found.lines[1].startswith("The policy keeps the structure: energy distance ")
        assert "both modes covered in 100% of" in found.lines[1]
        assert found.lines[2] == "Latents describe motion: there and back point apart (S-PCFC -1.00)."
        assert found.numbers["flow_time"]["wrong_mode_rate"] == [0.0] * len(TAUS)
        assert json.dumps(found.numbers, allow_nan=False)


def test_bad_latents_are_called_bad() -> None:
    noise = torch.randn(200, 4, 2, generator=torch.Generator().manual_seed(7))
    mean, alike = torch.zeros(200, 16, 2, 4), torch.ones(200, 4)
    swapped = -collected().z_idm.unsqueeze(1).expand(-1, len(TAUS), -1, -1)
    found = diagnose(collected(actions=noise, samples=mean, aligned=swapped, z_past=alike, z_future=alike))
    assert found.lines[0].startswith("Latents hardly tell the actions: held-out linear probe R2 -")
    assert found.lines[1].startswith("The policy loses the structure: energy distance ")
    assert "both modes covered in 0% of" in found.lines[1]
    assert found.numbers["structure"]["between_modes"] == 1
    assert found.lines[2].startswith("Latents describe appearance more than motion")
    assert found.numbers["flow_time"]["wrong_mode_rate"] == [1.0] * len(TAUS)
    assert found.numbers["flow_time"]["distance_to_idm"][0] == pytest.approx(2, abs=0.05)


def test_what_cannot_be_measured_is_said() -> None:
    unknown = torch.zeros(200, 4, dtype=torch.bool)
    found = diagnose(collected(labeled=unknown))
    assert found.lines[0].startswith("No actions in this dataset: latents tell the changes of the state well: held-out")
    one_episode = unknown.clone()
    one_episode[:10] = True
    assert "at least two episodes" in diagnose(collected(labeled=one_episode)).lines[0]
    still = diagnose(collected(actions=torch.ones(200, 4, 2)))
    assert still.lines[0] == "Latents are not probed: the actions never change in 4 held-out episodes."
    assert still.numbers["linear_probe"]["r2"] is None

    few = diagnose(collected(episodes=torch.arange(200) // 50))
    assert few.lines[1] == "The policy is not judged: it takes whole chunks of at least 5 episodes."
    one_way = diagnose(collected(spread=1.0, samples=torch.randn(200, 16, 2, 4)))
    assert one_way.lines[1].endswith("no neighbourhood is bimodal.")
    nothing = torch.zeros(0, 4)
    assert "it takes an episode of 5 frames" in diagnose(collected(z_past=nothing, z_future=nothing)).lines[2]


@pytest.mark.parametrize(("used", "word"), [(8, "well used"), (2, "used in part"), (1, "collapsed")])
def test_codebooks_in_words(used: int, word: str) -> None:
    codes = (torch.arange(160) % used).unsqueeze(1).expand(-1, 2)
    line = diagnose(collected(codes=codes, codebook_size=12)).lines[2]
    assert line.startswith(f"Codebook {word}: {used / 12:.0%} of its 12 codes occur, perplexity {used}, over 2")
