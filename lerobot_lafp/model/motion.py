"""Motion between two frames, predicted from the latent alone: a regulariser of stage 1 that needs no labels.

What moves between the frames is what acted, wherever in the image it stands. A latent that must tell it, linearly and
without seeing the frames, cannot describe the later frame by its appearance instead (LAOF's pseudo-supervision by
optical flow; for states the change itself).

Optical flow loses what moves by more than its own size. ``brightness_shift`` does not: where brightness is carried
along, its centre moves by the flow, weighted by brightness and summed over the image, however far things go.
"""

from collections.abc import Mapping
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..observation.terms import LONGEST_SIDE, Observation, shrink
from .layers import mean_over_valid
from .running_statistics import RunningMoments

#: Images are enlarged to this shortest side, since DIS matches patches of 8 pixels; and averaged down to
#: ``LONGEST_SIDE``, since it is the mean over a few cells that is wanted, and time grows with area.
_FLOW_SIDE = 64
#: Cells a side over which flow is averaged. The mean over the image tells half as much of how a camera on an arm moves.
FLOW_CELLS = 4


class MotionHead(nn.Module):
    """A linear map from a latent to the motion it stands for.

    Args:
        latent_dim: Dz.
        cameras: Camera -> number of channels.
        vectors: State -> width; what is predicted is its change.
        grid: Cells a side over which flow is averaged.
        target: What is predicted for cameras (``motion.target``).
    """

    def __init__(
        self,
        latent_dim: int,
        cameras: Mapping[str, int],
        vectors: Mapping[str, int],
        grid: int,
        target: Literal["centroid", "flow", "both"] = "centroid",
    ) -> None:
        super().__init__()
        self.cameras = list(cameras)
        self.vectors = list(vectors)
        self.grid = grid
        self.tells_flow, self.tells_shift = target != "centroid", target != "flow"
        self.widths = list(vectors.values())
        for channels in cameras.values():
            self.widths += [2 * grid * grid] * self.tells_flow + [2 * channels] * self.tells_shift
        width = sum(self.widths)
        self.project = nn.Linear(latent_dim, width)
        self.moments = RunningMoments(width)

    @torch.no_grad()
    def target(self, frames: Observation, valid: Tensor) -> Tensor:
        """Motion between consecutive frames, (B, L, M).

        Args:
            frames: Every tensor (B, L+1, ..).
            valid: (B, L); where not, flow is left at zero.
        """
        parts = [frames[key][:, 1:] - frames[key][:, :-1] for key in self.vectors]
        for key in self.cameras:
            if self.tells_flow:
                parts.append(optical_flow(frames[key], valid, self.grid))
            if self.tells_shift:
                parts.append(brightness_shift(frames[key]))
        return torch.cat(parts, dim=-1)

    def loss(self, z: Tensor, frames: Observation, valid: Tensor) -> Tensor:
        """Squared error per sample (B,), in units of the motion's own deviation; ``z`` (B, L, Dz).

        Every state, every camera's flow and every camera's shift counts alike, however many numbers it has.
        """
        target = self.target(frames, valid)
        if self.training:
            self.moments.update(target[valid])
        error = (self.project(z) - self.moments.normalize(target)) ** 2
        alike = torch.stack([part.mean(dim=-1) for part in error.split(self.widths, dim=-1)], dim=-1)
        return mean_over_valid(alike, valid.unsqueeze(-1))


def brightness_shift(images: Tensor) -> Tensor:
    """Change of each channel's first moments between consecutive frames, x and y counted from the image's centre.

    A thing that differs from what is behind it by c and covers a share s of the image changes them by c s times its
    displacement, at any distance, as long as it stays in the image. Of a camera that itself moves it says little.

    Args:
        images: (B, L+1, C, H, W).

    Returns:
        (B, L, 2 C), displacements in shares of the image's width (the first C) and height.
    """
    change = images[:, 1:] - images[:, :-1]

    def moment(profile: Tensor) -> Tensor:
        size = profile.shape[-1]
        centred = (torch.arange(size, device=profile.device) + 0.5) / size - 0.5
        return profile @ centred / size

    return torch.cat([moment(change.mean(dim=-2)), moment(change.mean(dim=-1))], dim=-1)


def optical_flow(images: Tensor, valid: Tensor, grid: int) -> Tensor:
    """Mean optical flow per cell between consecutive frames, by OpenCV's DIS.

    Args:
        images: (B, L+1, C, H, W), in any range.
        valid: (B, L), pairs to compute; the others are zero.
        grid: G, cells a side.

    Returns:
        (B, L, 2 G G), in shares of the image's width and height per pair.
    """
    out = torch.zeros(*valid.shape, 2 * grid * grid)
    # Presets differ little on small images, and this one is the fastest.
    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    grey = shrink(images.detach(), LONGEST_SIDE).float().mean(dim=2).cpu().numpy()
    for sample, pair in valid.nonzero().tolist():
        before, after = _to_uint8(grey[sample, pair : pair + 2])
        flow = flow_of.calc(before, after, np.zeros((*before.shape, 2), dtype=np.float32))
        flow = flow / np.array([before.shape[1], before.shape[0]], dtype=np.float32)
        cells = cv2.resize(flow, (grid, grid), interpolation=cv2.INTER_AREA)
        out[sample, pair] = torch.from_numpy(cells.reshape(-1))
    return out.to(images.device)


def _to_uint8(pair: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """Two grey images (2, H, W) on one scale of 0 to 255, enlarged if small."""
    low, high = float(pair.min()), float(pair.max())
    scaled = ((pair - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    factor = max(1, -(-_FLOW_SIDE // min(pair.shape[1:])))
    return [cv2.resize(x, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR) for x in scaled]
