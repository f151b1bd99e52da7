"""``lafp view`` through the real command, its files read back, and its numbers against answers that are known."""

import importlib.util
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.utils.constants import ACTION, OBS_IMAGE, OBS_STATE
from PIL import Image
from torch import Tensor

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.cli.main import main
from lerobot_lafp.diagnostics import view_episode
from lerobot_lafp.diagnostics.view_episode import as_bytes, open_episode
from lerobot_lafp.diagnostics.view_layout import WIDTH, Box, arrange
from lerobot_lafp.diagnostics.view_measures import LEAST_APART, accuracy, find_modes, measure, summarize
from lerobot_lafp.diagnostics.view_panels import Panels
from lerobot_lafp.diagnostics.view_policy import View, run_over
from lerobot_lafp.diagnostics.view_projection import project
from lerobot_lafp.diagnostics.view_recording import write_recording
from lerobot_lafp.diagnostics.view_samples import Sampler
from lerobot_lafp.diagnostics.view_video import write_video
from lerobot_lafp.options.constants import LATENT_ACTION
from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations

from ..conftest import FRONT, STATE
from ..data.datasets import numbers, write

IMAGE = {OBS_IMAGE: PolicyFeature(FeatureType.VISUAL, (3, 32, 32))}
STATES = {OBS_STATE: PolicyFeature(FeatureType.STATE, (2,))}


@pytest.fixture(scope="module")
def two_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations from images and position; the actions of the first are known, of the second NaN."""
    root = tmp_path_factory.mktemp("data") / "two_way"
    write_demonstrations(root, 2, num_labeled=1, obs_type="pixels_agent_pos")
    return root


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demonstration from images alone, without actions."""
    root = tmp_path_factory.mktemp("data") / "video"
    write_demonstrations(root, 1, num_labeled=0)
    return root


def command(checkpoint: Path, root: Path, output: Path, *more: str) -> list[str]:
    dataset = ["--dataset.repo_id=local/two_way", f"--dataset.root={root}"]
    return ["view", f"--policy.path={checkpoint}", *dataset, f"--output_dir={output}", "--samples=8", *more]


def entities(recording: Path) -> set[str]:
    """The entities of a recording, without those that rerun keeps of itself."""
    try:
        from rerun.experimental import RrdReader

        schema = str(RrdReader(str(recording)).store().schema())
    except ImportError:  # before 0.32
        from rerun.dataframe import load_recording

        schema = str(load_recording(recording).schema())
    found = {line.split(": ", 1)[1].replace("\\", "") for line in schema.splitlines() if "Entity path: " in line}
    return {entity for entity in found if not entity.startswith("/__")}


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def length(root: Path, episode: int = 0) -> int:
    return int(LeRobotDatasetMetadata("local/two_way", root=root).episodes["length"][episode])


# --- The command ------------------------------------------------------------------------------------------------


