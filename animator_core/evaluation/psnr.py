"""Peak signal-to-noise ratio: correct, and as the published tables have it."""

from __future__ import annotations

import math

import numpy as np

from .regions import Picture, Region, check_pair, region_mean

__all__ = ["MAX_PSNR_DB", "psnr", "psnr_published"]

MAX_PSNR_DB = 100.0
"""Given to equal pictures, whose ratio is infinite, so that means stay finite."""


def psnr(generated: Picture, target: Picture, region: Region | None = None) -> float:
    """Peak signal-to-noise ratio [dB].

    Protocol: `10 log10(255² / MSE)` with the mean squared error over all pixels and the three
    channels of one frame; a clip's value is the mean over its frames. Equal frames count as 100.

    Args:
        generated: uint8 RGB [H, W, 3].
        target: uint8 RGB [H, W, 3].
        region: Where to compare, such as the head; None is everywhere.

    Raises:
        ShapeError: If they cannot be compared.
    """
    check_pair(generated, target, region)
    difference = generated.astype(np.int32) - target.astype(np.int32)
    return _decibels(region_mean(difference**2, region))


def psnr_published(generated: Picture, target: Picture, region: Region | None = None) -> float:
    """The PSNR of the published tables, which is wrong; only for comparing with them.

    Protocol: as `psnr`, but difference and square are taken in 8 bits and wrap around: a
    difference of -1 becomes 255 and its square 1, one of 16 squares to 0. Large errors so count
    as small ones, and usually many decibels are gained: the tables' 30.81 dB stand beside
    15 to 17 dB in correct measurements.

    Args:
        generated: uint8 RGB [H, W, 3].
        target: uint8 RGB [H, W, 3].
        region: Where to compare; None is everywhere.

    Raises:
        ShapeError: If they cannot be compared.

    Source: DisCo's tool/metrics/ssim_l1_lpips_psnr.py and its issue 86.
    """
    check_pair(generated, target, region)
    difference = generated - target  # wraps on purpose
    return _decibels(region_mean(difference * difference, region))


def _decibels(mean_squared_error: float) -> float:
    if mean_squared_error <= 0:
        return MAX_PSNR_DB
    return min(10 * math.log10(255**2 / mean_squared_error), MAX_PSNR_DB)
