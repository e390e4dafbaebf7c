"""Fréchet distance between two sets of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError

__all__ = ["frechet_distance"]


def frechet_distance(generated: NDArray[np.floating], target: NDArray[np.floating]) -> float:
    """Squared Fréchet distance of the Gaussians that fit two sets of features.

    `|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)` with sample covariances. With C1 = AᵀA and C2 = BᵀB of
    centred features, the eigenvalues of C1 C2 are the squared singular values of A Bᵀ; so the
    trace of the root is their sum, exact also where there are fewer clips than features.

    Args:
        generated: [n, d], n of at least 2.
        target: [m, d], m of at least 2.

    Returns:
        0 or more; finite samples of one distribution lie above 0.

    Raises:
        ShapeError: If the sets are too small or have different features.
    """
    first, second = np.asarray(generated, np.float64), np.asarray(target, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ShapeError(
            f"Features are {list(first.shape)} and {list(second.shape)} but [n, d] and [m, d] "
            "with one d are expected."
        )
    if min(len(first), len(second)) < 2:
        raise ShapeError(
            f"There are {len(first)} generated and {len(second)} target features; a covariance "
            "needs at least 2 of each."
        )
    offset = first.mean(axis=0) - second.mean(axis=0)
    root1, root2 = _root(first), _root(second)
    cross = np.linalg.svd(root1 @ root2.T, compute_uv=False).sum()
    distance = offset @ offset + (root1**2).sum() + (root2**2).sum() - 2 * cross
    return max(float(distance), 0.0)


def _root(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """A with AᵀA = the sample covariance, [min(n, d), d]."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    # the triangular factor has the same AᵀA and, with many clips, far fewer rows
    return np.asarray(np.linalg.qr(centred, mode="r"))
