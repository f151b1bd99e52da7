"""``lafp distill``: a student of the flow for a checkpoint that has none (`training/distillation.py`)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..checkpoint.files import TRAIN_CONFIG
from ..configuration_lafp import LAFPConfig
from ..data.policies import load_policy
from ..diagnostics.collect import dataset_batches, on_policys_terms
from ..errors import UserError
from ..model.latent_policy import FlowPolicy
from ..model.one_call import OneCall
from ..modeling_lafp import LAFPPolicy
from ..observation.language import TASK
from ..options.constants import FLOW_STEPS, STUDENT_STEPS, Stage
from ..options.fields import read
from ..training.batch import read_batch
from ..training.distillation import OBSERVATIONS, distill


def distill_checkpoint(
    checkpoint: Path, repo_id: str | None = None, root: Path | None = None, steps: int = STUDENT_STEPS, seed: int = 0
) -> float:
    """Train the student of a checkpoint anew, and save it there.

    Args:
        checkpoint: Its folder.
        repo_id: The dataset whose observations it learns from. Unset: the one that the policy was trained on.
        root: The dataset's folder. Unset: likewise, LeRobot's cache, or the Hub.
        steps: Optimiser steps.
        seed: Of the choice of frames, and of the noise.

    Returns:
        The squared error of its latents, as a share of their variance.

    Raises:
        UserError: There is no flow in the checkpoint, or its dataset is not known.
        ValueError: The dataset cannot be read, or does not fit.
    """
    if not checkpoint.is_dir():
        raise UserError(f"{checkpoint} is no folder. Download it first: hf download {checkpoint} --local-dir FOLDER.")
    policy = load_policy(checkpoint).eval()
    flow = policy.stages.acting_policy
    if not isinstance(flow, FlowPolicy):
        raise UserError(f"{checkpoint} takes one call as it is: it has policy_head=bc, and no flow to learn from.")
    if not int(policy.stage_steps[Stage.LATENT_POLICY.place]):
        raise UserError(f"{checkpoint} has no flow to learn from: train stage latent_policy first.")
    if repo_id is None:
        repo_id, root = _trained_on(checkpoint, root)
    torch.manual_seed(seed)
    present = policy.config.but(stage="latent_policy")
    present.given_latents = True  # no later frame is needed
    batches = dataset_batches(policy.config, repo_id, root, OBSERVATIONS, seed, wanted=present)
    progress = tqdm(batches, desc="observations", unit="batch", leave=False)
    tokens = torch.cat([_tokens(policy, present, batch) for batch in progress])
    policy.config.num_flow_steps, policy.config.facts.one_call = None, True
    flow.num_steps = FLOW_STEPS
    policy.one_call = OneCall(flow)
    error = distill(flow, policy.one_call, tokens, steps)
    policy.save_pretrained(checkpoint)
    return error


def _trained_on(checkpoint: Path, root: Path | None) -> tuple[str, Path | None]:
    """Name and folder of the dataset of a checkpoint's last run; ``root`` takes the folder's place."""
    file = checkpoint / TRAIN_CONFIG
    run = json.loads(file.read_text()) if file.is_file() else {}
    repo_id, folder = (read(run, f"dataset.{name}") for name in ("repo_id", "root"))
    if repo_id is None:
        raise UserError(f"{checkpoint} does not say which dataset it was trained on: add --dataset.repo_id.")
    return repo_id, root if root is not None or folder is None else Path(folder)


@torch.no_grad()
def _tokens(policy: LAFPPolicy, config: LAFPConfig, batch: Mapping[str, Any]) -> torch.Tensor:
    """What the policy sees of a batch as it acts, (B, T, N, D)."""
    history = read_batch(on_policys_terms(policy, batch), config, policy.normalizer).history
    return policy.stages.acting_policy.observe(policy.stages.with_task(history, batch.get(TASK)))
