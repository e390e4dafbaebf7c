"""Where drawn people stand in the picture, and how large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..demo.identity import BodyShape
from ..pose.keypoints import PersonPose
from .performances import moved

__all__ = ["Framing", "face_box", "fitted", "random_framing"]

Floats = NDArray[np.float64]

_ROOM = 0.22  # how far a head may travel, as a share of the picture's height
_FOREHEAD = 0.25  # of the way from chin to brows, and again above them
_LEAST_SEEN = 0.5  # of a face's box
_LEAST_PX = 3.0


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Size and place of a person in the picture.

    Attributes:
        unit: Standing height, as a share of the picture's height.
        x: Middle of the head over the clip, as a share of the width.
        crown: Top of the head, as a share of the height.
        floor: The soles, as a share of the height; takes the place of `crown`.
    """

    unit: float
    x: float
    crown: float = 0.1
    floor: float | None = None

    def beside(self, index: int, count: int) -> Framing:
        """The framing of one out of several people, as seen from left to right."""
        if count == 1:
            return self
        shrunk = min(self.unit, 1.25)
        return replace(self, unit=shrunk, x=(index + 0.5) / count + 0.3 * (self.x - 0.5))

    def varied(self, rng: np.random.Generator) -> Framing:
        """A similar framing, for the reference."""
        factor = float(np.exp(rng.normal(0.0, 0.1)))
        floor = None if self.floor is None else self.floor + rng.normal(0.0, 0.015)
        return Framing(
            unit=min(self.unit * factor, 0.88) if floor is not None else self.unit * factor,
            x=self.x + rng.normal(0.0, 0.05),
            crown=self.crown + rng.normal(0.0, 0.03),
            floor=floor,
        )


def random_framing(rng: np.random.Generator, close_ups: float, half_bodies: float) -> Framing:
    """Draw a framing: a close-up, a half body or else a full one.

    Args:
        rng: Source of randomness.
        close_ups: Share of close-ups.
        half_bodies: Share of half bodies.
    """
    kind, x = rng.random(), float(np.clip(rng.normal(0.5, 0.04), 0.4, 0.6))
    if kind < close_ups:
        return Framing(unit=rng.uniform(1.28, 2.1), x=x, crown=rng.uniform(0.06, 0.2))
    if kind < close_ups + half_bodies:
        return Framing(unit=rng.uniform(0.9, 1.28), x=x, crown=rng.uniform(0.06, 0.16))
    return Framing(unit=rng.uniform(0.62, 0.86), x=x, floor=rng.uniform(0.88, 0.95))


def fitted(
    people: Sequence[PersonPose], shape: BodyShape, framing: Framing, size: tuple[int, int]
) -> list[PersonPose]:
    """One person's motion in pixels, with less travel where the head would leave the picture.

    Args:
        people: Poses over time, in standing heights.
        shape: The person's proportions.
        framing: Where to put them, on average over time.
        size: Width and height of the picture [px].
    """
    width, height = size
    unit = framing.unit * height
    necks = np.array([person.body[1, :2] for person in people])
    neck = necks.mean(axis=0)
    most = np.maximum(np.abs(necks - neck).max(axis=0) * framing.unit, 1e-9)
    excess = (necks - neck) * (1.0 - np.minimum(1.0, _ROOM / most))
    if framing.floor is None:
        y = framing.crown * height + unit * (shape.head + shape.neck)
    else:
        soles = np.max([person.body[[10, 13], 1] for person in people]) + shape.ankle
        y = framing.floor * height - unit * (soles - neck[1])
    shifts = np.array([framing.x * width, y]) - unit * (neck + excess)
    return [moved(p, unit, shift) for p, shift in zip(people, shifts, strict=True)]


def face_box(person: PersonPose, width: int, height: int) -> Floats:
    """The box [4] round a face, chin to forehead, x0, y0, x1, y1 [px], clipped to the picture.

    All 0 if there are no landmarks, or less than half of the box is inside.
    """
    if not (person.face[:, 2] > 0).all():
        return np.zeros(4)
    points = person.face[:, :2]
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    top -= _FOREHEAD * (bottom - top)
    box = np.array([left, top, right, bottom])
    inside = box.clip(0.0, [width - 1, height - 1, width - 1, height - 1])
    seen = np.prod(inside[2:] - inside[:2]) / max(float(np.prod(box[2:] - box[:2])), 1e-9)
    large = min(inside[2:] - inside[:2]) >= _LEAST_PX
    return inside if large and seen >= _LEAST_SEEN else np.zeros(4)
