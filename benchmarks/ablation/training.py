"""One training: LeRobot's policy, optimiser, schedule and sampler over frames in memory; resumed where it stopped."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.optim import load_optimizer_state, load_scheduler_state, save_optimizer_state, save_scheduler_state
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot.utils.random_utils import load_rng_state, save_rng_state, set_seed
from safetensors.torch import load_model, save_model
from torch import Tensor

from lerobot_lafp.frames.episode_labels import label_episode
from lerobot_lafp.options.constants import LATENT_ACTION, LATENT_ACTION_IS_PAD

from .frames import Frames, as_loaded
from .tasks import Budget

#: CPU seconds between the points that an interrupted training goes on from.
SAVE_EVERY_S = 120.0


def train(
    config: PreTrainedConfig,
    frames: Frames,
    episodes: Sequence[int] | None,
    budget: Budget,
    seed: int,
    folder: Path,
) -> float:
    """Train a policy as ``lerobot-train`` would, into ``folder/pretrained_model``.

    Args:
        config: The policy; ``pretrained_path`` is where it starts from.
        frames: The dataset.
        episodes: Those to train on. Unset: all.
        budget: How much it is trained.
        seed: Of weights, noise and the order of the data.
        folder: Where the run lives; one that was interrupted there goes on.

    Returns:
        CPU seconds that the training took, those before an interruption included.
    """
    set_seed(seed)
    device = config.device or "cpu"
    bf16 = budget.bf16 and has_bf16(device)
    if device != "cpu":  # as lerobot-train does
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
    policy = make_policy(config, ds_meta=frames.meta)
    start = {"pretrained_path": str(config.pretrained_path)} if config.pretrained_path else {}
    preprocessor, postprocessor = make_pre_post_processors(config, **start, dataset_stats=frames.meta.stats)
    parameters = policy.get_optim_params()
    preset = config.get_optimizer_preset()
    optimizer = preset.build(parameters)
    for group in optimizer.param_groups:
        group["fused"] = True  # one pass over the weights; the arithmetic is the same
    schedule = config.get_scheduler_preset()
    scheduler = schedule.build(optimizer, budget.steps) if schedule is not None else None

    partial, fresh = folder / "partial", folder / "partial.new"
    if not partial.exists() and (fresh / "seconds").is_file():  # killed between removing the old and naming the new
        os.replace(fresh, partial)
    done, seconds = 0, 0.0
    if (partial / "step").is_file():
        load_model(policy, partial / "weights.safetensors")
        load_rng_state(partial)
        load_optimizer_state(optimizer, partial)
        if scheduler is not None:
            load_scheduler_state(scheduler, partial)
        done, seconds = int((partial / "step").read_text()), float((partial / "seconds").read_text())
    clock = time.process_time()
    order = batches(frames.usable(episodes, getattr(config, "drop_n_last_frames", 0)), budget.batch_size, seed, done)
    frames = frames.on(device)
    labels = {}
    if getattr(config, "stage", None) == "latent_policy":
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            labels = latent_labels(policy, frames)
    if labels:
        policy.config.given_latents = config.given_latents = True
    saved = time.process_time()
    clipped = [p for group in optimizer.param_groups for p in group["params"]]
    policy.train()
    for step in range(done + 1, budget.steps + 1):
        policy.train()
        index = next(order).to(device)
        batch = preprocessor({**frames.batch(index, config), **{key: x[index] for key, x in labels.items()}})
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss, _ = policy.forward(batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The loss became {loss.item()} at step {step} of {folder}.")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clipped, preset.grad_clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()
        if hasattr(policy, "update"):
            policy.update()
        if time.process_time() - saved > SAVE_EVERY_S and step < budget.steps:
            saved = time.process_time()
            _save_partial(partial, policy, step, optimizer, scheduler, seconds + saved - clock)
    seconds += time.process_time() - clock
    if labels:
        policy.config.given_latents = config.given_latents = False
    target = folder / "pretrained_model"
    policy.save_pretrained(target)
    preprocessor.save_pretrained(target)
    postprocessor.save_pretrained(target)
    for leftover in (partial, fresh):
        shutil.rmtree(leftover, ignore_errors=True)
    return seconds


def has_bf16(device: str) -> bool:
    """Whether ``device`` has bfloat16: a CPU without AVX-512 does it in software, which takes several times as long."""
    return device != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def latent_labels(policy: Any, frames: Frames) -> dict[str, Tensor]:
    """The columns that ``lafp label`` would add: every frame's latents (N, L, Dz), and where they are none (N, L).

    Stage 2 learns the same from them as from the video, to rounding, without encoding each frame some hundred times.
    """
    policy.eval()
    keys = [*policy.normalizer.camera_shapes, *policy.normalizer.vector_shapes]
    found = []
    for first, end in zip(frames.first.tolist(), frames.end.tolist(), strict=True):
        found.append(label_episode(policy, [{key: as_loaded(frames.columns[key][first:end]) for key in keys}]))
    latents, pad = (torch.cat(parts) for parts in zip(*found, strict=True))
    return {LATENT_ACTION: latents, LATENT_ACTION_IS_PAD: pad}


def batches(usable: Tensor, batch_size: int, seed: int, skip: int = 0) -> Iterator[Tensor]:
    """Endless batches (B,) of shuffled epochs; which comes when depends on ``seed`` alone, so ``skip`` can resume."""
    epoch, offset = divmod(skip * batch_size, len(usable))
    rest = torch.empty(0, dtype=torch.long)
    while True:
        while len(rest) < batch_size:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            rest = torch.cat([rest, usable[torch.randperm(len(usable), generator=generator)][offset:]])
            epoch, offset = epoch + 1, 0
        yield rest[:batch_size]
        rest = rest[batch_size:]


def _save_partial(folder: Path, policy: Any, step: int, optimizer: Any, scheduler: Any, seconds: float) -> None:
    fresh = folder.with_name("partial.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_model(policy, str(fresh / "weights.safetensors"))
    save_rng_state(fresh)
    save_optimizer_state(optimizer, fresh)
    if scheduler is not None:
        save_scheduler_state(scheduler, fresh)
    (fresh / "step").write_text(str(step))
    (fresh / "seconds").write_text(str(seconds))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(fresh, folder)
