"""Where latents lie between the modes, of made-up neighbourhoods."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from ablation.measures import mode_histogram
from ablation.statistics import MODE_BINS, MODE_END

WIDTH = 2 * MODE_END / MODE_BINS


def found(bimodal: bool = True) -> tuple[Any, Any]:
    """One neighbourhood of four: latents at (-3, 0) and (3, 0), samples halfway, off the line, far out."""
    structure = SimpleNamespace(bimodal=torch.tensor([bimodal]), centres=torch.tensor([[[-3.0, 0.0], [3.0, 0.0]]]))
    diagnosis = SimpleNamespace(structure=structure, chunks=torch.arange(4), neighbours=torch.arange(4).unsqueeze(0))
    latents = torch.tensor([[-3.0, 0.0], [-3.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    samples = torch.tensor([[0.1, 0.0], [0.1, 9.0], [3.1, 5.0], [90.0, 0.0]])
    return diagnosis, SimpleNamespace(z_idm=latents.unsqueeze(1), samples=samples[:, None, None])


def shares(values: list[float]) -> dict[int, float]:
    return {bin: share for bin, share in enumerate(values) if share}


def bin_of(place: float) -> int:
    return min(int((place + MODE_END) / WIDTH), MODE_BINS - 1)


def test_modes_lie_at_minus_one_and_one() -> None:
    histogram = mode_histogram(*cast(Any, found()))
    assert histogram is not None
    assert shares(histogram["idm"]) == {bin_of(-1.0): 0.5, bin_of(1.0): 0.5}


def test_samples_count_where_they_are_along_the_line_and_at_its_end_beyond() -> None:
    histogram = mode_histogram(*cast(Any, found()))
    assert histogram is not None
    assert shares(histogram["policy"]) == {bin_of(0.1 / 3): 0.5, bin_of(3.1 / 3): 0.25, MODE_BINS - 1: 0.25}
    assert sum(histogram["policy"]) == pytest.approx(1)


def test_without_two_modes_there_is_none() -> None:
    assert mode_histogram(*cast(Any, found(bimodal=False))) is None
    diagnosis, collected = found()
    diagnosis.structure = None
    assert mode_histogram(diagnosis, collected) is None
