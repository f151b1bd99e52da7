"""Loading weights and continuing runs without surprises: what may be missing, and what is refused."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from draccus import encode
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..configuration_lafp import LAFPConfig
from ..options.constants import Stage
from ..options.fields import named_fields, read
from ..options.migration import format_of, migrate_config
from .integrity import is_migrated, migrate, options_changed, read_config, refuse_altered

logger = logging.getLogger(__name__)

#: Prefix of a weight's name -> position in ``stage_steps`` of the stage that trains it.
_OWNER = {
    "latent_action_model.": 0,
    "latent_policy.": 1,
    "average_policy.": 1,
    "one_call.": 1,
    "task_encoder.": 1,
    "action_decoder.": 2,
    "chunk_moments.": 2,
    "limits.": 2,
}

#: What serves stage 1 alone, so that the latents of a checkpoint do not depend on it.
_FORWARD_MODEL = tuple(
    f"latent_action_model.{part}." for part in ("vector_fdm", "pixel_fdm", "feature_fdm", "patch_fdm", "target_encoder")
)


def load_weights(policy: nn.Module, config: LAFPConfig, file: str) -> None:
    """Load ``model.safetensors`` into ``policy``; every tensor must fit or have a reason not to.

    Reasons: the tensor belongs to a stage that the checkpoint has not trained yet (options may change until
    then), to the action head of a model that has not seen actions, or normalises a state new in stage 3.

    Raises:
        ValueError: The file cannot be read, is not what was saved, or does not fit the configuration.
    """
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}). The file is missing, cut short or not a LAFP checkpoint: copy or "
            "download it again, or use an earlier checkpoint of the run."
        ) from error
    saved = read_config(Path(file).with_name(CONFIG_NAME))
    if not refuse_altered(Path(file), saved):
        logger.warning("%s has no digest beside it: whether it is what was saved cannot be told.", file)
    if options_changed(saved):
        logger.warning(
            "%s is not as it was saved: options of it were changed since. If that was not you, copy or download it "
            "again.",
            Path(file).with_name(CONFIG_NAME),
        )
    small = {name: as_array(tensor) for name, tensor in state.items() if is_migrated(name)}
    migrate(small, format_of(saved))
    state |= {name: torch.from_numpy(array) for name, array in small.items()}
    if "stage_steps" not in state:
        raise ValueError(f"{file} is not a LAFP checkpoint: it holds no `stage_steps`.")
    steps = state["stage_steps"].tolist()
    _refuse_changed_options(config, saved, Path(file).parent, steps)
    own = policy.state_dict()
    _append_new_tasks(state, own)
    kept = {name: tensor for name, tensor in state.items() if _fits(own, name, tensor)}
    free = _FORWARD_MODEL if saved.get("image_target", "auto") != "auto" else ()  # of an older version, which chose
    differing = [name for name in {*own, *state} - set(kept) if not name.startswith(free)]
    unfit = [name for name in differing if not _may_differ(config, name, state, steps)]
    if unfit:
        raise ValueError(_explain(own, state, sorted(unfit), file))
    if len(kept) < len(own):
        logger.info("Built anew, not loaded: %s", sorted({n.split(".")[0] for n in set(own) - set(kept)}))
    policy.load_state_dict(kept, strict=False)


def renew_decoder(config: LAFPConfig, folder: Path) -> None:
    """Have the decoder of an older version made as new ones are, if that version has not trained it.

    Args:
        config: Of the policy that the checkpoint in ``folder`` is about to be loaded into. Changed in place.
        folder: What cannot be read there is left for ``load_weights`` to refuse.
    """
    if config.facts.decoder_per_latent:
        return
    try:
        with safe_open(folder / SAFETENSORS_SINGLE_FILE, framework="np") as opened:
            steps = opened.get_tensor("stage_steps")
    except (OSError, SafetensorError):
        return
    if not steps[Stage.ACTION_DECODER.place]:
        config.facts.decoder_per_latent = True


def as_array(tensor: Tensor) -> NDArray[Any]:
    """A tensor as a NumPy array, which knows no bfloat16: that becomes float32."""
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).detach().cpu().numpy()


def _refuse_changed_options(config: LAFPConfig, saved: Mapping[str, Any], folder: Path, steps: list[int]) -> None:
    """Refuse another value of an option that the weights of a trained stage depend on, whether a shape tells or not."""
    then, now = migrate_config(saved), json.loads(json.dumps(encode(config)))
    fixed = [("frame_offset", Stage.LATENT_ACTION), *((each.name, each.fixed_by) for each in named_fields(LAFPConfig))]
    for name, stage in fixed:
        if stage is None or not steps[stage.place]:
            continue
        before, after = _fixed(then, name), _fixed(now, name)
        if before is not _ABSENT and before != after:
            mend = f"--policy.{'horizon and --policy.num_latents' if name == 'frame_offset' else name}"
            raise ValueError(
                f"`{name}` is {after} here, but {folder} was trained with {before}, and stage {stage} cannot change it "
                f"afterwards. Leave out {mend}, or train stage {stage} again from a checkpoint that has not been "
                "through it."
            )


#: Of an option that a checkpoint is older than.
_ABSENT = object()


def _fixed(options: Mapping[str, Any], name: str) -> Any:
    """The value of an option that a stage fixes, or of what follows from several."""
    if name == "frame_offset":
        return options["horizon"] // options["num_latents"]
    if name == "language" and options.get(name) == "auto":  # as the first dataset settled it
        return read(options, "facts.task_encoder") or _ABSENT
    return read(options, name, _ABSENT)


def _append_new_tasks(state: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Tasks that this run adds stand in ``own`` behind those of the checkpoint."""
    name = "task_encoder.table"
    if name in state and name in own and len(state[name]) < len(own[name]):
        state[name] = torch.cat([state[name], own[name][len(state[name]) :].to(state[name])])


def _fits(own: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name in own and own[name].shape == tensor.shape


def _may_differ(config: LAFPConfig, name: str, state: dict[str, Tensor], steps: list[int]) -> bool:
    for prefix, stage in _OWNER.items():
        if name.startswith(prefix) and not steps[stage]:
            return True
    if name.startswith(("latent_action_model.action_head.", "latent_action_model.action_moments.")):
        return name not in state  # actions appear for the first time; the head serves stage 1 alone
    if name.startswith("latent_action_model.motion_head."):
        return True  # it, too, serves stage 1 alone; another `motion.target` begins it anew
    new_states = config.decoder_vector_shapes
    return any(name.startswith(f"normalizer.vectors.{key.replace('.', '__')}.") for key in new_states)


def _explain(own: dict[str, Tensor], state: dict[str, Tensor], unfit: list[str], file: str) -> str:
    name = unfit[0]
    if name in own and name in state:
        what = f"`{name}` has shape {tuple(state[name].shape)} there and {tuple(own[name].shape)} here"
    else:
        what = f"`{name}` is only in the {'checkpoint' if name in state else 'configuration'}"
    return (
        f"{file} does not fit the configuration: {what} ({len(unfit)} such tensor(s)). Options of a stage that has "
        "been trained cannot change afterwards, nor can its cameras, states or action width. Load it with the "
        "options it was trained with (leave out --policy.* overrides), or train that stage again from the "
        "checkpoint before it."
    )
