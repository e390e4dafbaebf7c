"""Draws heads: face, freckles, glasses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..pose.keypoints import PersonPose
from .creatures import draw_creature_ears, draw_muzzle, draw_robot_eye, draw_robot_mouth
from .face import (
    DEPTH,
    HeadPose,
    face_landmarks,
    jaw_outline,
    place_on_head,
    skull_outline,
)
from .hair import draw_back_hair, draw_beard, draw_front_hair
from .identity import BodyShape, Character, mixed
from .painting import Painter, ellipse_outline, smooth_outline

__all__ = ["draw_behind_head", "draw_head", "head_of"]

Floats = NDArray[np.float64]

_WHITE = (255, 253, 250)
_BLACK = (34, 26, 30)
_MOUTH = (112, 36, 46)
_BLUSH = (240, 120, 110)
_UPPER_LID = np.arange(17, 32)
_SQUARE = np.array([(-1.0, -0.65), (1.0, -0.65), (0.9, 0.75), (-0.9, 0.75)])
_FRECKLES = np.array([(-0.09, -0.03), (0.0, -0.08), (0.09, -0.02), (0.03, 0.06), (-0.06, 0.07)])


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


def draw_behind_head(painter: Painter, character: Character, head: HeadPose) -> None:
    """What of the head is behind neck and shoulders."""
    if character.kind == "person":
        draw_back_hair(painter, character, head)
    else:
        draw_creature_ears(painter, character, head)


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
    if (person.face[:, 2] > 0).all():
        landmarks = person.face[:, :2] * scale
    else:
        landmarks = face_landmarks(character.face, head)
    human = character.kind == "person"
    if human:
        _draw_ears(painter, character, head)
    outline = np.concatenate([jaw_outline(character.face), skull_outline(character.face)])
    painter.shape(place_on_head(head, outline), character.skin)
    if human:
        _draw_cheeks(painter, character, head)
        draw_beard(painter, character, head, landmarks)
    elif character.kind != "robot":
        draw_muzzle(painter, character, head, landmarks)
    _draw_eyes(painter, character, head, landmarks)
    if character.kind == "robot":
        draw_robot_mouth(painter, head, landmarks)
    else:
        _draw_mouth(painter, character, head, landmarks)
    if human:
        _draw_nose(painter, character, head, landmarks)
        draw_front_hair(painter, character, head)
    if character.kind != "robot":
        width = 1.7 * character.face.brow_thickness * head.half_height
        for brow in (landmarks[17:22], landmarks[22:27]):
            painter.stroke(brow, width, mixed(character.hair.color, _BLACK, 0.35))
    if character.glasses != "none":
        _draw_glasses(painter, character, head, landmarks)


def _draw_ears(painter: Painter, character: Character, head: HeadPose) -> None:
    face, skin, size = character.face, character.skin, head.half_height
    height = face.eye_height + 0.14
    for ear in place_on_head(head, np.array([(-face.width, height), (face.width, height)])):
        painter.disc(ear, face.ears * size, skin, outlined=True)
        painter.disc(ear, 0.45 * face.ears * size, mixed(skin, _BLUSH, 0.35))


def _draw_cheeks(painter: Painter, character: Character, head: HeadPose) -> None:
    face, size = character.face, head.half_height
    height = face.eye_height + 0.95 * face.nose_length
    cheeks = np.array([(-0.52 * face.width, height), (0.52 * face.width, height)])
    for cheek in place_on_head(head, cheeks):
        oval = ellipse_outline(cheek, 0.16 * size, 0.1 * size, head.roll)
        painter.shape(oval, mixed(character.skin, _BLUSH, 0.3), outlined=False)
    if character.freckles:
        spots = np.concatenate([cheeks + offset for offset in _FRECKLES])
        for spot in place_on_head(head, spots):
            painter.disc(spot, 0.035 * size, mixed(character.skin, (130, 60, 30), 0.5))


def _draw_eyes(painter: Painter, character: Character, head: HeadPose, landmarks: Floats) -> None:
    for eye in (landmarks[36:42], landmarks[42:48]):
        center, line = eye.mean(axis=0), eye[3] - eye[0]
        half_width = float(np.hypot(*line)) / 2
        opening = float(np.hypot(*(eye[1] + eye[2] - eye[4] - eye[5]))) / 4
        if character.kind == "robot":
            draw_robot_eye(painter, character, head, eye, opening)
            continue
        if opening < 0.15 * half_width:  # closed: a lid, curved downwards
            lid = eye[[0, 5, 4, 3]] + (0.0, 0.25 * half_width)
            painter.stroke(lid, 0.07 * head.half_height, _BLACK)
            continue
        height = 1.3 * opening
        outline = ellipse_outline(
            center, 1.05 * half_width, height, float(np.arctan2(line[1], line[0]))
        )
        painter.shape(outline, _WHITE)
        iris = min(0.8 * half_width, 0.95 * height)
        gaze = center + np.array([0.15 * half_width * head.yaw, 0.0])
        painter.oval(gaze, 0.9 * iris, iris, character.eyes)
        painter.disc(gaze, 0.5 * iris, _BLACK)
        painter.disc(gaze - np.array([0.3, 0.4]) * iris, 0.28 * iris, _WHITE)
        painter.stroke(outline[_UPPER_LID], 0.055 * head.half_height, _BLACK)


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
        teeth = np.array([inner[1], inner[2], inner[3]])
        painter.stroke(teeth + np.array([0.0, 0.03 * head.half_height]), 0.3 * opening, _WHITE)
    line = outer[[0]], inner[:5], outer[[6]]
    painter.stroke(
        np.concatenate(line), 0.045 * head.half_height, mixed(character.lips, _BLACK, 0.5)
    )


def _draw_glasses(
    painter: Painter, character: Character, head: HeadPose, landmarks: Floats
) -> None:
    size, color = head.half_height, character.frames
    centers = np.array([landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)])
    line = centers[1] - centers[0]
    along = line / max(float(np.hypot(*line)), 1e-6)
    down = np.array([-along[1], along[0]])
    radius = min(0.26 * size, 0.44 * float(np.hypot(*line)))
    for center in centers:
        if character.glasses == "round":
            ring = ellipse_outline(center, radius, 0.95 * radius, head.roll)
        else:
            corners = _SQUARE * radius
            ring = center + corners[:, :1] * along + corners[:, 1:] * down
        painter.stroke(np.concatenate([ring, ring[:1]]), 0.035 * size, color)
    ends = np.array([centers[0] + radius * along, centers[1] - radius * along])
    painter.stroke(ends, 0.035 * size, color)
