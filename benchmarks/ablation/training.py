"""One training: ``lerobot-train`` itself, in this process; resumed where it stopped."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate.state import AcceleratorState
from lerobot.configs import PreTrainedConfig
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig
from lerobot.datasets import factory
from lerobot.scripts import lerobot_train

from lerobot_lafp import LAFPConfig
from lerobot_lafp.runs.trainings import RunState, last_checkpoint, run_state

from .data import Data, stored
from .tasks import Budget

#: Points of a training that an interrupted one goes on from.
SAVES = 5


def train(
    config: PreTrainedConfig, data: Data, episodes: Sequence[int] | None, budget: Budget, seed: int, folder: Path
) -> float:
    """Train a policy into ``folder/pretrained_model``.

    Args:
        config: The policy; ``pretrained_path`` is where it starts from.
        data: The dataset.
        episodes: Those to train on. Unset: all.
        budget: How much it is trained.
        seed: Of weights, noise and the order of the data.
        folder: Where the run lives; one that was interrupted there goes on.

    Returns:
        CPU seconds that the training took; of one that was interrupted, without what was lost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run, spent = folder / "run", folder / "seconds"
    state = run_state(run)
    clock = time.process_time()
    before = float(spent.read_text()) if spent.is_file() and state is not RunState.NEW else 0.0
    bf16 = budget.bf16 and has_bf16(config.device or "cpu")
    with _precision(bf16), _datasets_of_any_policy(), _seconds(spent, before - clock):
        if state is RunState.INTERRUPTED:
            words = [f"--config_path={last_checkpoint(run) / TRAIN_CONFIG_NAME}", "--resume=true"]
            with mock.patch.object(sys, "argv", ["lerobot-train", *words]):
                lerobot_train.train()
        elif state is RunState.NEW:
            shutil.rmtree(run, ignore_errors=True)
            with mock.patch.object(sys, "argv", ["lerobot-train"]):
                lerobot_train.train(_pipeline(config, data, episodes, budget, seed, run))
    seconds = float(spent.read_text())
    shutil.rmtree(folder / "pretrained_model", ignore_errors=True)
    os.replace(last_checkpoint(run).resolve(), folder / "pretrained_model")
    for leftover in ("optimizer", "run"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    spent.unlink()
    return seconds


def _pipeline(
    config: PreTrainedConfig, data: Data, episodes: Sequence[int] | None, budget: Budget, seed: int, run: Path
) -> TrainPipelineConfig:
    root = None if data.root is None else str(data.root)
    return TrainPipelineConfig(
        dataset=DatasetConfig(data.repo_id, root=root, episodes=None if episodes is None else list(episodes)),
        policy=config,
        output_dir=run,
        job_name=run.parent.name,
        seed=seed,
        num_workers=0,
        batch_size=budget.batch_size,
        steps=budget.steps,
        save_freq=max(1, budget.steps // SAVES),
        log_freq=max(1, budget.steps // 20),
        env_eval_freq=0,
    )


@contextmanager
def _precision(bf16: bool) -> Iterator[None]:
    """As ``ACCELERATE_MIXED_PRECISION=bf16 lerobot-train``; what another training of this process had is forgotten."""
    AcceleratorState._reset_state(reset_partial_state=True)
    with mock.patch.dict(os.environ, {"ACCELERATE_MIXED_PRECISION": "bf16" if bf16 else "no"}):
        yield


@contextmanager
def _datasets_of_any_policy() -> Iterator[None]:
    """LeRobot's own policies read from memory, too, or a comparison would be one of loaders."""
    make = factory.make_train_eval_datasets

    def made(cfg: TrainPipelineConfig) -> Any:
        train, evaluated = make(cfg)
        return train if isinstance(cfg.policy, LAFPConfig) else stored(train), evaluated

    with mock.patch.object(lerobot_train, "make_train_eval_datasets", made):
        yield


@contextmanager
def _seconds(file: Path, before: float) -> Iterator[None]:
    """Note the CPU seconds so far beside every checkpoint, and at the end."""
    save = lerobot_train.save_checkpoint

    def note() -> None:
        file.write_text(str(before + time.process_time()))

    def save_and_note(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        note()

    with mock.patch.object(lerobot_train, "save_checkpoint", save_and_note):
        yield
    note()


def has_bf16(device: str) -> bool:
    """Whether ``device`` has bfloat16: a CPU without AVX-512 does it in software, which takes several times as long."""
    return device != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
