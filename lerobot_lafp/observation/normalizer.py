"""Cameras and states -> observation tokens (B, T, N, D): the one place where image shapes are tamed.

``ObservationNormalizer`` is the door: whatever LeRobot hands over (uint8 or float, with or without a time axis)
leaves it as float tensors of one known shape, where there is a frozen ViT as its patch tokens. ``ObservationEncoder``
makes one token of width ``D`` per camera (or patch) and per state, ``N`` in all, for each of ``T`` frames.
"""

from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from ..options.features import same_picture
from .scaling import FixedNormalizer
from .terms import LONGEST_SIDE, Observation, module_key, pixels_key, shrink, with_last_axis
from .vit import FrozenViT

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Fractions of white may be a little more than white, where a resize or a colour transform overshot.
LARGEST_FRACTION = 2.0
#: A distance counts by at most so many deviations: what a depth camera did not measure it tells as 0 or very far.
DEPTH_RANGE = 5.0
"""Feature name -> normalised tensor: a camera (B, T, C, H, W), its patch tokens (B, T, P, F), a state (B, T, d)."""


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
        self.resize_shape = None if resize_shape is None else (resize_shape[0], resize_shape[1])
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

    def forward(
        self, batch: Mapping[str, Tensor], stored: bool = False, states: Collection[str] | None = None
    ) -> Observation:
        """Normalise every known observation of ``batch``; a missing time axis becomes T = 1.

        Args:
            batch: Raw observations.
            stored: Whether images may be of ``resize_shape`` already, from a frame store, whatever their aspect.
            states: The states that are wanted; unset: all, those of the decoder alone among them.

        Raises:
            KeyError: A camera or a state that the policy was trained with is not there.
            ValueError: One of them has another size.
        """
        out = self.encode(batch, stored)
        for key, shape in self.vector_shapes.items():
            if states is not None and key not in states:
                continue
            x = self._take(batch, key, shape).to(self.image_mean.dtype)
            out[key] = rearrange(self.vectors[module_key(key)](x), "b t ... -> b t (...)")
        return out

    def encode(self, batch: Mapping[str, Tensor], stored: bool = False) -> Observation:
        """The cameras of ``batch``, normalised; where there is a ViT as patch tokens, if they are not that already.
        ``stored`` as in ``forward``."""
        images: Observation = {}
        ready: Observation = self._patches_in(batch)
        for key, shape in self.camera_shapes.items():
            if key not in ready:
                if stored and key in batch and tuple(batch[key].shape[-2:]) == self.resize_shape:
                    shape = (shape[0], *self.resize_shape)
                images[key] = self._image(self._take(batch, key, shape, self.resize_shape is not None), key)
        if self.vit is None:
            return images
        if ready and self.keep_pixels:
            raise ValueError(
                f"`motion.weight` needs images, and the dataset holds `{next(iter(ready))}` as features of a ViT. "
                "Train stage latent_action from the video itself, or with --policy.motion.weight=0."
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
            x = (x - self.image_mean).div_(self.image_std)
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
