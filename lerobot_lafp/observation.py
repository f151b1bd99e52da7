"""Cameras and states -> observation tokens (B, T, N, D): the one place where image shapes are tamed.

``ObservationNormalizer`` is the door: whatever LeRobot hands over (uint8 or float, with or without a time axis)
leaves it as float tensors of one known shape, where there is a frozen ViT as its patch tokens. ``ObservationEncoder``
makes one token of width ``D`` per camera (or patch) and per state, ``N`` in all, for each of ``T`` frames.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
import torchvision
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from .configuration_lafp import same_picture
from .statistics import FixedNormalizer
from .vit import FrozenViT

#: Up to this many pixels a side an image counts as small: own convolutional encoder, pixels as target.
SMALL_IMAGE = 128
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Pixels that are kept beside patch tokens, for their motion, have at most this longest side.
LONGEST_SIDE = 128
#: Fractions of white may be a little more than white, where a resize or a colour transform overshot.
LARGEST_FRACTION = 2.0
#: A distance counts by at most so many deviations: what a depth camera did not measure it tells as 0 or very far.
DEPTH_RANGE = 5.0
VisionEncoder = Literal["auto", "small_conv", "resnet18", "vit"]

Observation = dict[str, Tensor]
"""Feature name -> normalised tensor: a camera (B, T, C, H, W), its patch tokens (B, T, P, F), a state (B, T, d)."""


def module_key(feature: str) -> str:
    """A feature's name as ``nn.ModuleDict`` takes it (no dots)."""
    return feature.replace(".", "__")


def pixels_key(camera: str) -> str:
    """Where an ``Observation`` keeps the small image of a camera that it holds as patch tokens."""
    return f"{camera}.pixels"


