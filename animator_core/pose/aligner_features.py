"""What the learned aligner sees: a clip after the robust fit, beside the reference pose.

All lengths are in torso lengths of the reference, with the origin in the middle of its joints, so
that the features do not change when the clip is turned, scaled or shifted. Used alike in training
and when aligning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .robust_fit import JOINT_PRIOR, ClipPair, RobustFit, RobustFitConfig, body_unit, fit_clip
from .similarity import ComplexArray, FloatArray, fit_symmetric
from .skeletons import BODY_LIMBS, NUM_BODY

__all__ = [
    "CLIP_FEATURES",
    "FRAME_FEATURES",
    "JOINT_FEATURES",
    "AlignerFeatures",
    "aligner_features",
    "sample_frames",
]

BoolArray = NDArray[np.bool_]
_LIMIT = 3.0  # torso lengths; beyond this a value says only "far"
_TIME_WAVES = 3
FRAME_FEATURES = 9 * NUM_BODY + 7 + 2 * _TIME_WAVES
JOINT_FEATURES = 14
CLIP_FEATURES = 3 * NUM_BODY + 2 * len(BODY_LIMBS) + 16

_LIMB_ENDS = np.array(BODY_LIMBS)


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignerFeatures:
    """Features of B clips; see `models.pose_aligner.AlignerInputs` for the arrays.

    Attributes:
        points: [B, T, J, 2].
        reference: [B, J, 2].
        base_weights: [B, T, J].
        robust_weights: [B, T, J].
        frames: [B, T, FRAME_FEATURES].
        joints: [B, J, JOINT_FEATURES].
        clip: [B, CLIP_FEATURES].
        factor: [B] complex, the first fit.
        shift: [B] complex, the first fit.
        origin: [B] complex, the reference's middle in its own units.
        unit: [B] the reference's torso length in its own units.
    """

    points: FloatArray
    reference: FloatArray
    base_weights: FloatArray
    robust_weights: FloatArray
    frames: FloatArray
    joints: FloatArray
    clip: FloatArray
    factor: ComplexArray
    shift: ComplexArray
    origin: ComplexArray
    unit: FloatArray


def sample_frames(count: int, limit: int) -> NDArray[np.int64]:
    """Indices of at most `limit` frames, evenly spread over `count`."""
    return np.unique(np.round(np.linspace(0, count - 1, min(count, limit))).astype(int))


def _pairs(values: ComplexArray) -> FloatArray:
    """Complex [...] to [..., 2], bounded."""
    return np.stack([values.real, values.imag], -1).clip(-_LIMIT, _LIMIT)


def _masked_median(values: FloatArray, mask: BoolArray) -> FloatArray:
    """Median over axis 1 of [B, T, ...] where the mask holds; 0 where it never does."""
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    count = mask.sum(1)
    middle = np.maximum(count - 1, 0) / 2
    low, high = np.floor(middle).astype(int), np.ceil(middle).astype(int)
    pick = [np.take_along_axis(ordered, i[:, None], 1)[:, 0] for i in (low, high)]
    return np.where(
        count > 0, (np.where(count > 0, pick[0], 0) + np.where(count > 0, pick[1], 0)) / 2, 0
    )


def _median_points(points: ComplexArray, mask: BoolArray) -> ComplexArray:
    return _masked_median(points.real, mask) + 1j * _masked_median(points.imag, mask)


def _map_features(factor: ComplexArray, shift: ComplexArray, centre: ComplexArray) -> FloatArray:
    """A guess of the map as log-scale, angle and shift of the clip's middle, [..., 4]."""
    size = np.log(np.abs(factor) + 1e-6)
    moved = factor * centre + shift - centre
    return np.stack([size, np.angle(factor), moved.real, moved.imag], -1).clip(-_LIMIT, _LIMIT)


def _bones(points: ComplexArray, seen: BoolArray) -> tuple[ComplexArray, BoolArray]:
    first, second = _LIMB_ENDS.T
    return points[..., second] - points[..., first], seen[..., first] & seen[..., second]


