"""Who a drawn person is: proportions, face, hair, clothes and surroundings. Nothing moves here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Beard",
    "BodyShape",
    "Character",
    "Color",
    "FaceShape",
    "Glasses",
    "Hair",
    "HairStyle",
    "Item",
    "Kind",
    "Lower",
    "Outfit",
    "Pattern",
    "Scene",
    "Sleeve",
    "mixed",
]

Color = tuple[int, int, int]
"""RGB, 0..255."""

Kind = Literal["person", "cat", "dog", "bear", "rabbit", "robot"]
HairStyle = Literal[
    "none", "short", "spiky", "bob", "long", "bun", "ponytail", "curly", "afro", "mohawk"
]
Beard = Literal["none", "stubble", "moustache", "goatee", "full"]
Glasses = Literal["none", "round", "square"]
Lower = Literal["trousers", "shorts", "skirt"]
Sleeve = Literal["none", "short", "long"]
Pattern = Literal["plain", "stripes", "bars", "dots", "badge", "checks", "halves", "jacket"]


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

    head: float = 0.25
    neck: float = 0.035
    shoulders: float = 0.205
    hips: float = 0.115
    upper_arm: float = 0.145
    forearm: float = 0.135
    thigh: float = 0.187
    shin: float = 0.183
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
        squareness: 0 an oval head, 1 a box.
        eye_distance: Middle of the face to the middle of an eye.
        eye_height: Of the eyes below the middle of the head; negative is above.
        eye_size: Half the width of an eye.
        eye_openness: Half the height of an open eye as a share of half its width.
        eye_tilt: How far the outer corners are raised, as a share of half the eye's width.
        brow_height: Eye to brow.
        brow_thickness: Of the brows.
        brow_tilt: How far the outer ends are raised.
        brow_arch: How far the middle is raised.
        nose_length: Eyes to the tip of the nose.
        nose_width: Half its width.
        mouth_height: Nose to mouth.
        mouth_width: Half its width.
        lips: Thickness of each lip.
        smile: How far the corners of the mouth are raised.
        ears: Radius of the ears.
    """

    width: float = 0.84
    jaw: float = 0.5
    squareness: float = 0.0
    eye_distance: float = 0.36
    eye_height: float = -0.08
    eye_size: float = 0.17
    eye_openness: float = 0.8
    eye_tilt: float = 0.0
    brow_height: float = 0.29
    brow_thickness: float = 0.05
    brow_tilt: float = 0.0
    brow_arch: float = 0.05
    nose_length: float = 0.32
    nose_width: float = 0.1
    mouth_height: float = 0.24
    mouth_width: float = 0.24
    lips: float = 0.05
    smile: float = 0.08
    ears: float = 0.17


@dataclass(frozen=True, kw_only=True)
class Hair:
    """Hair of the head.

    Attributes:
        style: Cut.
        color: Of hair, brows and beard.
        volume: How far it stands off; 1 is average.
        length: Of long hair; 1 is average.
        fringe: How far it covers the forehead, 0..1.
        parting: To the viewer's left (-1) or right (1).
    """

    style: HairStyle = "bob"
    color: Color = (92, 58, 38)
    volume: float = 1.0
    length: float = 1.0
    fringe: float = 0.5
    parting: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Outfit:
    """Clothes.

    Attributes:
        top: Colour of the top.
        accent: Colour of its pattern.
        pattern: Of the top.
        pattern_scale: Size of its parts; 1 is average.
        sleeve: Of the top.
        lower: What covers the legs.
        lower_color: Its colour.
        shoes: Colour of the shoes.
    """

    top: Color = (236, 94, 84)
    accent: Color = (255, 240, 220)
    pattern: Pattern = "stripes"
    pattern_scale: float = 1.0
    sleeve: Sleeve = "short"
    lower: Lower = "trousers"
    lower_color: Color = (58, 84, 134)
    shoes: Color = (250, 250, 250)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A flat thing on the wall.

    Attributes:
        shape: What it is.
        center: As shares of width and height.
        size: Half its width and height, as shares of the shorter side.
        color: Its colour.
    """

    shape: Literal["disc", "block"]
    center: tuple[float, float]
    size: tuple[float, float]
    color: Color


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is behind the person.

    Attributes:
        wall_top: Colour of the wall at the top.
        wall_bottom: Colour of the wall at the floor.
        floor: Colour of the floor.
        horizon: Where the floor begins, as a share of the height from the top.
        items: Things on the wall, the last one in front.
    """

    wall_top: Color = (190, 222, 240)
    wall_bottom: Color = (232, 240, 238)
    floor: Color = (214, 190, 160)
    horizon: float = 0.8
    items: tuple[Item, ...] = (
        Item(shape="disc", center=(0.8, 0.2), size=(0.13, 0.13), color=(248, 214, 130)),
    )


@dataclass(frozen=True, kw_only=True)
class Character:
    """Everything about a drawn person that does not move.

    Attributes:
        kind: A person, or an animal or robot that stands like one.
        body: Proportions.
        face: Shape of the face.
        skin: Colour of the skin, fur or metal.
        hair: Of the head.
        eyes: Colour of the irises.
        lips: Colour of the lips.
        beard: What grows round the mouth.
        freckles: Whether there are any.
        glasses: Shape of the glasses.
        frames: Colour of the glasses.
        outfit: Clothes.
        scene: Surroundings.
    """

    kind: Kind = "person"
    body: BodyShape = BodyShape()
    face: FaceShape = FaceShape()
    skin: Color = (246, 205, 172)
    hair: Hair = Hair()
    eyes: Color = (74, 112, 74)
    lips: Color = (204, 92, 92)
    beard: Beard = "none"
    freckles: bool = False
    glasses: Glasses = "none"
    frames: Color = (34, 26, 30)
    outfit: Outfit = Outfit()
    scene: Scene = Scene()


def mixed(a: Color, b: Color, share: float) -> Color:
    """A colour between two; share 1 is `b`."""
    rest = 1.0 - share
    return (
        round(a[0] * rest + b[0] * share),
        round(a[1] * rest + b[1] * share),
        round(a[2] * rest + b[2] * share),
    )
