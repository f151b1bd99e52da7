"""Every option of LAFP, its unit, its default and where in the paper it comes from.

"Paper" is LAFP, arXiv 2606.10517. One vocabulary of dimensions runs through code, configuration and plots:
``B`` batch, ``T`` observation frames, ``L`` latents per chunk, ``H`` action horizon, ``A`` action width,
``Dz`` latent width, ``tau`` flow time (0 = noise, 1 = data).
"""

from dataclasses import dataclass
from typing import Literal

from .constants import FLOW_STEPS, Guidance, Stage, Trained
from .fields import filled_in, group, option
from .groups import Backbone, Codebook, Facts, Labels, Limits, Motion


@dataclass
class PolicyOptions:
    """What a person sets, in groups; and what is filled in. A chunk of ``H = horizon`` actions is described by ``L =
    num_latents`` latent actions of width ``Dz = latent_dim``, each covering ``k = H / L`` frames."""

    stage: Trained = option("joint")
    """What a training run trains (paper, section 3). ``latent_action`` is stage 1: the inverse and forward dynamics
    models. ``latent_policy`` is stage 2: the flow policy over frozen latents. ``action_decoder`` is stage 3: the
    decoder over the frozen flow. ``joint`` trains all three in one run, with gradients stopped between them (ours)."""

    latent_source: Literal["idm", "actions"] = option("idm", fixed_by=Stage.LATENT_ACTION)
    """``idm`` is LAFP. ``actions`` puts the same flow directly on the labelled action chunks, with no latents and no
    decoder: the baseline "few labels only"."""

    # --- The chunk
    n_obs_steps: int = option(1, fixed_by=Stage.LATENT_POLICY)
    """Frames of history, in dataset frames, that the latent policy sees. Use 2 if one frame hides what the task needs,
    such as speed. Otherwise a second frame may cost success (docs/method.md)."""

    horizon: int = option(otherwise=16, fixed_by=Stage.LATENT_POLICY)
    """``H``, actions per chunk, in dataset frames. Unset: as many as last 1.6 s at the dataset's rate."""

    num_latents: int = option(otherwise=4, fixed_by=Stage.LATENT_POLICY)
    """``L``, latent actions per chunk (paper: 1); each covers ``horizon / num_latents`` frames. Unset: 4, or the number
    nearest to it that divides ``horizon``."""

    n_action_steps: int = option(otherwise=8)
    """Actions of a chunk executed before the next is predicted; at most ``horizon``. Unset: half of them."""

    # --- Labels and actions
    labeled_episodes: list[int] | None = option(None)
    """Episodes whose actions may be used, as indices of the dataset. Unset: all of them. The actions of every other
    episode are never read."""

    labels: Labels = group(Labels)

    relative_actions: bool = option(otherwise=False, fixed_by=Stage.ACTION_DECODER)
    """Predict actions relative to the present ``observation.state`` (of the joints of their names). Unset: where the
    labelled actions are places of these joints."""

    hold_last_frame: bool = option(False)
    """Repeat an episode's last frame beyond its end, so that the policy also learns from the frames just before it.
    Off: frames beyond the end are masked, and the frames of an episode's last latent are not trained on."""

    names: dict[str, list[str]] | None = option(None)
    """Names of the dimensions of ``action``, ``observation.state`` or another state, in the policy's order. Needed if a
    robot or a dataset has other names for the same joints than the first dataset."""

    # --- Observations
    observations: list[str] | None = option(None)
    """Which cameras and states of the dataset the policy reads, such as
    ``[observation.images.front,observation.state]``. Unset: all that stage 1 finds."""

    backbone: Backbone = group(Backbone)

    resize_shape: tuple[int, int] | None = option(otherwise=None, fixed_by=Stage.LATENT_ACTION)
    """(height, width) in pixels to which images of any size with one aspect ratio are resized. Unset: images keep their
    size, and all must have the same."""

    random_shift: int = option(otherwise=0)
    """Pixels by which images are shifted at random in each direction while the policy trains (DrQ). All frames of a
    sample shift alike, and the edge is repeated. 0: off. Unset: a sixteenth of the longest side."""

    token_dim: int = option(128, fixed_by=Stage.LATENT_ACTION)
    """Width of an observation token."""

    language: str = option("auto", fixed_by=Stage.LATENT_POLICY, path=True)
    """How the policy reads the task description. ``words``: hashed words, without a download. ``none``: not at all. A
    folder that ``transformers`` saved, or a repository of the Hub: a frozen text model, whose task vectors are saved in
    every checkpoint. ``auto``: by words if the first dataset of the policy has several tasks."""

    # --- Stage 1: latent actions
    latent_dim: int = option(16, fixed_by=Stage.LATENT_ACTION)
    """``Dz`` (paper: 128; narrow latents measured better on continuous control)."""

    codebook: Codebook = group(Codebook)

    latent_tokens: int = option(0, fixed_by=Stage.LATENT_ACTION)
    """0: the inverse model is a perceptron over the tokens of both frames (paper). M > 0: it is a transformer with M
    queries, for the many tokens of a ViT (UniVLA: 4). Each query makes a part of the width ``Dz``, which the forward
    model of a ViT's features sees as a token."""

    idm_input: Literal["frames", "difference"] = option("frames", fixed_by=Stage.LATENT_ACTION)
    """What the inverse model sees beside the first frame. ``frames``: the later frame. ``difference``: the
    difference of their tokens (CoMo)."""

    label_weight: float = option(0.1)
    """lambda, weight of the stage-1 action loss (paper: 0.1). 0: no labels in stage 1."""

    motion: Motion = group(Motion)

    pixel_target_size: int = option(64, fixed_by=Stage.LATENT_ACTION)
    """Longest side, in pixels, at which the forward model predicts images of up to 128 pixels a side. For larger images
    it predicts the features of a frozen copy of the encoder, for a ViT its patch tokens."""

    latent_model_dim: int = option(256, fixed_by=Stage.LATENT_ACTION)
    """Hidden width of the stage-1 networks."""

    # --- Stage 2: latent policy
    policy_head: Literal["flow", "bc"] = option("flow", fixed_by=Stage.LATENT_POLICY)
    """``flow`` (LAFP) or ``bc``, the latent behaviour cloning of LAOM."""

    policy_network: Literal["mlp", "transformer"] = option("mlp", fixed_by=Stage.LATENT_POLICY)
    """``mlp`` (paper) or ``transformer`` (L latent tokens attending to observation tokens)."""

    policy_dim: int = option(384, fixed_by=Stage.LATENT_POLICY)
    """Hidden width of the policy network."""

    policy_layers: int = option(3, fixed_by=Stage.LATENT_POLICY)
    """Depth of the policy network, in blocks (paper: 3 layers)."""

    prediction: Literal["sample", "velocity"] = option("sample", fixed_by=Stage.LATENT_POLICY)
    """``sample`` (x-prediction, paper's default) or ``velocity``."""

    num_flow_steps: int | None = option(None)
    """``K``, Euler steps of the sampler (paper: 3; measured in docs/method.md). Unset: ten; or one call of the student
    that ``lafp distill`` adds, which learns where ten steps end."""

    flow_draws: int = option(4)
    """(tau, noise) pairs drawn per sample of a batch while it trains; the observation is encoded once for all."""

    ema_decay: float = option(0.999)
    """Decay of the moving average of the policy's weights, which is what acts. 0: none."""

    # --- Stage 3: action decoder
    decoder_input: Literal["idm", "interpolation", "samples", "action_head"] = option("idm")
    """Training input of the decoder (paper, section 3.3). ``idm``: the inverse model's latents (ours, better with few
    labels, docs/method.md). ``interpolation``: the paper's. ``samples``: latents sampled from noise. ``action_head``:
    no stage 3; the action head of stage 1 decodes the policy's samples."""

    interpolation_tau: tuple[float, float] = option((0.75, 1.0))
    """``tau ~ U(least, largest)`` of the interpolation; two equal numbers fix it. Ours leaves out the small ones, at
    which one call of the network lands between modes (paper: silent; 0 is our reading of it)."""

    decoder_observes: Literal["nothing", "state", "tokens"] = option(otherwise="nothing", fixed_by=Stage.ACTION_DECODER)
    """What the decoder sees beside latents. ``nothing``: the paper's. ``state``: ``observation.state``, because the
    effect of a command depends on the arm's position. ``tokens``: the observation tokens and states that appear in
    stage 3, for which a few demonstrations are too few. Unset: ``state`` if the policy sees it, or if actions are joint
    positions."""

    decoder_dim: int = option(256, fixed_by=Stage.ACTION_DECODER)
    """Hidden width of the decoder, a three-layer MLP (paper)."""

    finetune_policy: bool = option(False)
    """Let the decoder's loss train the policy too (paper's "LAFP fine-tuned"). Needs a decoder that is trained on what
    the policy makes: ``decoder_input`` ``interpolation`` or ``samples``."""

    # --- Between policy and robot
    rtc_guidance: Guidance = option("decoder")
    """How the next chunk continues the present one with ``lerobot-rollout --inference.type=rtc``
    (`lerobot_lafp/acting/real_time.py`). ``decoder``: guided towards its actions through the decoder. ``latents``: by
    its committed latents. ``noise``: the best of 32 samples. ``none``: not at all. Only the last two keep the one call
    of ``lafp distill``."""

    limits: Limits = group(Limits)

    # --- Loading
    frame_store: str = option("auto")
    """Disk for the frame store, which decodes each camera once for all stages (docs/frame_store.md). ``auto``: a fifth
    of the free disk, at most 100 GB. A number: so many GB. ``off``: LeRobot's loader. Stores lie in
    ``$HF_LEROBOT_HOME/frame_store``; ``lafp store`` lists them."""

    # --- Optimisation
    optimizer_lr: float = option(5e-4)
    """Peak learning rate of AdamW, after 100 steps of warm-up; a cosine takes it down to 0. For another optimiser:
    ``--use_policy_training_preset=false`` with ``--optimizer.*`` and ``--scheduler.*``."""

    # --- Filled in
    facts: Facts = group(Facts, init=False)

    checkpoint_format: int | None = filled_in()
    """Of a checkpoint, written when it is saved: which format it has (``CHECKPOINT_FORMAT``)."""

    weights_digest: str | None = filled_in()
    """Likewise: the SHA-256 of ``model.safetensors``, against which it is held when it is loaded."""

    options_digest: str | None = filled_in()
    """Likewise: the SHA-256 of all else in config.json; what was changed since is warned of."""

    made_with: dict[str, str] | None = filled_in()
    """Likewise: package -> version."""

    # --- What follows from them

    @property
    def frame_offset(self) -> int:
        """``k``, frames that one latent action covers (paper: 1)."""
        return self.horizon // self.num_latents

    @property
    def flow_steps(self) -> int:
        """``K``, Euler steps of the flow where it is integrated."""
        return FLOW_STEPS if self.num_flow_steps is None else self.num_flow_steps

    @property
    def bottleneck(self) -> Literal["continuous", "vq"]:
        """What latents are (paper, section 3.1)."""
        return "vq" if self.codebook.size else "continuous"

    @property
    def text_model(self) -> str | None:
        """The text model that ``language`` names."""
        return None if self.language in ("auto", "words", "none") else self.language

    @property
    def frame_store_gb(self) -> float | None:
        """Gigabytes that frame stores may take; 0: none is made or read; None: by the disk that is free."""
        return {"auto": None, "off": 0.0}[typed] if (typed := self.frame_store) in ("auto", "off") else float(typed)

    @property
    def only_stage(self) -> Stage | None:
        """The stage that a run trains by itself; None: all of them."""
        return None if self.stage == "joint" else Stage(self.stage)

    def trains(self, stage: Stage) -> bool:
        """Whether a run trains ``stage``, by itself or beside the others."""
        return self.stage in ("joint", stage)
