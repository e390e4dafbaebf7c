"""What the pixel metrics share: checked picture pairs, and regions such as the head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError

__all__ = [
    "FrameFunction",
    "Picture",
    "Region",
    "box_region",
    "check_pair",
    "frame_values",
    "region_mean",
]

Picture = NDArray[np.uint8]
"""uint8 RGB [H, W, 3]."""

Region = NDArray[np.bool_]
"""[H, W], True where a picture counts."""

FrameFunction = Callable[[Picture, Picture, "Region | None"], float]
"""Generated picture, target picture, region or None for the whole → value."""


def check_pair(generated: Picture, target: Picture, region: Region | None = None) -> None:
    """Raise unless two pictures can be compared.

    Args:
        generated: Should be uint8 RGB [H, W, 3].
        target: Should be the same.
        region: Should be [H, W] with at least one True, or None.

    Raises:
        ShapeError: Naming what was found in each.
    """
    for name, picture in (("generated", generated), ("target", target)):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ShapeError(
                f"The {name} picture is {picture.dtype} {list(picture.shape)} but uint8 RGB "
                "[height, width, 3] is expected; convert it with picture_to_uint8."
            )
    if generated.shape != target.shape:
        raise ShapeError(
            f"The generated picture has {generated.shape[1]}x{generated.shape[0]} px but its "
            f"target has {target.shape[1]}x{target.shape[0]}; bring both to one size first."
        )
    if region is None:
        return
    if region.dtype != np.bool_ or region.shape != generated.shape[:2]:
        raise ShapeError(
            f"A region is {region.dtype} {list(region.shape)} but bool "
            f"{list(generated.shape[:2])} is expected, as the pictures are."
        )
    if not region.any():
        raise ShapeError("A region covers no pixel; leave out frames that do not show it.")


def box_region(box_px: Sequence[float], height: int, width: int) -> Region | None:
    """A rectangle as a region.

    Args:
        box_px: Left, top, right, bottom; a pixel counts if its centre (x + 0.5) lies inside.
        height: Of the picture [px].
        width: Of the picture [px].

    Returns:
        [height, width], or None if no pixel of the picture lies in the box.
    """
    left, top, right, bottom = box_px
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    return inside if inside.any() else None


def region_mean(values: NDArray[np.generic], region: Region | None) -> float:
    """Mean of per-pixel values [H, W, ...] over a region, in float64."""
    chosen = values if region is None else values[region]
    return float(chosen.mean(dtype=np.float64))


def frame_values(
    function: FrameFunction,
    generated: Iterable[Picture],
    target: Iterable[Picture],
    regions: Iterable[Region | None] | None = None,
) -> NDArray[np.float64]:
    """A pixel metric over a clip.

    Args:
        function: Such as `psnr`.
        generated: T pictures.
        target: T pictures.
        regions: One per frame, where None leaves the frame out; None compares whole pictures.

    Returns:
        [T], NaN for frames that were left out.

    Raises:
        ShapeError: If a frame cannot be compared.
        ValueError: If there is not one of each per frame.
    """
    if regions is None:
        pairs = zip(generated, target, strict=True)
        return np.array([function(g, t, None) for g, t in pairs], dtype=np.float64)
    return np.array(
        [
            np.nan if region is None else function(g, t, region)
            for g, t, region in zip(generated, target, regions, strict=True)
        ],
        dtype=np.float64,
    )
