"""Training cases for the aligner: a clip, a reference pose, and the map between them.

Half of the cases pair a clip with another moment of the same motion, so the map is the identity;
the others pair it with another body, seen by another camera. There the map is the similarity that
brings the clip closest to what that body looks like while it performs the same motion.
Clips are then turned, scaled and shifted at random. The aligner sees them after an equivariant
closed-form fit, so this changes nothing for it; baselines and ablations do see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..pose.robust_fit import JOINT_PRIOR, ClipPair
from ..pose.similarity import ComplexArray, FloatArray, fit_symmetric
from .bodies import Bodies, sample_bodies
from .kinematics import Cameras, joint_positions, project, sample_cameras
from .motions import CHANNELS, Motions, sample_motions

__all__ = ["AlignerCases", "CaseConfig", "make_cases"]

_HEAD = np.array([0, 14, 15, 16, 17])
_SHANKS = np.array([9, 10, 12, 13])
_ANKLES = np.array([10, 13])
_LEGS = np.array([8, 9, 10, 11, 12, 13])
_FOREARMS = np.array([3, 4, 6, 7])
_SWAPS = (np.array([8, 9, 10, 11, 12, 13]), np.array([2, 3, 4, 5, 6, 7]))
_DRIFT_TORSO = (
    np.array([1, 0.8, 0.8, 1, 1.2, 0.8, 1, 1.2, 2, 1.6, 2.4, 2, 1.6, 2.4, 0.7, 0.7, 0.9, 0.9])
    * 0.012
)  # hips and ankles are where detectors wander most


@dataclass(frozen=True, kw_only=True)
class CaseConfig:
    """What the cases look like.

    Attributes:
        frames: Frames of a clip that are generated.
        kinds: Kinds of motion; all of them if empty.
        cross_body: Share of cases whose reference is another body.
        half_body: Share of clips and references of which only a part is in the picture.
        travel: How far people walk about, relative to the kinds' typical amplitudes and room. Where
            someone stood at another moment cannot be known from poses, so this sets the error that
            no aligner can avoid.
        sway: Movement of the pelvis over the feet, relative to the kinds' typical amplitudes.
        roll_rad: Standard deviation of the cameras' roll.
        fps: Pictures a second, for the shortest distance between clip and reference.
        rotation_deg: Clips are turned by up to this.
        scale: Clips are scaled by a factor in this range.
        shift: Clips are shifted by up to this, in body heights.
    """

    frames: int = 32
    kinds: tuple[str, ...] = ()
    cross_body: float = 0.5
    half_body: float = 0.3
    travel: float = 0.5
    sway: float = 1.75
    roll_rad: float = 0.015
    fps: float = 30.0
    rotation_deg: float = 30.0
    scale: tuple[float, float] = (0.4, 2.5)
    shift: float = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignerCases:
    """B cases; lengths in about metres.

    Attributes:
        pair: Noisy clips and references.
        clean: [B, T, 18] the clips' joints without noise.
        factor: [B] true map of the driving joints.
        shift: [B] true map of the driving joints.
        torso: [B] length of the reference's torso in the picture.
        kinds: [B] index into `motions.KINDS`.
        cross_body: [B].
        half_body: [B] whether clip or reference shows only a part of the body.
    """

    pair: ClipPair
    clean: ComplexArray
    factor: ComplexArray
    shift: ComplexArray
    torso: FloatArray
    kinds: NDArray[np.int64]
    cross_body: NDArray[np.bool_]
    half_body: NDArray[np.bool_]


def _times(
    rng: np.random.Generator, count: int, config: CaseConfig
) -> tuple[FloatArray, FloatArray]:
    """Moments of the clip [B, T] and of the reference [B, 1], in seconds."""
    length = np.exp(rng.uniform(np.log(0.5), np.log(8.0), count))
    length = np.where(rng.random(count) < 0.1, rng.uniform(0.0, 0.3, count), length)
    clip = np.linspace(0, 1, config.frames) * length[:, None]
    gap = 12 / config.fps + rng.exponential(1.0, count)
    before = rng.random(count) < 0.5
    outside = np.where(before, -gap, length + gap)
    inside = rng.uniform(0, 1, count) * length
    reference = np.where(rng.random(count) < 0.2, inside, outside)
    start = rng.uniform(0, 20, count)[:, None]
    return clip + start, reference[:, None] + start


def _other_camera(
    rng: np.random.Generator, camera: Cameras, centres: FloatArray, roll_rad: float
) -> Cameras:
    """A camera that looks from about the same side, as someone choosing a reference would."""
    other = sample_cameras(rng, centres, roll_rad)
    keep = (rng.random(len(centres)) < 0.3)[:, None]
    return Cameras(
        position=np.where(keep, camera.position, other.position),
        target=np.where(keep, camera.target, other.target),
        roll=other.roll,
    )


def _select(bodies: Bodies, others: Bodies, take: NDArray[np.bool_]) -> Bodies:
    return Bodies(
        lengths={k: np.where(take, others.lengths[k], v) for k, v in bodies.lengths.items()}
    )


def _true_maps(
    clip: ComplexArray, wanted: ComplexArray, visible: NDArray[np.bool_]
) -> tuple[ComplexArray, ComplexArray]:
    """Similarity that brings the clip closest to the other body's performance."""
    flat = (len(clip), -1)
    weights = visible * (0.25 + JOINT_PRIOR)
    factor, shift = fit_symmetric(clip.reshape(flat), wanted.reshape(flat), weights.reshape(flat))
    return factor, shift