def test_recording_video_and_summary(
    two_way: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(IMAGE | STATES, relative_actions=True, labeled_episodes=[0])
    assert main(command(checkpoint, two_way, tmp_path / "out")) == 0
    lines = capsys.readouterr().out.splitlines()
    frames, recording = length(two_way), tmp_path / "out" / "local_two_way_episode_0.rrd"
    plans = -(-frames // 3)
    assert lines[0] == (
        f"Episode 0 of local/two_way: {frames} frames, 10 per second, {plans} planning moments, 8 samples at each."
    )
    assert lines[1].startswith("Actions, in deviations of those of the training: error of the mean sample ")
    assert lines[1].endswith(f"({plans} planning moments).")
    assert lines[2].startswith("Latents, against those of the inverse model: ")
    assert lines[3].startswith("The samples split into two modes at ")
    assert lines[4].startswith("The limits of the checkpoint change ")
    assert lines[5] == f"Recording: {recording} (open it: rerun {recording})"
    assert lines[6] == f"Video: {recording.with_suffix('.mp4')}"
    assert len(lines) == 7

    turns = {f"/{of}/policy/{turn}" for of in ("action/x", "action/y", "latents/component_1") for turn in (0, 1)}
    expected = {"/action/x/recorded", "/action/y/recorded", "/latents/component_1/inverse_model", "/camera/image"}
    expected |= turns | {"/latents/inverse_model", "/splits/ratio", "/error/mean", "/error/best", "/summary"}
    assert expected <= entities(recording)
    found = pictures(recording.with_suffix(".mp4"))
    assert len(found) == frames
    assert found[0].shape[1] == WIDTH
    with av.open(str(recording.with_suffix(".mp4"))) as container:
        assert container.streams.video[0].average_rate == 10


def test_an_episode_whose_actions_are_withheld(
    two_way: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(IMAGE | STATES, labeled_episodes=[0])
    assert main(command(checkpoint, two_way, tmp_path / "out", "--episode=1")) == 0
    said = capsys.readouterr().out
    assert "The actions of this episode are not known (NaN)." in said
    assert "Actions, in" not in said
    found = entities(tmp_path / "out" / "local_two_way_episode_1.rrd")
    assert "/action/x/policy/0" in found
    assert not any(each.endswith("/recorded") for each in found)


def test_video_without_actions(
    video: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy that can act is shown with its samples alone."""
    assert main(command(make_checkpoint(IMAGE), video, tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "The dataset has no actions." in said
    assert "Latents, against those of the inverse model" in said
    assert len(pictures(tmp_path / "out" / "local_two_way_episode_0.mp4")) == length(video)
    found = entities(tmp_path / "out" / "local_two_way_episode_0.rrd")
    assert {"/action/action 0/policy/0", "/action/action 1/policy/0"} <= found


@pytest.mark.parametrize("stage", ["latent_action", "latent_policy"])
def test_a_checkpoint_without_a_decoder_shows_latents_only(
    stage: str,
    trained: Callable[..., LAFPPolicy],
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.conftest.FEATURES", IMAGE)
    trained(stage, OBS_IMAGE, actions=False).save_pretrained(tmp_path / "checkpoint")
    assert main(command(tmp_path / "checkpoint", video, tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "No actions are sampled. This LAFP checkpoint cannot act" in said
    assert "--policy.stage=action_decoder" in said
    found = entities(tmp_path / "out" / "local_two_way_episode_0.rrd")
    assert "/latents/inverse_model" in found
    assert ("/latents/component_1/policy/0" in found) == (stage == "latent_policy")
    assert not any(each.startswith("/action") for each in found)
    assert len(pictures(tmp_path / "out" / "local_two_way_episode_0.mp4")) == length(video)


def test_the_baseline_has_no_latents(
    two_way: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(IMAGE, latent_source="actions")
    assert main(command(checkpoint, two_way, tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "This checkpoint has no latents: latent_source=actions." in said
    assert "error of the mean sample" in said
    found = entities(tmp_path / "out" / "local_two_way_episode_0.rrd")
    assert "/action/x/policy/1" in found
    assert not any(each.startswith("/latents") for each in found)


def test_behaviour_cloning_has_one_sample(
    two_way: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(make_checkpoint(STATES, policy_head="bc"), two_way, tmp_path / "out")) == 0
    assert "split into two modes at 0 of " in capsys.readouterr().out


def test_states_that_only_the_decoder_reads_may_be_missing(
    make_policy: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
    next_stage: Callable[..., LAFPPolicy],
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.conftest.FEATURES", IMAGE | STATES)
    options = {"decoder_observes": "state", "stage": "joint", "latent_features": [OBS_IMAGE]}
    policy = make_policy(OBS_IMAGE, OBS_STATE, **options)
    train(policy, make_batch(policy.config))
    policy.save_pretrained(tmp_path / "checkpoint")
    assert main(command(tmp_path / "checkpoint", video, tmp_path / "out")) == 0
    assert "the dataset has no `observation.state`, which the decoder reads" in capsys.readouterr().out


def test_another_rate_than_that_of_the_training_is_told(
    two_way: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(make_checkpoint(STATES, fps=30.0), two_way, tmp_path / "out")) == 0
    assert "10 frames per second, and the policy was trained at 30" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--policy.path=nowhere"], "nowhere does not exist"),
        (["--dataset.root=/no"], "/no holds no LeRobotDataset"),
        (["--episode=2"], "local/two_way has no episode 2: choose --episode from 0 to 1."),
        (["--episode=-1"], "has no episode -1"),
        (["--samples=4"], "--samples must be at least 8, got 4"),
        (["--output_dir={file}/out"], "cannot be written: {file} is no folder"),
        (["--dataset.root={video}"], "Dataset local/two_way has no `observation.state`"),
        (["--dataset.root={wide}"], "`action` has 3 dimensions in local/two_way, and 2 in this policy"),
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
    def frame(episode: int, t: int, draw: np.random.Generator) -> dict[str, Any]:
        return {OBS_STATE: draw.normal(size=2).astype(np.float32), ACTION: np.zeros(3, np.float32)}

    (tmp_path / "file").write_text("")
    wide = write(tmp_path / "wide", {OBS_STATE: numbers(2), ACTION: numbers(3)}, frame, lengths=(12,))
    there = {"file": tmp_path / "file", "video": video, "wide": wide}
    given = command(make_checkpoint(STATES), two_way, tmp_path / "out")
    capsys.readouterr()
    assert main([*given, *(word.format(**there) for word in arguments)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    error = said.err.strip().splitlines()[-1].split("\r")[-1].strip()
    assert error.startswith("lafp view: ")
    assert says.format(**there) in error
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_which_nothing_is_trained(
    two_way: Path, make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(make_checkpoint(STATES, steps=0), two_way, tmp_path / "out")) == 1
    assert "no stage was trained in it. Train it first (lafp train" in capsys.readouterr().err


def test_without_rerun_the_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rerun" else find(name))
    assert main(command(tmp_path / "nowhere", tmp_path, tmp_path / "out")) == 1
    assert "pip install 'lerobot_policy_lafp[view]'" in capsys.readouterr().err


# --- Reading ----------------------------------------------------------------------------------------------------


def seen(checkpoint: Path, root: Path, episode: int = 0) -> View:
    """What the command shows of an episode."""
    policy = LAFPPolicy.from_pretrained(checkpoint)
    opened = open_episode(policy.config, policy.normalizer.vector_shapes, "local/two_way", root, episode)
    return run_over(policy, opened, num_samples=8)


def test_blocks_do_not_matter(
    two_way: Path, make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(IMAGE | STATES)
    whole = seen(checkpoint, two_way)
    monkeypatch.setattr(view_episode, "BLOCK", 2)
    parts = seen(checkpoint, two_way)
    assert whole.pictures == parts.pictures
    assert len(whole.pictures[OBS_IMAGE]) == whole.length == length(two_way)
    assert whole.human is not None
    for name in ("human", "plans", "chunks", "latents", "samples"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), equal_nan=True)


def test_an_episode_is_that_of_the_dataset(two_way: Path, make_checkpoint: Callable[..., Path]) -> None:
    """Its recorded actions and the latents that ``lafp label`` would write; the second episode's are its own."""
    checkpoint = make_checkpoint(IMAGE)
    dataset = LeRobotDataset("local/two_way", root=two_way)
    first, second = seen(checkpoint, two_way, 0), seen(checkpoint, two_way, 1)
    assert first.human is not None
    recorded = torch.stack([dataset[i][ACTION] for i in range(first.length)])
    torch.testing.assert_close(first.human, recorded)
    assert second.human is None
    assert main(["label", *command(checkpoint, two_way, checkpoint.parent / "labelled")[1:5]]) == 0
    labelled = LeRobotDataset("local/two_way", root=checkpoint.parent / "labelled")
    for found, start in ((first, 0), (second, first.length)):
        assert found.latents is not None
        expected = torch.stack([labelled[start + i][LATENT_ACTION][:4] for i in range(found.length - 2)])
        torch.testing.assert_close(found.latents[:-2], expected)
        assert found.latents[-2:].isnan().all()


def test_actions_of_another_order_are_matched_by_name(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    def frame(episode: int, t: int, draw: np.random.Generator) -> dict[str, Any]:
        return {OBS_STATE: draw.normal(size=2).astype(np.float32), ACTION: np.array([t, -t], np.float32)}

    features = {OBS_STATE: numbers(2), ACTION: numbers(2, ["b", "a"])}
    found = seen(make_checkpoint(STATES, action_names=["a", "b"]), write(tmp_path / "ba", features, frame, (12,)))
    assert found.names == ["a", "b"]
    assert found.human is not None
    assert found.human[3].tolist() == [-3, 3]


def test_a_dataset_of_features_in_place_of_video(
    two_way: Path, make_checkpoint: Callable[..., Path], make_vit: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(
        IMAGE, backbone__encoder="vit", backbone__weights=str(make_vit()), backbone__grid=2, resize_shape=(24, 24)
    )
    assert main(["label", *command(checkpoint, two_way, tmp_path / "features")[1:5], "--features"]) == 0
    found, expected = seen(checkpoint, tmp_path / "features"), seen(checkpoint, two_way)
    assert list(expected.pictures) == [OBS_IMAGE]
    assert found.pictures == {}
    torch.testing.assert_close(found.chunks, expected.chunks, rtol=1e-3, atol=1e-4)


def test_images_of_every_kind_become_bytes() -> None:
    fractions = torch.tensor([0.0, 0.5, 2.0]).reshape(3, 1, 1).expand(3, 4, 5)
    assert as_bytes(fractions).shape == (4, 5, 3)
    assert as_bytes(fractions)[0, 0].tolist() == [0, 128, 255]
    bytes_of = torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1)
    assert as_bytes(bytes_of)[0, 0].tolist() == [0, 1, 2]
    distances = torch.tensor([[[500.0, 1000.0, 1500.0, torch.nan]]])
    assert as_bytes(distances, (500.0, 1500.0))[0, :, 0].tolist() == [0, 128, 255, 0]


# --- Samples ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"relative_actions": True},
        {"decoder_observes": "tokens", "language": "words"},
        {"latent_source": "actions", "relative_actions": True},
        {"decoder_input": "action_head"},
    ],
)
def test_samples_are_those_of_predict_action_chunk(options: dict[str, Any], trained: Callable[..., LAFPPolicy]) -> None:
    """Block by block, with the history across their borders, each sample of its own noise."""
    policy = trained("joint", STATE, FRONT, limits__enabled=False, **options).eval()
    draw = torch.Generator().manual_seed(5)
    frames = {STATE: torch.randn(11, 2, generator=draw), FRONT: torch.rand(11, 3, 20, 24, generator=draw)}
    tasks = ["push"] * 5 + ["pull"] * 6
    sampler = Sampler(policy.stages, True, 3, torch.Generator().manual_seed(2))
    with torch.no_grad():
        for first, end in ((0, 2), (2, 3), (3, 7), (7, 11)):
            sampler.take({key: x[first:end] for key, x in frames.items()}, tasks[first:end])
    found = sampler.found()
    assert found.chunks is not None
    assert found.chunks.shape == (4, 3, 4, 2)  # planned at 0, 3, 6, 9
    again = torch.Generator().manual_seed(2)
    for moment, at in ((0, [0, 0]), (3, [2, 3]), (6, [5, 6]), (9, [8, 9])):
        noise = torch.randn(3, *policy.stages.acting_policy.chunk_shape, generator=again)
        batch: dict[str, Any] = {key: x[at].expand(3, *[-1] * x.ndim) for key, x in frames.items()}
        expected = policy.predict_action_chunk({**batch, "task": [tasks[moment]] * 3}, noise=noise)
        torch.testing.assert_close(found.chunks[moment // 3], expected, atol=1e-5, rtol=1e-4)


def test_samples_that_are_not_finite_are_refused_by_their_frame(trained: Callable[..., LAFPPolicy]) -> None:
    policy = trained("joint", STATE).eval()
    sampler = Sampler(policy.stages, True, 8, torch.Generator())
    states = torch.randn(9, 2)
    states[6] = torch.nan
    with torch.no_grad():
        sampler.take({STATE: states}, [""] * 9)
    with pytest.raises(RuntimeError, match="NaN or infinite values at frame 6"):
        sampler.found()


# --- Numbers ----------------------------------------------------------------------------------------------------


def rms(*numbers: float) -> float:
    return math.sqrt(sum(x * x for x in numbers) / len(numbers))


def test_accuracy_by_hand() -> None:
    """Three samples of two steps and two dimensions; the second step is beyond the episode."""
    samples = torch.tensor([[[0.0, 0.0], [9.0, 9.0]], [[2.0, 0.0], [9.0, 9.0]], [[4.0, 3.0], [9.0, 9.0]]]).unsqueeze(0)
    done = torch.tensor([[[1.0, 1.0], [torch.nan, 0.0]]])
    found = accuracy(samples, done, torch.tensor([[True, False]]))
    apart = [rms(1, 1), rms(1, 1), rms(3, 2)]
    assert found.mean.tolist() == pytest.approx([rms(1, 0)])
    assert found.best.tolist() == pytest.approx([1.0])
    spread = [rms(2, 0), rms(4, 3), rms(2, 3)]
    assert found.energy_score.tolist() == pytest.approx([sum(apart) / 3 - sum(spread) / 3 / 2])

    nothing = accuracy(samples, done, torch.tensor([[False, False]]))
    assert nothing.mean.isnan().all()
    assert not nothing.known.any()


def test_energy_score_of_a_normal_distribution() -> None:
    """``E|X| - E|X - X'| / 2 = sqrt(2 / pi) - 1 / sqrt(pi)`` where what is done is its mean."""
    samples = torch.randn(200, 200, 1, 1, generator=torch.Generator().manual_seed(0))
    found = accuracy(samples, torch.zeros(200, 1, 1), torch.ones(200, 1, dtype=torch.bool))
    assert float(found.energy_score.mean()) == pytest.approx(math.sqrt(2 / math.pi) - 1 / math.sqrt(math.pi), abs=0.01)


def test_modes() -> None:
    draw = torch.Generator().manual_seed(0)
    one = 0.1 * torch.randn(16, 4, 2, generator=draw)
    two, outlier, near = one.clone(), one.clone(), 0.0001 * one
    two[[1, 4, 5, 9, 12]] += 1
    outlier[3] += 5
    near[:8] += LEAST_APART / 2
    found = find_modes(torch.stack([one, two, outlier, near, torch.ones(16, 4, 2)]))
    assert found.split.tolist() == [False, True, False, False, False]
    assert found.second.nonzero().tolist() == [[1, i] for i in (1, 4, 5, 9, 12)]
    assert found.ratio[2] == 0


def made_view(**changes: Any) -> View:
    """Four frames, planned every second one: two samples of chunks of two actions, one unit beside what was done."""
    human = torch.tensor([[0.0, 10.0], [1.0, 10.0], [2.0, 10.0], [3.0, 10.0]])
    done = torch.stack([human[:2], human[2:]]).unsqueeze(1)
    unit = torch.tensor([2.0, 4.0])
    samples = torch.cat([done + 2 * unit, done], dim=1)  # the mean is one deviation away
    latents = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [3.0, 1.0, 1.0], [torch.nan] * 3])
    view = View(
        length=4,
        fps=5.0,
        pictures={},
        names=["x", "y"],
        human=human,
        plans=torch.tensor([0, 2]),
        chunks=samples.repeat(1, 4, 1, 1),
        unit=unit,
        limited=0.25,
        latents=latents,
        samples=latents[[0, 2]].reshape(2, 1, 1, 3).expand(2, 8, 2, 3),
        frame_offset=1,
        steps=2,
        notes=["Something is missing."],
    )
    return replace(view, **changes)


def test_summary_by_hand() -> None:
    view = made_view()
    findings = measure(view)
    assert findings.actions is not None
    assert findings.actions.mean.tolist() == pytest.approx([1.0, 1.0])
    assert findings.actions.best.tolist() == pytest.approx([0.0, 0.0])
    # half of the samples are 2 away; of the 28 pairs of 8 samples 16 are 2 apart
    assert findings.actions.energy_score.tolist() == pytest.approx([1 - 16 * 2 / 28 / 2] * 2)
    assert findings.latents is not None
    # at 0 the second latent is (1, 0, 0) away; at 2 it is beyond the episode, and the first is met
    assert findings.latents.mean.tolist() == pytest.approx([math.sqrt(1 / 6), 0.0], abs=1e-6)
    assert summarize(view, findings) == [
        "Actions, in deviations of those of the training: error of the mean sample 1.00, of the best 0.00, "
        "energy score 0.43 (2 planning moments).",
        "Latents, against those of the inverse model: error of the mean sample 0.20, of the best 0.20, "
        "energy score 0.20 (2 planning moments).",
        "The samples split into two modes at 2 of 2 planning moments: frames 0, 2.",
        "The limits of the checkpoint change 25% of the sampled commands.",
        "Something is missing.",
    ]


def test_what_is_not_known_is_not_measured() -> None:
    unknown = made_view(human=None, latents=None)
    findings = measure(unknown)
    assert findings.actions is None
    assert findings.latents is None
    assert findings.modes is not None
    nothing = measure(replace(unknown, chunks=None, unit=None, samples=None))
    assert nothing.modes is None
    assert summarize(replace(unknown, limited=None, notes=[]), nothing) == []


def test_latents_are_drawn_on_their_principal_components() -> None:
    found = project(made_view())
    assert found is not None
    assert found.latents is not None
    assert found.samples is not None
    assert sum(found.shares) == pytest.approx(1)  # the third dimension is constant
    torch.testing.assert_close(found.samples[1, 3, 0], found.latents[2])
    torch.testing.assert_close((found.latents[0] - found.latents[2]).norm(), torch.tensor(10.0).sqrt())
    assert project(made_view(latents=None, samples=None)) is None


# --- Pictures ---------------------------------------------------------------------------------------------------


def overlap(one: Box, other: Box) -> bool:
    across = one.x < other.x + other.width and other.x < one.x + one.width
    return across and one.y < other.y + other.height and other.y < one.y + one.height


@pytest.mark.parametrize("num_actions", [0, 1, 2, 7, 13, 32])
@pytest.mark.parametrize("cameras", [0, 1, 3, 5])
@pytest.mark.parametrize("has_latents", [True, False])
def test_panels_do_not_overlap(num_actions: int, cameras: int, has_latents: bool) -> None:
    layout = arrange({str(i): (240, 320) for i in range(cameras)}, num_actions, has_latents)
    boxes = [*layout.cameras.values(), *layout.actions, *layout.latents, layout.overview]
    assert len(boxes) == cameras + num_actions + 3 * has_latents + 1
    assert not any(overlap(one, other) for one, other in combinations(boxes, 2))
    assert all(box.x >= 0 and box.x + box.width <= WIDTH and box.width >= 100 for box in boxes)
    assert all(box.y >= 60 and box.y + box.height <= layout.height and box.height >= 60 for box in boxes)
    assert layout.height % 2 == 0
    assert all(box.height == pytest.approx(0.75 * box.width, abs=1) for box in layout.cameras.values())


def grey(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), level, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def test_each_picture_shows_its_own_frame() -> None:
    view = made_view(pictures={"observation.images.front": [grey(60 * i) for i in range(4)]})
    panels = Panels(view, measure(view), "title")
    box = panels.layout.cameras["observation.images.front"]
    for frame in (0, 3, 1):
        picture = panels.frame(frame)
        assert picture.shape == (*panels.size, 3)
        assert np.median(picture[box.y : box.y + box.height, box.x : box.x + box.width]) == 60 * frame
    assert (panels.frame(2) == panels.frame(2)).all()
    assert (panels.frame(2) != panels.frame(0)).any()


def lines_of(panels: Panels, dimension: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the panel of an action draws: recorded, samples, samples of the smaller mode; each (points, 2)."""
    recorded, fans = panels._actions[dimension]
    found = [torch.tensor(np.stack(line.get_data(), axis=1)) for line in (recorded, *fans)]
    return found[0], found[1], found[2]


def test_the_fan_stays_where_it_was_planned() -> None:
    view = made_view()
    panels = Panels(view, measure(view), "title")
    assert view.chunks is not None
    for frame, plan in ((2, 2), (3, 2), (1, 0)):
        panels.frame(frame)
        recorded, first, second = lines_of(panels, 0)
        assert recorded[recorded[:, 0].abs().argmin(), 1] == frame  # the recorded x is the frame's number
        drawn = torch.cat([first, second])
        drawn = drawn[~drawn.isnan().any(dim=1)]
        assert drawn[:, 0].unique().tolist() == pytest.approx([(plan - frame) / 5, (plan - frame + 1) / 5])
        chunks = view.chunks[plan // 2, :, :, 0]
        assert sorted(drawn[:, 1].tolist()) == sorted(chunks.flatten().tolist())
        assert len(first) == len(second), "4 samples of either mode"


@pytest.mark.parametrize("missing", [(), ("human",), ("chunks", "unit"), ("latents", "samples"), ("samples", "chunks")])
def test_what_is_missing_is_left_out_of_the_files(missing: tuple[str, ...], tmp_path: Path) -> None:
    view = made_view(**dict.fromkeys(missing))
    if view.human is None and view.chunks is None:
        view = replace(view, names=[])
    findings = measure(view)
    write_recording(tmp_path / "a.rrd", view, findings, "title", ["line"])
    write_video(tmp_path / "a.mp4", Panels(view, findings, "title"))
    found = entities(tmp_path / "a.rrd")
    assert ("/action/x/recorded" in found) == (view.human is not None)
    assert ("/action/x/policy/1" in found) == (view.chunks is not None)
    assert ("/latents/component_2/policy/0" in found) == (view.samples is not None)
    assert ("/latents/inverse_model" in found) == (view.latents is not None)
    assert len(pictures(tmp_path / "a.mp4")) == 4
