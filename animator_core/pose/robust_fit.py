"""Robust closed-form alignment of a clip to one reference pose.

Limbs move, so most joints of most frames do not belong where the reference has them. Two kinds of
weights find those that do: Cauchy weights per joint and soft weights per frame, which favour frames
that resemble the reference's pose. Both start wide and become strict (annealing), and each round
ends in a closed-form similarity fit. The rounds are run from two starts, with the angle of a plain
fit and without any, because few joints, nearly in line, fit upside down about as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .similarity import ComplexArray, FloatArray, fit_symmetric

__all__ = ["JOINT_PRIOR", "ClipPair", "RobustFit", "RobustFitConfig", "body_unit", "fit_clip"]

JOINT_PRIOR: FloatArray = np.array(
    [0.6, 1, 1, 0.4, 0.25, 1, 0.4, 0.25, 1, 0.6, 0.6, 1, 0.6, 0.6, 0.5, 0.5, 0.5, 0.5]
)
"""How much a joint says about where the whole body is: trunk most, wrists least."""

_NECK, _HIPS = (1,), (8, 11)
_PROPORTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], float], ...] = (
    (_NECK, _HIPS, 1.0),
    ((2,), (5,), 0.70),
    ((8,), (9,), 0.85),
    ((11,), (12,), 0.85),
    ((9,), (10,), 0.85),
    ((12,), (13,), 0.85),
    ((2,), (3,), 0.62),
    ((5,), (6,), 0.62),
    ((3,), (4,), 0.50),
    ((6,), (7,), 0.50),
    ((0,), (1,), 0.42),
    ((16,), (17,), 0.30),
)
"""Ends of a bone and its usual length in torso lengths."""


_TURN_COST = 0.1  # torso lengths; half of what a half turn must fit better than none


@dataclass(frozen=True, kw_only=True)
class RobustFitConfig:
    """Annealing of the robust fit; lengths in torso lengths of the reference.

    Attributes:
        rounds: Number of reweighted fits.
        joint_start: Cauchy width of the joints' residuals in the first round.
        joint_end: The same in the last round.
        frame_start: Width of the frames' weights in the first round.
        frame_end: The same in the last round.
    """

    rounds: int = 10
    joint_start: float = 0.6
    joint_end: float = 0.10
    frame_start: float = 0.5
    frame_end: float = 0.08


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipPair:
    """B clips and the reference pose of each.

    Attributes:
        driving: [B, T, J] complex positions, in any unit.
        driving_confidence: [B, T, J] in 0..1, 0 where a joint is missing.
        reference: [B, J] complex positions, in any unit.
        reference_confidence: [B, J] in 0..1, 0 where a joint is missing.
    """

    driving: ComplexArray
    driving_confidence: FloatArray
    reference: ComplexArray
    reference_confidence: FloatArray

    @property
    def target(self) -> ComplexArray:
        """Where the reference has each joint, [B, T, J]."""
        return np.broadcast_to(self.reference[:, None], self.driving.shape)

    def weights(self, prior: FloatArray = JOINT_PRIOR) -> FloatArray:
        """Confidence of each pair of joints times what the joint says, [B, T, J]."""
        return np.sqrt(self.driving_confidence * self.reference_confidence[:, None]) * prior


@dataclass(frozen=True, kw_only=True, eq=False)
class RobustFit:
    """Fits of B clips.

    Attributes:
        factor: [B] complex.
        shift: [B] complex.
        weights: [B, T, J] weights of the last round.
        frame_error: [B, T] how unlike the reference each frame is, in torso lengths.
        cost: [B] mean of that over the frames that fit best.
        unit: [B] torso length of the reference, in its own units.
    """

    factor: ComplexArray
    shift: ComplexArray
    weights: FloatArray
    frame_error: FloatArray
    cost: FloatArray
    unit: FloatArray


def body_unit(points: ComplexArray, visible: FloatArray) -> FloatArray:
    """A body's torso length, also when only other bones are seen.

    Args:
        points: [B, 18].
        visible: [B, 18], 0 where a joint is missing.

    Returns:
        [B]: the torso where it is seen, else the median over the visible bones of length divided
        by its usual share; without any bone the spread of the joints, and 1 for a single joint.
    """
    guesses = np.full((len(points), len(_PROPORTIONS)), np.nan)
    for i, (first, second, share) in enumerate(_PROPORTIONS):
        a, b = list(first), list(second)
        seen = (visible[:, a + b] > 0).all(-1)
        length = np.abs(points[:, a].mean(-1) - points[:, b].mean(-1))
        guesses[seen, i] = length[seen] / share
    any_bone = np.isfinite(guesses).any(1)
    weights = visible / (visible.sum(1, keepdims=True) + 1e-12)
    centre = (weights * points).sum(1, keepdims=True)
    spread = np.sqrt((weights * np.abs(points - centre) ** 2).sum(1))
    unit = np.where(spread > 0, spread, 1.0)
    unit[any_bone] = np.nanmedian(guesses[any_bone], 1)
    # a torso seen from above is short, so it counts only if the other bones do not contradict it
    torso = guesses[:, 0]
    unit = np.where(torso > 0.6 * unit, torso, unit)
    return np.where(unit > 0, unit, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """What is fitted: driving joints, where the reference has them, and how much they count."""

    driving: ComplexArray  # [B, T, J]
    target: ComplexArray  # [B, T, J]
    base: FloatArray  # [B, T, J]
    unit: FloatArray  # [B]


def _pooled(pairs: _Pairs, weights: FloatArray) -> tuple[ComplexArray, ComplexArray]:
    """Similarity through all joints of all frames, [B] each."""
    flat = (len(weights), -1)
    return fit_symmetric(
        pairs.driving.reshape(flat), pairs.target.reshape(flat), weights.reshape(flat)
    )


def _without_turn(pairs: _Pairs) -> tuple[ComplexArray, ComplexArray]:
    """Pooled fit whose angle is replaced by zero."""
    flat = (len(pairs.base), -1)
    factor, shift = _pooled(pairs, pairs.base)
    weights = pairs.base.reshape(flat)
    mean = (weights * pairs.driving.reshape(flat)).sum(1) / (weights.sum(1) + 1e-12)
    return np.abs(factor).astype(complex), shift + (factor - np.abs(factor)) * mean


def _anneal(
    pairs: _Pairs, start: tuple[ComplexArray, ComplexArray], config: RobustFitConfig
) -> RobustFit:
    """Reweighted fits from a start, with ever stricter weights."""
    factor, shift = start
    base, unit = pairs.base, pairs.unit
    seen = base.sum(-1)
    few_joints = 0.15 * (1 - seen / (seen.max(-1, keepdims=True) + 1e-12))
    weights, error, cost = base, seen, unit
    for step in range(config.rounds):
        progress = step / max(config.rounds - 1, 1)
        joint_width = config.joint_start * (config.joint_end / config.joint_start) ** progress
        frame_width = config.frame_start * (config.frame_end / config.frame_start) ** progress
        moved = factor[:, None, None] * pairs.driving + shift[:, None, None]
        squared = np.abs(moved - pairs.target) ** 2 / unit[:, None, None] ** 2
        trust = 1 / (1 + squared / joint_width**2)
        error = np.sqrt((base * squared * trust).sum(-1) / (seen + 1e-9)) + few_joints
        error = np.where(seen > 0, error, np.inf)
        near = np.exp(-0.5 * ((error - error.min(-1, keepdims=True)) / frame_width) ** 2)
        weights = base * trust * near[..., None]
        cost = (near * np.where(seen > 0, error, 0)).sum(-1) / (near.sum(-1) + 1e-12)
        factor, shift = _pooled(pairs, weights)
    return RobustFit(
        factor=factor, shift=shift, weights=weights, frame_error=error, cost=cost, unit=unit
    )


def _cost(fit: RobustFit) -> FloatArray:
    """What is minimised over the starts: misfit, and a mild preference for small angles."""
    return fit.cost + _TURN_COST * (1 - np.cos(np.angle(fit.factor)))


def fit_clip(
    pair: ClipPair,
    config: RobustFitConfig | None = None,
    *,
    prior: FloatArray = JOINT_PRIOR,
    unit: FloatArray | None = None,
) -> RobustFit:
    """Similarity that carries each clip to its reference pose.

    Args:
        pair: Clips and references.
        config: Annealing.
        prior: [J] how much a joint says; by default that of the 18 body joints.
        unit: [B] length that the widths of the annealing refer to; the torso if not given.
    """
    config = config or RobustFitConfig()
    if unit is None:
        unit = body_unit(pair.reference, pair.reference_confidence)
    pairs = _Pairs(driving=pair.driving, target=pair.target, base=pair.weights(prior), unit=unit)
    first = _anneal(pairs, _pooled(pairs, pairs.base), config)
    upright = _anneal(pairs, _without_turn(pairs), config)
    take = _cost(upright) < _cost(first)
    chosen = [
        np.where(take.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)
        for a, b in (
            (getattr(upright, name), getattr(first, name))
            for name in ("factor", "shift", "weights", "frame_error", "cost")
        )
    ]
    factor, shift, weights, frame_error, cost = chosen
    return RobustFit(
        factor=factor, shift=shift, weights=weights, frame_error=frame_error, cost=cost, unit=unit
    )
