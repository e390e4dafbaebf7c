"""Similarity transforms of the plane and their closed-form weighted fit.

Points are complex numbers x + iy, so that a similarity is z -> factor * z + shift: the factor's
modulus is the scale and its argument the angle. All functions take leading batch dimensions.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ComplexArray",
    "FloatArray",
    "PlanarMap",
    "as_complex",
    "fit_least_squares",
    "fit_symmetric",
]

ComplexArray = NDArray[np.complex128]
FloatArray = NDArray[np.float64]
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class PlanarMap:
    """The map p -> turn(scale * p) + shift of pixel coordinates.

    A similarity when both scales are equal; the reference's line fit between canvases of different
    shapes is the only map here that is not.

    Attributes:
        scale_x: Size ratio along x, before turning.
        scale_y: Size ratio along y, before turning.
        angle_rad: Turn, clockwise on the screen (y points down).
        shift_x_px: Where the origin goes.
        shift_y_px: Where the origin goes.
    """

    scale_x: float = 1.0
    scale_y: float = 1.0
    angle_rad: float = 0.0
    shift_x_px: float = 0.0
    shift_y_px: float = 0.0

    @classmethod
    def from_complex(cls, factor: complex, shift: complex) -> PlanarMap:
        """The similarity z -> factor * z + shift."""
        factor, shift = complex(factor), complex(shift)
        return cls(
            scale_x=abs(factor),
            scale_y=abs(factor),
            angle_rad=cmath.phase(factor),
            shift_x_px=shift.real,
            shift_y_px=shift.imag,
        )

    @property
    def scale(self) -> float:
        """Size ratio; the geometric mean of both axes."""
        return math.sqrt(abs(self.scale_x * self.scale_y))

    @property
    def angle_deg(self) -> float:
        """Turn in degrees, clockwise on the screen."""
        return math.degrees(self.angle_rad)

    @property
    def matrix(self) -> FloatArray:
        """The linear part, [2, 2]."""
        cos, sin = math.cos(self.angle_rad), math.sin(self.angle_rad)
        return np.array([[cos, -sin], [sin, cos]]) * [self.scale_x, self.scale_y]

    @property
    def shift_px(self) -> FloatArray:
        """Where the origin goes, [2]."""
        return np.array([self.shift_x_px, self.shift_y_px])

    def __call__(self, points: FloatArray) -> FloatArray:
        """Map [..., 2] points."""
        return points @ self.matrix.T + self.shift_px

    def blended(self, other: PlanarMap, strength: float, centre_px: FloatArray) -> PlanarMap:
        """Part of the way to another map: scales geometrically, angle and shift linearly.

        Args:
            other: The map at strength 1.
            strength: 0 for this map, 1 for the other.
            centre_px: The point whose image moves on a straight line, [2].
        """
        turn = math.remainder(other.angle_rad - self.angle_rad, math.tau)
        linear = PlanarMap(
            scale_x=_between(self.scale_x, other.scale_x, strength),
            scale_y=_between(self.scale_y, other.scale_y, strength),
            angle_rad=self.angle_rad + strength * turn,
        )
        image = (1 - strength) * self(centre_px) + strength * other(centre_px)
        shift = image - linear(centre_px)
        return replace(linear, shift_x_px=float(shift[0]), shift_y_px=float(shift[1]))


def _between(first: float, second: float, strength: float) -> float:
    if first > 0 and second > 0:
        return first ** (1 - strength) * second**strength
    return (1 - strength) * first + strength * second  # a mirroring line fit has no logarithm


def as_complex(points: FloatArray) -> ComplexArray:
    """[..., 2 or more] x, y, ... to [...] complex."""
    return points[..., 0] + 1j * points[..., 1]


def _moments(
    source: ComplexArray, target: ComplexArray, weights: FloatArray
) -> tuple[ComplexArray, ComplexArray, ComplexArray, FloatArray, FloatArray]:
    total = weights.sum(-1, keepdims=True) + _TINY
    source_mean = (weights * source).sum(-1, keepdims=True) / total
    target_mean = (weights * target).sum(-1, keepdims=True) / total
    a, b = source - source_mean, target - target_mean
    cross = (weights * np.conj(a) * b).sum(-1)
    return (
        source_mean[..., 0],
        target_mean[..., 0],
        cross,
        (weights * np.abs(a) ** 2).sum(-1),
        (weights * np.abs(b) ** 2).sum(-1),
    )


def fit_symmetric(
    source: ComplexArray, target: ComplexArray, weights: FloatArray
) -> tuple[ComplexArray, ComplexArray]:
    """Weighted similarity whose scale treats both sides alike.

    The least-squares scale shrinks when the two sets differ by more than a similarity (limbs that
    moved); the ratio of spreads does not. The rotation is the one singular value decomposition
    gives; in the plane it is the argument of one complex number.

    Args:
        source: [..., N].
        target: [..., N].
        weights: [..., N], not negative.

    Returns:
        Factor and shift, [...] each.

    Source: symmetric scale after B. K. P. Horn, "Closed-form solution of absolute orientation
    using unit quaternions", 1987, section 2D.
    """
    mean_a, mean_b, cross, spread_a, spread_b = _moments(source, target, weights)
    scale = np.sqrt((spread_b + _TINY) / (spread_a + _TINY))
    factor = np.where(np.abs(cross) > 0, scale * cross / (np.abs(cross) + 1e-300), scale)
    return factor, mean_b - factor * mean_a


def fit_least_squares(
    source: ComplexArray, target: ComplexArray, weights: FloatArray
) -> tuple[ComplexArray, ComplexArray]:
    """Weighted similarity with the smallest squared distance to the target.

    Args:
        source: [..., N].
        target: [..., N].
        weights: [..., N], not negative.

    Returns:
        Factor and shift, [...] each.
    """
    mean_a, mean_b, cross, spread_a, _ = _moments(source, target, weights)
    factor = cross / (spread_a + _TINY)
    return factor, mean_b - factor * mean_a
