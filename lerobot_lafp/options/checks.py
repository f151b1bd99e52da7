"""Options that cannot be, or not together: refused with the mend."""

from .constants import Stage
from .fields import read
from .policy import PolicyOptions

_AT_LEAST_1 = (
    *("token_dim", "backbone.grid", "latent_dim", "codebook.heads", "pixel_target_size", "latent_model_dim"),
    *("policy_dim", "policy_layers", "num_flow_steps", "flow_draws", "decoder_dim"),
)
_NOT_NEGATIVE = ("label_weight", "motion.weight", "random_shift", "codebook.size", "latent_tokens")


def check(options: PolicyOptions) -> None:
    """Refuse options that cannot be.

    Raises:
        ValueError: One of them, or two together; the message says what to set instead.
    """
    _check_chunk(options)
    _check_ranges(options)
    _check_stages(options)
    _check_backbone(options)
    _check_limits(options)
    if options.labeled_episodes is not None:
        _check_episodes("labeled_episodes", options.labeled_episodes)
    if options.labels.repo_id is not None:
        _check_labels(options)


def _check_chunk(options: PolicyOptions) -> None:
    for name in ("n_obs_steps", "horizon", "num_latents", "n_action_steps"):
        if getattr(options, name) < 1:
            raise ValueError(f"`{name}` must be at least 1, got {getattr(options, name)}.")
    if options.horizon % options.num_latents:
        nearest = max(1, round(options.horizon / options.num_latents)) * options.num_latents
        raise ValueError(
            f"`num_latents` ({options.num_latents}) must divide `horizon` ({options.horizon}): each latent covers as "
            f"many frames. Set --policy.horizon={nearest}, say."
        )
    if options.n_action_steps > options.horizon:
        raise ValueError(
            f"`n_action_steps` ({options.n_action_steps}) must not exceed `horizon` ({options.horizon}): "
            f"only the actions of one chunk can be executed before the next. Lower n_action_steps."
        )


def _check_ranges(options: PolicyOptions) -> None:
    for name in _AT_LEAST_1:
        if (value := read(options, name)) is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    for name in _NOT_NEGATIVE:
        if (read(options, name) or 0) < 0:
            raise ValueError(f"`{name}` must not be negative, got {read(options, name)}.")
    least, largest = options.interpolation_tau
    if not 0.0 <= least <= largest <= 1.0:
        raise ValueError(
            f"`interpolation_tau` must be [least, largest] with 0 <= least <= largest <= 1, got {[least, largest]}."
        )
    if not 0.0 <= options.ema_decay < 1.0:
        raise ValueError(f"`ema_decay` must lie in [0, 1), got {options.ema_decay}; 0 turns the average off.")
    if options.codebook.size and options.latent_dim % options.codebook.heads:
        raise ValueError(
            f"`codebook.heads` ({options.codebook.heads}) must divide `latent_dim` ({options.latent_dim})."
        )
    if options.latent_tokens and options.latent_dim % options.latent_tokens:
        raise ValueError(f"`latent_tokens` ({options.latent_tokens}) must divide `latent_dim` ({options.latent_dim}).")
    if options.resize_shape is not None and min(options.resize_shape) < 8:
        raise ValueError(f"`resize_shape` must be at least 8 pixels a side, got {options.resize_shape}.")
    try:
        room = options.frame_store_gb
    except ValueError:
        room = -1.0
    if room is not None and not 0 <= room < float("inf"):
        raise ValueError(f"`frame_store` must be auto, off or a number of gigabytes, got {options.frame_store}.")
    if not options.optimizer_lr > 0:
        raise ValueError(f"`optimizer_lr` must be positive, got {options.optimizer_lr}.")


def _check_stages(options: PolicyOptions) -> None:
    if options.decoder_input == "action_head" and options.only_stage is Stage.ACTION_DECODER:
        raise ValueError(
            "`decoder_input=action_head` has no stage action_decoder: the checkpoint of stage latent_policy acts, with "
            "the action head of stage 1. Leave that stage out, or choose another decoder_input."
        )
    if options.finetune_policy and options.decoder_input in ("idm", "action_head"):
        raise ValueError(
            f"`finetune_policy` has nothing to train the policy with where `decoder_input={options.decoder_input}`: "
            "the policy does not make those latents. Add --policy.decoder_input=interpolation."
        )
    if options.latent_source == "actions" and options.stage != "joint":
        raise ValueError(
            f"`latent_source=actions` has a single stage: use --policy.stage=joint, got stage={options.stage}."
        )


def _check_backbone(options: PolicyOptions) -> None:
    backbone = options.backbone
    if backbone.weights and backbone.encoder not in ("resnet18", "vit"):
        raise ValueError(
            "`backbone.weights` needs --policy.backbone.encoder=resnet18 or vit, got "
            f"backbone.encoder={backbone.encoder}."
        )
    if backbone.encoder != "vit":
        return
    if not backbone.weights:
        raise ValueError(
            "`backbone.encoder=vit` is a frozen ViT: say which, --policy.backbone.weights=FOLDER or a repository "
            "of the Hub (e.g. facebook/dinov2-small). With random weights it would see nothing."
        )
    if options.random_shift:
        raise ValueError(
            "`random_shift` shifts images, and with backbone.encoder=vit the policy sees features. Leave "
            "--policy.random_shift out."
        )


def _check_limits(options: PolicyOptions) -> None:
    limits = options.limits
    for name in ("margin", "change"):
        if (getattr(limits, name) or 0) < 0:
            raise ValueError(f"`limits.{name}` must not be negative, got {getattr(limits, name)}.")
    if not 0.0 <= limits.smoothing < 1.0:
        raise ValueError(f"`limits.smoothing` must lie in [0, 1), got {limits.smoothing}.")
    for name, (least, most) in (limits.range or {}).items():
        if not least < most:
            raise ValueError(f"`limits.range` of {name} must be [least, largest], got {[least, most]}.")
    for name, most in (limits.change_per_s or {}).items():
        if not most > 0:
            raise ValueError(f"`limits.change_per_s` of {name} must be positive, got {most}.")


def _check_episodes(name: str, episodes: list[int]) -> None:
    if len(episodes) == 0:
        raise ValueError(
            f"`{name}` is empty: name the episodes whose actions may be used, e.g. --policy.{name}=[0,3,7], or leave "
            "it out to use all of them."
        )
    if len(set(episodes)) != len(episodes) or min(episodes) < 0:
        raise ValueError(f"`{name}` must be distinct episode indices of 0 or more, got {episodes}.")


def _check_labels(options: PolicyOptions) -> None:
    labels = options.labels
    if labels.episodes is not None:
        _check_episodes("labels.episodes", labels.episodes)
    if options.labeled_episodes is not None:
        raise ValueError(
            f"`labeled_episodes` names episodes of --dataset.repo_id, and the actions are those of {labels.repo_id} "
            "(`labels.repo_id`). To choose among its episodes, use --policy.labels.episodes=[..] and "
            "--policy.labeled_episodes=null."
        )
    if options.finetune_policy or options.latent_source == "actions":
        word = "finetune_policy=true" if options.finetune_policy else "latent_source=actions"
        raise ValueError(
            f"`{word}` would teach the policy to do what is done in {labels.repo_id} (`labels.repo_id`), and it is to "
            f"learn from the video alone. Leave --policy.{word} out; or, if these are demonstrations of the task, "
            "train on them by --dataset.repo_id, with --policy.labels.repo_id=null."
        )
