"""Patterns of tops, as convex polygons to be cut to the outline of the top."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .identity import Outfit

__all__ = ["pattern_marks"]

Floats = NDArray[np.float64]

_TURNS = np.linspace(0.0, 2 * np.pi, 12, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)
_BOX = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
_HALF_WIDTH = 0.2  # reaches over the sides of any top


def pattern_marks(outfit: Outfit, start: Floats, axis: Floats, unit: float) -> list[Floats]:
    """Where the accent colour goes.

    Args:
        outfit: With the pattern.
        start: [2] middle of the shoulders.
        axis: [2] from there to the middle of the hips.
        unit: Standing height.

    Returns:
        Polygons [n, 2], each convex.
    """
    length = max(float(np.hypot(*axis)), 1e-6)
    down = axis / length
    across = np.array([down[1], -down[0]])
    reach = length / unit  # of the torso, in standing heights
    local = _local_marks(outfit, reach)
    return [start + unit * (mark[:, :1] * across + mark[:, 1:] * down) for mark in local]


def _local_marks(outfit: Outfit, reach: float) -> list[Floats]:
    """Marks with x across and y down the trunk, in standing heights."""
    pitch, wide = 0.055 * outfit.pattern_scale, np.array([_HALF_WIDTH, 1.0])
    rows = np.arange(0.7 * pitch, reach + pitch, pitch)
    columns = np.arange(0.5 * pitch, _HALF_WIDTH, pitch)
    columns = np.concatenate([-columns[::-1], columns])
    if outfit.pattern == "stripes":
        return [_BOX * (1.0, 0.25 * pitch) * wide + (0.0, y) for y in rows]
    if outfit.pattern == "bars":
        return [_BOX * (0.22 * pitch, 2 * reach) + (x, 0.0) for x in columns]
    if outfit.pattern == "dots":
        return [_CIRCLE * (0.24 * pitch) + (x, y) for y in rows for x in columns]
    if outfit.pattern == "checks":
        return [
            _BOX * (0.5 * pitch) + (x, y)
            for i, y in enumerate(rows)
            for j, x in enumerate(columns)
            if (i + j) % 2
        ]
    if outfit.pattern == "badge":
        return [_CIRCLE * (0.045 * outfit.pattern_scale) + (0.0, 0.45 * reach)]
    if outfit.pattern == "halves":
        return [
            _BOX * (_HALF_WIDTH, reach)
            + (0.0, (0.5 + 0.2 * outfit.pattern_scale) * reach + 0.5 * reach)
        ]
    if outfit.pattern == "jacket":
        return [_BOX * (0.028 * outfit.pattern_scale, 2 * reach)]
    return []
