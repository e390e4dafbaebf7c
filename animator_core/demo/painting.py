"""Shapes with outlines and soft edges, for the drawn person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .identity import Color, mixed

__all__ = ["SUPERSAMPLING", "Painter", "ellipse_outline", "smooth_outline"]

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Fixed = NDArray[np.int32]

SUPERSAMPLING = 2
"""Canvas pixels per pixel of the picture, each way."""

_INK: Color = (46, 28, 38)
_LIGHT: Color = (255, 252, 240)
_TURNS = np.linspace(0.0, 2 * np.pi, 32, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)
_SOFT_EDGE = 0.4  # canvas pixels
_CAP = np.exp(1j * np.linspace(-np.pi / 2, np.pi / 2, 8))
_SHIFT = 4  # binary places of OpenCV's fixed-point coordinates
_FIXED = 1 << _SHIFT
# whole coordinates are centres of pixels, in pictures as on canvases
_HALF_PIXEL = (SUPERSAMPLING - 1) / 2 * _FIXED
_FAR = float(1 << 19)  # beyond any picture, and small enough for OpenCV's integers
_SMOOTHING: dict[int, Floats] = {}


def smooth_outline(points: Floats, steps: int = 8) -> Floats:
    """A closed Catmull-Rom curve through points [n, 2], as [n * steps, 2]."""
    if steps not in _SMOOTHING:
        t = np.linspace(0.0, 1.0, steps, endpoint=False)
        weights = [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3]
        weights += [t + 4 * t**2 - 3 * t**3, t**3 - t**2]
        _SMOOTHING[steps] = np.stack(weights, axis=1) / 2  # steps, 4 neighbours
    count = np.arange(len(points))
    neighbours = points[(count[:, None] + np.arange(-1, 3)) % len(points)]  # n, 4, 2
    return (_SMOOTHING[steps] @ neighbours).reshape(-1, 2)


class _Step(NamedTuple):
    kind: Literal["chain", "polygon", "marks"]
    first: int
    number: int
    color: Color


class Painter:
    """Paints on a canvas that is larger than the picture; shrinking it smooths the edges.

    Shapes are noted first and painted together, in their order, by `finish`: NumPy takes about as
    long for one small polygon as for all of them.

    Args:
        canvas: uint8 RGB [height, width, 3]; painted in place.
        outline: Width of the outlines, in canvas pixels.
    """

    def __init__(self, canvas: Pixels, outline: float) -> None:
        self.canvas = canvas
        self.outline = outline
        self._polygons: list[Floats] = []
        self._growths: list[float] = []
        self._chains: list[Floats] = []
        self._radii: list[float] = []
        self._shifts: list[float] = []
        self._steps: list[_Step] = []

    def disc(self, center: Floats, radius: float, color: Color, *, outlined: bool = False) -> None:
        """A filled circle."""
        points = center[None].repeat(2, axis=0)
        for more, fill in self._layers(color, outlined):
            self._chain(points, (radius + more,) * 2, fill)

    def oval(self, center: Floats, radius_x: float, radius_y: float, color: Color) -> None:
        """A filled ellipse along the axes of the picture."""
        self._polygon(center + _CIRCLE * (radius_x, radius_y), color)

    def limb(self, points: Floats, radii: Sequence[float], color: Color) -> None:
        """A chain of tapered, outlined and lit pieces through points [n, 2]."""
        for more, fill in self._layers(color, outlined=True):
            self._chain(points, [radius + more for radius in radii], fill)
        lit = mixed(color, _LIGHT, 0.14)
        self._chain(points, [0.32 * r for r in radii], lit, [-0.3 * r for r in radii])

    def stroke(self, points: Floats, width: float, color: Color) -> None:
        """An open line with round ends."""
        self._chain(points, (width / 2,) * len(points), color)

    def shape(self, outline: Floats, color: Color, *, outlined: bool = True) -> None:
        """A filled polygon [n, 2]."""
        for more, fill in self._layers(color, outlined):
            self._polygon(outline, fill, more)

    def fill_inside(self, outline: Floats, marks: Sequence[Floats], color: Color) -> None:
        """Paint convex polygons, each [n, 2], where they lie in a polygon."""
        first = len(self._polygons)
        self._polygons += [outline, *marks]
        self._growths += [0.0] * (1 + len(marks))
        self._steps.append(_Step("marks", first, 1 + len(marks), color))

    def finish(self) -> None:
        """Paint what was noted."""
        polygons: list[Fixed] = []
        if self._polygons:
            polygons = _fixed_polygons(self._polygons, self._growths)
        pieces: Fixed | list[Fixed] = []
        if self._chains:
            points = np.concatenate(self._chains) + np.array(self._shifts)[:, None]
            pieces = _capsules(points, np.array(self._radii))
        for step in self._steps:
            if step.kind == "chain":
                for piece in pieces[step.first : step.first + step.number]:
                    cv2.fillConvexPoly(self.canvas, piece, step.color, cv2.LINE_AA, _SHIFT)
            elif step.kind == "polygon":
                polygon = [polygons[step.first]]
                cv2.fillPoly(self.canvas, polygon, step.color, cv2.LINE_AA, _SHIFT)
            else:
                outline, *marks = polygons[step.first : step.first + step.number]
                self._paint_inside(outline, marks, step.color)
        for noted in (self._polygons, self._growths, self._chains, self._radii):
            noted.clear()
        self._shifts.clear()
        self._steps.clear()

    def _layers(self, color: Color, outlined: bool) -> tuple[tuple[float, Color], ...]:
        inside = (0.0, color)
        return ((self.outline, mixed(color, _INK, 0.62)), inside) if outlined else (inside,)

    def _polygon(self, points: Floats, color: Color, more: float = 0.0) -> None:
        self._steps.append(_Step("polygon", len(self._polygons), 1, color))
        self._polygons.append(points)
        self._growths.append(more)

    def _chain(
        self,
        points: Floats,
        radii: Sequence[float],
        color: Color,
        shifts: Sequence[float] | None = None,
    ) -> None:
        self._steps.append(_Step("chain", len(self._radii), len(points) - 1, color))
        self._chains.append(points)
        self._radii.extend(radii)
        self._shifts.extend(shifts or (0.0,) * len(points))  # to the right and down alike

    def _paint_inside(self, outline: Fixed, marks: Sequence[Fixed], color: Color) -> None:
        height, width = self.canvas.shape[:2]
        left, top = np.maximum(outline.min(axis=0) // _FIXED, 0)
        right, bottom = np.minimum(outline.max(axis=0) // _FIXED + 2, (width, height))
        if right <= left or bottom <= top:
            return
        corner = np.array([left, top]) * _FIXED
        inside = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(inside, [outline - corner], 255, cv2.LINE_AA, _SHIFT)
        pattern = np.zeros_like(inside)
        for mark in marks:
            cv2.fillConvexPoly(pattern, mark - corner, 255, cv2.LINE_AA, _SHIFT)
        share = cv2.multiply(inside, pattern, scale=1 / 255)[..., None].astype(np.uint16)
        region = self.canvas[top:bottom, left:right]
        paint = np.array(color, np.uint16)
        region[:] = (region * (255 - share) + paint * share + 127) // 255


def ellipse_outline(center: Floats, radius_x: float, radius_y: float, angle: float) -> Floats:
    """A turned ellipse as a polygon [32, 2]."""
    x, y = radius_x * np.cos(_TURNS), radius_y * np.sin(_TURNS)
    cos, sin = np.cos(angle), np.sin(angle)
    return center + np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)


def _fixed(points: Floats) -> Fixed:
    return np.rint((points * _FIXED + _HALF_PIXEL).clip(-_FAR, _FAR)).astype(np.int32)


def _capsules(points: Floats, radii: Floats) -> Fixed:
    """Hulls of each pair of neighbouring discs, [points - 1, corners, 2].

    A pair of the last point of a chain and the first of the next is among them, to be left out.
    """
    # OpenCV's soft edges lie outside the polygon
    sizes = np.maximum(radii - _SOFT_EDGE, _SOFT_EDGE)[:, None]
    places = points[:, 0] + 1j * points[:, 1]
    line = places[1:] - places[:-1]
    length = np.abs(line)
    along = np.where(length > 1e-6, line / np.maximum(length, 1e-6), 1.0)[:, None] * _CAP
    ends = places[1:, None] + sizes[1:] * along
    starts = places[:-1, None] - sizes[:-1] * along
    hull = np.concatenate([ends, starts], axis=1)
    return _fixed(hull.view(np.float64).reshape(len(line), -1, 2))


def _fixed_polygons(polygons: Sequence[Floats], growths: Sequence[float]) -> list[Fixed]:
    """Closed polygons [n, 2], moved outwards on all sides."""
    counts = np.array([len(polygon) for polygon in polygons])
    ends = np.cumsum(counts)
    starts = ends - counts
    points = np.concatenate(polygons)
    before, after = np.arange(len(points)) - 1, np.arange(len(points)) + 1
    before[starts], after[ends - 1] = ends - 1, starts
    line = points[after] - points[before]
    crossed = points[:, 0] * points[after, 1] - points[:, 1] * points[after, 0]
    signs = np.sign(np.add.reduceat(crossed, starts))  # which way round they go
    length = np.maximum(np.hypot(line[:, 0], line[:, 1]), 1e-6)
    reach = np.repeat(signs * np.asarray(growths), counts) / length
    moved = points + np.stack([line[:, 1] * reach, -line[:, 0] * reach], axis=1)
    return np.split(_fixed(moved), ends[:-1])
