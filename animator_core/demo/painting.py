"""Shapes with outlines and soft edges, for the drawn person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from .identity import Color, mixed

__all__ = ["Painter", "ellipse_outline", "smooth_outline"]

Floats = NDArray[np.float64]

_INK: Color = (46, 28, 38)
_LIGHT: Color = (255, 252, 240)
_TURNS = np.linspace(0.0, 2 * np.pi, 32, endpoint=False)


def smooth_outline(points: Floats, steps: int = 8) -> Floats:
    """A closed Catmull-Rom curve through points [n, 2], as [n * steps, 2]."""
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]
    before, start, end, after = (
        np.roll(points, shift, axis=0)[:, None] for shift in (1, 0, -1, -2)
    )
    curve = start + 0.5 * t * (
        end
        - before
        + t * (2 * before - 5 * start + 4 * end - after + t * (3 * (start - end) + after - before))
    )
    return curve.reshape(-1, 2)


class Painter:
    """Paints on a canvas that is larger than the picture; shrinking it smooths the edges.

    Args:
        picture: The canvas.
        outline: Width of the outlines, in canvas pixels.
    """

    def __init__(self, picture: Image.Image, outline: float) -> None:
        self.picture = picture
        self.outline = outline
        self._draw = ImageDraw.Draw(picture)

    def disc(self, center: Floats, radius: float, color: Color, *, outlined: bool = False) -> None:
        """A filled circle."""
        self.oval(center, radius, radius, color, outlined=outlined)

    def oval(
        self,
        center: Floats,
        radius_x: float,
        radius_y: float,
        color: Color,
        *,
        outlined: bool = False,
    ) -> None:
        """A filled ellipse along the axes of the picture."""
        grow = [(self.outline, _inked(color))] if outlined else []
        for more, fill in (*grow, (0.0, color)):
            reach = np.array([radius_x + more, radius_y + more])
            box = (*(center - reach), *(center + reach))
            self._draw.ellipse(box, fill=fill)

    def limb(self, points: Floats, radii: tuple[float, ...], color: Color) -> None:
        """A chain of tapered, outlined and lit pieces through points [n, 2]."""
        for more, fill in ((self.outline, _inked(color)), (0.0, color)):
            self._chain(points, [r + more for r in radii], fill)
        towards_light = np.array([-0.3, -0.3])
        for start, end, first, last in zip(points, points[1:], radii, radii[1:], strict=False):
            shifted = np.stack([start + first * towards_light, end + last * towards_light])
            self._chain(shifted, [0.35 * first, 0.3 * last], mixed(color, _LIGHT, 0.14))

    def stroke(self, points: Floats, width: float, color: Color) -> None:
        """An open line with round ends."""
        self._chain(points, [width / 2] * len(points), color)

    def shape(self, outline: Floats, color: Color, *, outlined: bool = True) -> None:
        """A filled polygon [n, 2]."""
        corners = [(float(x), float(y)) for x, y in outline]
        if outlined:
            width = max(round(2 * self.outline), 1)
            edge = [*corners, *corners[:2]]
            self._draw.line(edge, fill=_inked(color), width=width, joint="curve")
        self._draw.polygon(corners, fill=color)

    def fill_inside(self, outline: Floats, pattern: Image.Image, color: Color) -> None:
        """Paint a colour where a pattern (mode L, of the canvas's size) lies in a polygon."""
        mask = Image.new("L", self.picture.size)
        ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in outline], fill=255)
        self.picture.paste(color, mask=ImageChops.multiply(mask, pattern))

    def _chain(self, points: Floats, radii: list[float], color: Color) -> None:
        for start, end, first, last in zip(points, points[1:], radii, radii[1:], strict=False):
            line = end - start
            length = max(float(np.hypot(*line)), 1e-6)
            side = np.array([-line[1], line[0]]) / length
            corners = np.stack(
                [start + first * side, end + last * side, end - last * side, start - first * side]
            )
            self._draw.polygon([(float(x), float(y)) for x, y in corners], fill=color)
        for point, radius in zip(points, radii, strict=True):
            self._draw.ellipse((*(point - radius), *(point + radius)), fill=color)


def ellipse_outline(center: Floats, radius_x: float, radius_y: float, angle: float) -> Floats:
    """A turned ellipse as a polygon [32, 2]."""
    x, y = radius_x * np.cos(_TURNS), radius_y * np.sin(_TURNS)
    cos, sin = np.cos(angle), np.sin(angle)
    return center + np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)


def _inked(color: Color) -> Color:
    return mixed(color, _INK, 0.62)