def _frame_features(
    points: ComplexArray,
    target: ComplexArray,
    confidence: FloatArray,
    base: FloatArray,
    fit: RobustFit,
) -> FloatArray:
    """[B, T, FRAME_FEATURES]."""
    batch, frames, _ = points.shape
    found, both = confidence > 0, base > 0
    residual = np.where(both, points - target, 0)
    rest = np.where(found, points - _median_points(points, found)[:, None], 0)
    own_factor, own_shift = fit_symmetric(points, np.broadcast_to(target, points.shape), base)
    enough = both.sum(-1, keepdims=True) >= 3
    total = base.sum(-1) + 1e-9
    centre = (base * points).sum(-1) / total
    own = np.where(enough, _map_features(own_factor, own_shift, centre), 0)
    peak = fit.weights.max((1, 2), keepdims=True) + 1e-9
    log_weights = np.log(fit.weights / peak + 1e-4) / np.log(1e4)
    error = np.where(np.isfinite(fit.frame_error), fit.frame_error, 1).clip(0, 1)
    position = np.linspace(0, 1, frames)
    waves = [f(np.pi * (k + 1) * position) for k in range(_TIME_WAVES) for f in (np.sin, np.cos)]
    time = np.broadcast_to(np.stack(waves, -1), (batch, frames, 2 * _TIME_WAVES))
    flat = (batch, frames, -1)
    return np.concatenate(
        [
            _pairs(np.where(found, points, 0)).reshape(flat),
            _pairs(residual).reshape(flat),
            _pairs(rest).reshape(flat),
            confidence,
            both.astype(float),
            log_weights,
            own,
            3 * error[..., None],
            3 * (error - error.min(1, keepdims=True))[..., None],
            both.mean(-1, keepdims=True),
            time,
        ],
        -1,
    )


def _joint_features(
    points: ComplexArray,
    target: ComplexArray,
    confidence: FloatArray,
    fit: RobustFit,
    reference_confidence: FloatArray,
) -> FloatArray:
    """[B, J, JOINT_FEATURES]: where a joint rests, how it moves, and how far the reference is."""
    found = confidence > 0
    known = reference_confidence > 0
    share = found.mean(1)
    rest = _median_points(points, found)
    away = np.abs(points - rest[:, None])
    movement = _masked_median(away, found)
    gap = np.where(known & (share > 0), rest - target[:, 0], 0)
    distance = np.where(found, np.abs(points - target), np.inf)
    nearest = np.where(known & (share > 0), distance.min(1), 0).clip(0, _LIMIT)
    trust = fit.weights.sum(1) / (fit.weights.sum((1, 2))[:, None] + 1e-9)
    weighted = (fit.weights * (points - target)).sum(1) / (fit.weights.sum(1) + 1e-9)
    return np.concatenate(
        [
            _pairs(rest),
            _pairs(np.where(known, target[:, 0], 0)),
            _pairs(gap),
            _pairs(weighted),
            movement[..., None].clip(0, _LIMIT),
            nearest[..., None],
            share[..., None],
            known[..., None].astype(float),
            reference_confidence[..., None],
            10 * trust[..., None],
        ],
        -1,
    )


def _bone_ratios(
    points: ComplexArray, found: BoolArray, reference: ComplexArray, known: BoolArray
) -> tuple[FloatArray, BoolArray]:
    """Log of reference over clip length of each limb, [B, limbs], and where it is known."""
    clip_bones, clip_seen = _bones(points, found)
    reference_bones, reference_seen = _bones(reference, known)
    length, goal = _masked_median(np.abs(clip_bones), clip_seen), np.abs(reference_bones)
    comparable = (length > 0.02) & reference_seen & (goal > 0.02)
    ratio = np.log(np.where(comparable, goal, 1) / np.where(comparable, length, 1))
    return ratio.clip(-1.5, 1.5), comparable


def _guesses(
    points: ComplexArray,
    target: ComplexArray,
    base: FloatArray,
    rest: tuple[ComplexArray, FloatArray],
) -> FloatArray:
    """Two other closed-form guesses of the map, [B, 8]: all joints alike, and resting places."""
    flat = (len(points), -1)
    everything = fit_symmetric(
        points.reshape(flat),
        np.broadcast_to(target, points.shape).reshape(flat),
        base.reshape(flat),
    )
    resting = fit_symmetric(rest[0], target[:, 0], rest[1])
    centre = (base * points).sum((1, 2)) / (base.sum((1, 2)) + 1e-9)
    return np.concatenate([_map_features(*guess, centre) for guess in (everything, resting)], -1)


