"""Names that all rooms share: stages, columns, the format of checkpoints."""

from typing import Literal

Stage = Literal["joint", "latent_action", "latent_policy", "action_decoder"]
#: How real-time chunking makes the next chunk go on from the one before (`lerobot_lafp/real_time.py`).
Guidance = Literal["decoder", "latents", "none"]

#: The stages in order; each builds on the checkpoint of the one before.
STAGES = ("latent_action", "latent_policy", "action_decoder")

#: Column of a dataset with the normalised latents of each frame's chunk, (L * Dz,); (L, Dz) in older datasets.
LATENT_ACTION = "latent_action"
#: Column (L,) that is true where a latent reaches beyond the episode.
LATENT_ACTION_IS_PAD = f"{LATENT_ACTION}_is_pad"

#: Format of the checkpoints that this version writes; older ones are read too (`lerobot_lafp/checkpoint/integrity.py`).
CHECKPOINT_FORMAT = 2

#: Peak learning rate a stage trains with when ``optimizer_lr`` is left unset.
DEFAULT_LR: dict[str, float] = {
    "joint": 5e-4,
    "latent_action": 5e-4,
    "latent_policy": 5e-4,
    "action_decoder": 5e-4,
}
