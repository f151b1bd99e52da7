"""What a configuration takes from the dataset that it is about to be trained on, and what both must agree on."""

import logging
from typing import Any

from .configuration_lafp import LAFPConfig

logger = logging.getLogger(__name__)


def default_motion_weight(config: LAFPConfig) -> float:
    """Motion stands in for labels. Beside them it helps where a camera tells it; with a ViT that is not measured."""
    if not config.labels_in_stage_1:
        return 1.0
    return 0.1 if config.camera_shapes and config.vision_encoder != "vit" else 0.0


def warn_of_idle_latents(config: LAFPConfig) -> None:
    """Say so if nothing but reconstruction holds the latents: they may then tell what is seen, not what was done."""
    held = (
        config.labels_in_stage_1
        or config.motion_weight
        or config.idm_input == "difference"
        or config.bottleneck == "vq"
    )
    if config.stage == "latent_action" and not held:
        logger.warning(
            "Stage latent_action trains without labels, and nothing stands in for them: its latents may describe what "
            "the later frame looks like, not what was done. Leave --policy.motion_weight=0 out."
        )


def check_dataset(config: LAFPConfig, meta: Any) -> None:
    """Check labels and chunk against the dataset about to be trained on.

    Raises:
        ValueError: ``labeled_episodes`` belongs to another dataset or is out of range; an episode is too short; the
            dataset has another rate than those before it.
    """
    if config.fps is None:
        config.fps = float(meta.fps)
    if config.fps != meta.fps:
        raise ValueError(
            f"{meta.repo_id} has {meta.fps} frames per second, but `fps` is {config.fps}, the rate this policy is "
            "trained at: a latent action would cover another time. Resample the video (lafp import-datasets --fps), or "
            f"say that it does not matter: --policy.fps={meta.fps}."
        )
    if config.labeled_episodes is not None:
        if config.labels_repo_id is None:
            config.labels_repo_id = meta.repo_id
        if config.labels_repo_id != meta.repo_id and config.stage != "latent_policy":
            raise ValueError(
                f"`labeled_episodes` was chosen for dataset {config.labels_repo_id}, but this is {meta.repo_id}. If "
                "all of its episodes are labelled, pass --policy.labeled_episodes=null; else pass a list for it "
                f"together with --policy.labels_repo_id={meta.repo_id}."
            )
        if config.labels_repo_id == meta.repo_id and max(config.labeled_episodes) >= meta.total_episodes:
            raise ValueError(
                f"`labeled_episodes` names episode {max(config.labeled_episodes)}, but {meta.repo_id} has "
                f"{meta.total_episodes} episodes (0 to {meta.total_episodes - 1}). Correct the list."
            )
    shortest = min(int(n) for n in meta.episodes["length"])
    name = "frame_offset" if config.stage == "latent_action" else "horizon"
    needed = getattr(config, name)
    if shortest < needed and not config.allow_short_episodes:
        raise ValueError(
            f"`{name}` ({needed}) is longer than the shortest episode of {meta.repo_id} ({shortest} frames). "
            "Shorten the chunk (--policy.horizon, --policy.num_latents, --policy.frame_offset), or accept such "
            "episodes with --policy.allow_short_episodes=true; frames beyond an episode's end are masked out."
        )
