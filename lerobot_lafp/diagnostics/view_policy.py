"""What a checkpoint makes of one episode: latents between its frames, and chunks where the policy would plan."""

import copy
import dataclasses
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lerobot.utils.constants import ACTION
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..acting.chunk import refuse_untrained
from ..configuration_lafp import LAFPConfig
from ..errors import UserError
from ..frames.episode_labels import label_episode
from ..model.latent_action_model import LatentActionModel
from ..modeling_lafp import LAFPPolicy
from ..observation.normalizer import ObservationNormalizer
from ..options.constants import Stage
from ..options.names import numbered
from .view_episode import Episode, as_bytes
from .view_samples import Sampler, Samples, share_limited


@dataclass(frozen=True)
class View:
    """What is shown of an episode of N frames, M of them planning moments; all on the CPU.

    Attributes:
        length: N.
        fps: Frames per second.
        pictures: Camera -> its N frames as JPEG files.
        names: Names of the A action dimensions, in the policy's order; none where no action is known or sampled.
        human: The recorded actions, (N, A), NaN where they are not known; None where none is.
        plans: Frames at which the policy plans, (M,): every ``n_action_steps`` from the first one on.
        chunks: S sampled chunks at each, (M, S, H, A), in the units of the dataset's actions and before the limits;
            None where the checkpoint cannot act.
        unit: Deviation of the actions that the policy was trained on, relative ones where it samples relative ones,
            (A,); None where it cannot act.
        limited: Share of the sampled commands that the limits change; None where there are no limits.
        latents: Latent of the inverse model from each frame to the one ``frame_offset`` later, normalised, (N, Dz), NaN
            beyond the episode; None where stage 1 is not trained.
        samples: The latents of the sampled chunks, normalised, (M, S, L, Dz); None where stage 2 is not trained.
        frame_offset: k, frames that one latent covers.
        steps: Actions of a chunk that are executed before the next is planned.
        notes: What is missing, and why.
    """

    length: int
    fps: float
    pictures: dict[str, list[bytes]]
    names: list[str]
    human: Tensor | None
    plans: Tensor
    chunks: Tensor | None
    unit: Tensor | None
    limited: float | None
    latents: Tensor | None
    samples: Tensor | None
    frame_offset: int
    steps: int
    notes: list[str]


@torch.no_grad()
def run_over(policy: LAFPPolicy, episode: Episode, num_samples: int = 16, seed: int = 0) -> View:
    """Run ``policy`` over ``episode``, with a progress bar. It is put into evaluation mode, else left as it is.

    Args:
        policy: With a trained stage 1, or one that can act.
        episode: Opened for it.
        num_samples: S.
        seed: Of the policy's noise.

    Raises:
        UserError: Nothing of the policy is trained, or its samples are not finite.
    """
    policy.eval()
    config = policy.config
    can = _abilities(policy, episode)
    normalizer = copy.copy(policy.normalizer)
    if not can.act:
        normalizer.vector_shapes = config.vector_shapes  # states for the decoder alone need not be there
    stages = dataclasses.replace(policy.stages, normalizer=normalizer)
    sampler = Sampler(stages, can.act, num_samples, torch.Generator().manual_seed(seed)) if can.sample else None
    pictures: dict[str, list[bytes]] = {}
    actions: list[Tensor] = []

    def read() -> Iterator[dict[str, Tensor]]:
        """Observations in blocks; pictures, actions and samples are taken on the way."""
        with tqdm(total=len(episode), desc="view", unit="frame", leave=False) as bar:
            for block in episode.blocks():
                _keep_pictures(pictures, block.frames, episode)
                known = policy.in_own_terms(block.frames)
                if ACTION in known:
                    actions.append(known[ACTION].float())
                device = normalizer.image_mean.device
                frames = {key: known[key].to(device) for key in (*normalizer.camera_shapes, *normalizer.vector_shapes)}
                if sampler is not None:
                    sampler.take(frames, block.tasks)
                yield {key: frames[key] for key in (*config.camera_shapes, *config.vector_shapes)}
                bar.update(len(block.tasks))

    latents = _latents(policy, normalizer, read()) if can.infer else None
    if latents is None:
        for _ in read():
            pass
    found = sampler.found() if sampler is not None else Samples.nothing()
    human = torch.cat(actions) if actions else None
    if human is not None and not bool(torch.isfinite(human).any()):
        can.notes.append("The actions of this episode are not known (NaN).")
        human = None
    elif human is None:
        can.notes.append("The dataset has no actions.")
    width, shown = config.facts.action_dim or 0, can.act or human is not None
    return View(
        length=len(episode),
        fps=episode.fps,
        pictures=pictures,
        names=(episode.action_names or config.names_of(ACTION) or numbered("action", width)) if shown else [],
        human=human,
        plans=torch.arange(0, len(episode), config.n_action_steps),
        chunks=found.chunks,
        unit=stages.action_moments().std.cpu() if can.act else None,
        limited=share_limited(policy, found) if can.act else None,
        latents=latents,
        samples=None if config.latent_source == "actions" else found.z,
        frame_offset=config.frame_offset,
        steps=config.n_action_steps,
        notes=can.notes,
    )


