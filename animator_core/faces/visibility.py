"""How well a driven face can be seen: 1 from the front, less when turned away, 0 from behind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from .tracks import five_points

__all__ = ["face_visibility"]

Floats = NDArray[np.float64]

_NECK = 1
_UNSEEN, _CERTAIN = 0.3, 0.6
"""Confidences below the first count as not found; above the second a point is sure."""
_FULL_DEG, _NONE_DEG = 30.0, 80.0
"""Turned by less than the first a face is fully visible; by more than the second it is not."""
_ONE_EYE = 0.35
"""Visibility of a face of which nose and one eye are seen: turned by about 60 degrees."""
_SMOOTHING_FRAMES = 3


def face_visibility(body: Floats, face: Floats) -> Floats:
    """How well one person's face can be seen in each frame, smoothed over time.

    Nose and eyes tell how far the head is turned: seen from above, the nose lies about half the
    distance of the eyes in front of them, so in the picture it leaves their middle by the tangent
    of the angle. Eyes that are swapped mean that the head is seen from behind.

    Args:
        body: [T, 18, 3] x, y [px], confidence.
        face: [T, 68, 3] landmarks, likewise; zeros where unknown.

    Returns:
        [T] in 0..1; a triangle over 3 frames to each side keeps it from jumping.

    Raises:
        ShapeError: If the arrays do not belong together.
    """
    if body.shape[1:] != (18, 3) or face.shape[1:] != (68, 3) or len(body) != len(face):
        raise ShapeError(
            f"Visibility takes a body [T, 18, 3] and landmarks [T, 68, 3] but got {body.shape} "
            f"and {face.shape}."
        )
    values = [_frame_visibility(b, f) for b, f in zip(body, face, strict=True)]
    return _smoothed(np.array(values, dtype=np.float64))


def _frame_visibility(body: Floats, face: Floats) -> float:
    body, face = _seen(body), _seen(face)
    left_eye, right_eye, nose, mouth_left, mouth_right = five_points(body, face)
    eyes = [eye for eye in (left_eye, right_eye) if eye[2] > 0]
    if nose[2] <= 0 or not eyes:
        return 0.0
    known = np.array([nose[2], *(eye[2] for eye in eyes)])
    certain = float(np.clip((known.mean() - _UNSEEN) / (_CERTAIN - _UNSEEN), 0, 1))
    if len(eyes) == 1:
        return certain * _ONE_EYE
    middle, across = (left_eye + right_eye)[:2] / 2, (right_eye - left_eye)[:2]
    mouth_known = min(mouth_left[2], mouth_right[2]) > 0
    below = (mouth_left + mouth_right) / 2 if mouth_known else body[_NECK]
    if below[2] > 0 and _cross(across, below[:2] - middle) <= 0:
        return 0.0
    half_squared = float(across @ across) / 4
    if half_squared < 1e-6:
        return 0.0
    # along the eyes' line, in halves of their distance
    offset = abs(float((nose[:2] - middle) @ across)) / 2 / half_squared
    turned = np.cos(np.arctan(offset))
    full, none = np.cos(np.deg2rad([_FULL_DEG, _NONE_DEG]))
    return certain * float(np.clip((turned - none) / (full - none), 0, 1))


def _seen(points: Floats) -> Floats:
    points = np.array(points, dtype=np.float64)
    points[~(points[:, 2] >= _UNSEEN)] = 0.0
    return points


def _cross(a: Floats, b: Floats) -> float:
    return float(a[0] * b[1] - a[1] * b[0])


def _smoothed(values: Floats) -> Floats:
    reach = _SMOOTHING_FRAMES
    weights = reach + 1.0 - np.abs(np.arange(-reach, reach + 1))
    padded = np.pad(values, reach, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    return (windows * (weights / weights.sum())).sum(axis=1)
