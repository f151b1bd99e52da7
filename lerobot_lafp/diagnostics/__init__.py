"""Diagnostics of a latent space and of the policy over it: ``lafp probe``.

``measures`` are pure functions, ``collect`` runs a checkpoint over a dataset, ``report`` says what came of it.
"""

from .collect import Collected, collect, dataset_batches, probe_config
from .report import Diagnosis, diagnose, probe

__all__ = ["Collected", "Diagnosis", "collect", "dataset_batches", "diagnose", "probe", "probe_config"]
