"""The bounds of commands, for tensors and for NumPy arrays."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lerobot_lafp.acting.bounds import by_place, changes_per_command, largest_change, range_of_commands

LOW, HIGH = torch.tensor([-1.0, 0.1, 3.0]), torch.tensor([0.7, 0.1, 9.3])


def to_the_bit(tensors: Any, arrays: Any) -> bool:
    return all(
        x.dtype == y.numpy().dtype and x.tobytes() == y.numpy().tobytes() for x, y in zip(arrays, tensors, strict=True)
    )


@pytest.mark.parametrize("margin", [0.0, 0.1, 1 / 3])
def test_the_range_of_the_demonstrations_by_a_margin(margin: float) -> None:
    chosen = {1: (0.0, 0.2)}
    low, high = range_of_commands(LOW, HIGH, HIGH - LOW, margin, chosen)
    assert low.tolist() == pytest.approx([-1 - 1.7 * margin, 0.0, 3 - 6.3 * margin])
    assert high.tolist() == pytest.approx([0.7 + 1.7 * margin, 0.2, 9.3 + 6.3 * margin])
    arrays = (LOW.numpy(), HIGH.numpy(), (HIGH - LOW).numpy())
    assert to_the_bit((low, high), range_of_commands(*arrays, margin, chosen))
    assert LOW.tolist() == pytest.approx([-1.0, 0.1, 3.0]), "left as it was"


@pytest.mark.parametrize("factor", [None, 0.0, 2.0, 1 / 3])
def test_the_largest_change_by_a_factor(factor: float | None) -> None:
    least = torch.zeros(3)
    change = largest_change(least, HIGH, factor)
    assert change.tolist() == ([math.inf] * 3 if factor is None else pytest.approx([factor * x for x in HIGH.tolist()]))
    assert to_the_bit([change], [largest_change(least.numpy(), HIGH.numpy(), factor)])


@pytest.mark.parametrize("of", [torch.tensor, lambda x: np.array(x, dtype=np.float32)])
def test_without_demonstrations_nothing_is_bounded(of: Any) -> None:
    low, high = of([math.inf] * 2), of([-math.inf] * 2)
    least, largest = range_of_commands(low, high, of([0.0, 0.0]), 0.1, {0: (-1.0, 1.0)})
    assert (least.tolist(), largest.tolist()) == ([-1.0, -math.inf], [1.0, math.inf])
    assert largest_change(low, high, 2.0).tolist() == [math.inf] * 2
    assert (low.tolist(), high.tolist()) == ([math.inf] * 2, [-math.inf] * 2), "left as they were"


def test_changes_are_chosen_by_name_and_second() -> None:
    assert changes_per_command({"b": 3.0}, ["a", "b"], 30.0) == {1: 0.1}
    assert changes_per_command(None, ["a"], None) == {}
    with pytest.raises(ValueError, match="needs the rate of the commands"):
        changes_per_command({"b": 3.0}, ["a", "b"], None)
    with pytest.raises(ValueError, match=r"`limits\.range` names 'c', which is no action of this policy: a, b"):
        by_place({"c": (0, 1)}, ["a", "b"], "limits.range")


def test_random_bounds_are_the_same_for_both() -> None:
    draw = torch.Generator().manual_seed(0)
    low: Tensor = torch.randn(10_000, generator=draw)
    high = low + torch.rand(10_000, generator=draw)
    arrays = (low.numpy(), high.numpy(), (high - low).numpy())
    assert to_the_bit(range_of_commands(low, high, high - low, 0.1, {}), range_of_commands(*arrays, 0.1, {}))
    assert to_the_bit([largest_change(low, high, 2.2)], [largest_change(*arrays[:2], 2.2)])
