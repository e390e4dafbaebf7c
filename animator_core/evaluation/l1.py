"""Mean absolute difference of pixels."""

from __future__ import annotations

import numpy as np

from .regions import Picture, Region, check_pair, region_mean

__all__ = ["l1", "l1_published"]


def l1(generated: Picture, target: Picture, region: Region | None = None) -> float:
    """Mean absolute difference.

    Protocol: over all pixels and the three channels, as a share of the value range.

    Args:
        generated: uint8 RGB [H, W, 3].
        target: uint8 RGB [H, W, 3].
        region: Where to compare; None is everywhere.

    Returns:
        0 (equal) to 1.

    Raises:
        ShapeError: If they cannot be compared.
    """
    check_pair(generated, target, region)
    return region_mean(_difference(generated, target), region) / 255.0


def l1_published(generated: Picture, target: Picture, region: Region | None = None) -> float:
    """The L1 of the published tables, which shrinks with the size of the pictures.

    Protocol: the mean absolute difference on 0..255, divided by the number of pixels of the
    picture (once more, after the mean). So it can only be compared between pictures of one size;
    the values near 3e-4 of the tables belong to pictures of about 256x256 px.

    Args:
        generated: uint8 RGB [H, W, 3].
        target: uint8 RGB [H, W, 3].
        region: Where to compare; None is everywhere. The divisor is the region's size then.

    Raises:
        ShapeError: If they cannot be compared.

    Source: DisCo's tool/metrics/ssim_l1_lpips_psnr.py, to which StableAnimator's author points.
    """
    check_pair(generated, target, region)
    pixels = generated.shape[0] * generated.shape[1] if region is None else int(region.sum())
    return region_mean(_difference(generated, target), region) / pixels


def _difference(generated: Picture, target: Picture) -> np.ndarray:
    return np.abs(generated.astype(np.int16) - target.astype(np.int16))
