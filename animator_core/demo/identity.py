"""Who a drawn person is: proportions, face, hair, clothes and surroundings. Nothing moves here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar

import numpy as np

__all__ = [
    "BodyShape",
    "Character",
    "FaceShape",
    "HairStyle",
    "Outfit",
    "Scene",
    "mixed",
    "random_character",
]

Color = tuple[int, int, int]
"""RGB, 0..255."""

HairStyle = Literal["short", "bob", "long", "bun", "curly"]
Lower = Literal["trousers", "shorts", "skirt"]
Sleeve = Literal["none", "short", "long"]
Pattern = Literal["plain", "stripes", "dots", "badge"]

_Option = TypeVar("_Option")
_Shape = TypeVar("_Shape", "BodyShape", "FaceShape")


@dataclass(frozen=True, kw_only=True)
class BodyShape:
    """Lengths as fractions of the standing height, soles to crown.

    Attributes:
        head: Chin to crown.
        neck: Chin to the line of the shoulders.
        shoulders: Shoulder joint to shoulder joint.
        hips: Hip joint to hip joint.
        upper_arm: Shoulder to elbow.
        forearm: Elbow to wrist.
        thigh: Hip to knee.
        shin: Knee to ankle.
        girth: Thickness of limbs and torso; 1 is average.
    """

    head: float = 0.235
    neck: float = 0.035
    shoulders: float = 0.205
    hips: float = 0.115
    upper_arm: float = 0.145
    forearm: float = 0.135
    thigh: float = 0.195
    shin: float = 0.19
    girth: float = 1.0

    @property
    def ankle(self) -> float:
        """Height of the ankle above the floor."""
        return 0.045

    @property
    def torso(self) -> float:
        """Line of the shoulders to the hip joints; what the other lengths leave."""
        legs = self.ankle + self.shin + self.thigh
        return 1.0 - self.head - self.neck - legs


@dataclass(frozen=True, kw_only=True)
class FaceShape:
    """Lengths in half head heights, unless said otherwise.

    Attributes:
        width: Half the width of the head.
        jaw: Width of the chin as a share of the head's.
        eye_distance: Middle of the face to the middle of an eye.
        eye_height: Of the eyes over the middle of the head; negative is below.
        eye_size: Half the width of an eye.
        brow_height: Eye to brow.
        brow_thickness: Of the brows.
        nose_length: Eyes to the tip of the nose.
        nose_width: Half its width.
        mouth_height: Nose to mouth.
        mouth_width: Half its width.
        smile: How far the corners of the mouth are raised.
    """

    width: float = 0.84
    jaw: float = 0.5
    eye_distance: float = 0.36
    eye_height: float = -0.08
    eye_size: float = 0.15
    brow_height: float = 0.28
    brow_thickness: float = 0.05
    nose_length: float = 0.32
    nose_width: float = 0.1
    mouth_height: float = 0.24
    mouth_width: float = 0.24
    smile: float = 0.08


@dataclass(frozen=True, kw_only=True)
class Outfit:
    """Clothes.

    Attributes:
        top: Colour of the top.
        accent: Colour of its pattern.
        pattern: Of the top.
        sleeve: Of the top.
        lower: What covers the legs.
        lower_color: Its colour.
        shoes: Colour of the shoes.
    """

    top: Color = (236, 94, 84)
    accent: Color = (255, 240, 220)
    pattern: Pattern = "stripes"
    sleeve: Sleeve = "short"
    lower: Lower = "trousers"
    lower_color: Color = (58, 84, 134)
    shoes: Color = (250, 250, 250)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is behind the person.

    Attributes:
        wall_top: Colour of the wall at the top.
        wall_bottom: Colour of the wall at the floor.
        floor: Colour of the floor.
        horizon: Where the floor begins, as a share of the height from the top.
        spot: Colour of a disc on the wall.
        spot_center: Of the disc, as shares of width and height.
        spot_radius: As a share of the shorter side.
    """

    wall_top: Color = (190, 222, 240)
    wall_bottom: Color = (232, 240, 238)
    floor: Color = (214, 190, 160)
    horizon: float = 0.8
    spot: Color = (248, 214, 130)
    spot_center: tuple[float, float] = (0.8, 0.2)
    spot_radius: float = 0.13


@dataclass(frozen=True, kw_only=True)
class Character:
    """Everything about a drawn person that does not move.

    Attributes:
        body: Proportions.
        face: Shape of the face.
        skin: Colour of the skin.
        hair: Colour of hair and brows.
        hair_style: Cut.
        eyes: Colour of the irises.
        lips: Colour of the lips.
        glasses: Whether the person wears glasses.
        outfit: Clothes.
        scene: Surroundings.
    """

    body: BodyShape = BodyShape()
    face: FaceShape = FaceShape()
    skin: Color = (246, 205, 172)
    hair: Color = (92, 58, 38)
    hair_style: HairStyle = "bob"
    eyes: Color = (74, 112, 74)
    lips: Color = (204, 92, 92)
    glasses: bool = False
    outfit: Outfit = Outfit()
    scene: Scene = Scene()


