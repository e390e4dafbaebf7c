"""Structural similarity."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ShapeError
from .regions import Picture, Region, check_pair, region_mean

__all__ = ["ssim", "ssim_published"]

_SIGMA, _KERNEL = 1.5, 11
_UNIFORM = 7
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(generated: Picture, target: Picture, region: Region | None = None) -> float:
    """Structural similarity.

    Protocol: torchmetrics' structural_similarity_index_measure on RGB in 0..1, Gaussian window of
    11x11 px with standard deviation 1.5, k1 .01, k2 .03, edges mirrored, mean over all pixels and
    channels of one frame; a clip's value is the mean over its frames.

    Args:
        generated: uint8 RGB [H, W, 3], sides of at least 11 px.
        target: uint8 RGB [H, W, 3].
        region: Pixels whose local similarity counts; None is all. Windows reach 5 px beyond it.

    Returns:
        -1 to 1 (equal).

    Raises:
        ShapeError: If they cannot be compared, or are too small.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    check_pair(generated, target, region)
    _check_sides(generated, _KERNEL)
    first, second = (
        torch.from_numpy(np.ascontiguousarray(p)).movedim(-1, 0)[None].float() / 255
        for p in (generated, target)
    )
    result = structural_similarity_index_measure(
        first, second, sigma=_SIGMA, kernel_size=_KERNEL, data_range=1.0, return_full_image=True
    )
    local = result[1][0].movedim(0, -1).numpy()  # [H, W, 3]
    return region_mean(local, region)


def ssim_published(generated: Picture, target: Picture, region: Region | None = None) -> float:
    """The SSIM of the published tables.

    Protocol: on 8-bit grey pictures (0.299, 0.587, 0.114), uniform window of 7x7 px, sample
    covariance, k1 .01, k2 .03, mean over the pixels whose window lies inside the picture; these
    are scikit-image's defaults.

    Args:
        generated: uint8 RGB [H, W, 3], sides of at least 7 px.
        target: uint8 RGB [H, W, 3].
        region: Pixels whose local similarity counts; None is all.

    Returns:
        -1 to 1 (equal).

    Raises:
        ShapeError: If they cannot be compared, are too small, or the region is the border alone.

    Source: DisCo's tool/metrics/ssim_l1_lpips_psnr.py.
    """
    check_pair(generated, target, region)
    _check_sides(generated, _UNIFORM)
    reach = _UNIFORM // 2
    inner = (slice(reach, -reach), slice(reach, -reach))
    if region is not None and not region[inner].any():
        raise ShapeError(
            f"A region touches only the outer {reach} px of the picture, where this similarity is "
            "not defined; leave the frame out."
        )
    local = _uniform_similarity(_grey(generated), _grey(target))
    return region_mean(local[inner], None if region is None else region[inner])


def _grey(picture: Picture) -> NDArray[np.float64]:
    import cv2

    return cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float64)


def _uniform_similarity(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    from scipy.ndimage import uniform_filter

    def local_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return uniform_filter(values, size=_UNIFORM)

    sample = _UNIFORM**2 / (_UNIFORM**2 - 1)
    mean1, mean2 = local_mean(first), local_mean(second)
    variance1 = sample * (local_mean(first * first) - mean1 * mean1)
    variance2 = sample * (local_mean(second * second) - mean2 * mean2)
    covariance = sample * (local_mean(first * second) - mean1 * mean2)
    upper = (2 * mean1 * mean2 + _C1) * (2 * covariance + _C2)
    lower = (mean1**2 + mean2**2 + _C1) * (variance1 + variance2 + _C2)
    return upper / lower


def _check_sides(picture: Picture, least: int) -> None:
    height, width = picture.shape[:2]
    if min(height, width) < least:
        raise ShapeError(
            f"The pictures have {width}x{height} px but SSIM needs sides of at least {least} px; "
            "leave it out for pictures this small."
        )
