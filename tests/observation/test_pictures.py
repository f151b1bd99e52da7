"""A picture that shows nothing is told from one that shows little."""

import numpy as np
import pytest
import torch

from lerobot_lafp.observation.pictures import is_dark, shows_nothing

from ..data.datasets import covered, scene


@pytest.mark.parametrize("as_float", [False, True])
def test_what_a_picture_shows(as_float: bool) -> None:
    """With noise, in colour and in the dark."""
    draw = np.random.default_rng(0)
    size = (120, 160)
    dim = np.clip(scene(0.5, draw, size, 0) * 0.15 + draw.normal(0, 1, (*size, 3)), 0, 255)
    speck = np.full((*size, 3), 200.0)
    speck[60:66, 80:86] = 20
    pictures = {
        "black": (np.zeros((*size, 3)), True, True),
        "covered": (covered(draw, size, 4.0), True, True),
        "white": (np.full((*size, 3), 255.0), True, False),
        "noisy grey": (np.clip(128 + draw.normal(0, 6, (*size, 3)), 0, 255), True, False),
        "one colour": (np.broadcast_to([10.0, 200.0, 30.0], (*size, 3)), True, False),
        "scene": (scene(0.5, draw, size), False, False),
        "dim scene": (dim, False, True),
        "a speck": (speck, False, False),
    }
    batch = torch.stack(
        [
            torch.from_numpy(np.ascontiguousarray(image.astype(np.uint8))).permute(2, 0, 1)
            for image, _, _ in pictures.values()
        ]
    )
    batch = batch.float() / 255 if as_float else batch
    told = dict(zip(pictures, shows_nothing(batch).tolist(), strict=True))
    assert told == {name: nothing for name, (_, nothing, _) in pictures.items()}
    assert dict(zip(pictures, is_dark(batch).tolist(), strict=True)) == {
        n: dark for n, (_, _, dark) in pictures.items()
    }
    assert shows_nothing(batch[0]).tolist() == [True]


def test_depth_and_tiny_or_broken_pictures() -> None:
    depth = torch.full((1, 8, 8), 900, dtype=torch.int32)
    assert shows_nothing(depth).item()
    depth[0, :4] = 1400
    assert not shows_nothing(depth).item()
    assert not shows_nothing(torch.tensor([[[0.0, 1.0]]])).item()
    assert shows_nothing(torch.full((2, 3, 8, 8), torch.nan)).tolist() == [True, True]
