"""Draws what animals and robots have instead of people's ears, noses and mouths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .face import HeadPose, place_on_head
from .identity import Character, mixed
from .painting import Painter, ellipse_outline, smooth_outline

__all__ = ["draw_creature_ears", "draw_muzzle", "draw_robot_eye", "draw_robot_mouth"]

Floats = NDArray[np.float64]

_WHITE = (255, 253, 250)
_BLACK = (34, 26, 30)
_PINK = (240, 168, 168)


def draw_creature_ears(painter: Painter, character: Character, head: HeadPose) -> None:
    """Ears of an animal or the antenna of a robot, behind the head."""
    face, fur, size = character.face, character.skin, head.half_height
    inner = mixed(fur, _PINK, 0.6)
    w = face.width
    for side in (-1.0, 1.0):
        flip = np.array([side * w, 1.0])
        if character.kind == "cat":
            ear = np.array([(0.95, -0.25), (0.98, -1.0 - 2 * face.ears), (0.25, -0.92)])
            painter.shape(place_on_head(head, ear * flip), fur)
            painter.shape(place_on_head(head, (0.6 * ear + (0.3, -0.34)) * flip), inner)
        elif character.kind == "bear":
            center = place_on_head(head, np.array([(0.75, -0.78)]) * flip)[0]
            painter.disc(center, (0.16 + face.ears) * size, fur, outlined=True)
            painter.disc(center, (0.02 + face.ears) * size, inner)
        elif character.kind == "rabbit":
            ear = np.array([(0.45, -0.8), (0.55, -1.35 - 2 * face.ears)]) * flip
            painter.limb(place_on_head(head, ear), (0.17 * size, 0.2 * size), fur)
            painter.stroke(place_on_head(head, ear), 0.17 * size, inner)
        elif character.kind == "dog":
            ear = np.array([(0.8, -0.78), (1.15, -0.3), (1.1, 0.1 + 2 * face.ears)]) * flip
            radii = (0.14 * size, 0.22 * size, 0.24 * size)
            painter.limb(place_on_head(head, ear), radii, character.hair.color)
        else:
            bolt = np.array([(0.95, 0.0), (1.14, 0.0)]) * flip
            painter.limb(
                place_on_head(head, bolt), (face.ears * size,) * 2, mixed(fur, _BLACK, 0.3)
            )
    if character.kind == "robot":
        mast = place_on_head(head, np.array([(0.0, -0.9), (0.0, -1.15 - face.ears)]))
        painter.stroke(mast, 0.09 * size, mixed(fur, _BLACK, 0.5))
        painter.disc(mast[1], 0.13 * size, character.eyes, outlined=True)


def draw_muzzle(painter: Painter, character: Character, head: HeadPose, landmarks: Floats) -> None:
    """The markings, muzzle and nose of an animal."""
    face, fur, size = character.face, character.skin, head.half_height
    marking, kind = character.hair.color, character.kind
    if kind in ("dog", "bear"):
        eye = landmarks[36:42].mean(axis=0)
        patch = ellipse_outline(eye, 0.29 * size, 0.34 * size, head.roll + 0.3)
        painter.shape(patch, mixed(fur, marking, 0.8), outlined=False)
    elif kind == "cat":
        for x in (-0.25, 0.0, 0.25):
            stripe = place_on_head(head, np.array([(x, -0.95), (0.8 * x, -0.6)]))
            painter.stroke(stripe, 0.1 * size, mixed(fur, marking, 0.8))
    middle = 0.5 * landmarks[30] + 0.5 * landmarks[62]
    pale = mixed(fur, _WHITE, 0.65)
    width, height = 0.3 + 0.5 * face.nose_width, 0.5 * face.mouth_height + 0.16
    painter.shape(ellipse_outline(middle, width * size, height * size, head.roll), pale)
    tip = landmarks[30]
    nose = mixed(_BLACK, _PINK, 0.75) if kind in ("cat", "rabbit") else _BLACK
    reach = 0.06 + 0.5 * face.nose_width
    painter.shape(ellipse_outline(tip, reach * size, 0.65 * reach * size, head.roll), nose)
    painter.stroke(np.array([tip, landmarks[51]]), 0.04 * size, mixed(pale, _BLACK, 0.6))
    if kind in ("cat", "rabbit"):
        y = face.eye_height + face.nose_length + 0.08
        for side in (-1.0, 1.0):
            for slope in (-0.06, 0.1):
                hair = np.array([(0.42 * side, y), (1.05 * side, y + slope)])
                painter.stroke(place_on_head(head, hair), 0.025 * size, mixed(fur, _BLACK, 0.6))


def draw_robot_eye(
    painter: Painter, character: Character, head: HeadPose, eye: Floats, opening: float
) -> None:
    """A lamp in a dark ring; a closed eye is dark.

    Args:
        painter: Where to draw.
        character: Whose eye it is.
        head: On the canvas.
        eye: Its six landmarks [6, 2] on the canvas.
        opening: Half its height [canvas px].
    """
    center = eye.mean(axis=0)
    half = float(np.hypot(*(eye[3] - eye[0]))) / 2
    painter.disc(center, 1.25 * half, (52, 56, 66), outlined=True)
    if opening > 0.25 * half:
        lamp = ellipse_outline(center, 0.9 * half, 1.1 * opening, head.roll)
        painter.shape(lamp, character.eyes, outlined=False)
        painter.disc(center, 0.35 * opening, mixed(character.eyes, _WHITE, 0.8))


def draw_robot_mouth(painter: Painter, head: HeadPose, landmarks: Floats) -> None:
    """A grille."""
    outer = landmarks[48:60]
    painter.shape(smooth_outline(outer, 3), (52, 56, 66))
    for upper, lower in ((49, 59), (50, 58), (51, 57), (52, 56), (53, 55)):
        bar = np.array([landmarks[upper], landmarks[lower]])
        painter.stroke(bar, 0.035 * head.half_height, (196, 204, 214))
