"""What LeRobot has after 0.6.1 (commit 7427f318), as far as a policy meets it, in the place of what is installed.

Where that LeRobot is installed, it is used as it is.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from huggingface_hub import ModelCard, save_torch_state_dict
from lerobot.common import train_utils
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from lerobot.utils.hub import HubMixin
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule

from lerobot_lafp import lerobot_patches

#: Whether the LeRobot that is installed is later than 0.6.1.
IS_INSTALLED = hasattr(train_utils, "publish_trained_model")


def put_in_place(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replace what is other after 0.6.1.

    Args:
        put: Sets an attribute, as ``setattr`` or ``monkeypatch.setattr`` do.
    """
    if IS_INSTALLED:
        from lerobot.distributed import checkpoint

        gather = checkpoint.full_model_state_dict
        put(checkpoint, "full_model_state_dict", lambda module: _copied(gather(module)))
        return
    put(PreTrainedPolicy, "save_pretrained", HubMixin.save_pretrained)
    put(PreTrainedPolicy, "_save_pretrained", _save_pretrained)
    PreTrainedPolicy.drop_queued_actions = _drop_queued_actions
    train_utils.generate_model_card = _generate_model_card
    train_utils.publish_trained_model = _publish_trained_model
    lerobot_patches.publish_with_the_policys_own_card()


def take_away() -> None:
    """Undo what ``put_in_place`` added to a LeRobot that is not that one."""
    if not IS_INSTALLED:
        for owner, name in (
            (PreTrainedPolicy, "drop_queued_actions"),
            (train_utils, "generate_model_card"),
            (train_utils, "publish_trained_model"),
        ):
            delattr(owner, name)


def _is_main_process() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """On a CPU, what is gathered lies within something larger, and safetensors refuses that; off a GPU it is copied."""
    return {name: x.clone() for name, x in state.items()}


def _save_pretrained(self: PreTrainedPolicy, save_directory: Path) -> None:
    if isinstance(self, FSDPModule):
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = _copied(get_model_state_dict(self, options=options))  # in every process; empty but in the first
    else:
        state = self.state_dict()
    if not state or not _is_main_process():
        return
    self.config._save_pretrained(save_directory)
    save_torch_state_dict(state, str(save_directory), max_shard_size="1TB")


def _drop_queued_actions(self: PreTrainedPolicy) -> None:
    for name in getattr(self, "_action_queue_attrs", ("_queues", "_action_queue")):
        queue = getattr(self, name, None)
        if isinstance(queue, dict):
            if ACTION in queue:
                queue[ACTION].clear()
        elif queue is not None:
            queue.clear()


def _generate_model_card(model_cfg: Any, cfg: Any = None, dataset_meta: Any = None) -> ModelCard:
    return ModelCard(f"---\nlicense: apache-2.0\n---\nThis is a **{model_cfg.type}** policy trained with LeRobot.\n")


def _publish_trained_model(
    cfg: Any, model: Any, preprocessor: Any, postprocessor: Any, dataset_meta: Any, *, peft_model: Any = None
) -> None:
    """As far as the card is concerned: pushed last, from a folder of its own."""
    if _is_main_process():
        card = train_utils.generate_model_card(model.config, cfg=cfg, dataset_meta=dataset_meta)
        train_utils.HfApi().upload_folder(repo_id=model.config.repo_id, card=str(card))
