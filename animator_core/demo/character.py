"""Draws a cartoon person in any pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..pose.keypoints import FramePose, PersonPose
from ..pose.skeletons import NUM_HAND
from .head import draw_behind_head, draw_head, head_of
from .identity import Character, Color, Scene, mixed
from .painting import SUPERSAMPLING, Painter, smooth_outline
from .patterns import pattern_marks

__all__ = ["draw_character", "draw_people"]

Floats = NDArray[np.float64]
Joints = tuple[int, int, int]

_OUTLINE = 0.0045  # in standing heights
_RIGHT_ARM, _LEFT_ARM = (2, 3, 4), (5, 6, 7)
_RIGHT_LEG, _LEFT_LEG = (8, 9, 10), (11, 12, 13)
_FINGERS = [[0, *range(first, first + 4)] for first in range(1, NUM_HAND, 4)]
_BLOCK = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
_WHITE: Color = (255, 255, 255)


def draw_character(
    character: Character, frame: FramePose, width: int, height: int
) -> NDArray[np.uint8]:
    """Draw a person, and what is behind, in the pose of every person of a frame.

    Joints that are missing leave out what hangs on them; without a neck nobody is drawn.

    Args:
        character: Who it is.
        frame: The pose, stretched to the picture.
        width: Of the picture [px].
        height: Of the picture [px].

    Returns:
        uint8 RGB [height, width, 3], with soft edges; equal inputs give equal pixels.

    Raises:
        ConfigError: If the size is below 1 px.
    """
    return draw_people((character,) * len(frame.people), frame, width, height, character.scene)


def draw_people(
    characters: Sequence[Character], frame: FramePose, width: int, height: int, scene: Scene
) -> NDArray[np.uint8]:
    """Draw several people in one scene, the first one in front.

    Args:
        characters: Who each person of the frame is.
        frame: The poses, stretched to the picture.
        width: Of the picture [px].
        height: Of the picture [px].
        scene: What is behind them.

    Returns:
        uint8 RGB [height, width, 3], as from `draw_character`.

    Raises:
        ConfigError: If the size is below 1 px, or there are not as many characters as people.
    """
    if width < 1 or height < 1:
        raise ConfigError(f"A picture of {width}x{height} px was asked for; give at least 1x1.")
    if len(characters) != len(frame.people):
        raise ConfigError(
            f"{len(characters)} characters were given for {len(frame.people)} people in the "
            "frame; give one for each."
        )
    canvas = _backdrop(scene, SUPERSAMPLING * width, SUPERSAMPLING * height).copy()
    scale = SUPERSAMPLING * np.array([width / frame.width, height / frame.height])
    for character, person in reversed(list(zip(characters, frame.people, strict=True))):
        if person.body[1, 2] > 0:
            _Figure.placed(character, scene, person, scale, canvas).draw()
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=16)
def _backdrop(scene: Scene, width: int, height: int) -> NDArray[np.uint8]:
    horizon = round(scene.horizon * height)
    share = np.linspace(0.0, 1.0, max(horizon, 1))[:, None]
    rows = np.empty((height, 3))
    rows[:horizon] = (1 - share[:horizon]) * scene.wall_top + share[:horizon] * scene.wall_bottom
    depth = np.linspace(0.0, 1.0, max(height - horizon, 1))[: height - horizon, None]
    floor = np.array(scene.floor) * (0.92 + 0.1 * depth)
    rows[horizon:] = scene.wall_bottom  # what hangs on the wall ends where the floor begins
    canvas = np.repeat(np.rint(rows.clip(0, 255)).astype(np.uint8)[:, None], width, axis=1)
    painter = Painter(canvas, 0.0)
    for item in scene.items:
        center = np.array(item.center) * (width, height)
        reach = np.array(item.size) * min(width, height)
        if item.shape == "disc":
            painter.oval(center, reach[0], reach[1], item.color)
        else:
            painter.shape(center + _BLOCK * reach, item.color, outlined=False)
    painter.finish()
    skirting = max(horizon - round(0.012 * height), 0)
    canvas[skirting:horizon] = mixed(scene.wall_bottom, _WHITE, 0.5)
    canvas[horizon:] = np.rint(floor.clip(0, 255)).astype(np.uint8)[:, None]
    return canvas


@dataclass(frozen=True)
class _Figure:
    """One person on the canvas.

    Attributes:
        character: Who it is.
        scene: Where.
        person: The pose.
        scale: [2] canvas pixels per pixel of the pose.
        body: [18, 2] joints on the canvas.
        seen: [18] which of them there are.
        unit: Standing height [canvas px].
        painter: Of the canvas.
    """

    character: Character
    scene: Scene
    person: PersonPose
    scale: Floats
    body: Floats
    seen: NDArray[np.bool_]
    unit: float
    painter: Painter

    @staticmethod
    def placed(
        character: Character,
        scene: Scene,
        person: PersonPose,
        scale: Floats,
        canvas: NDArray[np.uint8],
    ) -> _Figure:
        """Find the person's size and bring the joints to the canvas."""
        body, seen = person.body[:, :2] * scale, person.body[:, 2] > 0
        shape = character.body
        sizes = [canvas.shape[0] * 0.2]
        if seen[[8, 11]].all():
            sizes.append(float(np.hypot(*(body[1] - body[[8, 11]].mean(axis=0)))) / shape.torso)
        if seen[[2, 5]].all():
            sizes.append(float(np.hypot(*(body[2] - body[5]))) / shape.shoulders)
        unit = max(sizes[1:] or sizes)
        painter = Painter(canvas, _OUTLINE * unit)
        return _Figure(character, scene, person, scale, body, seen, unit, painter)

    def draw(self) -> None:
        """Paint from back to front."""
        head = head_of(self.character, self.body, self.seen, self.unit)
        self._draw_shadow()
        draw_behind_head(self.painter, self.character, head)
        for leg in (_RIGHT_LEG, _LEFT_LEG):
            self._draw_leg(leg)
        self._draw_neck(head.center)
        if self.seen[[2, 5, 8, 11]].all():
            self._draw_torso()
        draw_head(self.painter, self.character, head, self.person, self.scale)
        for arm, hand in (
            (_RIGHT_ARM, self.person.right_hand),
            (_LEFT_ARM, self.person.left_hand),
        ):
            self._draw_arm(arm, hand)
        self.painter.finish()

    def _radius(self, share: float) -> float:
        return share * self.unit * self.character.body.girth

    def _draw_shadow(self) -> None:
        feet = self.body[[10, 13]][self.seen[[10, 13]]]
        if len(feet) == 0:
            return
        middle = np.array([feet[:, 0].mean(), feet[:, 1].max() + 0.045 * self.unit])
        color = mixed(self.scene.floor, (60, 44, 50), 0.28)
        reach = 0.12 * self.unit + float(np.ptp(feet[:, 0])) / 2
        self.painter.oval(middle, reach, 0.022 * self.unit, color)

    def _draw_leg(self, leg: Joints) -> None:
        if not self.seen[list(leg)].all():
            return
        outfit, painter = self.character.outfit, self.painter
        hip, knee, ankle = points = self.body[list(leg)]
        side = -1.0 if leg == _RIGHT_LEG else 1.0
        bare = tuple(map(self._radius, (0.046, 0.034, 0.022)))
        if outfit.lower != "trousers":
            painter.limb(points, bare, self.character.skin)
        self._draw_shoe(knee, ankle, side)
        if outfit.lower == "trousers":
            hem = ankle + 0.12 * (knee - ankle)
            radii = tuple(map(self._radius, (0.052, 0.041, 0.034)))
            painter.limb(np.array([hip, knee, hem]), radii, outfit.lower_color)
        elif outfit.lower == "shorts":
            hem = hip + 0.62 * (knee - hip)
            radii = tuple(map(self._radius, (0.054, 0.05)))
            painter.limb(np.array([hip, hem]), radii, outfit.lower_color)

    def _draw_shoe(self, knee: Floats, ankle: Floats, side: float) -> None:
        unit, color = self.unit, self.character.outfit.shoes
        down = (ankle - knee) / max(float(np.hypot(*(ankle - knee))), 1e-6)
        heel = ankle + 0.026 * unit * down
        toe = heel + np.array([0.038 * side * unit, 0.006 * unit])
        self.painter.limb(np.array([ankle, heel, toe]), _scaled((0.02, 0.022, 0.019), unit), color)
        sole = np.array([heel - (0.014 * side * unit, 0.0), toe]) + np.array([0.0, 0.019 * unit])
        self.painter.stroke(sole, 0.009 * unit, mixed(color, (40, 36, 40), 0.55))

    def _draw_neck(self, head_center: Floats) -> None:
        skin = mixed(self.character.skin, (150, 84, 70), 0.16)  # in the chin's shade
        points = np.array([head_center, self.body[1] + (0.0, 0.02 * self.unit)])
        self.painter.limb(points, (self._radius(0.03), self._radius(0.034)), skin)

    def _draw_torso(self) -> None:
        outfit, painter, unit = self.character.outfit, self.painter, self.unit
        right_hip, left_hip = self.body[8], self.body[11]
        out = _direction(right_hip, left_hip)
        down = np.array([-out[1], out[0]])
        if outfit.lower == "skirt":
            painter.shape(smooth_outline(self._skirt(out, down), 5), outfit.lower_color)
        else:
            reach = self._radius(0.048)
            pelvis = [
                right_hip - reach * out - 0.012 * unit * down,
                left_hip + reach * out - 0.012 * unit * down,
                left_hip + reach * out + 0.02 * unit * down,
                (right_hip + left_hip) / 2 + 0.05 * unit * down,
                right_hip - reach * out + 0.02 * unit * down,
            ]
            painter.shape(smooth_outline(np.stack(pelvis), 5), outfit.lower_color)
        outline = smooth_outline(self._torso(), 6)
        painter.shape(outline, outfit.top)
        self._draw_pattern(outline)
        self._draw_collar()

    def _torso(self) -> Floats:
        """Outline of the top, clockwise from the neck."""
        unit, neck = self.unit, self.body[1]
        right, left, right_hip, left_hip = self.body[[2, 5, 8, 11]]
        across, hips = _direction(right, left), _direction(right_hip, left_hip)
        down = np.array([-across[1], across[0]])

        def half(shoulder: Floats, hip: Floats, side: float) -> list[Floats]:
            return [
                neck + side * 0.045 * unit * across - 0.016 * unit * down,
                shoulder + side * self._radius(0.006) * across - self._radius(0.03) * down,
                shoulder + side * self._radius(0.03) * across + 0.01 * unit * down,
                shoulder + side * self._radius(0.004) * across + 0.07 * unit * down,
                shoulder + 0.62 * (hip - shoulder) + side * self._radius(0.018) * across,
                hip + side * self._radius(0.048) * hips - 0.035 * unit * down,
                hip + side * self._radius(0.05) * hips,
            ]

        left_half = half(left, left_hip, 1.0)
        return np.array([*left_half, *reversed(half(right, right_hip, -1.0))])

    def _skirt(self, out: Floats, down: Floats) -> Floats:
        right_hip, left_hip = self.body[8], self.body[11]
        right_hem, left_hem = (
            right_hip + 0.15 * self.unit * down,
            left_hip + 0.15 * self.unit * down,
        )
        if self.seen[[9, 12]].all():
            right_hem = right_hip + 0.75 * (self.body[9] - right_hip)
            left_hem = left_hip + 0.75 * (self.body[12] - left_hip)
        reach, flare = self._radius(0.046), self._radius(0.075)
        return np.stack(
            [
                right_hip - reach * out - 0.012 * self.unit * down,
                left_hip + reach * out - 0.012 * self.unit * down,
                left_hip + 1.25 * reach * out,
                left_hem + flare * out,
                left_hem + 0.5 * flare * out + 0.012 * self.unit * down,
                (right_hem + left_hem) / 2 + 0.02 * self.unit * down,
                right_hem - 0.5 * flare * out + 0.012 * self.unit * down,
                right_hem - flare * out,
                right_hip - 1.25 * reach * out,
            ]
        )

    def _draw_pattern(self, outline: Floats) -> None:
        outfit, unit = self.character.outfit, self.unit
        if outfit.pattern == "plain":
            return
        start = self.body[[2, 5]].mean(axis=0)
        axis = self.body[[8, 11]].mean(axis=0) - start
        marks = pattern_marks(outfit, start, axis, unit)
        self.painter.fill_inside(outline, marks, outfit.accent)

    def _draw_collar(self) -> None:
        unit, neck = self.unit, self.body[1]
        across = _direction(self.body[2], self.body[5])
        down = np.array([-across[1], across[0]])
        angle = np.linspace(0.0, np.pi, 9)
        opening = (
            neck
            - 0.02 * unit * down
            + 0.043 * unit * np.cos(angle)[:, None] * across
            + 0.05 * unit * np.sin(angle)[:, None] * down
        )
        skin = mixed(self.character.skin, (150, 84, 70), 0.08)
        self.painter.shape(opening, skin, outlined=False)
        trim = mixed(self.character.outfit.top, (40, 30, 40), 0.3)
        self.painter.stroke(opening, 0.009 * unit, trim)

    def _draw_arm(self, arm: Joints, hand: Floats) -> None:
        if not self.seen[list(arm)].all():
            return
        outfit, painter = self.character.outfit, self.painter
        shoulder, elbow, wrist = points = self.body[list(arm)]
        self._draw_hand(elbow, wrist, hand)
        painter.limb(points, tuple(map(self._radius, (0.028, 0.024, 0.018))), self.character.skin)
        if outfit.sleeve == "long":
            cuff = wrist + 0.08 * (elbow - wrist)
            radii = tuple(map(self._radius, (0.034, 0.031, 0.026)))
            painter.limb(np.array([shoulder, elbow, cuff]), radii, outfit.top)
        elif outfit.sleeve == "short":
            hem = shoulder + 0.52 * (elbow - shoulder)
            radii = tuple(map(self._radius, (0.034, 0.035)))
            painter.limb(np.array([shoulder, hem]), radii, outfit.top)
        if outfit.sleeve != "none":  # sleeve and top are one piece: no outline between them
            seam = shoulder + 0.3 * (self.body[1] - shoulder) + (0.0, 0.016 * self.unit)
            pieces = np.array([shoulder, seam])
            painter.stroke(pieces, 2 * self._radius(0.027), outfit.top)

    def _draw_hand(self, elbow: Floats, wrist: Floats, hand: Floats) -> None:
        unit, skin = self.unit, self.character.skin
        along = _direction(elbow, wrist)
        palm = wrist + 0.026 * unit * along
        if not (hand[:, 2] > 0).all():
            tip = wrist + 0.05 * unit * along
            self.painter.limb(
                np.array([wrist, palm, tip]), _scaled((0.018, 0.026, 0.02), unit), skin
            )
            return
        joints = hand[:, :2] * self.scale
        for grow, color in ((_OUTLINE, mixed(skin, (46, 28, 38), 0.62)), (0.0, skin)):
            for finger in _FINGERS:
                self.painter.stroke(joints[finger], 2 * (0.0085 + grow) * unit, color)
            self.painter.disc(palm, (0.022 + grow) * unit, color)


def _direction(start: Floats, end: Floats) -> Floats:
    """Unit vector between two points."""
    return (end - start) / max(float(np.hypot(*(end - start))), 1e-6)


def _scaled(radii: tuple[float, ...], unit: float) -> tuple[float, ...]:
    return tuple(radius * unit for radius in radii)
