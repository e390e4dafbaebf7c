"""Metrics over the frames of a clip, drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..faces.similarity import SimilarityCurve, draw_curves
from .measures import ClipResult

__all__ = ["draw_metric_curves"]

_SHARES = ("ssim", "ssim_published", "csim", "lpips", "l1")
_DECIBELS = ("psnr", "psnr_published")
_STEP_DB = 10


def draw_metric_curves(
    results: Mapping[str, ClipResult], *, width: int = 640, height: int = 320
) -> NDArray[np.uint8]:
    """One panel for values around 0..1 and one for decibels, as far as there are any.

    Args:
        results: By metric, with values per frame.
        width: Of the picture [px].
        height: Of a panel [px].

    Returns:
        uint8 RGB [panels * height, width, 3]; empty axes if there is nothing to draw.
    """
    shares, decibels = (_curves(results, names) for names in (_SHARES, _DECIBELS))
    panels: list[NDArray[np.uint8]] = []
    if shares or not decibels:
        title = "share, or cosine to the reference face"
        panels.append(draw_curves(shares, width=width, height=height, title=title))
    if decibels:
        highest = max(max(curve.found) for curve in decibels)
        top = float(_STEP_DB * math.ceil(highest / _STEP_DB))
        panels.append(
            draw_curves(decibels, width=width, height=height, title="decibels", top=max(top, 10.0))
        )
    return np.concatenate(panels)


def _curves(results: Mapping[str, ClipResult], names: tuple[str, ...]) -> list[SimilarityCurve]:
    curves = [
        SimilarityCurve(values=results[name].frames, name=name) for name in names if name in results
    ]
    return [curve for curve in curves if curve.found]