_STYLES: tuple[HairStyle, ...] = ("short", "bob", "long", "bun", "curly")
_PATTERNS: tuple[Pattern, ...] = ("plain", "stripes", "dots", "badge")
_SLEEVES: tuple[Sleeve, ...] = ("none", "short", "long")
_LOWER_KINDS: tuple[Lower, ...] = ("trousers", "shorts", "skirt")
_SKINS: tuple[Color, ...] = (
    (252, 220, 194),
    (244, 204, 170),
    (228, 178, 138),
    (198, 142, 102),
    (154, 104, 72),
    (112, 74, 52),
)
_HAIRS: tuple[Color, ...] = (
    (38, 32, 34),
    (84, 54, 38),
    (132, 84, 48),
    (190, 140, 74),
    (226, 190, 120),
    (166, 70, 40),
    (150, 150, 156),
)
_EYES: tuple[Color, ...] = ((84, 58, 38), (56, 106, 150), (76, 116, 72), (110, 86, 56))
_CLOTHES: tuple[Color, ...] = (
    (230, 88, 78),
    (246, 178, 66),
    (84, 164, 118),
    (66, 132, 196),
    (140, 100, 180),
    (240, 238, 230),
    (52, 60, 78),
    (232, 134, 160),
)
_LOWERS: tuple[Color, ...] = ((52, 76, 126), (60, 60, 68), (150, 120, 90), (112, 62, 70))
_SHOES: tuple[Color, ...] = ((246, 246, 244), (60, 52, 52), (206, 74, 64), (120, 84, 56))
_WALLS: tuple[Color, ...] = (
    (186, 218, 240),
    (240, 222, 196),
    (206, 228, 204),
    (226, 206, 232),
    (236, 204, 198),
    (198, 206, 214),
)
_FLOORS: tuple[Color, ...] = ((212, 188, 158), (168, 150, 136), (150, 172, 150), (190, 190, 196))


def mixed(a: Color, b: Color, share: float) -> Color:
    """A colour between two; share 1 is `b`."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def random_character(seed: int) -> Character:
    """Draw a person by lot; a seed always gives the same one."""
    lot = np.random.default_rng(seed)
    skin = _pick(lot, _SKINS)
    return Character(
        body=_jittered(BodyShape(girth=float(lot.uniform(0.85, 1.25))), lot, 0.07, keep="girth"),
        face=_jittered(FaceShape(), lot, 0.13, keep="width"),
        skin=skin,
        hair=_pick(lot, _HAIRS),
        hair_style=_pick(lot, _STYLES),
        eyes=_pick(lot, _EYES),
        lips=mixed(skin, (206, 60, 72), float(lot.uniform(0.35, 0.7))),
        glasses=bool(lot.random() < 0.2),
        outfit=Outfit(
            top=_pick(lot, _CLOTHES),
            accent=_pick(lot, _CLOTHES),
            pattern=_pick(lot, _PATTERNS),
            sleeve=_pick(lot, _SLEEVES),
            lower=_pick(lot, _LOWER_KINDS),
            lower_color=_pick(lot, _LOWERS),
            shoes=_pick(lot, _SHOES),
        ),
        scene=_random_scene(lot),
    )


def _random_scene(lot: np.random.Generator) -> Scene:
    wall = _pick(lot, _WALLS)
    return Scene(
        wall_top=wall,
        wall_bottom=mixed(wall, (250, 250, 246), 0.6),
        floor=_pick(lot, _FLOORS),
        horizon=float(lot.uniform(0.76, 0.86)),
        spot=mixed(_pick(lot, _CLOTHES), wall, 0.45),
        spot_center=(float(lot.uniform(0.1, 0.9)), float(lot.uniform(0.1, 0.4))),
        spot_radius=float(lot.uniform(0.05, 0.2)),
    )


def _pick(lot: np.random.Generator, options: Sequence[_Option]) -> _Option:
    return options[int(lot.integers(len(options)))]


def _jittered(shape: _Shape, lot: np.random.Generator, spread: float, *, keep: str) -> _Shape:
    """The same shape with every length but one multiplied by a number near 1."""
    changed = {
        f.name: getattr(shape, f.name) * float(lot.uniform(1 - spread, 1 + spread))
        for f in fields(shape)
        if f.name != keep
    }
    return replace(shape, **changed)
