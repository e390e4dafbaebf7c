"""Which similarity carries one person's clip to one reference person, and how well it fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import NoPoseError
from .keypoints import PersonPose
from .robust_fit import JOINT_PRIOR, ClipPair, RobustFit, body_unit, fit_clip
from .similarity import ComplexArray, FloatArray, PlanarMap, as_complex, fit_symmetric

__all__ = ["CommonPoints", "Misfit", "PersonFit", "common_points", "fit_person", "misfit"]

Part = Literal["body", "face", "hands"]

_TRUNK = np.array([1, 2, 5, 8, 11])
_LEARNED_MIN_JOINTS = 5
_LEARNED_MIN_TRUNK = 2
_LEARNED_MAX_ANGLE = math.radians(60)
_LEARNED_MAX_MISFIT = 0.6  # torso lengths; beyond it no frame resembles the reference
_LEARNED_MAX_CHANGE = (0.5, math.radians(30), 1.5)  # log-scale, angle, torso lengths
_MIN_POINTS: dict[Part, int] = {"body": 3, "face": 5, "hands": 5}
_PART_NAMES: dict[Part, str] = {
    "body": "body joints",
    "face": "face landmarks",
    "hands": "hand joints",
}
_TORSOS_PER_SPREAD: dict[Part, float] = {"face": 9.0, "hands": 9.0}
"""Torso length over the spread of a face's landmarks (about 5.5 cm) or a hand's joints."""
_SAME_POSE = (0.006, 0.016)  # torso lengths; detectors of different pictures differ by more
_SAME_MIN_POINTS = 8
_JOINT_WIDTH, _FRAME_WIDTH = 0.10, 0.08


@dataclass(frozen=True, kw_only=True, eq=False)
class CommonPoints:
    """Points of one kind that a clip and a reference share.

    Attributes:
        part: Which kind.
        driving: [T, J] complex pixels.
        driving_confidence: [T, J] in 0..1; 0 where missing.
        reference: [J] complex pixels.
        reference_confidence: [J] in 0..1; 0 where missing.
        prior: [J] how much a point says about the whole body.
        unit: Length in reference pixels that the robust fit's widths refer to.
        torso: Torso length in reference pixels.
    """

    part: Part
    driving: ComplexArray
    driving_confidence: FloatArray
    reference: ComplexArray
    reference_confidence: FloatArray
    prior: FloatArray
    unit: float
    torso: float

    @property
    def pair(self) -> ClipPair:
        """The same as a batch of one."""
        return ClipPair(
            driving=self.driving[None],
            driving_confidence=self.driving_confidence[None],
            reference=self.reference[None],
            reference_confidence=self.reference_confidence[None],
        )

    @property
    def weights(self) -> FloatArray:
        """Confidence times prior of each pair, [T, J]."""
        return np.sqrt(self.driving_confidence * self.reference_confidence) * self.prior

    @property
    def shared(self) -> np.ndarray:
        """Which points the reference has and the clip shows at least once, [J]."""
        return (self.driving_confidence > 0).any(0) & (self.reference_confidence > 0)

    @property
    def centre(self) -> complex:
        """Middle of the clip, in driving pixels."""
        weights = self.weights
        return complex((weights * self.driving).sum() / weights.sum())


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """How far a mapped clip is from its reference.

    Attributes:
        distance: Mean distance of the trusted points, in torso lengths.
        best_frame: Robust distance of the frame that fits best, in torso lengths.
    """

    distance: float
    best_frame: float


@dataclass(frozen=True, kw_only=True)
class PersonFit:
    """Result of `fit_person`.

    Attributes:
        map: Driving to reference pixels.
        method: The method that was used in the end.
        warnings: Sentences about what was done differently than asked.
    """

    map: PlanarMap
    method: Literal["procrustes", "learned"]
    warnings: tuple[str, ...] = ()


def _part_points(person: PersonPose, part: Part) -> FloatArray:
    if part == "hands":
        return np.concatenate([person.left_hand, person.right_hand])
    return person.body if part == "body" else person.face


def _pair(
    driving: Sequence[PersonPose], reference: PersonPose, part: Part, threshold: float
) -> CommonPoints | None:
    clip = np.stack([_part_points(p, part) for p in driving])
    goal = _part_points(reference, part)

    def confidence(points: FloatArray) -> FloatArray:
        found = (points[..., 2] >= threshold) & (points[..., 2] > 0)
        return np.where(found, np.minimum(points[..., 2], 1.0), 0.0)

    clip_confidence, goal_confidence = confidence(clip), confidence(goal)
    target = as_complex(goal)
    known = goal_confidence > 0
    if ((clip_confidence > 0).any(0) & known).sum() < _MIN_POINTS[part]:
        return None
    if part == "body":
        torso = unit = float(body_unit(target[None], goal_confidence[None])[0])
        prior = JOINT_PRIOR
    else:
        spread = float(np.sqrt(np.mean(np.abs(target[known] - target[known].mean()) ** 2)))
        torso, unit = _TORSOS_PER_SPREAD[part] * spread, 2 * spread
        prior = np.ones(len(goal))
    return CommonPoints(
        part=part,
        driving=np.where(clip_confidence > 0, as_complex(clip), 0),
        driving_confidence=clip_confidence,
        reference=np.where(known, target, 0),
        reference_confidence=goal_confidence,
        prior=prior,
        unit=max(unit, 1e-9),
        torso=max(torso, 1e-9),
    )


def _contents(people: Sequence[PersonPose], threshold: float) -> str:
    """What is seen of a person, in words."""
    names: list[str] = []
    for part in _MIN_POINTS:
        points = np.stack([_part_points(p, part) for p in people])
        count = int(((points[..., 2] >= threshold) & (points[..., 2] > 0)).any(0).sum())
        names.append(f"{count} {_PART_NAMES[part]}")
    return ", ".join(names)


def common_points(
    driving: Sequence[PersonPose], reference: PersonPose, threshold: float
) -> CommonPoints:
    """The best points to align by: the body, else the face, else the hands.

    Args:
        driving: One person over T frames.
        reference: The person to match.
        threshold: Points of a lower confidence count as missing.

    Raises:
        NoPoseError: If no part is seen in both; the message says what each shows.
    """
    for part in _MIN_POINTS:
        points = _pair(driving, reference, part, threshold)
        if points is not None:
            return points
    raise NoPoseError(
        "Clip and reference have no part in common to align by: 3 body joints, 5 face landmarks or "
        f"5 hand joints are needed. The reference shows {_contents([reference], threshold)}; the "
        f"clip shows {_contents(driving, threshold)} (confidence of at least {threshold:g}). "
        "Choose a reference picture that shows the same part of a person, or method 'none'."
    )


def misfit(points: CommonPoints, mapped: ComplexArray) -> Misfit:
    """How far a mapped clip is from its reference, judged by what resembles it.

    Args:
        points: Clip and reference.
        mapped: [T, J] the clip in reference pixels.
    """
    distance = np.abs(mapped - points.reference) / points.unit
    base = points.weights
    seen = base.sum(1)
    trust = 1 / (1 + (distance / _JOINT_WIDTH) ** 2)
    error = np.sqrt((base * trust * distance**2).sum(1) / (seen + 1e-9))
    error = np.where(seen > 0.5 * seen.max(), error, np.inf)
    near = np.exp(-0.5 * ((error - error.min()) / _FRAME_WIDTH) ** 2)
    weights = base * trust * near[:, None]
    to_torsos = points.unit / points.torso
    return Misfit(
        distance=float((weights * distance).sum() / weights.sum() * to_torsos),
        best_frame=float(error.min() * to_torsos),
    )


def _robust(points: CommonPoints) -> RobustFit:
    return fit_clip(points.pair, prior=points.prior, unit=np.array([points.unit]))


def _same_frame(points: CommonPoints) -> tuple[PlanarMap, float]:
    """The fit to the frames that equal the reference, and the share of another fit to mix in.

    If the reference is a frame of the clip, as when a video's first frame is animated by that
    video, its fit is exact and the share is 0; from `_SAME_POSE` upwards the share is 1.
    """
    target = np.broadcast_to(points.reference, points.driving.shape)
    weights = points.weights
    factor, shift = fit_symmetric(points.driving, target, weights)
    distance = np.abs(factor[:, None] * points.driving + shift[:, None] - target) / points.unit
    seen = (weights > 0).sum(1)
    rms = np.sqrt((weights * distance**2).sum(1) / (weights.sum(1) + 1e-12))
    rms = np.where(seen >= max(_SAME_MIN_POINTS, 0.8 * seen.max()), rms, np.inf)
    low, high = _SAME_POSE
    best = rms <= rms.min() + 0.2 * low  # several frames if the person stands still
    share = float(np.clip((rms.min() - low) / (high - low), 0, 1))
    mean = factor[best].mean()
    image = (factor[best] * points.centre + shift[best]).mean()
    return PlanarMap.from_complex(mean, image - mean * points.centre), share


def _outside_training(points: CommonPoints, fit: RobustFit) -> str | None:
    """Why the network cannot be trusted with this clip; None if it can."""
    if points.part != "body":
        return f"clip and reference share only the {points.part}"
    shared = points.shared
    if shared.sum() < _LEARNED_MIN_JOINTS or shared[_TRUNK].sum() < _LEARNED_MIN_TRUNK:
        return (
            f"clip and reference share only {shared.sum()} body joints, "
            f"{shared[_TRUNK].sum()} of them in the trunk"
        )
    angle = float(np.angle(fit.factor[0]))
    if abs(angle) > _LEARNED_MAX_ANGLE:
        return f"the clip is turned by {math.degrees(angle):.0f} degrees against the reference"
    if float(fit.frame_error.min()) > _LEARNED_MAX_MISFIT:
        return "no frame of the clip resembles the reference pose"
    return None


def _implausible(
    points: CommonPoints, fit: RobustFit, learned: tuple[complex, complex]
) -> str | None:
    """Why the network's answer cannot be trusted; None if it can."""
    factor, shift = learned
    if not (np.isfinite(factor) and np.isfinite(shift)) or factor == 0:
        return "the network's answer is not finite"
    change = factor / fit.factor[0]
    moved = factor * points.centre + shift - (fit.factor[0] * points.centre + fit.shift[0])
    sizes = (abs(math.log(abs(change))), abs(float(np.angle(change))), abs(moved) / points.unit)
    if any(size > limit for size, limit in zip(sizes, _LEARNED_MAX_CHANGE, strict=True)):
        return "the network's answer is far from the closed-form fit"
    return None


def fit_person(points: CommonPoints, method: Literal["procrustes", "learned"]) -> PersonFit:
    """Similarity of one person.

    Args:
        points: What clip and reference share.
        method: 'learned' falls back to 'procrustes', with a warning, outside of the range that the
            network was trained for.
    """
    fit = _robust(points)
    exact, share = _same_frame(points)
    centre = np.array([points.centre.real, points.centre.imag])

    def result(factor: complex, shift: complex) -> PlanarMap:
        return exact.blended(PlanarMap.from_complex(factor, shift), share, centre)

    closed_form = result(fit.factor[0], fit.shift[0])
    if method == "procrustes":
        return PersonFit(map=closed_form, method="procrustes")
    reason = _outside_training(points, fit)
    if reason is None:
        from .learned_fit import fit_learned  # torch takes seconds to import

        learned = fit_learned(points.pair)
        reason = _implausible(points, fit, learned)
        if reason is None:
            return PersonFit(map=result(*learned), method="learned")
    warning = f"The learned aligner is not used because {reason}; the closed-form fit is."
    return PersonFit(map=closed_form, method="procrustes", warnings=(warning,))
