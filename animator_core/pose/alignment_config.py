"""Settings and results of pose alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ..errors import ConfigError
from .keypoints import FramePose
from .similarity import PlanarMap

__all__ = ["AlignmentConfig", "AlignmentResult", "Matching", "Method", "PersonTransform"]

Method = Literal["learned", "procrustes", "rescale", "none"]
Matching = Literal["index", "position"]


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig:
    """How to align.

    Attributes:
        method: One of 'learned', 'procrustes', 'rescale', 'none'.
        strength: 0 leaves the clip where it is, 1 aligns it; scale, angle and place follow.
        matching: Which reference person a driving person follows: the one with the same 'index',
            or the one in the same 'position' from left to right.
        per_frame: One smoothed transform per frame instead of one per clip, for moving cameras;
            steps of the person are taken out too.
        smoothing_frames: Width of that smoothing, in frames.
        retarget_limbs: Also take the reference's limb lengths, keeping the driving angles.
        keep_aligned: Leave a clip alone whose misfit is within the noise.
        confidence_threshold: Points of a lower confidence are carried along but not aligned by.
    """

    method: Method = "learned"
    strength: float = 1.0
    matching: Matching = "index"
    per_frame: bool = False
    smoothing_frames: float = 15.0
    retarget_limbs: bool = False
    keep_aligned: bool = True
    confidence_threshold: float = 0.3

    def __post_init__(self) -> None:
        for name, choices in (("method", get_args(Method)), ("matching", get_args(Matching))):
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}."
                )
        for name, value in (
            ("strength", self.strength),
            ("confidence_threshold", self.confidence_threshold),
        ):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; it must be between 0 and 1.")
        if not self.smoothing_frames > 0:
            raise ConfigError(
                f"smoothing_frames is {self.smoothing_frames}; it must be more than 0."
            )


@dataclass(frozen=True, kw_only=True)
class PersonTransform:
    """How one driving person was moved.

    Attributes:
        person: Index of the driving person.
        reference_person: Index of the reference person, or None if there is none for this one.
        method: The method that was used in the end.
        map: Driving to reference pixels, for the clip.
        residual: Remaining distance of what resembles the reference, in torso lengths; None where
            nothing was compared.
        frame_maps: The map of each frame, if there is one per frame.
    """

    person: int
    reference_person: int | None
    method: Method
    map: PlanarMap
    residual: float | None = None
    frame_maps: tuple[PlanarMap, ...] = ()

    @property
    def scale(self) -> float:
        """Size ratio."""
        return self.map.scale

    @property
    def angle_deg(self) -> float:
        """Turn in degrees, clockwise on the screen."""
        return self.map.angle_deg

    @property
    def shift_px(self) -> tuple[float, float]:
        """Where the driving canvas' corner goes, in reference pixels."""
        return self.map.shift_x_px, self.map.shift_y_px

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "person": self.person,
            "reference_person": self.reference_person,
            "method": self.method,
            "scale": self.scale,
            "angle_deg": self.angle_deg,
            "shift_px": list(self.shift_px),
            "residual": self.residual,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignmentResult:
    """Aligned poses and how they came about.

    Attributes:
        frames: The driving poses on the reference's canvas.
        transforms: One per driving person.
        method: The method that was used in the end, for the first person.
        warnings: Sentences about what was done differently than asked.
    """

    frames: list[FramePose]
    transforms: tuple[PersonTransform, ...]
    method: Method
    warnings: tuple[str, ...] = ()

    @property
    def residual(self) -> float | None:
        """Mean residual of the people, in torso lengths; None where nothing was compared."""
        values = [t.residual for t in self.transforms if t.residual is not None]
        return float(np.mean(values)) if values else None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON; the first person's transform is repeated at the top."""
        first = self.transforms[0].as_dict() if self.transforms else {}
        return {
            **{key: first.get(key) for key in ("scale", "angle_deg", "shift_px")},
            "residual": self.residual,
            "method": self.method,
            "people": [t.as_dict() for t in self.transforms],
            "warnings": list(self.warnings),
        }
