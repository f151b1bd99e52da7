"""Options that belong together, ``--policy.limits.margin=0.1``, and the group of what a run fills in."""

from dataclasses import dataclass
from typing import Any, Literal

from .constants import Stage
from .fields import filled_in, option


@dataclass
class Labels:
    """Another dataset, where that has the actions: named as ``--dataset.*`` of LeRobot names the first."""

    repo_id: str | None = option(None)
    """The dataset with the actions, of the same robot and cameras, if ``--dataset.repo_id`` is video. The video's own
    actions are then never read. Stage 1 sees both, stage 2 the video, stage 3 this dataset (docs/labels.md). Unset: the
    actions are those of ``--dataset.repo_id``."""

    root: str | None = option(None, path=True)
    """Its folder. Unset: LeRobot's cache, or the Hub."""

    episodes: list[int] | None = option(None)
    """Its episodes that are trained on. Unset: all of them."""


@dataclass
class Backbone:
    """How a camera's image becomes tokens."""

    encoder: Literal["auto", "small_conv", "resnet18", "vit"] = option("auto", fixed_by=Stage.LATENT_ACTION)
    """``small_conv`` for small images, ``resnet18`` (torchvision, GroupNorm), or ``vit``, a frozen DINOv2 / DINOv3.
    Stage 1 then predicts the ViT's patch tokens, too (UniVLA). ``auto``: ``small_conv`` up to 128 pixels a side, else
    ``resnet18``."""

    weights: str | None = option(None, fixed_by=Stage.LATENT_ACTION, path=True)
    """For ``resnet18``: a torchvision weights name, or the path of a local state dict. Unset: random weights, and
    nothing is downloaded. For ``vit`` it must be set: a folder that ``transformers`` saved, or a repository of the Hub.
    The weights are saved in every checkpoint."""

    grid: int = option(4, fixed_by=Stage.LATENT_ACTION)
    """Cells a side over which a ViT's patch tokens are averaged; each is a token of its own."""


@dataclass
class Codebook:
    """Discrete latents: a codebook kept by moving averages (paper, section 3.1)."""

    size: int = option(0, fixed_by=Stage.LATENT_ACTION)
    """Codes per codebook; 0: latents are continuous."""

    heads: int = option(4, fixed_by=Stage.LATENT_ACTION)
    """Codebooks that share the width ``Dz`` of one latent; read where ``size`` is not 0."""


@dataclass
class Motion:
    """Predicting motion from the latent alone: a regulariser of stage 1 that needs no labels (LAOF)."""

    weight: float | None = option(None)
    """Its weight; 0: off. Unset: 1 where stage 1 sees no labels; beside them 0.1 with cameras, 0 with states alone or a
    ViT (docs/method.md, claim 4)."""

    target: Literal["centroid", "flow", "both"] = option("both")
    """The motion that the latent predicts. ``centroid``: how far the centre of brightness of each colour moves, for
    fixed cameras. ``flow``: optical flow in 4 x 4 cells (LAOF; OpenCV's DIS), which misses objects that move by more
    than their size. ``both``: both. For a state, the target is its change."""


@dataclass
class Limits:
    """What no command exceeds, and what is watched, between policy and robot (`lerobot_lafp/acting/limits.py`)."""

    enabled: bool = option(True)
    """Without them a robot gets whatever the policy says."""

    margin: float = option(0.1)
    """A command may leave the range of the labelled demonstrations' actions by this share of its width."""

    range: dict[str, tuple[float, float]] | None = option(None)
    """Action's name -> [least, largest] command, where not by the demonstrations."""

    change: float | None = option(2.0)
    """A command may differ from the last one by this many times the largest change in the labelled demonstrations. The
    first command of a run may differ from the arm's position by as much. Unset: no limit."""

    change_per_s: dict[str, float] | None = option(None)
    """Action's name -> largest change in a second, where not by the demonstrations."""

    smoothing: float = option(0.0)
    """Share of the last command in the next, a low-pass filter; 0: none."""


@dataclass
class Facts:
    """What a policy knows of its data and of how it was built: filled in by runs, never typed."""

    fps: float | None = filled_in()
    """Frames per second that the policy is trained at; a dataset of another rate is refused."""

    latent_features: list[str] | None = filled_in(fixed_by=Stage.LATENT_ACTION)
    """The observations that stages 1 and 2 read; a state that first appears in the dataset of stage 3 is for the
    decoder alone."""

    feature_order: list[str] | None = filled_in()
    """The order in which the networks read observations, whatever order input_features has: that of their names; of a
    checkpoint of format 1 that of its file."""

    action_dim: int | None = filled_in()
    """``A``, from the first dataset with actions."""

    action_names: list[str] | None = filled_in()
    """Names of the action's dimensions, from the first dataset that has them."""

    state_names: list[str] | None = filled_in()
    """Likewise of ``observation.state``."""

    vector_names: dict[str, list[str]] | None = filled_in()
    """Likewise of other states -> list."""

    angles: dict[str, list[list[float]]] | None = filled_in()
    """State, ``action`` -> its dimensions that wrap around: place, a whole turn, where the policy's and where the
    dataset's interval begins (`observation/angles.py`). Unset: of a version that did not know of them."""

    depth_cameras: list[str] | None = filled_in()
    """Cameras whose numbers are distances, and are normalised as such."""

    actions_are_positions: bool | None = filled_in()
    """Whether actions were near the joints of their names in the demonstrations; false for speeds and steps that are
    named as the joints."""

    labels_repo_id: str | None = filled_in()
    """The dataset that ``labeled_episodes`` or ``labels`` was chosen for: what ``--dataset.repo_id`` was then."""

    tasks: list[str] | None = filled_in()
    """Tasks that the policy was trained on; any other is warned of."""

    task_encoder: Literal["none", "words"] | None = filled_in()
    """How the policy reads the task, where ``language=auto`` left it to the first dataset."""

    text_dim: int | None = filled_in()
    """Width of the text model's vectors."""

    decoder_per_latent: bool | None = filled_in()
    """Whether the decoder makes the actions of each latent, and not all of a chunk at once. Unset: of a version that
    trained it otherwise."""

    one_call: bool | None = filled_in()
    """Whether there is a student of the flow that acts in one call (``lafp distill``)."""

    backbone_config: dict[str, Any] | None = filled_in()
    """What ``transformers`` needs to build the ViT again."""

    motion_weight: float | None = filled_in()
    """``motion.weight``, or what it is where that is unset."""

    undecided: list[str] | None = filled_in()
    """Options that nobody set and no dataset has decided yet; they stand at what holds for most."""

    chosen: dict[str, str] | None = filled_in()
    """Options that a dataset decided, each with the reason (`training/choices.py`)."""