class ObservationNormalizer(nn.Module):
    """Checks, resizes and normalises raw observations. All constants are buffers.

    Args:
        cameras: Feature name -> (C, H, W) as recorded.
        vectors: Feature name -> shape of each state.
        stats: The dataset's statistics (`dataset.meta.stats`), read for states and depth cameras only.
        resize_shape: (H, W) to resize images to; unset: as recorded.
        imagenet: Normalise images as ImageNet backbones expect, else to [-1, 1].
        vit: What turns every image into patch tokens; unset: images stay images.
        keep_pixels: Keep a small image beside its patch tokens (``pixels_key``).
        depth: Cameras whose numbers are distances, of any unit, and are normalised by their own statistics.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        cameras: Mapping[str, tuple[int, ...]],
        vectors: Mapping[str, tuple[int, ...]],
        stats: Mapping[str, Mapping[str, Any]] | None = None,
        resize_shape: tuple[int, int] | None = None,
        imagenet: bool = False,
        vit: FrozenViT | None = None,
        keep_pixels: bool = False,
        depth: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.vit = vit
        self.keep_pixels = keep_pixels
        self.camera_shapes = dict(cameras)
        self.vector_shapes = dict(vectors)
        self.resize_shape = resize_shape
        self.vectors = nn.ModuleDict(
            {module_key(k): FixedNormalizer(shape, (stats or {}).get(k)) for k, shape in vectors.items()}
        )
        self.depth = nn.ModuleDict(
            {module_key(k): FixedNormalizer((1, 1, 1), _of_depth((stats or {}).get(k))) for k in depth if k in cameras}
        )
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if imagenet else ((0.5,) * 3, (0.5,) * 3)
        self.register_buffer("image_mean", torch.tensor(mean).reshape(3, 1, 1))
        self.register_buffer("image_std", torch.tensor(std).reshape(3, 1, 1))

    @property
    def image_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Camera -> (3, H, W) as the encoders see it: grey images become three equal channels."""
        size = self.resize_shape
        return {k: (3, *(size if size is not None else (s[1], s[2]))) for k, s in self.camera_shapes.items()}

    @property
    def patch_shapes(self) -> dict[str, tuple[int, int]]:
        """Camera -> (P, F) of its patch tokens; none without a ViT."""
        return {} if self.vit is None else dict.fromkeys(self.camera_shapes, (self.vit.num_patches, self.vit.width))

    def of(self, key: str) -> FixedNormalizer | None:
        """What normalises the state ``key``; None if the policy does not read it."""
        found = dict(self.vectors.items()).get(module_key(key))
        return cast(FixedNormalizer, found) if found is not None else None

    def forward(self, batch: Mapping[str, Tensor]) -> Observation:
        """Normalise every known observation of ``batch``; a missing time axis becomes T = 1.

        Raises:
            KeyError: A camera or a state that the policy was trained with is not there.
            ValueError: One of them has another size.
        """
        out = self.encode(batch)
        for key, shape in self.vector_shapes.items():
            x = self._take(batch, key, shape).to(self.image_mean.dtype)
            out[key] = rearrange(self.vectors[module_key(key)](x), "b t ... -> b t (...)")
        return out

    def encode(self, batch: Mapping[str, Tensor]) -> Observation:
        """The cameras of ``batch``, normalised; where there is a ViT as patch tokens, if they are not that already."""
        images: Observation = {}
        ready: Observation = self._patches_in(batch)
        for key, shape in self.camera_shapes.items():
            if key not in ready:
                images[key] = self._image(self._take(batch, key, shape, self.resize_shape is not None), key)
        if self.vit is None:
            return images
        if ready and self.keep_pixels:
            raise ValueError(
                f"`motion_weight` needs images, and the dataset holds `{next(iter(ready))}` as features of a ViT. "
                "Train stage latent_action from the video itself, or with --policy.motion_weight=0."
            )
        return {**ready, **self._as_patches(self.vit, images)}

    def unpacked(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """``batch`` with the patch tokens that it holds as (B, T, P, F)."""
        return {**batch, **self._patches_in(batch)}

    def _patches_in(self, batch: Mapping[str, Tensor]) -> Observation:
        """Cameras that ``batch`` holds as patch tokens, (B, T, P, F)."""
        found: Observation = {}
        for key, patches in self.patch_shapes.items():
            x = batch.get(key)
            if x is None or not self._is_ready(x, self.camera_shapes[key], patches):
                continue
            if x.ndim == 4 and tuple(x.shape[-2:]) != patches:
                x = x[0]
            frames = batch[f"{key}_is_pad"].shape if f"{key}_is_pad" in batch else (len(x), -1)
            found[key] = x.reshape(*frames, *patches).to(self.image_mean.dtype)
        return found

    @staticmethod
    def _is_ready(x: Tensor, shape: tuple[int, ...], patches: tuple[int, int]) -> bool:
        """Whether ``x`` holds patch tokens and no images.

        They come as (B, [T,] P * F), or (B, [T,] P, F) from older datasets. LeRobot's preprocessor takes (B, T, P * F)
        for one image, and makes it (1, B, T, P * F).
        """
        if x.ndim not in (2, 3, 4) or same_picture(tuple(x.shape[-3:]), tuple(shape), resized=True):
            return False
        is_flat = x.shape[-1] == patches[0] * patches[1] and (x.ndim < 4 or len(x) == 1)
        return is_flat or (x.ndim > 2 and tuple(x.shape[-2:]) == patches)

    @staticmethod
    def _take(batch: Mapping[str, Tensor], key: str, shape: tuple[int, ...], resized: bool = False) -> Tensor:
        x = batch.get(key)
        if x is None:
            there = sorted(k for k in batch if k.startswith("observation.") and not k.endswith("_is_pad"))
            raise KeyError(
                f"`{key}` is missing: the policy was trained with it, but got only {there}. Connect that camera or "
                "state, or map another name to it with rename_map."
            )
        x = with_last_axis(x, tuple(shape))
        if x.ndim == len(shape) + 1:
            x = x.unsqueeze(1)
        if x.ndim != len(shape) + 2 or not same_picture(tuple(x.shape[2:]), tuple(shape), resized):
            raise ValueError(
                f"`{key}` has shape {tuple(x.shape)}, but the policy was trained with {tuple(shape)} per frame. "
                "Set the camera or environment to that size (an environment's observation_height/width), or train "
                "again on this one, with --policy.resize_shape for sizes of one aspect."
            )
        return x

    def _image(self, x: Tensor, key: str) -> Tensor:
        depth = module_key(key) in self.depth
        if depth:
            x = self.depth[module_key(key)](x.to(self.image_mean.dtype)).clamp(-DEPTH_RANGE, DEPTH_RANGE)
        else:
            x = _as_fractions(x, key).to(self.image_mean.dtype)
        frames = x.shape[1]
        x = rearrange(x, "b t c h w -> (b t) c h w")
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        elif x.shape[1] != 3:
            raise ValueError(f"`{key}` has {x.shape[1]} channels; LAFP takes grey (1) or RGB (3) images.")
        if self.resize_shape is not None and tuple(x.shape[-2:]) != tuple(self.resize_shape):
            x = TF.resize(x, list(self.resize_shape), antialias=True)
        if not depth:
            x = (x - self.image_mean) / self.image_std
        return rearrange(x, "(b t) c h w -> b t c h w", t=frames)

    def _as_patches(self, vit: FrozenViT, images: Observation) -> Observation:
        """Every camera's patch tokens, (B, T, P, F), by one call of the ViT for all cameras of a size."""
        out: Observation = (
            {pixels_key(k): shrink(x, LONGEST_SIDE) for k, x in images.items()} if self.keep_pixels else {}
        )
        for size in {x.shape[-2:] for x in images.values()}:
            alike = {key: x for key, x in images.items() if x.shape[-2:] == size}
            tokens = vit(torch.cat([x.flatten(0, 1) for x in alike.values()]))
            parts = tokens.split([x.shape[:2].numel() for x in alike.values()])
            out |= {key: p.unflatten(0, x.shape[:2]) for (key, x), p in zip(alike.items(), parts, strict=True)}
        return out


def with_last_axis(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``x`` (B, ..) or (B, T, ..) of a feature of ``shape``, of which LeRobot's loader drops the axis of one number."""
    if shape == (1,) and (x.ndim == 1 or (x.ndim == 2 and x.shape[1] != 1)):
        return x.unsqueeze(-1)
    return x


def in_own_terms(
    batch: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], orders: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """``batch`` with its states and actions as the policy knows them; the batch itself is left as it is.

    Args:
        batch: As a dataset's or a robot's.
        shapes: State, or ``action`` -> its shape, without batch and time.
        orders: State, or ``action`` -> where each of the policy's dimensions is in the batch's.

    Returns:
        The same entries: of floating point, with the axis that a feature of one number lost, in the policy's order.
    """
    out = dict(batch)
    for key, shape in shapes.items():
        if not isinstance(x := batch.get(key), Tensor):
            continue
        x = with_last_axis(x, tuple(shape))
        if not x.is_floating_point() or x.dtype == torch.float64:
            x = x.float()
        out[key] = x[..., orders[key]] if key in orders else x
    return out


def _as_fractions(x: Tensor, key: str) -> Tensor:
    """Pixels as fractions of white, 0 to 1.

    Raises:
        ValueError: They are neither bytes nor fractions.
    """
    if x.dtype == torch.uint8:
        return x / 255
    if x.dtype == torch.bool:
        return x.float()
    if not x.is_floating_point() or float(x.detach().flatten(2).amax(dim=2).amin()) > LARGEST_FRACTION:
        raise ValueError(
            f"`{key}` holds numbers up to {float(x.amax()):g} ({str(x.dtype).removeprefix('torch.')}), and LAFP takes "
            "pictures of bytes or of fractions from 0 to 1. If they are distances, say so in the dataset's "
            f'meta/info.json ("info": {{"is_depth_map": true}} of `{key}`) and train anew; else divide them by white.'
        )
    return x


def _of_depth(stats: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Statistics of a depth camera, whose only channel they are of."""
    return None if stats is None else {name: stats[name] for name in ("mean", "std", "min", "max") if name in stats}


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
            f"`pretrained_backbone_weights={weights}` is not a ResNet-18 of torchvision: it "
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
                f"`pretrained_backbone_weights={weights}` cannot be read: it is damaged or no state dict saved by "
                "torch or safetensors. Download it again."
            ) from error
    else:
        try:
            state = torchvision.models.get_weight(weights).get_state_dict(progress=True, check_hash=True)
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"`pretrained_backbone_weights={weights}` is neither a file nor a torchvision weights name such as "
                "ResNet18_Weights.IMAGENET1K_V1."
            ) from error
        except OSError as error:
            raise ValueError(
                f"`pretrained_backbone_weights={weights}` could not be downloaded ({error}). Download it elsewhere "
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
        self.num_tokens = sum(patch_shapes[key][0] if key in patch_shapes else 1 for key in self.keys)
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


def select_frames(observation: Observation, index: list[int]) -> Observation:
    """The frames ``index`` of every tensor (B, T, ..)."""
    return {key: x[:, index] for key, x in observation.items()}


def shift_at_random(images: Tensor, pixels: int) -> Tensor:
    """Shift every sample of (B, T, C, H, W) by up to ``pixels`` up or down and left or right, all its frames alike.

    What comes into view repeats the edge (DrQ, arXiv 2004.13649).
    """
    batch, _, _, height, width = images.shape

    def places(size: int) -> Tensor:
        shift = torch.randint(-pixels, pixels + 1, (batch, 1), device=images.device)
        return (torch.arange(size, device=images.device) + shift).clamp(0, size - 1)

    rows, columns = places(height), places(width)
    sample = torch.arange(batch, device=images.device).reshape(batch, 1, 1)
    moved = images[sample, :, :, rows.unsqueeze(2), columns.unsqueeze(1)]  # indexed axes come first
    return rearrange(moved, "b h w t c -> b t c h w").contiguous()


def shrink(images: Tensor, longest: int) -> Tensor:
    """Average images (.., C, H, W) down by a whole factor until their longest side is at most ``longest``."""
    factor = -(-max(images.shape[-2:]) // longest)
    if factor == 1:
        return images
    flat = F.avg_pool2d(images.flatten(0, -4), factor, ceil_mode=True)
    return flat.unflatten(0, images.shape[:-3])