# --- What can be shown ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Abilities:
    """Whether a policy can infer latents, sample, and decode what it samples; and why it cannot."""

    infer: bool
    sample: bool
    act: bool
    notes: list[str]


def _abilities(policy: LAFPPolicy, episode: Episode) -> _Abilities:
    config, steps = policy.config, policy.stage_steps
    if not bool(steps.any()):
        raise UserError(
            "This checkpoint has nothing to view: no stage was trained in it. Train it first (lafp train, or "
            "lerobot-train --policy.type=lafp --policy.stage=latent_action)."
        )
    infer = policy.latent_action_model is not None and bool(steps[Stage.LATENT_ACTION.place])
    notes = [] if config.latent_source == "idm" else ["This checkpoint has no latents: latent_source=actions."]
    trained, fps = bool(steps[Stage.LATENT_POLICY.place]), config.facts.fps
    missing = [key for key in policy.normalizer.vector_shapes if key not in episode.vectors]
    act = False
    try:
        refuse_untrained(policy.stages, steps)
        act = not missing
        if missing:
            notes.append(f"No actions are sampled: the dataset has no `{missing[0]}`, which the decoder reads.")
    except RuntimeError as error:
        notes.append(f"No actions are sampled. {error}")
    if fps is not None and abs(fps - episode.fps) > 1e-6:
        notes.append(
            f"The dataset has {episode.fps:g} frames per second, and the policy was trained at {fps:g}: its chunks are "
            "drawn at another speed than it would move."
        )
    return _Abilities(infer, trained or act, act, notes)


# --- Stage 1 ----------------------------------------------------------------------------------------------------


@dataclass
class _Labeller:
    """What ``label_episode`` asks of a policy; frames come in the policy's own terms."""

    config: LAFPConfig
    normalizer: ObservationNormalizer
    latent_action_model: LatentActionModel | None

    def in_own_terms(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return dict(batch)


def _latents(policy: LAFPPolicy, normalizer: ObservationNormalizer, frames: Iterator[dict[str, Tensor]]) -> Tensor:
    """Latent from each frame to the one k later, (N, Dz), NaN beyond the episode."""
    latent_only = copy.copy(normalizer)
    latent_only.vector_shapes = policy.config.vector_shapes
    z, pad = label_episode(_Labeller(policy.config, latent_only, policy.latent_action_model), frames)
    return torch.where(pad[:, :1], torch.nan, z[:, 0]).cpu()


# --- Pictures ---------------------------------------------------------------------------------------------------


def _keep_pictures(pictures: dict[str, list[bytes]], frames: Mapping[str, Tensor], episode: Episode) -> None:
    """Add the images of a block as JPEG; a camera that holds features of a ViT has none."""
    for camera in episode.cameras:
        if frames[camera].ndim != 4:
            continue
        for image in frames[camera]:
            file = io.BytesIO()
            picture = Image.fromarray(as_bytes(image, episode.depth_range(camera)).numpy())
            picture.save(file, "JPEG", quality=95, subsampling=0)  # pictures of 32 pixels are blurred by less
            pictures.setdefault(camera, []).append(file.getvalue())
