"""Draws hair and beards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .face import HeadPose, jaw_outline, place_on_head
from .identity import Character, Hair, mixed
from .painting import Painter, smooth_outline

__all__ = ["draw_back_hair", "draw_beard", "draw_front_hair"]

Floats = NDArray[np.float64]

_WHITE = (255, 253, 250)
_BLACK = (34, 26, 30)
_CURLS = np.linspace(-0.25 * np.pi, 1.25 * np.pi, 11)
_CROWN = np.linspace(np.pi, 0.0, 13)
_SHINE = np.linspace(0.72, 0.42, 6) * np.pi
_LOW = {"short": -0.02, "spiky": -0.05, "bun": -0.1, "ponytail": -0.1, "curly": 0.05, "afro": 0.0}
_FRINGES: dict[str, list[tuple[float, float]]] = {
    "short": [(0.86, -0.4), (0.55, -0.62), (0.1, -0.5), (-0.3, -0.62), (-0.7, -0.52)],
    "spiky": [(0.86, -0.42), (0.55, -0.5), (0.35, -0.7), (0.0, -0.48), (-0.4, -0.7), (-0.7, -0.45)],
    "bob": [(0.88, -0.3), (0.62, -0.46), (0.3, -0.5), (-0.1, -0.47), (-0.5, -0.5)],
    "long": [(0.9, -0.25), (0.72, -0.55), (0.35, -0.75), (-0.05, -0.6), (-0.5, -0.45)],
    "bun": [(0.9, -0.35), (0.6, -0.62), (0.2, -0.72), (-0.2, -0.72), (-0.6, -0.62)],
    "ponytail": [(0.9, -0.3), (0.6, -0.6), (0.1, -0.7), (-0.3, -0.62), (-0.65, -0.45)],
    "curly": [(0.86, -0.3), (0.5, -0.5), (0.1, -0.56), (-0.25, -0.5), (-0.6, -0.42)],
    "afro": [(0.86, -0.35), (0.5, -0.6), (0.1, -0.65), (-0.25, -0.65), (-0.6, -0.55)],
}


def draw_back_hair(painter: Painter, character: Character, head: HeadPose) -> None:
    """What of the hair is behind neck and shoulders."""
    hair, size, width = character.hair, head.half_height, character.face.width
    color = mixed(hair.color, _BLACK, 0.18)
    if hair.style in ("bob", "long"):
        end = (0.78 if hair.style == "bob" else 1.6) * hair.length
        flare = (1.2 if hair.style == "long" else 1.14) * hair.volume
        half = [
            (0.0, -1.08),
            (0.75 * width, -0.9),
            (1.14 * width, -0.2),
            (flare * width, 0.45 * end),
            (0.98 * width, 0.96 * end),
            (0.4 * width, end),
        ]
        points = np.array([*half, *((-x, y) for x, y in reversed(half[1:]))])
        painter.shape(smooth_outline(place_on_head(head, points)), color)
    elif hair.style in ("curly", "afro"):
        big = (1.0 if hair.style == "curly" else 1.15) * hair.volume
        circle = np.stack([big * width * np.cos(_CURLS), -0.12 - 0.9 * big * np.sin(_CURLS)], 1)
        for center in place_on_head(head, circle):
            painter.disc(center, 0.34 * big * size, color, outlined=True)
    elif hair.style == "bun":
        center = place_on_head(head, np.array([[0.0, -1.16]]))[0]
        painter.disc(center, 0.36 * hair.volume * size, color, outlined=True)
    elif hair.style == "ponytail":
        x = hair.parting * width
        tail = np.array([(0.5 * x, -0.95), (1.35 * x, -0.75), (1.45 * x, 0.3 * hair.length)])
        radii = tuple(r * hair.volume * size for r in (0.18, 0.26, 0.08))
        painter.limb(place_on_head(head, tail), radii, color)


def draw_front_hair(painter: Painter, character: Character, head: HeadPose) -> None:
    """What of the hair is before head and ears."""
    hair, size, width = character.hair, head.half_height, character.face.width
    if hair.style == "none":
        return
    if hair.style == "mohawk":
        _draw_mohawk(painter, character, head)
        return
    crown = np.stack([1.08 * width * np.cos(_CROWN), -0.1 - np.sin(_CROWN)], axis=1)
    crown[1:-1] *= 1.0 + 0.5 * (hair.volume - 1.0)
    crown[[0, -1], 1] = _LOW.get(hair.style, 0.1)
    if hair.style == "spiky":
        crown[2:-2:2] *= 1.18
    edge = np.array([*_FRINGES[hair.style], (-0.88, -0.3)]) * (width, 1.0)
    edge[1:-1, 1] += 0.34 * (hair.fringe - 0.6)
    if hair.parting < 0:
        edge = edge[::-1] * (-1.0, 1.0)
    steps = 1 if hair.style == "spiky" else 4
    outline = np.concatenate([crown, edge])
    painter.shape(smooth_outline(place_on_head(head, outline), steps), hair.color)
    if hair.style in ("curly", "afro"):
        for curl in place_on_head(head, 0.9 * crown[1:-1]):
            painter.disc(curl, 0.2 * size, hair.color)
    arc = np.stack([0.72 * width * np.cos(_SHINE), -0.22 - 0.62 * np.sin(_SHINE)], axis=1)
    light = mixed(hair.color, _WHITE, 0.25)
    painter.stroke(place_on_head(head, arc * (hair.parting, 1.0)), 0.07 * size, light)
    if hair.style in ("bob", "long"):
        _draw_locks(painter, hair, width, head)


def _draw_locks(painter: Painter, hair: Hair, width: float, head: HeadPose) -> None:
    end = (0.5 if hair.style == "bob" else 1.0) * hair.length
    radii = tuple(r * head.half_height * hair.volume for r in (0.1, 0.13, 0.12, 0.05))
    for side in (-1.0, 1.0):
        lock = np.array([(0.98, -0.3), (1.06, 0.1), (1.04, 0.7 * end), (1.0, end)])
        painter.limb(place_on_head(head, lock * (side * width, 1.0)), radii, hair.color)


def _draw_mohawk(painter: Painter, character: Character, head: HeadPose) -> None:
    hair = character.hair
    top = -1.0 - 0.32 * hair.length
    comb = [(-0.2, -0.55), (-0.28, -0.9), (-0.2, top), (0.0, top - 0.08), (0.2, top), (0.28, -0.9)]
    points = np.array([*comb, (0.2, -0.55), (0.0, -0.45)]) * (hair.volume, 1.0)
    painter.shape(smooth_outline(place_on_head(head, points), 4), hair.color)


def draw_beard(painter: Painter, character: Character, head: HeadPose, landmarks: Floats) -> None:
    """A beard, before the mouth is drawn over it.

    Args:
        painter: Where to draw.
        character: Whose beard it is.
        head: On the canvas.
        landmarks: [68, 2] of the face on the canvas.
    """
    face, size, kind = character.face, head.half_height, character.beard
    color = mixed(character.hair.color, _BLACK, 0.1)
    nose = face.eye_height + face.nose_length
    if kind in ("full", "stubble"):
        jaw = jaw_outline(face)[2:15] * (1.03, 1.03) if kind == "full" else jaw_outline(face)[3:14]
        w = face.width
        cheek = [(0.7 * w, nose + 0.12), (0.34, nose + 0.08), (0.0, nose + 0.1)]
        cheek += [(-x, y) for x, y in reversed(cheek[:2])]
        outline = place_on_head(head, np.concatenate([jaw, cheek]))
        shade = mixed(character.skin, color, 0.35) if kind == "stubble" else color
        painter.shape(smooth_outline(outline, 3), shade, outlined=kind == "full")
    if kind == "goatee":
        chin = landmarks[[6, 7, 8, 9, 10]]
        upper = landmarks[[54, 57, 48]] * 0.6 + 0.4 * landmarks[8]
        painter.shape(smooth_outline(np.concatenate([chin, upper]), 4), color)
    if kind in ("moustache", "goatee"):
        left, right = landmarks[48], landmarks[54]
        middle = 0.45 * landmarks[33] + 0.55 * landmarks[51]
        ends = np.array([1.1 * left - 0.1 * middle, middle, 1.1 * right - 0.1 * middle])
        painter.limb(ends, (0.035 * size, 0.085 * size, 0.035 * size), color)
