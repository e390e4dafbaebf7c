"""Draws heads: hair, face, glasses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..pose.keypoints import PersonPose
from .face import DEPTH, HeadPose, face_landmarks, jaw_outline, place_on_head
from .identity import BodyShape, Character, mixed
from .painting import Painter, ellipse_outline, smooth_outline

__all__ = ["draw_back_hair", "draw_head", "head_of"]

Floats = NDArray[np.float64]

_WHITE = (255, 253, 250)
_BLACK = (34, 26, 30)
_MOUTH = (112, 36, 46)
_BLUSH = (240, 120, 110)


def head_of(character: Character, body: Floats, seen: NDArray[np.bool_], unit: float) -> HeadPose:
    """The head that belongs to body joints; what the joints do not say is taken as upright.

    Args:
        character: Whose head it is.
        body: Joints [18, 2] [px].
        seen: Which joints there are [18]; the neck must be.
        unit: Standing height [px].
    """
    shape, face, neck = character.body, character.face, body[1]
    pair = next(((a, b) for a, b in ((16, 17), (14, 15)) if seen[a] and seen[b]), None)
    if not seen[0] or pair is None:
        half = unit * shape.head / 2
        return HeadPose(center=neck - (0.0, half + unit * shape.neck), half_height=half)
    line = body[pair[1]] - body[pair[0]]
    roll = float(np.arctan2(line[1], line[0]))
    across = np.array([np.cos(roll), np.sin(roll)])
    down = np.array([-across[1], across[0]])
    # in half head heights below the middle: the nose, and the neck joint
    nose_at, neck_at = face.eye_height + face.nose_length, _neck_distance(shape)
    half = abs(float((neck - body[0]) @ down)) / (neck_at - nose_at)
    half = float(np.clip(half, 0.6 * unit * shape.head / 2, 1.6 * unit * shape.head / 2))
    middle = (body[pair[0]] + body[pair[1]]) / 2
    reach = face.width if pair == (16, 17) else face.eye_distance
    turned = float((body[0] - middle) @ across) / (half * DEPTH * reach**2)
    yaw = float(np.arcsin(np.clip(turned, -0.7, 0.7)) / (np.pi / 4))
    offset = DEPTH * np.sin(yaw * np.pi / 4)
    center = body[0] - half * (offset * across + nose_at * down)
    return HeadPose(center=center, half_height=half, roll=roll, yaw=yaw)


def _neck_distance(shape: BodyShape) -> float:
    return 1.0 + shape.neck / (shape.head / 2)


def draw_back_hair(painter: Painter, character: Character, head: HeadPose) -> None:
    """What of the hair is behind neck and shoulders."""
    width, color = character.face.width, mixed(character.hair, _BLACK, 0.18)
    ends = {"bob": 0.78, "long": 1.75}.get(character.hair_style)
    if ends is not None:
        flare = 1.2 if character.hair_style == "long" else 1.14
        half = [
            (0.0, -1.08),
            (0.75 * width, -0.9),
            (1.14 * width, -0.2),
            (flare * width, 0.45 * ends),
            (0.98 * width, 0.96 * ends),
            (0.4 * width, ends),
        ]
        points = np.array([*half, *((-x, y) for x, y in reversed(half[1:]))])
        painter.shape(smooth_outline(place_on_head(head, points)), color)
    elif character.hair_style == "curly":
        angles = np.linspace(-0.25 * np.pi, 1.25 * np.pi, 11)
        circle = np.stack([1.02 * width * np.cos(angles), -0.12 - 0.92 * np.sin(angles)], axis=1)
        for center in place_on_head(head, circle):
            painter.disc(center, 0.34 * head.half_height, color, outlined=True)
    elif character.hair_style == "bun":
        center = place_on_head(head, np.array([[0.0, -1.16]]))[0]
        painter.disc(center, 0.36 * head.half_height, color, outlined=True)


def draw_head(
    painter: Painter, character: Character, head: HeadPose, person: PersonPose, scale: Floats
) -> None:
    """Ears, face and the hair before it.

    Args:
        painter: Where to draw.
        character: Whose head it is.
        head: On the canvas.
        person: Its face landmarks are used if all are there.
        scale: [2] canvas pixels per pixel of the pose.
    """
    landmarks = face_landmarks(character.face, head)
    if (person.face[:, 2] > 0).all():
        landmarks = person.face[:, :2] * scale
    face, size, skin = character.face, head.half_height, character.skin
    ears = np.array([(-face.width, face.eye_height + 0.14), (face.width, face.eye_height + 0.14)])
    for ear in place_on_head(head, ears):
        painter.disc(ear, 0.17 * size, skin, outlined=True)
        painter.disc(ear, 0.08 * size, mixed(skin, _BLUSH, 0.35))
    painter.shape(place_on_head(head, _head_outline(character)), skin)
    _draw_cheeks(painter, character, head)
    _draw_eyes(painter, character, head, landmarks)
    _draw_nose(painter, character, head, landmarks)
    _draw_mouth(painter, character, head, landmarks)
    _draw_front_hair(painter, character, head)
    for brow in (landmarks[17:22], landmarks[22:27]):
        width = 2 * face.brow_thickness * size
        painter.stroke(brow, 0.8 * width, mixed(character.hair, _BLACK, 0.35))
    if character.glasses:
        _draw_glasses(painter, head, landmarks)


def _head_outline(character: Character) -> Floats:
    face = character.face
    angle = np.linspace(0.0, np.pi, 17)[1:-1]
    skull = np.stack(
        [face.width * np.cos(angle), face.eye_height - (1 + face.eye_height) * np.sin(angle)],
        axis=1,
    )
    return np.concatenate([jaw_outline(face), skull])


def _draw_cheeks(painter: Painter, character: Character, head: HeadPose) -> None:
    face, size = character.face, head.half_height
    height = face.eye_height + 0.95 * face.nose_length
    cheeks = np.array([(-0.52 * face.width, height), (0.52 * face.width, height)])
    for cheek in place_on_head(head, cheeks):
        oval = ellipse_outline(cheek, 0.16 * size, 0.1 * size, head.roll)
        painter.shape(oval, mixed(character.skin, _BLUSH, 0.3), outlined=False)


def _draw_eyes(painter: Painter, character: Character, head: HeadPose, landmarks: Floats) -> None:
    for eye in (landmarks[36:42], landmarks[42:48]):
        center = eye.mean(axis=0)
        half_width = float(np.hypot(*(eye[3] - eye[0]))) / 2
        opening = float(np.hypot(*(eye[1] + eye[2] - eye[4] - eye[5]))) / 4
        if opening < 0.25 * half_width:  # closed: a lid, curved downwards
            lid = eye[[0, 5, 4, 3]] + (0.0, 0.25 * half_width)
            painter.stroke(lid, 0.07 * head.half_height, _BLACK)
            continue
        height = 1.3 * opening
        outline = ellipse_outline(center, 1.05 * half_width, height, head.roll)
        painter.shape(outline, _WHITE)
        iris = min(0.85 * half_width, 0.9 * height)
        gaze = center + np.array([0.15 * half_width * head.yaw, 0.0])
        painter.oval(gaze, 0.85 * iris, iris, character.eyes)
        painter.disc(gaze, 0.55 * iris, _BLACK)
        painter.disc(gaze - np.array([0.3, 0.4]) * iris, 0.28 * iris, _WHITE)
        upper = outline[np.arange(17, 32) % 32]
        painter.stroke(upper, 0.065 * head.half_height, _BLACK)


def _draw_nose(painter: Painter, character: Character, head: HeadPose, landmarks: Floats) -> None:
    shade = mixed(character.skin, (150, 70, 60), 0.45)
    painter.stroke(landmarks[31:36], 0.06 * head.half_height, shade)
    light = mixed(character.skin, _WHITE, 0.4)
    painter.stroke(landmarks[28:30], 0.07 * head.half_height, light)


def _draw_mouth(painter: Painter, character: Character, head: HeadPose, landmarks: Floats) -> None:
    outer, inner = landmarks[48:60], landmarks[60:68]
    painter.shape(smooth_outline(outer, 4), character.lips, outlined=False)
    opening = float(np.hypot(*(inner[6] - inner[2])))
    if opening > 0.08 * head.half_height:
        painter.shape(smooth_outline(inner, 4), _MOUTH, outlined=False)
        teeth = np.stack([inner[1], inner[2], inner[3]])
        painter.stroke(teeth + np.array([0.0, 0.03 * head.half_height]), 0.3 * opening, _WHITE)
    line = outer[[0]], inner[:5], outer[[6]]
    painter.stroke(
        np.concatenate(line), 0.045 * head.half_height, mixed(character.lips, _BLACK, 0.5)
    )


def _draw_front_hair(painter: Painter, character: Character, head: HeadPose) -> None:
    width, style, color = character.face.width, character.hair_style, character.hair
    angle = np.linspace(np.pi, 0.0, 13)
    low = {"short": -0.02, "bun": -0.1, "curly": 0.05}.get(style, 0.1)
    crown = np.stack([1.08 * width * np.cos(angle), -0.1 - 1.0 * np.sin(angle)], axis=1)
    crown[[0, -1], 1] = low
    fringe = {
        "short": [(0.86, -0.4), (0.55, -0.62), (0.1, -0.5), (-0.3, -0.62), (-0.7, -0.52)],
        "bob": [(0.88, -0.3), (0.62, -0.46), (0.3, -0.5), (-0.1, -0.47), (-0.5, -0.5)],
        "long": [(0.9, -0.25), (0.72, -0.55), (0.35, -0.75), (-0.05, -0.6), (-0.5, -0.45)],
        "bun": [(0.9, -0.35), (0.6, -0.62), (0.2, -0.72), (-0.2, -0.72), (-0.6, -0.62)],
        "curly": [(0.86, -0.3), (0.5, -0.5), (0.1, -0.56), (-0.25, -0.5), (-0.6, -0.42)],
    }[style]
    edge = np.array([*fringe, (-0.88, -0.3)]) * (width, 1.0)
    outline = np.concatenate([crown, edge])
    painter.shape(smooth_outline(place_on_head(head, outline), 4), color)
    if style == "curly":
        for curl in place_on_head(head, crown[1:-1] * (0.9, 0.9)):
            painter.disc(curl, 0.2 * head.half_height, color)
    shine = np.linspace(0.72, 0.42, 6) * np.pi
    arc = np.stack([0.72 * width * np.cos(shine), -0.22 - 0.62 * np.sin(shine)], axis=1)
    painter.stroke(place_on_head(head, arc), 0.07 * head.half_height, mixed(color, _WHITE, 0.25))
    if style in ("bob", "long"):
        end = 0.5 if style == "bob" else 1.05
        for side in (-1.0, 1.0):
            lock = np.array([(0.98, -0.3), (1.06, 0.1), (1.04, 0.7 * end), (1.0, end)])
            points = place_on_head(head, lock * (side * width, 1.0))
            radii = tuple(r * head.half_height for r in (0.1, 0.14, 0.13, 0.05))
            painter.limb(points, radii, color)


def _draw_glasses(painter: Painter, head: HeadPose, landmarks: Floats) -> None:
    size = head.half_height
    centers = [landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)]
    for center in centers:
        ring = ellipse_outline(center, 0.27 * size, 0.25 * size, head.roll)
        painter.stroke(np.concatenate([ring, ring[:1]]), 0.045 * size, _BLACK)
    inner = np.stack(centers)
    direction = (inner[1] - inner[0]) / max(float(np.hypot(*(inner[1] - inner[0]))), 1e-6)
    bridge = np.stack([inner[0] + 0.27 * size * direction, inner[1] - 0.27 * size * direction])
    painter.stroke(bridge, 0.045 * size, _BLACK)
