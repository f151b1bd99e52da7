"""What a dataset says of its features: shapes of cameras, depth, words."""

from collections.abc import Mapping
from typing import Any


def same_picture(shape: tuple[int, ...], expected: tuple[int, ...], resized: bool) -> bool:
    """Whether images (C, H, W) of a camera are as expected: of that size or, where they are resized, of its aspect."""
    if not resized or len(shape) != 3 or len(expected) != 3:
        return shape == expected
    one, other = shape[1] * expected[2], shape[2] * expected[1]
    return shape[0] == expected[0] and abs(one - other) <= 0.02 * max(one, other)


def camera_shape(feature: Mapping[str, Any]) -> tuple[int, ...]:
    """(C, H, W) in which LeRobot hands over a camera, whatever order and names of axes the dataset gives it."""
    shape = tuple(int(n) for n in feature["shape"])
    names = feature.get("names")
    axes = [str(name).lower()[:1] for name in names] if isinstance(names, (list, tuple)) else []
    if len(shape) != 3:
        return shape
    if sorted(axes) == ["c", "h", "w"]:
        return shape[axes.index("c")], shape[axes.index("h")], shape[axes.index("w")]
    return shape if shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4) else (shape[2], shape[0], shape[1])


def name_axes(features: Mapping[str, dict[str, Any]]) -> None:
    """Name the axes of cameras that have no names, or not three, by their shape, in place."""
    for feature in features.values():
        names = feature.get("names")
        if feature["dtype"] in ("image", "video") and not (isinstance(names, (list, tuple)) and len(names) == 3):
            first = camera_shape(feature) == tuple(feature["shape"])
            feature["names"] = ["channels", "height", "width"] if first else ["height", "width", "channels"]


def is_depth(feature: Mapping[str, Any]) -> bool:
    """Whether a camera's numbers are distances, as LeRobot notes it (`L/datasets/dataset_metadata.py: depth_keys`)."""
    notes = [feature.get("info") or {}, feature.get("video_info") or {}]
    return any(note.get(name) for note in notes for name in ("is_depth_map", "video.is_depth_map"))


def is_read(feature: Mapping[str, Any]) -> bool:
    """Whether a feature holds numbers or pictures, and no words."""
    return str(feature["dtype"]).startswith(("float", "bfloat", "int", "uint", "bool", "image", "video"))


def encoded_camera(feature: dict[str, Any]) -> tuple[int, ...] | None:
    """(C, H, W) of a camera that a dataset holds as features of a ViT; None if it is none."""
    info = feature.get("info") or {}
    return tuple(info["camera_shape"]) if "camera_shape" in info else None
