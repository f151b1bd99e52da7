"""Whose latents and features a labelled dataset holds: those of another model are refused, not learnt from."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.nn import Module

from ..configuration_lafp import LAFPConfig
from ..model.stages import Stages
from ..options.constants import LATENT_ACTION, Stage
from ..options.features import encoded_camera

#: Where a labelled dataset says by which checkpoint, and which dataset it was; an edited one says it no more.
LABELS_RECORD = "meta/latent_action.json"
#: Where one whose cameras are a ViT's features says by which checkpoint.
FEATURES_RECORD = "meta/vit_features.json"


def latent_fingerprint(stages: Stages) -> str:
    """Sixteen hexadecimal digits that change when the latents of an observation do: of the weights and options in use.

    What only trains them, such as the forward model, does not enter; nor does a later stage.
    """
    config, model = stages.config, stages.latent_action_model
    assert model is not None
    options = ("frame_offset", "num_latents", "hold_last_frame", "idm_input", "resize_shape")
    observed = sorted([*config.camera_shapes, *config.vector_shapes])
    parts = {
        "encoder": model.encoder,
        "idm": model.idm,
        "bottleneck": model.bottleneck,
        "statistics": model.statistics,
        "normalizer": stages.normalizer,
    }
    return _fingerprint([observed, *(getattr(config, name) for name in options)], parts)


def feature_fingerprint(stages: Stages) -> str:
    """Sixteen hexadecimal digits that change when a ViT's features of an image do."""
    config, vit = stages.config, stages.normalizer.vit
    assert vit is not None
    return _fingerprint([config.resize_shape, config.backbone.grid], {"vit": vit})


def labels_identity(stages: Stages) -> dict[str, Any]:
    """Whose labels a column holds: the same of all datasets that a checkpoint labels.

    It is written into the column's feature: LeRobot keeps that when it edits a dataset, and merges no datasets whose
    features differ.
    """
    options = ("num_latents", "latent_dim", "frame_offset")
    return {"fingerprint": latent_fingerprint(stages), **{name: getattr(stages.config, name) for name in options}}


def _fingerprint(options: list[Any], parts: Mapping[str, Module]) -> str:
    found = hashlib.sha256(json.dumps(options).encode())
    for part, module in parts.items():
        for name, tensor in sorted(module.state_dict().items()):
            found.update(f"{part}.{name}".encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def labels_record(config: LAFPConfig, dataset_meta: Any | None) -> dict[str, Any] | None:
    """What a dataset says of the latents that stage latent_policy will read from it; None where it reads none."""
    if config.only_stage is not Stage.LATENT_POLICY:
        return None
    if dataset_meta is None or LATENT_ACTION not in dataset_meta.features:
        return None
    file = Path(dataset_meta.root) / LABELS_RECORD
    record = json.loads(file.read_text()) if file.is_file() else {}  # which is all that older datasets have
    return {**record, **(dataset_meta.features[LATENT_ACTION].get("info") or {})}


def refuse_stale_labels(stages: Stages, record: Mapping[str, Any]) -> None:
    """Refuse to learn from latents that another inverse model inferred.

    Args:
        policy: About to train stage latent_stages.
        record: What the dataset says of its labels (``labels_record``).

    Raises:
        ValueError: They are not those of its stage 1.
    """
    if record.get("fingerprint") != latent_fingerprint(stages):
        other = f" ({record['checkpoint']})" if "checkpoint" in record else ""
        raise ValueError(
            f"The dataset's `{LATENT_ACTION}` was inferred by another model{other} than this "
            "checkpoint's: stage latent_action was trained again since, or horizon, num_latents or "
            "hold_last_frame changed. Label it again with this checkpoint (lafp label), or train on the one "
            "that was labelled, or without the column (lerobot-edit-dataset --operation.type=remove_feature)."
        )


def encoded_cameras(dataset_meta: Any | None) -> dict[str, str]:
    """Cameras that a dataset holds as features of a ViT -> that ViT's ``feature_fingerprint``."""
    features = {} if dataset_meta is None else dataset_meta.features
    return {key: str(ft["info"]["vit"]) for key, ft in features.items() if encoded_camera(ft) is not None}


def refuse_stale_features(stages: Stages, cameras: Mapping[str, str]) -> None:
    """Refuse to learn from features of another ViT than the policy acts with.

    Args:
        stages: Of a policy that is about to be trained.
        cameras: See ``encoded_cameras``.

    Raises:
        ValueError: They are of another ViT, grid or resolution.
    """
    own = feature_fingerprint(stages) if cameras and stages.normalizer.vit is not None else ""
    for key, found in cameras.items():
        if found != own:
            raise ValueError(
                f"The dataset holds `{key}` as features of another ViT than this policy's, or at another resize_shape "
                "or backbone_grid. Encode the video again with a checkpoint of this policy (lafp label --features)."
            )
