"""A frozen vision transformer of the DINOv2 / DINOv3 class, read by ``transformers``: images -> patch tokens on a grid.

Its weights become part of the checkpoint, which is complete in itself: where it is loaded, the ViT's own folder or
repository is not needed any more.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from .pretrained import load_pretrained, transformers_library

KIND = "ViT"


def load_vit(source: str) -> tuple[dict[str, Any], nn.Module]:
    """Configuration and model of a ViT with its weights; see ``load_pretrained``."""
    return load_pretrained(source, KIND, "backbone.weights")


def build_vit(config: Mapping[str, Any]) -> nn.Module:
    """The same ViT without its weights, for those of a checkpoint."""
    transformers = transformers_library(KIND)
    return transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config))


class FrozenViT(nn.Module):
    """Patch tokens of a frozen ViT, averaged over a grid of G x G cells and normalised: images -> (n, P = G G, F).

    Args:
        model: The ViT.
        config: Its configuration; read for the side of a patch and the width F.
        grid: G.

    Raises:
        ValueError: ``model`` is no ViT with patch tokens.
    """

    def __init__(self, model: nn.Module, config: Mapping[str, Any], grid: int) -> None:
        super().__init__()
        if not isinstance(config.get("patch_size"), int) or not isinstance(config.get("hidden_size"), int):
            raise ValueError(
                f"A model of type {config.get('model_type')} has no square patches of one width. Give "
                "`backbone.weights` a ViT such as DINOv2 or DINOv3."
            )
        self.model = model.requires_grad_(False)
        self.patch = int(config["patch_size"])
        self.width = int(config["hidden_size"])
        self.grid = grid
        self.eval()  # DINOv3 jitters positions while it is trained

    @property
    def num_patches(self) -> int:
        """P, tokens an image is averaged to."""
        return self.grid * self.grid

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 3, H, W), normalised as the ViT expects; sides that are no whole number of patches are resized."""
        rows, columns = (max(self.grid, round(side / self.patch)) for side in images.shape[-2:])
        size = [rows * self.patch, columns * self.patch]
        if list(images.shape[-2:]) != size:
            images = TF.resize(images, size, antialias=True)
        tokens = self.model(pixel_values=images).last_hidden_state[:, -rows * columns :]
        cells = F.adaptive_avg_pool2d(rearrange(tokens, "n (h w) f -> n f h w", h=rows), self.grid)
        return F.layer_norm(rearrange(cells, "n f h w -> n (h w) f"), [self.width])

    def train(self, mode: bool = True) -> "FrozenViT":
        """It stays as it is, whatever is trained around it."""
        return super().train(False)
