"""Every option of LAFP, its unit, its default and where in the paper it comes from.

"Paper" is LAFP, arXiv 2606.10517. One vocabulary of dimensions runs through code, configuration and plots:
``B`` batch, ``T`` observation frames, ``L`` latents per chunk, ``H`` action horizon, ``A`` action width,
``Dz`` latent width, ``tau`` flow time (0 = noise, 1 = data).
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.optim import AdamWConfig
from lerobot.utils.constants import ACTION, OBS_STATE

from .options.constants import CHECKPOINT_FORMAT, DEFAULT_LR, Guidance, Stage
from .options.context import TrainingContext
from .options.features import camera_shape, encoded_camera, is_depth, is_read, same_picture
from .options.names import dimension_names, listed, positions_of
from .options.schedule import GroupCosineSchedulerConfig

logger = logging.getLogger(__name__)


@PreTrainedConfig.register_subclass("lafp")
@dataclass
class LAFPConfig(PreTrainedConfig):
    """Configuration of the Latent Action Flow Policy.

    A chunk of ``H = horizon`` actions is described by ``L = num_latents`` latent actions of width
    ``Dz = latent_dim``, each covering ``k = frame_offset`` frames, so that ``H = L * k``.

    Args:
        stage: What a training run trains (paper, section 3). ``latent_action`` (stage 1) the inverse and
            forward dynamics models, ``latent_policy`` (stage 2) the flow policy over frozen latents,
            ``action_decoder`` (stage 3) the decoder over the frozen flow; ``joint`` all three in one run with
            gradients stopped at every border (ours).
        joint_latent_share: In stage ``joint``, the share of the run over which stage 1's learning rate falls to zero,
            so that the policy and the decoder end on latents that hardly move (ours; moving averages, of the latents'
            scale and of a codebook, go on). 1: it trains to the end.
        latent_source: ``idm`` is LAFP. ``actions`` puts the same flow directly on the labelled action chunks,
            with no latents and no decoder: the baseline "few labels only".
        n_obs_steps: Frames of history, in dataset frames, that the latent policy sees. 2 where one frame hides what
            the task asks for, such as speed; where it does not, a second one may cost success (docs/method.md).
        horizon: ``H``, actions per chunk, in dataset frames.
        frame_offset: ``k``, frames that one latent action covers (paper: 1).
        frame_offset_s: ``k`` in seconds in place of frames; needs ``fps``, and ``horizon`` follows from it.
        frame_offset_range: (least, most) frames between the two of a sample in stage ``latent_action``, drawn anew for
            each (LAOM). Later stages use ``frame_offset``, which must lie within. Every frame up to the most is loaded.
        fps: Frames per second that the policy is trained at. Filled in by the first dataset; one of another rate, in
            which a latent action would cover another time, is refused.
        num_latents: ``L``, latent actions per chunk (paper: 1).
        n_action_steps: Actions of a chunk executed before the next is predicted; at most ``H``.
        labeled_episodes: Episodes whose actions may be used, as indices of the dataset. Unset: all of them.
            The actions of every other episode are never read.
        labels_repo_id: The dataset that ``labeled_episodes`` was chosen for. Filled in by the first training
            run, so that a list made for one dataset is not applied to another by mistake.
        relative_actions: Predict actions relative to the present ``observation.state`` (both of width ``A``).
        latent_labels: Whether stage ``latent_policy`` reads latents from the dataset's column ``latent_action``, which
            ``lafp label`` writes, and of every sample no frame but those the policy sees. Unset: the column is read
            where there is one, though frames are loaded as if there were none.
        hold_last_frame: Take the scene to stand still after an episode's last frame, so that the policy also learns
            from the frames just before it. Off: what lies beyond the end is masked out, and the last
            ``frame_offset`` frames of an episode are not trained on.
        allow_short_episodes: Accept episodes shorter than one chunk; what is missing is masked out.
        latent_features: The observations that stages 1 and 2 read. Filled in by the first training run;
            a state that first appears in the dataset of stage 3 is for the decoder alone.
        feature_order: The order in which the networks read observations, whatever order input_features has. Filled in:
            that of their names; of a checkpoint of format 1 that of its file.
        action_dim: ``A``. Filled in by the first dataset with actions and kept from then on.
        action_names: Names of the action's dimensions, as the first dataset with actions gives them; by them they are
            matched to a robot's. Filled in; set it, in that order, where a robot calls the same joints otherwise.
        normalization_mapping: What LeRobot's processors do: nothing. The model normalises, from buffers of its own.

        resize_shape: (height, width) in pixels that images are resized to on the way in, from any size of one aspect.
            Unset: as they are, all of one size.
        vision_encoder: ``small_conv`` for little images, ``resnet18`` (torchvision, GroupNorm), or ``vit``, a frozen
            ViT of the DINOv2 / DINOv3 class, whose patch tokens stage 1 then predicts too (UniVLA); ``auto`` takes
            the small one up to 128 pixels a side, else ``resnet18``.
        pretrained_backbone_weights: For ``resnet18``: a torchvision weights name or the path of a local state
            dict. Unset: random weights, nothing is downloaded. For ``vit``, where it must be set: a folder that
            ``transformers`` saved, or a repository of the Hub. Its weights then lie in every checkpoint.
        backbone_grid: Cells a side over which a ViT's patch tokens are averaged; each is a token of its own.
        backbone_config: What ``transformers`` needs to build the ViT again. Filled in by the first training run.
        token_dim: Width of an observation token.
        random_shift: Pixels by which the images that the policy sees are shifted at random in each direction, all
            frames of a sample alike, while it trains (DrQ); what comes into view repeats the edge. 0: off.

        task_encoder: How the policy reads the task in words: by its ``words``, hashed, which needs no download; by a
            frozen text ``model``; or not at all, ``none``. ``auto``: by ``text_model`` if there is one, else by words
            where the dataset has several tasks. Settled by the first run that trains the policy.
        text_model: For ``model``: a folder that ``transformers`` saved, tokenizer included, or a repository of the
            Hub. Its vectors of ``tasks`` then lie in every checkpoint; itself it is needed for other tasks alone.
        tasks: Tasks that the policy was trained on, filled in; any other is warned of.
        text_dim: Width of the text model's vectors. Filled in.

        latent_dim: ``Dz`` (paper: 128; narrow latents measured better on continuous control).
        bottleneck: ``continuous``, or ``vq``, a codebook kept by moving averages (paper, section 3.1).
        codebook_size: Codes per codebook of ``vq``.
        codebook_heads: Codebooks that share the width ``Dz`` of one latent.
        idm_network: ``mlp`` over the tokens of both frames (paper), or ``transformer``: ``latent_tokens`` queries that
            attend to them, for the many tokens of a ViT.
        latent_tokens: M, tokens that the width ``Dz`` of one latent is divided into, each read by a query of its own
            and seen as a token by the forward model of a ViT's features (UniVLA: 4). More than 1 needs
            ``idm_network=transformer``.
        idm_input: What the inverse model sees beside the first frame: the later ``frames`` themselves, or the
            ``difference`` of their tokens (CoMo).
        label_weight: lambda, weight of the stage-1 action loss (paper: 0.1). 0: no labels in stage 1.
        motion_weight: Weight of predicting motion from the latent alone, a regulariser that needs no labels
            (LAOF): of a camera what ``motion_target`` says, of a state its change. 0: off. Unset: 1 where stage 1
            sees no labels; beside them 0.1 with cameras, 0 with states alone or a ViT (docs/method.md, claim 4).
            Filled in when a policy is made, since a later stage may bring the labels.
        motion_target: Motion of a camera: how far the centre of brightness of each colour moves (``moments``), for a
            camera that stands still; its optical ``flow`` (LAOF; OpenCV's DIS), which loses what moves by more than
            its own size from one latent to the next; or ``both``.
        motion_grid: Cells a side over which a camera's optical flow is averaged, where it is told.
        image_target: What the forward model predicts for a camera: ``pixels``, or ``features``: of a frozen copy of
            the encoder, or the patch tokens of a ViT; ``auto`` takes pixels up to 128 a side where there is no ViT.
            States are always predicted as such.
        pixel_target_size: Longest side, in pixels, at which ``pixels`` are predicted.
        latent_model_dim: Hidden width of the stage-1 networks.

        policy_head: ``flow`` (LAFP) or ``bc``, the latent behaviour cloning of LAOM.
        policy_network: ``mlp`` (paper) or ``transformer`` (L latent tokens attending to observation tokens).
        policy_dim: Hidden width of the policy network.
        policy_layers: Depth of the policy network, in blocks (paper: 3 layers).
        prediction: ``sample`` (x-prediction, paper's default) or ``velocity``.
        flow_loss: Whose squared error the flow is trained on: of the ``sample`` (paper's, for x-prediction) or of the
            ``velocity`` that an x-prediction implies, which counts the fine end of the path more (JiT). With
            v-prediction it is the velocity's in any case.
        num_flow_steps: ``K``, Euler steps of the sampler (paper: 3; measured in docs/method.md).
        flow_draws: (tau, noise) pairs drawn per sample of a batch; the observation is encoded once for all.
        ema_decay: Decay of the moving average of the policy's weights, which is what acts. 0: none.

        decoder_input: What the decoder is trained on (paper, section 3.3): ``idm`` (the inverse model's latents, ours:
            level with the others, and ahead with few labels, see `docs/method.md`), ``interpolation`` (paper) or
            ``direct`` (samples from noise). ``none``: there is no stage 3, and the action head of stage 1 decodes what
            the policy samples.
        interpolation_tau_min: ``tau ~ U(min, max)`` of the interpolation; equal bounds fix it. Ours leaves out the
            small ones, at which one call of the network lands between modes (paper: silent; 0 is our reading of it).
        interpolation_tau_max: See above.
        interpolation_idm_share: Share of the samples for which the decoder sees the inverse model's latent as it is, in
            place of the interpolation (ours).
        interpolation_steps: From ``(z_tau, tau)``, ``one_call`` of the network or the ``remaining`` Euler steps.
        decoder_observation: Give the decoder the observation tokens, and states that appear in stage 3.
        decoder_state: Give the decoder ``observation.state`` without the tokens, which a few demonstrations do not
            cover: what a command does to a latent depends on where the arm is.
        decoder_dim: Hidden width of the decoder, a three-layer MLP (paper).
        finetune_policy: Let the decoder's loss train the policy too (paper's "LAFP fine-tuned"). Needs a decoder that
            is trained on what the policy makes: ``decoder_input`` ``interpolation`` or ``direct``.

        rtc_guidance: With ``lerobot-rollout --inference.type=rtc``, how the next chunk is made to go on from the one
            before (`lerobot_lafp/real_time.py`): guided through the ``decoder`` towards its actions, by its ``latents``
            where these are committed, or not at all, ``none``.
        limits: Whether commands are kept within the limits below (`lerobot_lafp/limits.py`); without them a robot gets
            whatever the policy says.
        limit_margin: A command may leave the range of the labelled demonstrations' actions by this share of its width.
        limit_range: Action's name -> [least, largest] command, where not by the demonstrations.
        limit_change: From one command to the next an action may change by this many times the largest change in the
            labelled demonstrations; the first command of a run likewise, against where the joints are. Unset: as much
            as it likes.
        limit_change_per_s: Action's name -> largest change in a second, where not by the demonstrations. Needs ``fps``.
        limit_smoothing: Share of the last command in the next, a low-pass filter; 0: none.
        limit_held_steps: Commands held in a row, because there was no right one, before the run is stopped.
        limit_frozen_s: Seconds that a camera may show the very same picture while the arm moves, and that a joint may
            stay where it is while it is commanded elsewhere.
        limit_distance: Distance to the training's statistics, in deviations, beyond which there is a warning: of the
            observation's tokens and of the latents.
        state_names: Names of the dimensions of ``observation.state``, likewise.
        actions_are_positions: Whether actions were near the joints of their names in the demonstrations; false for
            speeds and steps that are named as the joints. Filled in.
        vector_names: Names of the dimensions of other states -> list; filled in.
        depth_cameras: Cameras whose numbers are distances, and are normalised as such; filled in.

        checkpoint_format: Of a checkpoint, written when it is saved: which format it has (``CHECKPOINT_FORMAT``).
        weights_digest: Likewise: the SHA-256 of ``model.safetensors``, against which it is held when it is loaded.
        options_digest: Likewise: the SHA-256 of all else in config.json; what was changed since is warned of.
        made_with: Likewise: package -> version.

        optimizer_lr: Peak learning rate of AdamW. Unset: the stage's own (``DEFAULT_LR``).
        optimizer_weight_decay: Of AdamW.
        optimizer_grad_clip_norm: Largest gradient norm.
        scheduler_warmup_steps: Steps of linear warm-up before the cosine decay.
    """

    stage: Stage = "joint"
    joint_latent_share: float = 0.4
    latent_source: Literal["idm", "actions"] = "idm"

    # The chunk.
    n_obs_steps: int = 1
    horizon: int = 16
    frame_offset: int = 4
    frame_offset_s: float | None = None
    frame_offset_range: tuple[int, int] | None = None
    fps: float | None = None
    num_latents: int = 4
    n_action_steps: int = 8

    # Labels and actions.
    labeled_episodes: list[int] | None = None
    labels_repo_id: str | None = None
    relative_actions: bool = False
    latent_labels: bool | None = None
    hold_last_frame: bool = False
    allow_short_episodes: bool = False
    latent_features: list[str] | None = None
    feature_order: list[str] | None = None
    action_dim: int | None = None
    action_names: list[str] | None = None

    # Normalisation happens inside the model, from buffers: a frozen network must see the same inputs for ever,
    # whatever statistics the next dataset brings.
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {kind.value: NormalizationMode.IDENTITY for kind in FeatureType}
    )

    # Observations.
    resize_shape: tuple[int, int] | None = None
    vision_encoder: Literal["auto", "small_conv", "resnet18", "vit"] = "auto"
    pretrained_backbone_weights: str | None = None
    backbone_grid: int = 4
    backbone_config: dict[str, Any] | None = None
    token_dim: int = 128
    random_shift: int = 0

    # Tasks in words.
    task_encoder: Literal["auto", "none", "words", "model"] = "auto"
    text_model: str | None = None
    tasks: list[str] | None = None
    text_dim: int | None = None

    # Stage 1: latent actions.
    latent_dim: int = 16
    bottleneck: Literal["continuous", "vq"] = "continuous"
    codebook_size: int = 64
    codebook_heads: int = 4
    idm_network: Literal["mlp", "transformer"] = "mlp"
    latent_tokens: int = 1
    idm_input: Literal["frames", "difference"] = "frames"
    label_weight: float = 0.1
    motion_weight: float | None = None
    motion_target: Literal["flow", "moments", "both"] = "moments"
    motion_grid: int = 1
    image_target: Literal["auto", "pixels", "features"] = "auto"
    pixel_target_size: int = 64
    latent_model_dim: int = 256

    # Stage 2: latent policy.
    policy_head: Literal["flow", "bc"] = "flow"
    policy_network: Literal["mlp", "transformer"] = "mlp"
    policy_dim: int = 384
    policy_layers: int = 3
    prediction: Literal["sample", "velocity"] = "sample"
    flow_loss: Literal["sample", "velocity"] = "sample"
    num_flow_steps: int = 10
    flow_draws: int = 4
    ema_decay: float = 0.999

    # Stage 3: action decoder.
    decoder_input: Literal["interpolation", "direct", "idm", "none"] = "idm"
    interpolation_tau_min: float = 0.75
    interpolation_tau_max: float = 1.0
    interpolation_idm_share: float = 0.0
    interpolation_steps: Literal["one_call", "remaining"] = "one_call"
    decoder_observation: bool = False
    decoder_state: bool = False
    decoder_dim: int = 256
    finetune_policy: bool = False

    # Between policy and robot.
    rtc_guidance: Guidance = "decoder"
    limits: bool = True
    limit_margin: float = 0.1
    limit_range: dict[str, tuple[float, float]] | None = None
    limit_change: float | None = 2.0
    limit_change_per_s: dict[str, float] | None = None
    limit_smoothing: float = 0.0
    limit_held_steps: int = 10
    limit_frozen_s: float = 2.0
    limit_distance: float = 4.0
    state_names: list[str] | None = None
    actions_are_positions: bool | None = None
    vector_names: dict[str, list[str]] | None = None
    depth_cameras: list[str] | None = None

    # Of a checkpoint (`lerobot_lafp/checkpoint/integrity.py`).
    checkpoint_format: int | None = None
    weights_digest: str | None = None
    options_digest: str | None = None
    made_with: dict[str, str] | None = None

    # Optimisation.
    optimizer_lr: float | None = None
    optimizer_weight_decay: float = 1e-6
    optimizer_grad_clip_norm: float = 10.0
    scheduler_warmup_steps: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        #: What the command that runs is about to do (`lerobot_lafp/context.py`); no option, and not saved.
        self.context: TrainingContext | None = None
        #: Column -> where each of its dimensions is in the dataset's or robot's order, where that is another than the
        #: policy's; no option, and not saved.
        self.orders: dict[str, list[int]] = {}
        try:
            self._check_format()
            if self.frame_offset_s is not None:
                self._take_seconds(self.frame_offset_s)
            self._check_chunk()
            self._check_ranges()
            self._check_limits()
            if self.labeled_episodes is not None:
                self._check_labeled_episodes()
        except ValueError as error:
            # LeRobot's parser replaces the message by "Couldn't instantiate class LAFPConfig".
            logger.error("%s", error)
            raise

    def _check_format(self) -> None:
        if (self.checkpoint_format or 0) > CHECKPOINT_FORMAT:
            raise ValueError(
                f"This checkpoint has format {self.checkpoint_format}, and the installed lerobot_policy_lafp reads up "
                f"to {CHECKPOINT_FORMAT}: it was made with {self.made_with}. Install that version or a newer one."
            )

    def _take_seconds(self, seconds: float) -> None:
        """Frames a latent action covers, and the horizon, from ``frame_offset_s``."""
        if self.fps is None or self.fps <= 0:
            raise ValueError(
                "`frame_offset_s` needs the dataset's rate to become frames: add --policy.fps, as meta/info.json of "
                "the dataset gives it."
            )
        self.frame_offset = round(seconds * self.fps)
        self.horizon = self.num_latents * self.frame_offset
        if self.frame_offset < 1:
            raise ValueError(
                f"`frame_offset_s` ({seconds}) is less than one frame at {self.fps} frames per second. Make it at "
                f"least {1 / self.fps:.3f}."
            )

    def _check_chunk(self) -> None:
        for name in ("n_obs_steps", "horizon", "frame_offset", "num_latents", "n_action_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.frame_offset * self.num_latents != self.horizon:
            raise ValueError(
                f"`horizon` must equal `frame_offset` * `num_latents`: got horizon={self.horizon}, "
                f"frame_offset={self.frame_offset}, num_latents={self.num_latents}. Set the three together, "
                f"e.g. --policy.horizon={self.frame_offset * self.num_latents}."
            )
        if self.n_action_steps > self.horizon:
            raise ValueError(
                f"`n_action_steps` ({self.n_action_steps}) must not exceed `horizon` ({self.horizon}): "
                f"only the actions of one chunk can be executed before the next. Lower n_action_steps."
            )
        if self.frame_offset_range is not None:
            least, most = self.frame_offset_range
            if not 1 <= least <= self.frame_offset <= most:
                raise ValueError(
                    f"`frame_offset_range` must hold `frame_offset`, 1 <= least <= {self.frame_offset} <= most, got "
                    f"{[least, most]}."
                )
            if self.stage == "joint":
                raise ValueError(
                    "`frame_offset_range` is for stage latent_action on its own: add --policy.stage=latent_action, or "
                    "leave it out."
                )

    def _check_ranges(self) -> None:
        observation = ("token_dim", "backbone_grid")
        codebook = ("codebook_size", "codebook_heads")
        latent_action = (
            "latent_dim",
            "latent_tokens",
            *codebook,
            "pixel_target_size",
            "latent_model_dim",
            "motion_grid",
        )
        policy = ("policy_dim", "policy_layers", "num_flow_steps", "flow_draws")
        for name in (*observation, *latent_action, *policy, "decoder_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not 0.0 <= self.interpolation_tau_min <= self.interpolation_tau_max <= 1.0:
            raise ValueError(
                "`interpolation_tau_min` and `interpolation_tau_max` must satisfy 0 <= min <= max <= 1, got "
                f"{self.interpolation_tau_min} and {self.interpolation_tau_max}."
            )
        if not 0.0 <= self.interpolation_idm_share <= 1.0:
            raise ValueError(f"`interpolation_idm_share` must lie in [0, 1], got {self.interpolation_idm_share}.")
        if not 0.0 < self.joint_latent_share <= 1.0:
            raise ValueError(f"`joint_latent_share` must lie in (0, 1], got {self.joint_latent_share}.")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"`ema_decay` must lie in [0, 1), got {self.ema_decay}; 0 turns the average off.")
        for name in ("label_weight", "motion_weight", "random_shift"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")
        if self.decoder_input == "none" and self.stage == "action_decoder":
            raise ValueError(
                "`decoder_input=none` has no stage action_decoder: the checkpoint of stage latent_policy acts, with "
                "the action head of stage 1. Leave that stage out, or choose another decoder_input."
            )
        if self.finetune_policy and self.decoder_input in ("idm", "none"):
            raise ValueError(
                f"`finetune_policy` has nothing to train the policy with where `decoder_input={self.decoder_input}`: "
                "the policy does not make those latents. Add --policy.decoder_input=interpolation."
            )
        if self.bottleneck == "vq" and self.latent_dim % self.codebook_heads:
            raise ValueError(f"`codebook_heads` ({self.codebook_heads}) must divide `latent_dim` ({self.latent_dim}).")
        if self.resize_shape is not None and min(self.resize_shape) < 8:
            raise ValueError(f"`resize_shape` must be at least 8 pixels a side, got {self.resize_shape}.")
        self._check_backbone()
        if self.task_encoder == "model" and not self.text_model:
            raise ValueError(
                "`task_encoder=model` needs a text model: --policy.text_model=FOLDER or a repository of the Hub (e.g. "
                "sentence-transformers/all-MiniLM-L6-v2). --policy.task_encoder=words needs none."
            )
        if self.text_model and self.task_encoder not in ("auto", "model"):
            raise ValueError(
                f"`text_model` is not read with `task_encoder={self.task_encoder}`: leave one of them out."
            )
        if self.latent_dim % self.latent_tokens:
            raise ValueError(f"`latent_tokens` ({self.latent_tokens}) must divide `latent_dim` ({self.latent_dim}).")
        if self.latent_tokens > 1 and self.idm_network != "transformer":
            raise ValueError("`latent_tokens` above 1 needs --policy.idm_network=transformer.")
        if self.latent_source == "actions" and self.stage != "joint":
            raise ValueError(
                f"`latent_source=actions` has a single stage: use --policy.stage=joint, got stage={self.stage}."
            )

    def _check_backbone(self) -> None:
        if self.pretrained_backbone_weights and self.vision_encoder not in ("resnet18", "vit"):
            raise ValueError(
                "`pretrained_backbone_weights` needs --policy.vision_encoder=resnet18 or vit, got "
                f"vision_encoder={self.vision_encoder}."
            )
        if self.vision_encoder != "vit":
            return
        if not self.pretrained_backbone_weights:
            raise ValueError(
                "`vision_encoder=vit` is a frozen ViT: say which, --policy.pretrained_backbone_weights=FOLDER or a "
                "repository of the Hub (e.g. facebook/dinov2-small). With random weights it would see nothing."
            )
        if self.random_shift:
            raise ValueError(
                "`random_shift` shifts images, and with vision_encoder=vit the policy sees features. Leave "
                "--policy.random_shift out."
            )
        if self.image_target == "pixels":
            raise ValueError(
                "`image_target=pixels` is for cameras without a ViT: with vision_encoder=vit the forward model "
                "predicts its patch tokens. Leave --policy.image_target out."
            )

    def _check_limits(self) -> None:
        for name in ("limit_margin", "limit_change", "limit_frozen_s", "limit_distance", "limit_held_steps"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")
        if not 0.0 <= self.limit_smoothing < 1.0:
            raise ValueError(f"`limit_smoothing` must lie in [0, 1), got {self.limit_smoothing}.")
        for name, (least, most) in (self.limit_range or {}).items():
            if not least < most:
                raise ValueError(f"`limit_range` of {name} must be [least, largest], got {[least, most]}.")
        for name, most in (self.limit_change_per_s or {}).items():
            if not most > 0:
                raise ValueError(f"`limit_change_per_s` of {name} must be positive, got {most}.")

    def _check_labeled_episodes(self) -> None:
        assert self.labeled_episodes is not None
        if len(self.labeled_episodes) == 0:
            raise ValueError(
                "`labeled_episodes` is empty: name the episodes whose actions may be used, e.g. "
                "--policy.labeled_episodes=[0,3,7], or leave it out to use all of them."
            )
        if len(set(self.labeled_episodes)) != len(self.labeled_episodes) or min(self.labeled_episodes) < 0:
            raise ValueError(
                f"`labeled_episodes` must be distinct episode indices of 0 or more, got {self.labeled_episodes}."
            )

    # --- What LeRobot asks of a policy configuration -------------------------------------------------------

    @property
    def history_deltas(self) -> list[int]:
        """Frames the latent policy sees, relative to the present one: ``n_obs_steps`` up to 0."""
        return list(range(1 - self.n_obs_steps, 1))

    @property
    def boundary_deltas(self) -> list[int]:
        """Frames between which latent actions are inferred: 0, k, .. (stage 1 needs but one pair)."""
        if not self._learns_from_latents or (self.stage == "latent_policy" and self.latent_labels):
            return [0]
        if self.draws_frame_offset:
            assert self.frame_offset_range is not None
            return [0, *range(self.frame_offset_range[0], self.frame_offset_range[1] + 1)]
        last = 1 if self.stage == "latent_action" else self.num_latents
        return [i * self.frame_offset for i in range(last + 1)]

    @property
    def draws_frame_offset(self) -> bool:
        """Whether each sample draws the later frame of its latent from ``frame_offset_range``."""
        return self.stage == "latent_action" and self.frame_offset_range is not None

    @property
    def _learns_from_latents(self) -> bool:
        return self.latent_source == "idm" and (self.stage != "action_decoder" or self.decoder_reads_latents)

    @property
    def decoder_reads_latents(self) -> bool:
        """Whether training the decoder needs the latents of the inverse model.

        Behaviour cloning has no flow time to start from, so its decoder sees what it will see when it acts.
        """
        return self.decoder_input == "idm" or (self.decoder_input == "interpolation" and self.policy_head == "flow")

    @property
    def named_joints(self) -> list[int] | None:
        """For each action the dimension of ``observation.state`` of its name; None where there is none.

        Relative actions have it by their order where there are no names to go by.
        """
        actions, joints = self.names_of(ACTION), self.names_of(OBS_STATE)
        found = positions_of(actions, joints) if actions and joints else None
        if found is None and self.relative_actions and self.action_dim is not None:
            found = list(range(self.action_dim))
        return found if found is None or self.action_dim in (None, len(found)) else None

    @property
    def joint_of_action(self) -> list[int] | None:
        """``named_joints``; None where the demonstrations showed that actions are no places of these."""
        otherwise = self.actions_are_positions is False and not self.relative_actions
        return None if otherwise else self.named_joints

    @property
    def commands_positions(self) -> bool:
        """Whether an action says where the joints of ``observation.state`` are to be, so that it can be held."""
        return self.joint_of_action is not None

    @property
    def labels_in_stage_1(self) -> bool:
        """Whether actions help to train the latents (``L_ad``)."""
        return self.action_dim is not None and self.label_weight > 0

    @property
    def reads_labels(self) -> bool:
        """Whether the stage learns from actions."""
        first = self.stage == "latent_action" and self.labels_in_stage_1
        return first or self.stage in ("joint", "action_decoder")

    @property
    def frame_deltas(self) -> list[int]:
        """Offsets of the frames that a training sample has of each observation."""
        deltas = set(self.boundary_deltas)
        if self.stage != "latent_action":
            deltas |= set(self.history_deltas)
        return sorted(deltas)

    @property
    def observation_delta_indices(self) -> list[int] | None:
        """``frame_deltas``; None where that is the present frame, which LeRobot's loader then reads but once.

        A feature of one number would then lose its axis, and LeRobot's pipeline take the batch for one sample.
        """
        of_one_number = any(tuple(shape) == (1,) for shape in self._vector_features.values())
        return None if self.frame_deltas == [0] and not of_one_number else self.frame_deltas

    # LeRobot's next release reads these two instead, where present.
    @property
    def image_observation_delta_indices(self) -> list[int] | None:
        return self.observation_delta_indices

    @property
    def state_observation_delta_indices(self) -> list[int] | None:
        return self.observation_delta_indices

    @property
    def action_delta_indices(self) -> list[int] | None:
        if self.stage == "latent_policy":
            return None
        return list(range(self.frame_offset if self.stage == "latent_action" else self.horizon))

    @property
    def reward_delta_indices(self) -> None:
        return None

    @property
    def drop_n_last_frames(self) -> int:
        """Frames at an episode's end that have no future to learn from: not one whole latent action, unless held."""
        return self.frame_offset if self._learns_from_latents and not self.hold_last_frame else 0

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(
            lr=self.optimizer_lr if self.optimizer_lr is not None else DEFAULT_LR[self.stage],
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> GroupCosineSchedulerConfig:
        """One share a group of ``LAFPPolicy.get_optim_params``."""
        joint = self.stage == "joint" and self.latent_source == "idm"
        shares = [self.joint_latent_share, 1.0] if joint else [1.0]
        return GroupCosineSchedulerConfig(self.scheduler_warmup_steps, shares)

    # --- Features ------------------------------------------------------------------------------------------

    @property
    def camera_shapes(self) -> dict[str, tuple[int, ...]]:
        """Cameras that the model reads -> (C, H, W) as the dataset stores them."""
        return {
            key: tuple(ft.shape)
            for key, ft in self._ordered_features
            if ft.type is FeatureType.VISUAL and self._is_latent_feature(key)
        }

    @property
    def vector_shapes(self) -> dict[str, tuple[int, ...]]:
        """States (robot and environment) that stages 1 and 2 read -> shape."""
        return {k: s for k, s in self._vector_features.items() if self._is_latent_feature(k)}

    @property
    def reads_task(self) -> bool:
        """Whether the task in words is one of the policy's observations; not before ``task_encoder`` is settled."""
        return self.task_encoder in ("words", "model")

    def take_tasks(self, tasks: list[str]) -> int:
        """Where the policy is about to be trained, settle ``task_encoder`` by the dataset's tasks, and add them to
        ``tasks``. One that was trained before ``task_encoder`` was settled does not read them.

        Returns:
            How many there were before.
        """
        before = list(self.tasks or [])
        if self.stage == "latent_action":
            return len(before)
        if self.task_encoder == "auto" and self.stage == "action_decoder":
            self.task_encoder = "none"
        elif self.task_encoder == "auto" and self.text_model:
            self.task_encoder = "model"
        elif self.task_encoder == "auto":
            self.task_encoder = "words" if len(tasks) > 1 else "none"
        if self.reads_task and self.stage != "action_decoder":
            self.tasks = [*before, *(task for task in tasks if task not in set(before))]
        return len(before)

    @property
    def decoder_vector_shapes(self) -> dict[str, tuple[int, ...]]:
        """States that only the decoder may read, because the video had none -> shape."""
        return {k: s for k, s in self._vector_features.items() if not self._is_latent_feature(k)}

    @property
    def decoder_states(self) -> dict[str, tuple[int, ...]]:
        """States that the decoder is given beside what it sees through the policy's tokens -> shape."""
        if self.decoder_observation:
            return self.decoder_vector_shapes
        return {k: s for k, s in self._vector_features.items() if self.decoder_state and k == OBS_STATE}

    @property
    def _vector_features(self) -> dict[str, tuple[int, ...]]:
        kinds = (FeatureType.STATE, FeatureType.ENV)
        return {k: tuple(ft.shape) for k, ft in self._ordered_features if ft.type in kinds}

    @property
    def _ordered_features(self) -> list[tuple[str, PolicyFeature]]:
        """``input_features`` in ``feature_order``, what is not in it after that by name."""
        features = list((self.input_features or {}).items())
        if (order := self.feature_order) is None:
            return features
        return sorted(features, key=lambda each: (order.index(each[0]) if each[0] in order else len(order), each[0]))

    def _is_latent_feature(self, key: str) -> bool:
        return self.latent_features is None or key in self.latent_features

    def validate_features(self) -> None:
        """Check the features a policy is about to be built for.

        Raises:
            ValueError: There is nothing to observe, or the actions do not fit the options.
        """
        if not self.camera_shapes and not self.vector_shapes:
            raise ValueError(
                "LAFP needs something to observe: at least one camera (`observation.image*`), "
                "`observation.state` or `observation.environment_state` in `input_features`. "
                "Check the feature names of the dataset (`rename_map` can map them)."
            )
        width = self.action_feature.shape[0] if self.action_feature is not None else None
        if width is not None and self.action_dim is not None and width != self.action_dim:
            raise ValueError(
                f"`action` has width {width} here, but this policy was trained with width {self.action_dim}"
                f"{f' ({self.action_names})' if self.action_names else ''}. Use the dataset or environment it was "
                "trained for, or train stage action_decoder from a checkpoint of stage latent_policy that has "
                "not seen actions of another width (--policy.action_dim=null)."
            )
        if self.decoder_state and self.stage in ("joint", "action_decoder") and OBS_STATE not in self._vector_features:
            raise ValueError(
                f"`decoder_state` needs `{OBS_STATE}`, and the dataset has none. Set --policy.decoder_state=false."
            )
        if self.relative_actions:
            self._check_relative_actions(width if width is not None else self.action_dim)

    def _check_relative_actions(self, width: int | None) -> None:
        state = (self.input_features or {}).get(OBS_STATE)
        if width is None:
            return  # No actions yet: the dataset that brings them is checked.
        if state is None or tuple(state.shape) != (width,):
            raise ValueError(
                f"`relative_actions` needs `{OBS_STATE}` of the action's width ({width}), got "
                f"{tuple(state.shape) if state is not None else 'no such feature'}. "
                "Set --policy.relative_actions=false."
            )

    def set_dataset_feature_metadata(self, features: dict[str, dict[str, Any]]) -> None:
        """Take over what a dataset says of itself. LeRobot's ``make_policy`` calls it before building.

        The first dataset decides what stages 1 and 2 observe; the first one with actions decides their width.
        Both are kept from then on, because a later dataset may lack them (`L/policies/factory.py` would then
        drop the action from the configuration, and with it the decoder).

        Args:
            features: ``dataset.meta.features``.

        Raises:
            ValueError: A feature that the policy was trained with is missing or has another shape, or the stage
                needs actions and there are none.
        """
        if self.context is not None and self.context.rename_map:
            features = {self.context.rename_map.get(key, key): feature for key, feature in features.items()}
        self.input_features: dict[str, PolicyFeature] = dict(self.input_features or {})
        self._take_encoded_cameras(features)
        if self.latent_features is None:
            self._take_cameras(features)
            self._leave_out_words(features)
            self.latent_features = sorted(self.input_features)
            self.feature_order = self.feature_order or self.latent_features
        for key in self.latent_features:
            if key not in features:
                raise ValueError(
                    f"The dataset has no `{key}`, which this policy was trained with. It has "
                    f"{sorted(k for k in features if k.startswith('observation'))}: rename the right one with "
                    f'--rename_map=\'{{"its_name": "{key}"}}\', or start again from stage latent_action.'
                )
            self._check_same_shape(key, features[key])
        if ACTION in features and self.action_dim is None:
            self.action_dim = prod(features[ACTION]["shape"])
        self.match_names(features)
        if ACTION not in features and (self.stage == "action_decoder" or self.latent_source == "actions"):
            raise ValueError(
                "`dataset` has no `action` column, but "
                + (
                    "stage action_decoder learns from actions. "
                    if self.latent_source == "idm"
                    else "`latent_source=actions` learns from nothing else. "
                )
                + "Give it the labelled demonstrations with --dataset.repo_id; video without actions is for stages "
                "latent_action and latent_policy."
            )
        if self.action_dim is not None and not self.output_features:
            self.output_features: dict[str, PolicyFeature] = {
                ACTION: PolicyFeature(FeatureType.ACTION, (self.action_dim,))
            }
        if self.stage == "action_decoder":
            for key, feature in features.items():
                is_state = key.startswith("observation.") and feature["dtype"] not in ("image", "video", "string")
                own_state = key == OBS_STATE and (self.relative_actions or self.decoder_state)
                read = self.decoder_observation or own_state
                if is_state and read and key not in self.input_features:
                    self.input_features[key] = PolicyFeature(FeatureType.STATE, tuple(feature["shape"]))

    def match_names(self, features: Mapping[str, Mapping[str, Any]]) -> None:
        """Match the dimensions of states and actions by their names to those of a dataset or a robot.

        The policy keeps the order of the first dataset that had names. Of one that has the same names in another order
        that order is kept in ``orders``; names that nobody had before become the policy's own, as do those of a state
        that it does not read.

        Args:
            features: Of a dataset, or of a robot, as LeRobot describes them (``names``, ``shape``).

        Raises:
            ValueError: Its names are others.
        """
        self.orders = {}
        for key in sorted({*self._vector_features, OBS_STATE, ACTION} & set(features)):
            theirs, own = dimension_names(features[key]), self.names_of(key)
            if theirs is None or len(features[key]["shape"]) != 1:
                continue
            if own is None or key not in {*self._vector_features, ACTION}:  # a state that is not read has no order
                self._name(key, theirs)
                continue
            order = positions_of(own, theirs)
            if order is None or len(order) != len(theirs):
                given = json.dumps(theirs) if key in (ACTION, OBS_STATE) else json.dumps({key: theirs})
                option = {ACTION: "action_names", OBS_STATE: "state_names"}.get(key, "vector_names")
                raise ValueError(
                    f"`{key}` is {listed(own)} in this policy and {listed(theirs)} here: not the same names. If they "
                    f"are the same joints in the same order, say so: --policy.{option}='{given}'. Else use the robot "
                    "or the dataset that the policy was trained for."
                )
            if order != list(range(len(order))):
                self.orders[key] = order
                logger.info("`%s` comes in another order (%s); it is matched by name.", key, listed(theirs))

    def names_of(self, key: str) -> list[str] | None:
        """Names of the dimensions of ``observation.state``, another state or ``action``, one for each; else None."""
        if key == ACTION:
            names, width = self.action_names, self.action_dim
        else:
            names = self.state_names if key == OBS_STATE else (self.vector_names or {}).get(key)
            feature = (self.input_features or {}).get(key)
            width = None if feature is None else prod(feature.shape)
        return names if names and width in (None, len(names)) else None

    def _name(self, key: str, names: list[str]) -> None:
        if key == ACTION:
            self.action_names = names
        elif key == OBS_STATE:
            self.state_names = names
        else:
            self.vector_names = {**(self.vector_names or {}), key: names}

    def _take_cameras(self, features: dict[str, dict[str, Any]]) -> None:
        """Cameras in the shape in which LeRobot hands them over, and which of them tell distances."""
        assert self.input_features is not None
        for key, feature in features.items():
            if key in self.input_features and feature["dtype"] in ("image", "video"):
                height, width, channels = feature["shape"]
                as_lerobot_reads = ((height, width, channels), (channels, height, width))
                if tuple(self.input_features[key].shape) in as_lerobot_reads:
                    self.input_features[key] = PolicyFeature(FeatureType.VISUAL, camera_shape(feature))
                if is_depth(feature):
                    self.depth_cameras = sorted({*(self.depth_cameras or ()), key})

    def _leave_out_words(self, features: dict[str, dict[str, Any]]) -> None:
        """What LeRobot takes for a state and is no number; the task in words is read as such (``task_encoder``)."""
        assert self.input_features is not None
        for key, feature in features.items():
            if key in self.input_features and not is_read(feature):
                del self.input_features[key]
                logger.warning("`%s` holds no numbers (%s) and is not read.", key, feature["dtype"])

    def _take_encoded_cameras(self, features: dict[str, dict[str, Any]]) -> None:
        """A camera that ``lafp label --features`` encoded is a camera still, of the shape that its video had."""
        for key, feature in features.items():
            shape = encoded_camera(feature)
            if shape is None:
                continue
            if self.vision_encoder != "vit":
                raise ValueError(
                    f"The dataset holds `{key}` as features of a ViT, and this policy has none. Use the dataset with "
                    "the video, or train with --policy.vision_encoder=vit and the --policy.pretrained_backbone_weights "
                    "of the checkpoint that encoded it."
                )
            if self.latent_features is None:
                assert self.input_features is not None
                self.input_features[key] = PolicyFeature(FeatureType.VISUAL, shape)

    def _check_same_shape(self, key: str, feature: dict[str, Any]) -> None:
        expected = tuple((self.input_features or {})[key].shape)
        seen = feature["dtype"] in ("image", "video")
        if seen and is_depth(feature) != (key in (self.depth_cameras or ())):
            kinds = ("distances", "colours") if is_depth(feature) else ("colours", "distances")
            raise ValueError(
                f"`{key}` tells {kinds[0]} in this dataset, but the policy was trained with {kinds[1]}. Rename the "
                "camera that is the same (--rename_map), or correct `is_depth_map` in the dataset's meta/info.json."
            )
        shape = encoded_camera(feature) or (camera_shape(feature) if seen else tuple(feature["shape"]))
        resized = self.resize_shape is not None and seen
        if not same_picture(shape, expected, resized):
            raise ValueError(
                f"`{key}` has shape {shape} in this dataset, but the policy was trained with {expected}. "
                "Convert the dataset to that size, or train from the start with --policy.resize_shape set, which takes "
                "every size of one aspect."
            )
