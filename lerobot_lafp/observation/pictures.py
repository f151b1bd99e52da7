"""Whether a picture shows anything: the lens may be covered, the camera off, or its cable out."""

import torch
from torch import Tensor
from torch.nn import functional as F

#: A picture is compared to itself over so many cells a side: noise averages out in a cell, what is seen does not.
CELLS = 16
#: Of the range 0 to 1: cells that differ by less than this from each other are one plain colour.
PLAIN = 2.5 / 255
#: A picture whose mean is below this is dark.
DARK = 20 / 255
#: The same for a dark picture, which glows at the borders.
PLAIN_IN_THE_DARK = 6 / 255
#: Cells of plain noise differ by no more than so many of its deviations, after it was averaged.
NOISE = 8.0
#: A camera is no noisier than this; beyond is what it sees.
MOST_NOISE = 8 / 255


def shows_nothing(images: Tensor) -> Tensor:
    """Whether a picture is black, white or of one plain colour, but for the camera's noise.

    Args:
        images: (N, C, H, W) or (C, H, W), ``uint8`` or floats of 0 to 1. Other whole numbers, such as depth in
            millimetres, count relative to their largest.

    Returns:
        (N,) bool; NaN shows nothing.
    """
    x = _of_one(images)
    cells = _cells(x)
    contrast = (cells.amax(dim=(2, 3)) - cells.amin(dim=(2, 3))).amax(dim=1)
    least = torch.where(_mean(cells) < DARK, PLAIN_IN_THE_DARK, PLAIN)
    in_a_cell = max(1.0, x.shape[2] * x.shape[3] / (cells.shape[2] * cells.shape[3]))
    return ~(contrast > torch.maximum(least, NOISE * _noise(x) / in_a_cell**0.5))


def is_dark(images: Tensor) -> Tensor:
    """Whether a picture is next to black, (N,) bool. Takes what ``shows_nothing`` takes."""
    return _mean(_of_one(images)) < DARK


def _of_one(images: Tensor) -> Tensor:
    """(N, C, H, W) of 0 to 1."""
    x = images.unsqueeze(0) if images.ndim == 3 else images
    if not x.is_floating_point():
        x = x.float() / (255 if x.dtype == torch.uint8 else max(1, int(x.max())))
    return x.float()


def _cells(x: Tensor) -> Tensor:
    """Means of cells, (N, C, 16, 16), or fewer for tiny pictures."""
    return F.adaptive_avg_pool2d(x, (min(CELLS, x.shape[2]), min(CELLS, x.shape[3])))


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(1, 2, 3))


def _noise(x: Tensor) -> Tensor:
    """Deviation of a pixel's noise, (N,): by the median difference of neighbours in some rows, 0.95 of it."""
    if x.shape[3] < 2 * CELLS:
        return x.new_zeros(len(x))
    rows = x[:, :, :: max(1, x.shape[2] // CELLS)]
    apart = (rows[..., 1:] - rows[..., :-1]).abs().flatten(1)
    return (apart.median(dim=1).values / 0.954).clamp(max=MOST_NOISE)
