"""Random human bodies: segment lengths in metres.

Means are fractions of the stature after Drillis and Contini (1966), as tabulated by D. A. Winter,
"Biomechanics and Motor Control of Human Movement", fig. 4.1; widths are those between joint
centres, which detectors report, not between the outer bones. Spreads follow the coefficients of
variation of the ANSUR II survey (2012), widened for children, cartoons and costumes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SEGMENTS", "Bodies", "sample_bodies"]

SEGMENTS: dict[str, tuple[float, float]] = {
    "torso": (0.288, 0.05),
    "shoulders": (0.205, 0.08),
    "hips": (0.115, 0.10),
    "upper_arm": (0.186, 0.06),
    "forearm": (0.146, 0.06),
    "thigh": (0.245, 0.06),
    "shank": (0.246, 0.06),
    "ankle_height": (0.039, 0.15),
    "neck_to_nose": (0.105, 0.10),
    "nose_depth": (0.060, 0.15),
    "eyes": (0.038, 0.10),
    "ears": (0.085, 0.10),
}
"""Mean as a fraction of the stature, and coefficient of variation."""

_STATURE_M = (1.70, 0.10)
_COMMON_SPREAD = 0.06  # long-legged or big-headed as a whole: shared by legs, arms or head


@dataclass(frozen=True, kw_only=True, eq=False)
class Bodies:
    """Segment lengths of B bodies.

    Attributes:
        lengths: Segment name (a key of `SEGMENTS`) to [B] lengths in metres.
    """

    lengths: dict[str, NDArray[np.float64]]

    def __getitem__(self, segment: str) -> NDArray[np.float64]:
        """Lengths of one segment, [B]."""
        return self.lengths[segment]

    @property
    def leg(self) -> NDArray[np.float64]:
        """Hip to ankle with a straight knee, [B]."""
        return self["thigh"] + self["shank"]


def sample_bodies(rng: np.random.Generator, count: int) -> Bodies:
    """Draw bodies with human proportions.

    Args:
        rng: Source of randomness.
        count: Number of bodies B.
    """
    stature = rng.normal(*_STATURE_M, count).clip(1.0, 2.1)
    groups = {
        "legs": np.exp(rng.normal(0, _COMMON_SPREAD, count)),
        "arms": np.exp(rng.normal(0, _COMMON_SPREAD / 2, count)),
        "head": np.exp(rng.normal(0, 1.5 * _COMMON_SPREAD, count)),
        "trunk": np.ones(count),
    }
    member = {"thigh": "legs", "shank": "legs", "upper_arm": "arms", "forearm": "arms"}
    member |= dict.fromkeys(("neck_to_nose", "nose_depth", "eyes", "ears"), "head")
    lengths = {
        name: stature
        * mean
        * groups[member.get(name, "trunk")]
        * np.exp(rng.normal(0, spread, count))
        for name, (mean, spread) in SEGMENTS.items()
    }
    return Bodies(lengths=lengths)
