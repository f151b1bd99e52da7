"""Observations -> tokens (B, T, N, D): one token of width ``D`` per camera (or patch) and per state."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import torch
import torchvision
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .terms import Observation, module_key

#: Up to this many pixels a side an image counts as small: own convolutional encoder, pixels as target.
SMALL_IMAGE = 128
VisionEncoder = Literal["auto", "small_conv", "resnet18", "vit"]


class SmallConvEncoder(nn.Sequential):
    """Strided convolutions down to at most 6 x 6, then one linear layer: an image (n, 3, H, W) -> (n, D)."""

    def __init__(self, image_shape: tuple[int, int, int], token_dim: int, width: int = 32) -> None:
        _, height, breadth = image_shape
        layers: list[nn.Module] = []
        channels, out = 3, width
        while max(height, breadth) > 6 or not layers:
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.GroupNorm(8, out), nn.SiLU()]
            height, breadth = (height + 1) // 2, (breadth + 1) // 2
            channels, out = out, min(2 * out, 4 * width)
        layers += [nn.Flatten(), nn.Linear(channels * height * breadth, token_dim)]
        super().__init__(*layers)


class ResNetEncoder(nn.Sequential):
    """torchvision's ResNet-18 up to its last feature map, pooled to a 4 x 4 grid: (n, 3, H, W) -> (n, D).

    With random weights its normalisation is GroupNorm, which does not mix the frames of a batch. Pretrained
    weights come with BatchNorm statistics; those stay frozen.

    Args:
        token_dim: D.
        weights: A torchvision weights name, or the path of a local state dict (.safetensors, or .pth read with
            ``weights_only``). Unset: random.
        load: Read ``weights``; off when those of a checkpoint follow, whose layers are still the same.
    """

    def __init__(self, token_dim: int, weights: str | None = None, load: bool = True) -> None:
        def group_norm(channels: int) -> nn.Module:
            return nn.GroupNorm(channels // 16, channels)

        norm = torchvision.ops.FrozenBatchNorm2d if weights else group_norm
        net = torchvision.models.resnet18(weights=None, norm_layer=norm)
        if weights and load:
            _load_backbone(net, weights)
        body = list(net.children())[:-2]
        super().__init__(
            *body, nn.Conv2d(512, 64, 1), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, token_dim)
        )


def _load_backbone(net: nn.Module, weights: str) -> None:
    state, own = _read_backbone(weights), net.state_dict()
    unfit = [k for k, v in own.items() if not k.startswith("fc.") and (k not in state or state[k].shape != v.shape)]
    more = [k for k in state if k.startswith("layer") and k not in own and not k.endswith("num_batches_tracked")]
    if unfit or more:
        raise ValueError(
            f"`backbone.weights={weights}` is not a ResNet-18 of torchvision: it "
            f"{'lacks or misshapes' if unfit else 'also holds'} {(unfit or more)[:3]}."
        )
    net.load_state_dict({k: state[k] for k in own if not k.startswith("fc.")}, strict=False)


def _read_backbone(weights: str) -> dict[str, Tensor]:
    path = Path(weights).expanduser()
    if path.is_file():
        try:
            if path.suffix == ".safetensors":
                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except (SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"`backbone.weights={weights}` cannot be read: it is damaged or no state dict saved by "
                "torch or safetensors. Download it again."
            ) from error
    else:
        try:
            state = torchvision.models.get_weight(weights).get_state_dict(progress=True, check_hash=True)
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"`backbone.weights={weights}` is neither a file nor a torchvision weights name such as "
                "ResNet18_Weights.IMAGENET1K_V1."
            ) from error
        except OSError as error:
            raise ValueError(
                f"`backbone.weights={weights}` could not be downloaded ({error}). Download it elsewhere "
                "and give the path of the file, or leave the option out to train from random weights."
            ) from error
    return dict(state)


class PatchEncoder(nn.Module):
    """A ViT's patch tokens (n, P, F) -> (n, P, D): one linear map, and where in the image each lies."""

    def __init__(self, patches: int, width: int, token_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, token_dim)
        self.position = nn.Parameter(0.02 * torch.randn(patches, token_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.project(tokens) + self.position


class ObservationEncoder(nn.Module):
    """Observations -> tokens (B, T, N, D): one per camera or patch and one per state, in the order of ``keys``.

    Args:
        image_shapes: Camera -> (C, H, W) as the normaliser hands it over.
        vectors: State -> width.
        token_dim: D.
        vision_encoder: ``auto`` takes ``small_conv`` up to ``SMALL_IMAGE`` pixels a side.
        backbone_weights: See ``ResNetEncoder``.
        load_backbone: See ``ResNetEncoder``.
        patch_shapes: Cameras that come as patch tokens -> (P, F).

    Attributes:
        num_tokens: N, tokens per frame.
        num_image_tokens: How many of them are of images; they come first.
    """

    def __init__(
        self,
        image_shapes: Mapping[str, tuple[int, int, int]],
        vectors: Mapping[str, int],
        token_dim: int,
        vision_encoder: VisionEncoder = "auto",
        backbone_weights: str | None = None,
        load_backbone: bool = True,
        patch_shapes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        self.keys = [*image_shapes, *vectors]
        self.token_dim = token_dim
        patch_shapes = patch_shapes or {}
        self.num_image_tokens = sum(patch_shapes[key][0] if key in patch_shapes else 1 for key in image_shapes)
        self.num_tokens = self.num_image_tokens + len(vectors)
        encoders: dict[str, nn.Module] = {}
        for key, shape in image_shapes.items():
            if key in patch_shapes:
                encoders[key] = PatchEncoder(*patch_shapes[key], token_dim)
                continue
            small = vision_encoder == "small_conv" or (vision_encoder == "auto" and max(shape[1:]) <= SMALL_IMAGE)
            encoders[key] = (
                SmallConvEncoder(shape, token_dim)
                if small
                else ResNetEncoder(token_dim, backbone_weights, load_backbone)
            )
        for key, width in vectors.items():
            encoders[key] = nn.Sequential(nn.Linear(width, token_dim), nn.SiLU(), nn.Linear(token_dim, token_dim))
        self.encoders = nn.ModuleDict({module_key(key): module for key, module in encoders.items()})

    def forward(self, observation: Observation) -> Tensor:
        """Encode every frame of ``observation``: -> (B, T, N, D)."""
        tokens = []
        for key in self.keys:
            x = observation[key]
            flat = self.encoders[module_key(key)](rearrange(x, "b t ... -> (b t) ..."))
            tokens.append(flat.reshape(*x.shape[:2], -1, self.token_dim))
        return torch.cat(tokens, dim=2)
