"""Where the parts of a drawn face are, as the 68 landmarks and five body joints say it.

A head has its own axes: x to the viewer's right and y down, both in half head heights, with the
origin in the middle between chin and crown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .identity import FaceShape

__all__ = [
    "DEPTH",
    "HeadPose",
    "face_landmarks",
    "head_joints",
    "jaw_outline",
    "place_on_head",
    "skull_outline",
]

Floats = NDArray[np.float64]

DEPTH = 0.35  # how far the face's middle stands out before its rim, in half head heights


_JAW = np.linspace(np.pi, 0.0, 17)
_SKULL = np.linspace(0.0, np.pi, 17)[1:-1]
_FOUR, _FIVE = np.linspace(0.0, 1.0, 4), np.linspace(-1.0, 1.0, 5)
_CORNER = np.array([-1.0, -0.4, 0.4, 1.0, 0.4, -0.4])
_LID = np.array([0.0, -1.0, -1.0, 0.0, 0.75, 0.75])
_OUTER_X = np.array([-1.0, -0.6, -0.25, 0.0, 0.25, 0.6, 1.0, 0.6, 0.3, 0.0, -0.3, -0.6])
_INNER_X = np.array([-0.8, -0.35, 0.0, 0.35, 0.8, 0.35, 0.0, -0.35])
_MOUTH_X = np.concatenate([_OUTER_X, _INNER_X])
_UPPER = np.array([0.0, 1.0, 1.2, 1.0, 1.2, 1.0, 0.0] + [0.0] * 5)
_LOWER = np.array([0.0] * 7 + [0.8, 1.1, 1.2, 1.1, 0.8])
_INNER_LOWER = np.array([0.0] * 5 + [0.9, 1.0, 0.9])


@dataclass(frozen=True, kw_only=True)
class HeadPose:
    """A head in a frame.

    Attributes:
        center: [2] middle between chin and crown [px].
        half_height: Half the head's height [px].
        roll: Leaning to the viewer's right, in radians.
        yaw: Turned to the viewer's right, -1..1 for 45 degrees either way.
        mouth_open: 0 closed, 1 wide open.
        blink: 0 eyes open, 1 closed.
    """

    center: Floats
    half_height: float
    roll: float = 0.0
    yaw: float = 0.0
    mouth_open: float = 0.0
    blink: float = 0.0


def place_on_head(head: HeadPose, points: Floats) -> Floats:
    """Points [n, 2] of the head's axes in pixels of the frame; a turned head moves its middle."""
    width = np.cos(head.yaw * np.pi / 4)
    nearness = np.clip(1.0 - points[:, 0] ** 2, 0.0, 1.0)
    x = points[:, 0] * width + DEPTH * np.sin(head.yaw * np.pi / 4) * nearness
    cos, sin = np.cos(head.roll), np.sin(head.roll)
    turned = _columns(x * cos - points[:, 1] * sin, x * sin + points[:, 1] * cos)
    return head.center + head.half_height * turned


def jaw_outline(face: FaceShape) -> Floats:
    """From the viewer's left temple round the chin to the right one, [17, 2]."""
    across, down = _boxy(np.cos(_JAW), face), _boxy(np.sin(_JAW), face)
    # the lower, the nearer the width comes to the chin's
    share = 1.0 - (1.0 - face.jaw) * 0.55 * down**2
    y = face.eye_height + (1.0 - face.eye_height) * down**1.05
    return _columns(face.width * across * share, y)


def skull_outline(face: FaceShape) -> Floats:
    """From the viewer's right temple over the crown to the left one, [15, 2]."""
    across, up = _boxy(np.cos(_SKULL), face), _boxy(np.sin(_SKULL), face)
    return _columns(face.width * across, face.eye_height - (1 + face.eye_height) * up)


def _columns(x: Floats, y: Floats) -> Floats:
    # several times as fast as np.stack, and a drawing does this about a hundred times
    points = np.empty((len(x), 2))
    points[:, 0], points[:, 1] = x, y
    return points


def _boxy(values: Floats, face: FaceShape) -> Floats:
    """Sine or cosine of a superellipse instead of an ellipse."""
    return np.sign(values) * np.abs(values) ** (1.0 - 0.65 * face.squareness)


def face_landmarks(face: FaceShape, head: HeadPose) -> Floats:
    """The 68 landmarks of a face [68, 2] in pixels of the frame."""
    eye, brow = face.eye_height, face.eye_height - face.brow_height
    nose, mouth = eye + face.nose_length, eye + face.nose_length + face.mouth_height
    arch = face.brow_arch * _FIVE**2 + face.brow_tilt * _FIVE  # its outer end comes first
    left_brow = _columns(_FIVE * 0.2 - face.eye_distance, brow + arch)
    bridge = _columns(np.zeros(4), eye + 0.03 + _FOUR * (face.nose_length - 0.07))
    base = _columns(_FIVE * face.nose_width, nose + 0.03 * (1 - _FIVE**2))
    parts = [
        jaw_outline(face),
        left_brow,
        left_brow[::-1] * (-1.0, 1.0),
        bridge,
        base,
        _eye(face, head.blink, -1.0),
        _eye(face, head.blink, 1.0),
        _mouth(face, mouth, head.mouth_open),
    ]
    return place_on_head(head, np.concatenate(parts))


def head_joints(face: FaceShape, head: HeadPose) -> Floats:
    """Nose, right eye, left eye, right ear, left ear [5, 2] in pixels; a person's right is left."""
    eye = face.eye_height
    points = np.array(
        [
            (0.0, eye + face.nose_length),
            (-face.eye_distance, eye),
            (face.eye_distance, eye),
            (-face.width, eye + 0.1),
            (face.width, eye + 0.1),
        ]
    )
    return place_on_head(head, points)


def _eye(face: FaceShape, blink: float, side: float) -> Floats:
    """Six points: the corner on the viewer's left, along the upper lid, and back below."""
    lid = _LID * (1.0 - 0.9 * blink)
    x = side * face.eye_distance + face.eye_size * _CORNER
    y = face.eye_openness * lid - side * face.eye_tilt * _CORNER
    return _columns(x, face.eye_height + face.eye_size * y)


def _mouth(face: FaceShape, height: float, opening: float) -> Floats:
    """Twelve outer points from the left corner over the upper lip, then eight inner ones."""
    lip, gap = face.lips, 0.3 * opening
    curve_outer, curve_inner = 1.0 - _OUTER_X**2, 1.0 - _INNER_X**2
    smile = 2.0 * face.smile
    outer_y = smile * curve_outer - lip * _UPPER + (lip + gap) * _LOWER
    inner_y = smile * curve_inner + gap * _INNER_LOWER
    x = _MOUTH_X * face.mouth_width * (1.0 - 0.15 * opening)
    return _columns(x, height - face.smile + np.concatenate([outer_y, inner_y]))
