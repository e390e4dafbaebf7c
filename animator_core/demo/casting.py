"""Draws characters by lot: people, animals and robots, all continuous in shape and colour."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import TypeVar, get_args

import numpy as np

from .identity import (
    Beard,
    BodyShape,
    Character,
    Color,
    FaceShape,
    Hair,
    HairStyle,
    Item,
    Kind,
    Lower,
    Outfit,
    Pattern,
    Scene,
    Sleeve,
    mixed,
)

__all__ = ["random_character", "random_outfit", "random_scene"]

_Option = TypeVar("_Option")
_Lot = np.random.Generator

_NOT_PEOPLE = 0.15  # share of animals and robots
_DYED = 0.15  # share of hair in a colour that does not grow
_CREATURES: tuple[Kind, ...] = ("cat", "dog", "bear", "rabbit", "robot")
_SKINS: tuple[Color, ...] = (
    (255, 226, 204),
    (244, 204, 170),
    (228, 178, 138),
    (198, 142, 102),
    (154, 104, 72),
    (98, 64, 46),
)
_HAIRS: tuple[Color, ...] = (
    (30, 26, 30),
    (84, 54, 38),
    (132, 84, 48),
    (190, 140, 74),
    (234, 204, 140),
    (170, 74, 40),
    (168, 168, 174),
)
_EYES: tuple[Color, ...] = (
    (70, 46, 30),
    (120, 84, 44),
    (76, 122, 72),
    (48, 106, 160),
    (104, 132, 150),
)
_FURS: tuple[Color, ...] = (
    (240, 232, 220),
    (222, 170, 108),
    (176, 116, 70),
    (104, 76, 62),
    (128, 128, 136),
    (66, 62, 70),
    (240, 190, 200),
)
_BODY: Mapping[str, tuple[float, float]] = {
    "head": (0.23, 0.295),
    "neck": (0.026, 0.044),
    "shoulders": (0.175, 0.235),
    "hips": (0.1, 0.13),
    "upper_arm": (0.13, 0.158),
    "forearm": (0.12, 0.146),
    "thigh": (0.165, 0.2),
    "shin": (0.16, 0.195),
    "girth": (0.78, 1.38),
}
_FACE: Mapping[str, tuple[float, float]] = {
    "width": (0.72, 0.96),
    "jaw": (0.25, 0.85),
    "squareness": (0.0, 0.32),
    "eye_distance": (0.29, 0.42),
    "eye_height": (-0.17, 0.06),
    "eye_size": (0.12, 0.215),
    "eye_openness": (0.55, 1.05),
    "eye_tilt": (-0.28, 0.32),
    "brow_height": (0.23, 0.37),
    "brow_thickness": (0.025, 0.095),
    "brow_tilt": (-0.07, 0.09),
    "brow_arch": (0.0, 0.1),
    "nose_length": (0.22, 0.42),
    "nose_width": (0.06, 0.19),
    "mouth_height": (0.18, 0.29),
    "mouth_width": (0.15, 0.34),
    "lips": (0.025, 0.085),
    "smile": (-0.03, 0.13),
    "ears": (0.1, 0.23),
}
_ANIMAL_FACE: Mapping[str, tuple[float, float]] = {
    **_FACE,
    "width": (0.88, 1.02),
    "jaw": (0.7, 1.0),
    "eye_size": (0.13, 0.21),
    "nose_length": (0.24, 0.32),
    "brow_thickness": (0.02, 0.05),
}
_ROBOT_FACE: Mapping[str, tuple[float, float]] = {
    **_FACE,
    "width": (0.78, 0.98),
    "jaw": (0.85, 1.0),
    "squareness": (0.75, 1.0),
    "eye_tilt": (-0.1, 0.1),
    "eye_openness": (0.7, 1.05),
}


def random_character(seed: int) -> Character:
    """Draw a character by lot; a seed always gives the same one.

    About one in seven is an animal or a robot.
    """
    lot = np.random.default_rng(seed)
    if lot.random() < _NOT_PEOPLE:
        return _creature(lot, _pick(lot, _CREATURES))
    skin = _tinted(lot, _between(lot, _SKINS), 8)
    hair = _hair(lot)
    bearded = hair.style in ("none", "short", "spiky", "curly", "mohawk", "afro")
    return Character(
        body=BodyShape(**_lengths(lot, _BODY)),
        face=FaceShape(**_lengths(lot, _FACE)),
        skin=skin,
        hair=hair,
        eyes=_tinted(lot, _between(lot, _EYES), 14),
        lips=mixed(skin, _hsv(lot, (0.93, 1.03), (0.5, 0.8), (0.6, 0.9)), lot.uniform(0.3, 0.8)),
        beard=_pick(lot, get_args(Beard)) if bearded and lot.random() < 0.5 else "none",
        freckles=bool(lot.random() < 0.15),
        glasses=_pick(lot, ("round", "square")) if lot.random() < 0.22 else "none",
        frames=_hsv(lot, (0.0, 1.0), (0.2, 0.9), (0.1, 0.6)),
        outfit=random_outfit(lot),
        scene=random_scene(lot),
    )


def random_outfit(lot: _Lot) -> Outfit:
    """Draw clothes by lot."""
    top = _cloth(lot)
    accent = _cloth(lot)
    if sum(abs(a - b) for a, b in zip(top, accent, strict=True)) < 120:  # else it does not show
        accent = mixed(accent, (255, 250, 240) if sum(top) < 380 else (40, 40, 60), 0.7)
    return Outfit(
        top=top,
        accent=accent,
        pattern=_pick(lot, get_args(Pattern)),
        pattern_scale=float(lot.uniform(0.7, 1.5)),
        sleeve=_pick(lot, get_args(Sleeve)),
        lower=_pick(lot, get_args(Lower)),
        lower_color=_hsv(lot, (0.0, 1.0), (0.1, 0.65), (0.2, 0.75)),
        shoes=_hsv(lot, (0.0, 1.0), (0.0, 0.8), (0.2, 0.97)),
    )


def random_scene(lot: _Lot) -> Scene:
    """Draw surroundings by lot: walls with a window, pictures, blocks, discs, or nothing."""
    wall = _hsv(lot, (0.0, 1.0), (0.02, 0.45), (0.5, 0.97))
    other = _hsv(lot, (0.0, 1.0), (0.05, 0.4), (0.6, 0.97))
    bottom = mixed(wall, other if lot.random() < 0.4 else (250, 250, 246), lot.uniform(0.0, 0.7))
    horizon = float(lot.uniform(0.66, 0.9))
    decorate = _pick(lot, (_nothing, _discs, _blocks, _window, _wallpaper))
    return Scene(
        wall_top=wall,
        wall_bottom=bottom,
        floor=_hsv(lot, (0.0, 1.0), (0.05, 0.4), (0.35, 0.85)),
        horizon=horizon,
        items=decorate(lot, wall, horizon),
    )


def _creature(lot: _Lot, kind: Kind) -> Character:
    robot = kind == "robot"
    fur = _tinted(lot, _between(lot, _FURS), 14)
    metal = _hsv(lot, (0.0, 1.0), (0.03, 0.45), (0.5, 0.92))
    return Character(
        kind=kind,
        body=BodyShape(**_lengths(lot, {**_BODY, "head": (0.25, 0.31)})),
        face=FaceShape(**_lengths(lot, _ROBOT_FACE if robot else _ANIMAL_FACE)),
        skin=metal if robot else fur,
        hair=Hair(style="none", color=mixed(fur, (40, 30, 34), lot.uniform(0.25, 0.8))),
        eyes=_hsv(lot, (0.0, 1.0), (0.6, 1.0), (0.7, 1.0)) if robot else _between(lot, _EYES),
        lips=mixed(metal if robot else fur, (120, 40, 50), 0.55),
        glasses=_pick(lot, ("round", "square")) if lot.random() < 0.15 else "none",
        frames=_hsv(lot, (0.0, 1.0), (0.2, 0.9), (0.1, 0.6)),
        outfit=random_outfit(lot),
        scene=random_scene(lot),
    )


def _hair(lot: _Lot) -> Hair:
    grown = _tinted(lot, _between(lot, _HAIRS), 10)
    dyed = _hsv(lot, (0.0, 1.0), (0.5, 0.9), (0.45, 0.95))
    return Hair(
        style=_pick(lot, get_args(HairStyle)),
        color=dyed if lot.random() < _DYED else grown,
        volume=float(lot.uniform(0.9, 1.2)),
        length=float(lot.uniform(0.7, 1.35)),
        fringe=float(lot.uniform(0.0, 1.0)),
        parting=float(lot.choice([-1.0, 1.0])),
    )


def _nothing(lot: _Lot, wall: Color, horizon: float) -> tuple[Item, ...]:
    del lot, wall, horizon
    return ()


def _discs(lot: _Lot, wall: Color, horizon: float) -> tuple[Item, ...]:
    def disc() -> Item:
        radius = float(lot.uniform(0.04, 0.22))
        place = (float(lot.uniform(0.0, 1.0)), float(lot.uniform(0.0, horizon - radius)))
        color = mixed(_cloth(lot), wall, lot.uniform(0.2, 0.6))
        return Item(shape="disc", center=place, size=(radius, radius), color=color)

    return tuple(disc() for _ in range(lot.integers(1, 5)))


def _blocks(lot: _Lot, wall: Color, horizon: float) -> tuple[Item, ...]:
    def block() -> Item:
        width, height = (float(x) for x in lot.uniform(0.05, 0.22, 2))
        standing = lot.random() < 0.5  # on the floor, or hanging
        y = horizon - height if standing else float(lot.uniform(0.0, horizon - height))
        color = mixed(_cloth(lot), wall, lot.uniform(0.1, 0.6))
        center = (float(lot.uniform(0.0, 1.0)), y)
        return Item(shape="block", center=center, size=(width, height), color=color)

    return tuple(block() for _ in range(lot.integers(1, 5)))


def _window(lot: _Lot, wall: Color, horizon: float) -> tuple[Item, ...]:
    width, height = float(lot.uniform(0.14, 0.26)), float(lot.uniform(0.14, 0.24))
    center = (float(lot.uniform(0.1, 0.9)), float(lot.uniform(0.2, min(0.45, horizon - height))))
    frame = mixed(wall, (255, 255, 255) if lot.random() < 0.6 else (70, 50, 40), 0.75)
    sky = _hsv(lot, (0.5, 0.65), (0.1, 0.6), (0.5, 1.0))
    bars = [(width + 0.02, height + 0.02, frame), (width, height, sky)]
    bars += [(0.01, height, frame), (width, 0.01, frame)]
    return tuple(
        Item(shape="block", center=center, size=(half_width, half_height), color=color)
        for half_width, half_height, color in bars
    )


def _wallpaper(lot: _Lot, wall: Color, horizon: float) -> tuple[Item, ...]:
    count = int(lot.integers(4, 9))
    color = mixed(wall, _cloth(lot), lot.uniform(0.1, 0.4))
    half = float(lot.uniform(0.15, 0.35)) / count
    start = float(lot.uniform(0.0, 1.0))
    return tuple(
        Item(
            shape="block",
            center=((index + start) / count, horizon / 2),
            size=(half, horizon / 2),
            color=color,
        )
        for index in range(-1, count + 1)
    )


def _lengths(lot: _Lot, ranges: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    return {name: float(lot.uniform(low, high)) for name, (low, high) in ranges.items()}


def _pick(lot: _Lot, options: Sequence[_Option]) -> _Option:
    return options[int(lot.integers(len(options)))]


def _between(lot: _Lot, colors: Sequence[Color]) -> Color:
    """A colour between two neighbours of a row."""
    place = lot.uniform(0.0, len(colors) - 1.0)
    first = int(place)
    return mixed(colors[first], colors[first + 1], place - first)


def _tinted(lot: _Lot, color: Color, most: int) -> Color:
    red, green, blue = (int(np.clip(c + lot.integers(-most, most + 1), 0, 255)) for c in color)
    return red, green, blue


def _cloth(lot: _Lot) -> Color:
    return _hsv(lot, (0.0, 1.0), (0.0, 0.85), (0.25, 1.0))


def _hsv(
    lot: _Lot,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Color:
    h, s, v = (float(lot.uniform(low, high)) for low, high in (hue, saturation, value))
    red, green, blue = colorsys.hsv_to_rgb(h % 1.0, s, v)
    return round(255 * red), round(255 * green), round(255 * blue)
