"""Names that all rooms share: stages, columns, the format of checkpoints."""

from enum import StrEnum
from typing import Literal, Self


class Stage(StrEnum):
    """The stages in order; each builds on the checkpoint of the one before."""

    LATENT_ACTION = "latent_action"
    LATENT_POLICY = "latent_policy"
    ACTION_DECODER = "action_decoder"

    @property
    def place(self) -> int:
        """Its place in ``stage_steps``."""
        return STAGES.index(self)

    @property
    def before(self) -> tuple[Self, ...]:
        """The stages that it builds on."""
        return STAGES[: self.place]


STAGES = tuple(Stage)

#: What a run trains: one stage, or all of them side by side.
Trained = Literal["joint", "latent_action", "latent_policy", "action_decoder"]
#: How real-time chunking makes the next chunk go on from the one before (`lerobot_lafp/acting/real_time.py`).
Guidance = Literal["decoder", "latents", "noise", "none"]

#: Euler steps of a flow where nobody says how many.
FLOW_STEPS = 10
#: Optimiser steps of the flow's student (`lerobot_lafp/training/distillation.py`).
STUDENT_STEPS = 4000

#: Column of a dataset with the normalised latents of each frame's chunk, (L * Dz,); (L, Dz) in older datasets.
LATENT_ACTION = "latent_action"
#: Column (L,) that is true where a latent reaches beyond the episode.
LATENT_ACTION_IS_PAD = f"{LATENT_ACTION}_is_pad"

#: Of a batch from two datasets, (B,): true for a sample of the labels (``labels.repo_id``), false for one of the video.
FROM_LABELS = "from_labels"

#: Format of the checkpoints that this version writes; older ones are read too (`lerobot_lafp/options/migration.py`).
CHECKPOINT_FORMAT = 5
