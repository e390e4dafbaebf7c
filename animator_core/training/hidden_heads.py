"""Reference pictures whose head is hidden, so that only the identity tokens can tell the face."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..pose.runtime import opencv

__all__ = ["HIDINGS", "Hiding", "head_box", "hide_head"]

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]
Hiding = Literal["grey", "mean", "blur", "noise"]

HIDINGS: tuple[Hiding, ...] = ("grey", "mean", "blur", "noise")

_GREY = 127
_MARGINS = (0.45, 0.75, 0.45, 0.25)  # left, above (hair), right, below, in sides of the face's box
_BLUR = 0.35  # deviation, in widths of the head


def head_box(face_box: Floats, height: int, width: int) -> tuple[int, int, int, int]:
    """The head around a face, with its hair.

    Args:
        face_box: [4] x0, y0, x1, y1 of the face [px].
        height: Of the picture [px].
        width: Of the picture [px].

    Returns:
        Left, top, right and bottom, whole pixels inside the picture, right and bottom excluded.
    """
    left, top, right, bottom = face_box
    sides = np.array([right - left, bottom - top] * 2)
    grown = face_box + np.array([-1, -1, 1, 1]) * _MARGINS * sides
    limits = np.array([width, height, width, height])
    x0, y0, x1, y1 = np.clip(np.rint(grown), 0, limits).astype(int).tolist()
    return x0, y0, x1, y1


def hide_head(
    picture: Picture, face_box: Floats, hiding: Hiding, lot: np.random.Generator
) -> Picture:
    """Cover the head by a box that shows nothing of it.

    Args:
        picture: [H, W, 3] RGB; left unchanged.
        face_box: [4] x0, y0, x1, y1 of the face [px].
        hiding: Grey, the head's mean colour, the head without details, or noise.
        lot: Draws the noise.

    Returns:
        [H, W, 3] RGB.
    """
    x0, y0, x1, y1 = head_box(face_box, *picture.shape[:2])
    hidden = picture.copy()
    head = hidden[y0:y1, x0:x1]
    if head.size == 0:
        return hidden
    if hiding == "grey":
        head[:] = _GREY
    elif hiding == "mean":
        head[:] = np.rint(head.mean(axis=(0, 1)))
    elif hiding == "noise":
        head[:] = lot.integers(0, 256, head.shape)
    else:
        head[:] = opencv().GaussianBlur(head, (0, 0), max(_BLUR * head.shape[1], 1.0))
    return hidden
