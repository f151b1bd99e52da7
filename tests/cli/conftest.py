"""Tiny datasets, and LeRobot's own commands run on them."""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.datasets import LeRobotDataset
from safetensors.torch import load_file

from lerobot_lafp.errors import UserError
from lerobot_lafp.runs import commands
from lerobot_lafp.runs.commands import run_command
from lerobot_lafp.runs.trainings import last_checkpoint, train
from lerobot_lafp.simulators.so100.arm import CALIBRATION, SimArm
from lerobot_lafp.simulators.so100.control import ControlServer, socket_of
from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations

from ..simulated_time import CommandInTime, SimulatedTime, drive_in, shared
from .so100 import Trained, demonstrate

#: A policy that trains in seconds.
TINY = (
    "--policy.device=cpu",
    "--policy.push_to_hub=false",
    "--policy.token_dim=8",
    "--policy.latent_dim=4",
    "--policy.latent_model_dim=16",
    "--policy.policy_dim=16",
    "--policy.policy_layers=1",
    "--policy.decoder_dim=16",
)
#: A run of two steps.
SHORT = ("--steps=2", "--batch_size=4", "--num_workers=0", "--env_eval_freq=0", "--log_freq=1")


@dataclass(frozen=True)
class Finished:
    """A command that ended: whether well, and all it printed."""

    ok: bool
    output: str


def assert_same_weights(first: Path, second: Path) -> None:
    """Of two runs' last checkpoints, to the bit."""
    ends = [load_file(last_checkpoint(output) / "model.safetensors") for output in (first, second)]
    assert ends[0].keys() == ends[1].keys()
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Finished]:
    """Run a LeRobot command through its ``main``, in a process of its own."""

    def call(command: str, *arguments: str) -> Finished:
        log = tmp_path / "output.log"
        log.unlink(missing_ok=True)
        try:
            run_command(command, arguments, log)
        except UserError:
            return Finished(False, log.read_text())
        return Finished(True, log.read_text())

    return call


@dataclass(frozen=True)
class Data:
    """A dataset on disk."""

    repo_id: str
    root: Path

    @property
    def arguments(self) -> list[str]:
        return [f"--dataset.repo_id={self.repo_id}", f"--dataset.root={self.root}"]


@pytest.fixture(scope="session")
def two_way(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Six demonstrations from images and position, the first two labelled."""
    root = tmp_path_factory.mktemp("data") / "two_way"
    write_demonstrations(root, 6, num_labeled=2, obs_type="pixels_agent_pos", repo_id="local/two_way")
    return Data("local/two_way", root)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Four demonstrations from images alone, without an ``action`` column."""
    root = tmp_path_factory.mktemp("data") / "video"
    write_demonstrations(root, 4, num_labeled=0, repo_id="local/video")
    return Data("local/video", root)


@pytest.fixture(scope="session")
def make_vectors(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Data]:
    """Build a dataset without images: ``state_dim``, ``action_dim`` and episode lengths as asked."""

    def build(
        name: str,
        state_dim: int = 2,
        action_dim: int = 2,
        lengths: tuple[int, ...] = (20, 20),
        nan_in: int | None = None,
    ) -> Data:
        root = tmp_path_factory.mktemp("data") / name
        features = {
            "observation.state": {"dtype": "float32", "shape": (state_dim,), "names": None},
            "observation.environment_state": {"dtype": "float32", "shape": (3,), "names": None},
            "action": {"dtype": "float32", "shape": (action_dim,), "names": None},
        }
        dataset = LeRobotDataset.create(f"local/{name}", fps=10, features=features, root=root, use_videos=False)
        rng = np.random.default_rng(0)
        for episode, length in enumerate(lengths):
            for _ in range(length):
                action = rng.normal(size=action_dim).astype(np.float32)
                if episode == nan_in:
                    action[:] = np.nan
                dataset.add_frame(
                    {
                        "task": "none",
                        "observation.state": rng.normal(size=state_dim).astype(np.float32),
                        "observation.environment_state": rng.normal(size=3).astype(np.float32),
                        "action": action,
                    }
                )
            dataset.save_episode()
        dataset.finalize()
        return Data(f"local/{name}", root)

    return build


@pytest.fixture(scope="session")
def stages(two_way: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three stages trained in order on ``two_way`` by ``lafp train``; the folder that holds them."""
    from lerobot_lafp.runs.stages import train_stages

    folder = tmp_path_factory.mktemp("stages")
    train_stages([f"--output_dir={folder}", *two_way.arguments, "--policy.labeled_episodes=[0,1]", *TINY, *SHORT])
    return folder


@pytest.fixture(scope="session")
def so100(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three demonstrations on the emulated arm, and a policy that saw them for six steps."""
    folder = tmp_path_factory.mktemp("so100")
    calibration = folder / "sim.json"
    calibration.write_text(json.dumps(CALIBRATION))
    demonstrate(folder / "data", episodes=3)
    data = ["--dataset.repo_id=local/so100_sim", f"--dataset.root={folder / 'data'}"]
    seen = ["--steps=6", "--batch_size=32"]  # most of the frames, for the limits to be those of the demonstrations
    train(folder / "run", ["--policy.type=lafp", *data, *TINY, *SHORT, *seen])
    return Trained(last_checkpoint(folder / "run"), calibration)


@pytest.fixture(scope="session", autouse=True)
def _leave_no_process() -> Iterator[None]:
    """Python would wait for one that hangs."""
    yield
    for child in multiprocessing.active_children():
        child.kill()


@pytest.fixture
def simulated_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedTime]:
    """Drivers in this process live in it, and so do LeRobot's commands as `run_command` starts them."""
    time = SimulatedTime()
    drive_in(time, monkeypatch.setattr)
    with shared(time) as address:
        monkeypatch.setattr(commands, "_call_main", CommandInTime(address))
        yield time


@pytest.fixture
def arm(simulated_time: SimulatedTime, tmp_path: Path) -> Iterator[SimArm]:
    """An emulated arm, and what answers to its camera."""
    with simulated_time.arm(tmp_path / "arm") as arm, ControlServer(arm, socket_of(tmp_path / "arm")):
        yield arm