def _clip_features(
    points: ComplexArray,
    target: ComplexArray,
    confidence: FloatArray,
    base: FloatArray,
    reference_confidence: FloatArray,
) -> FloatArray:
    """[B, CLIP_FEATURES]: reference pose, bone lengths, other closed-form guesses of the map."""
    batch = len(points)
    found, known = confidence > 0, reference_confidence > 0
    ratio, comparable = _bone_ratios(points, found, target[:, 0], known)
    rest, seen_once = _median_points(points, found), found.any(1)
    weights = np.sqrt(reference_confidence) * JOINT_PRIOR * seen_once
    total = base.sum((1, 2)) + 1e-9
    centre = (base * points).sum((1, 2)) / total
    scale = np.log(
        body_unit(target[:, 0], reference_confidence)
        / body_unit(rest, np.asarray(seen_once, dtype=np.float64))
    )
    usable = comparable.sum(1)
    ordered = np.sort(np.where(comparable, ratio, np.inf), 1)
    middle = ordered[np.arange(batch), np.maximum(usable - 1, 0) // 2]
    spread = np.sqrt((base * np.abs(points - centre[:, None, None]) ** 2).sum((1, 2)) / total)
    summary = [
        scale.clip(-1.5, 1.5),
        np.where(usable > 0, middle, 0).clip(-1.5, 1.5),
        centre.real.clip(-_LIMIT, _LIMIT),
        centre.imag.clip(-_LIMIT, _LIMIT),
        spread.clip(0, _LIMIT),
        found.mean((1, 2)),
        known.mean(1),
        np.full(batch, np.log(points.shape[1]) / 4),
    ]
    return np.concatenate(
        [
            _pairs(np.where(known, target[:, 0], 0)).reshape(batch, -1),
            known.astype(float),
            np.where(comparable, ratio, 0),
            comparable.astype(float),
            _guesses(points, target, base, (rest, weights)),
            np.stack(summary, -1),
        ],
        -1,
    )


def _moment_fit(pair: ClipPair, fit: RobustFit) -> RobustFit:
    """Middle and size only, without rotation and robustness: what is left without guidance."""
    base, driving, target = pair.weights(), pair.driving, pair.target
    flat = (len(driving), -1)
    w = base.reshape(flat)
    total = w.sum(1, keepdims=True) + 1e-9
    a, b = driving.reshape(flat), target.reshape(flat)
    mean_a, mean_b = (w * a).sum(1, keepdims=True) / total, (w * b).sum(1, keepdims=True) / total
    spread_a = (w * np.abs(a - mean_a) ** 2).sum(1)
    spread_b = (w * np.abs(b - mean_b) ** 2).sum(1)
    factor = np.sqrt((spread_b + 1e-12) / (spread_a + 1e-12)).astype(complex)
    return RobustFit(
        factor=factor,
        shift=mean_b[:, 0] - factor * mean_a[:, 0],
        weights=base,
        frame_error=np.zeros(driving.shape[:2]),
        cost=np.zeros(len(driving)),
        unit=fit.unit,
    )


def aligner_features(
    pair: ClipPair, *, guided: bool = True, fit_config: RobustFitConfig | None = None
) -> AlignerFeatures:
    """First fit and features of B clips of 18 body joints.

    Args:
        pair: Clips and references.
        guided: Start from the robust fit; else only from middle and size (for ablations).
        fit_config: Annealing of the robust fit.
    """
    fit = fit_clip(pair, fit_config)
    driving, driving_confidence = pair.driving, pair.driving_confidence
    reference, reference_confidence = pair.reference, pair.reference_confidence
    base = pair.weights()
    if not guided:
        fit = _moment_fit(pair, fit)
    known = reference_confidence > 0
    shares = known * JOINT_PRIOR
    origin = (shares * reference).sum(1) / (shares.sum(1) + 1e-9)
    column = (-1, 1, 1)
    fitted = fit.factor.reshape(column) * driving + fit.shift.reshape(column)
    unit, middle = fit.unit.reshape(column), origin.reshape(column)
    moved: ComplexArray = np.where(driving_confidence > 0, (fitted - middle) / unit, 0)
    target: ComplexArray = np.where(known[:, None], (reference[:, None] - middle) / unit, 0)
    return AlignerFeatures(
        points=np.stack([moved.real, moved.imag], -1),
        reference=np.stack([target[:, 0].real, target[:, 0].imag], -1),
        base_weights=base,
        robust_weights=fit.weights,
        frames=_frame_features(moved, target, driving_confidence, base, fit),
        joints=_joint_features(moved, target, driving_confidence, fit, reference_confidence),
        clip=_clip_features(moved, target, driving_confidence, base, reference_confidence),
        factor=fit.factor,
        shift=fit.shift,
        origin=origin,
        unit=fit.unit,
    )
