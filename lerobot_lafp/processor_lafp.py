"""Pre- and post-processing pipelines: LeRobot's own steps, with normalisation left to the model.

The pipelines rename, batch and move; their (un)normalisers are present, because LeRobot addresses them by name,
and do nothing (`LAFPConfig.normalization_mapping` is IDENTITY): the statistics are buffers of the model.
"""

from typing import Any

from lerobot.processor import PolicyAction, PolicyProcessorPipeline, make_default_pre_post_processors
from torch import Tensor

from .configuration_lafp import LAFPConfig


def make_lafp_pre_post_processors(
    config: LAFPConfig,
    dataset_stats: dict[str, dict[str, Tensor]] | None = None,
    dataset_meta: Any | None = None,
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]], PolicyProcessorPipeline[PolicyAction, PolicyAction]
]:
    """Build the two pipelines. LeRobot finds this function by its name (`L/policies/factory.py`)."""
    return make_default_pre_post_processors(config, dataset_stats)