def _parts(rng: np.random.Generator, count: int, share: float) -> NDArray[np.bool_]:
    """Which joints are inside the picture, [B, 18]."""
    visible = np.ones((count, 18), dtype=bool)
    hidden_sets = (_ANKLES, _SHANKS, _SHANKS, _LEGS, _LEGS, np.r_[_LEGS, _FOREARMS], _HEAD)
    chosen = rng.integers(len(hidden_sets), size=count)
    for row in np.flatnonzero(rng.random(count) < share):
        visible[row, hidden_sets[chosen[row]]] = False
    return visible


def _always_missing(rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
    """Joints a detector misses all through clip and reference, [B, 18] visible."""
    visible = np.ones((count, 18), dtype=bool)
    faces = rng.random(count)
    for row in range(count):
        if faces[row] < 0.25:
            visible[row, _HEAD] = False
        elif faces[row] < 0.4:
            visible[row, rng.choice(_HEAD, 2)] = False
        if rng.random() < 0.3:
            visible[row, rng.choice(18, rng.integers(1, 4))] = False
    return visible


def _dropouts(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Joints found now and then, [B, T, 18]: single frames, and whole stretches."""
    count, frames, joints = shape
    rate = rng.choice([0.0, 0.02, 0.1, 0.25], count, p=[0.3, 0.4, 0.2, 0.1])
    found = rng.random(shape) >= rate[:, None, None]
    start = rng.uniform(-0.3, 1.0, (count, 1, joints))
    stretch = rng.uniform(0, 0.5, (count, 1, joints)) * (rng.random((count, 1, joints)) < 0.08)
    position = np.linspace(0, 1, frames)[None, :, None]
    return found & ~((position >= start) & (position < start + stretch))


def _detect(
    rng: np.random.Generator, points: ComplexArray, torso: FloatArray, level: FloatArray
) -> tuple[ComplexArray, FloatArray]:
    """Points and confidence that a detector reports: drift, jitter, swapped sides, errors."""
    count, frames, joints = points.shape

    def complex_normal(*shape: int) -> ComplexArray:
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    # a walk through few anchors: an error that stays for a while, as real detectors' do
    anchors = complex_normal(count, 6, joints)
    position = np.linspace(0, 5 - 1e-6, frames) if frames > 1 else rng.uniform(0, 5, 1)
    low, part = position.astype(int), (position % 1)[None, :, None]
    drift = anchors[:, low] * (1 - part) + anchors[:, low + 1] * part
    size = (level * torso)[:, None, None]
    seen = points + drift * _DRIFT_TORSO * size
    jitter = rng.uniform(0, 0.02, count) * torso
    seen = seen + complex_normal(count, frames, joints) * jitter[:, None, None]
    confidence = np.where(
        (rng.random(count) < 0.5)[:, None, None], 1.0, rng.uniform(0.5, 1.0, points.shape)
    )
    for row in np.flatnonzero(rng.random(count) < 0.15):
        group = _SWAPS[rng.integers(2)]
        swapped = np.r_[group[3:], group[:3]]
        start = rng.integers(frames)
        stop = start + rng.integers(1, max(frames // 4, 1) + 1)
        seen[row, start:stop, group] = seen[row, start:stop, swapped]
    rate = rng.choice([0.0, 0.01, 0.05], count, p=[0.5, 0.3, 0.2])
    wrong = rng.random(points.shape) < rate[:, None, None]
    offset = complex_normal(count, frames, joints) * 0.5 * torso[:, None, None]
    confidence = np.where(wrong, confidence * rng.uniform(0.4, 1, points.shape), confidence)
    return np.where(wrong, seen + offset, seen), confidence


def _torso(points: ComplexArray) -> FloatArray:
    return np.abs(points[..., 1] - (points[..., 8] + points[..., 11]) / 2)


def _enough(clip: NDArray[np.bool_], reference: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether at least five joints, two of them in the trunk, are common to both, [B]."""
    common = clip.any(1) & reference
    trunk = common[:, [1, 2, 5, 8, 11]].sum(1)
    return (common.sum(1) >= 5) & (trunk >= 2)


def _limit_travel(
    rng: np.random.Generator, motions: Motions, times_s: FloatArray, config: CaseConfig
) -> Motions:
    """Walk about less, and slowly enough to stay within a picture, clip and reference."""
    room_m = config.travel * np.exp(rng.uniform(np.log(0.05), np.log(0.4), len(times_s)))
    way_m = np.linalg.norm(motions.velocity, axis=-1) * np.ptp(times_s, axis=1)
    slower = np.minimum(1, room_m / (way_m + 1e-9))
    amplitude = motions.amplitude.copy()
    amplitude[:, [CHANNELS.index("path_x"), CHANNELS.index("path_z")]] *= config.travel
    amplitude[:, [CHANNELS.index("sway_x"), CHANNELS.index("sway_z")]] *= config.sway
    return replace(
        motions,
        amplitude=amplitude,
        velocity=motions.velocity * slower[:, None],
        step_noise=motions.step_noise * config.travel,
    )


def _perform(
    rng: np.random.Generator, motions: Motions, bodies: tuple[Bodies, Bodies], config: CaseConfig
) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
    """The clip, the other body's performance of it, and the reference pose, all without noise."""
    count = len(motions.kinds)
    clip_s, reference_s = _times(rng, count, config)
    motions = _limit_travel(rng, motions, np.concatenate([clip_s, reference_s], 1), config)
    joints = joint_positions(motions, bodies[0], clip_s)
    others = joint_positions(motions, bodies[1], np.concatenate([clip_s, reference_s], 1))
    camera = sample_cameras(rng, joints.mean((1, 2)), config.roll_rad)
    same = (bodies[0]["torso"] == bodies[1]["torso"])[:, None]
    other = _other_camera(rng, camera, others.mean((1, 2)), config.roll_rad)
    other = Cameras(
        position=np.where(same, camera.position, other.position),
        target=np.where(same, camera.target, other.target),
        roll=np.where(same[:, 0], camera.roll, other.roll),
    )
    performed = project(other, others)
    return project(camera, joints), performed[:, :-1], performed[:, -1:]


def _misalignment(
    rng: np.random.Generator, count: int, config: CaseConfig
) -> tuple[ComplexArray, ComplexArray]:
    """Random similarity, [B] factor and shift."""
    angle = np.deg2rad(rng.uniform(-config.rotation_deg, config.rotation_deg, count))
    scale = np.exp(rng.uniform(np.log(config.scale[0]), np.log(config.scale[1]), count))
    body_m = 1.7
    shift = rng.uniform(-1, 1, (count, 2)) * config.shift * body_m
    return scale * np.exp(1j * angle), shift[:, 0] + 1j * shift[:, 1]


def _visibility(
    rng: np.random.Generator, shape: tuple[int, ...], config: CaseConfig
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """What is seen of clips [B, T, 18] and references [B, 18], and whether a part is cut [B]."""
    count, _, joints = shape
    common = _always_missing(rng, count)
    clip_parts = _parts(rng, count, config.half_body)
    reference_parts = np.where(
        (rng.random(count) < 0.3)[:, None], clip_parts, _parts(rng, count, config.half_body)
    )
    clip_visible = (common & clip_parts)[:, None] & _dropouts(rng, shape)
    reference_visible = common & reference_parts & _dropouts(rng, (count, 1, joints))[:, 0]
    poor = ~_enough(clip_visible, reference_visible)
    clip_visible[poor] = True
    reference_visible[poor] = True
    half = ~(clip_parts & reference_parts).all(1) & ~poor
    return clip_visible, reference_visible, half


def make_cases(
    rng: np.random.Generator, count: int, config: CaseConfig | None = None
) -> AlignerCases:
    """Draw cases.

    Args:
        rng: Source of randomness; the same state gives the same cases.
        count: Number of cases B.
        config: What they look like.
    """
    config = config or CaseConfig()
    kinds: Sequence[str] | None = config.kinds or None
    motions = sample_motions(rng, count, kinds)
    cross = rng.random(count) < config.cross_body
    body = sample_bodies(rng, count)
    other = _select(body, sample_bodies(rng, count), cross)
    clean, wanted, reference = _perform(rng, motions, (body, other), config)
    torso = _torso(reference[:, 0])
    torso = np.maximum(torso, 0.5 * np.median(_torso(wanted), 1))
    level = np.exp(rng.normal(0, 0.5, count))
    driving, confidence = _detect(rng, clean, _torso(clean).mean(1), level)
    reference, reference_confidence = _detect(rng, reference, torso, level)

    clip_visible, reference_visible, half = _visibility(rng, clean.shape, config)
    factor, shift = _true_maps(clean, wanted, clip_visible)
    factor, shift = np.where(cross, factor, 1.0), np.where(cross, shift, 0.0)
    turn, move = _misalignment(rng, count, config)
    # if g carries the clip to the reference and m misaligns it, g after m's inverse is the truth
    factor = factor / turn
    return AlignerCases(
        pair=ClipPair(
            driving=np.where(clip_visible, turn[:, None, None] * driving + move[:, None, None], 0),
            driving_confidence=confidence * clip_visible,
            reference=np.where(reference_visible, reference[:, 0], 0),
            reference_confidence=reference_confidence[:, 0] * reference_visible,
        ),
        clean=turn[:, None, None] * clean + move[:, None, None],
        factor=factor,
        shift=shift - factor * move,
        torso=torso,
        kinds=motions.kinds,
        cross_body=cross,
        half_body=half,
    )
