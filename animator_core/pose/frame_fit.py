"""One smoothed similarity per frame, for cameras that zoom, pan or roll while they film."""

from __future__ import annotations

import numpy as np

from .robust_fit import JOINT_PRIOR
from .similarity import ComplexArray, FloatArray

__all__ = ["fit_frames"]

_TRUST_WIDTHS = (0.8, 0.5, 0.3, 0.2)  # torso lengths; joints farther off say little, round by round
_CLIP_SHARE = 0.05  # pull towards the clip's map, relative to a frame in which all joints are seen


def _smoothing(frames: int, sigma: float) -> FloatArray:
    """Gaussian kernel over frames, at most as long as the clip."""
    reach = min(int(np.ceil(3 * sigma)), frames - 1)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum()


def _smoothed(values: ComplexArray, kernel: FloatArray) -> ComplexArray:
    return np.convolve(values, kernel, mode="full")[len(kernel) // 2 :][: len(values)]


def _moments(source: ComplexArray, target: ComplexArray, weights: FloatArray) -> ComplexArray:
    """Weight, means, product and squares of each frame, [6, T], not yet divided by the weight."""
    terms = (
        np.ones_like(source),
        source,
        target,
        np.conj(source) * target,
        np.abs(source) ** 2,
        np.abs(target) ** 2,
    )
    return np.stack([(weights * term).sum(1) for term in terms])


def _correction(
    points: ComplexArray,
    reference: ComplexArray,
    weights: tuple[FloatArray, FloatArray],
    kernel: FloatArray,
    *,
    tiny: float,
) -> tuple[ComplexArray, ComplexArray]:
    """Smooth similarities, [T] each, that bring points to the reference, or leave them in place.

    `weights` are those of the reference and of staying in place, [T, J] each.
    """
    target = np.broadcast_to(reference, points.shape)
    moments = _moments(points, target, weights[0]) + _moments(points, points, weights[1])
    smooth = np.stack([_smoothed(m, kernel) for m in moments])
    mean_a, mean_b, cross, square_a, square_b = smooth[1:] / (smooth[0] + 1e-12)
    cross = cross - np.conj(mean_a) * mean_b
    spread_a = np.maximum(square_a.real - np.abs(mean_a) ** 2, tiny)
    spread_b = np.maximum(square_b.real - np.abs(mean_b) ** 2, tiny)
    size = np.abs(cross)
    turn = np.sqrt(spread_b / spread_a) * np.where(size > 0, cross / (size + 1e-300), 1)
    return turn, mean_b - turn * mean_a


def fit_frames(
    driving: ComplexArray,
    base_weights: FloatArray,
    reference: ComplexArray,
    clip_map: tuple[complex, complex],
    *,
    unit: float,
    sigma_frames: float,
) -> tuple[ComplexArray, ComplexArray]:
    """Similarities of every frame, near the clip's and smooth over time.

    Moments of a weighted fit are smoothed, not its results, so frames in which little is seen
    borrow from their neighbours. The clip's own map takes part as weak evidence in each frame.

    Args:
        driving: [T, J].
        base_weights: [T, J] confidence of joints that clip and reference share.
        reference: [J].
        clip_map: Factor and shift of the whole clip.
        unit: Torso length of the reference.
        sigma_frames: Width of the smoothing, in frames.

    Returns:
        Factor and shift, [T] each.
    """
    kernel = _smoothing(len(driving), sigma_frames)
    seen = base_weights.sum(1, keepdims=True)
    anchor = np.where(seen > 0, base_weights, 1e-6)
    anchor = _CLIP_SHARE * JOINT_PRIOR.sum() * anchor / anchor.sum(1, keepdims=True)
    factor, shift = (np.full(len(driving), value, dtype=complex) for value in clip_map)
    clip_points = clip_map[0] * driving + clip_map[1]
    for width in _TRUST_WIDTHS:
        moved = factor[:, None] * driving + shift[:, None]
        trust = 1 / (1 + (np.abs(moved - reference) / unit / width) ** 2)
        turn, move = _correction(
            clip_points, reference, (base_weights * trust, anchor), kernel, tiny=1e-9 * unit**2
        )
        factor, shift = turn * clip_map[0], turn * clip_map[1] + move
    return factor, shift
