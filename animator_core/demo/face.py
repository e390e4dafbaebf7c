"""Where the parts of a drawn face are, as the 68 landmarks and five body joints say it.

A head has its own axes: x to the viewer's right and y down, both in half head heights, with the
origin in the middle between chin and crown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .identity import FaceShape

__all__ = ["DEPTH", "HeadPose", "face_landmarks", "head_joints", "jaw_outline", "place_on_head"]

Floats = NDArray[np.float64]

DEPTH = 0.35  # how far the face's middle stands out before its rim, in half head heights


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
    turned = np.stack([x * cos - points[:, 1] * sin, x * sin + points[:, 1] * cos], axis=1)
    return head.center + head.half_height * turned


def jaw_outline(face: FaceShape, num_points: int = 17) -> Floats:
    """From the viewer's left temple round the chin to the right one, [num_points, 2]."""
    angle = np.linspace(np.pi, 0.0, num_points)
    down = np.sin(angle)
    # the lower, the nearer the width comes to the chin's
    share = 1.0 - (1.0 - face.jaw) * 0.55 * down**2
    x = face.width * np.cos(angle) * share
    y = face.eye_height + (1.0 - face.eye_height) * down**1.05
    return np.stack([x, y], axis=1)


def face_landmarks(face: FaceShape, head: HeadPose) -> Floats:
    """The 68 landmarks of a face [68, 2] in pixels of the frame."""
    eye, brow = face.eye_height, face.eye_height - face.brow_height
    nose, mouth = eye + face.nose_length, eye + face.nose_length + face.mouth_height
    brows = np.linspace(-1.0, 1.0, 5)
    left_brow = np.stack([brows * 0.2 - face.eye_distance, brow + 0.05 * brows**2], axis=1)
    bridge = np.stack([np.zeros(4), np.linspace(eye + 0.03, nose - 0.04, 4)], axis=1)
    nostrils = np.linspace(-1.0, 1.0, 5)
    base = np.stack([nostrils * face.nose_width, nose + 0.03 * (1 - nostrils**2)], axis=1)
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
    corner = np.array([-1.0, -0.4, 0.4, 1.0, 0.4, -0.4])
    lid = np.array([0.0, -1.0, -1.0, 0.0, 0.75, 0.75]) * (1.0 - 0.9 * blink)
    x = side * face.eye_distance + face.eye_size * corner
    return np.stack([x, face.eye_height + 0.8 * face.eye_size * lid], axis=1)


def _mouth(face: FaceShape, height: float, opening: float) -> Floats:
    """Twelve outer points from the left corner over the upper lip, then eight inner ones."""
    outer_x = np.array([-1.0, -0.6, -0.25, 0.0, 0.25, 0.6, 1.0, 0.6, 0.3, 0.0, -0.3, -0.6])
    inner_x = np.array([-0.8, -0.35, 0.0, 0.35, 0.8, 0.35, 0.0, -0.35])
    upper = np.array([0.0, 1.0, 1.2, 1.0, 1.2, 1.0, 0.0] + [0.0] * 5)
    lower = np.array([0.0] * 7 + [0.8, 1.1, 1.2, 1.1, 0.8])
    inner_lower = np.array([0.0] * 5 + [0.9, 1.0, 0.9])
    lip, gap = 0.05, 0.3 * opening
    curve_outer, curve_inner = 1.0 - outer_x**2, 1.0 - inner_x**2
    smile = 2.0 * face.smile
    outer_y = smile * curve_outer - lip * upper + (lip + gap) * lower
    inner_y = smile * curve_inner + gap * inner_lower
    x = np.concatenate([outer_x, inner_x]) * face.mouth_width * (1.0 - 0.15 * opening)
    return np.stack([x, height - face.smile + np.concatenate([outer_y, inner_y])], axis=1)
