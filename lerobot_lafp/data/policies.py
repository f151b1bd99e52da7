"""A policy opened from a checkpoint, with errors in words."""

import contextlib
import io
from pathlib import Path

from ..checkpoint.download import MEND, refuse_missing
from ..configuration_lafp import LAFPConfig
from ..errors import UserError, in_one_line
from ..lerobot_patches import apply
from ..modeling_lafp import LAFPPolicy


def load_policy(checkpoint: str | Path, device: str | None = None) -> LAFPPolicy:
    """The policy that ``--policy.path=checkpoint`` names: a folder, or a Hub repository.

    Args:
        checkpoint: What the option takes.
        device: Where it is put. Unset: where it was trained, if that is there.

    Raises:
        UserError: There is no LAFP checkpoint.
    """
    apply()  # checkpoints of older formats are read with it
    refuse_missing(checkpoint)
    try:
        config = LAFPConfig.from_pretrained(checkpoint)
        if not isinstance(config, LAFPConfig):
            raise UserError(f"{checkpoint} is no LAFP checkpoint, but one of policy type {config.type}.")
        if device is not None:
            config.device = device
        with contextlib.redirect_stdout(io.StringIO()):  # LeRobot prints where the weights are from
            return LAFPPolicy.from_pretrained(checkpoint, config=config)
    except OSError as error:
        raise UserError(f"{checkpoint} cannot be read ({in_one_line(error)}). {MEND}") from error
