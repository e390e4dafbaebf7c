"""Repairing poses over time: gaps, jitter and frame rate.

All of it works per person and joint, on clips whose people are tracked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .arrays import join_people, sizes, split_people
from .keypoints import FramePose, PoseSequence
from .tracking import TrackingConfig, track_people

__all__ = [
    "CleaningConfig",
    "clean_poses",
    "fill_gaps",
    "frame_rate",
    "resample_poses",
    "smooth_poses",
]

FrameRate = Fraction | int | float | str

_SPEED_CUTOFF_HZ = 1.0
_GAP_DOUBT = 0.3  # share of the confidence that the middle of the longest gap loses


@dataclass(frozen=True, kw_only=True)
class CleaningConfig:
    """What is repaired, in this order.

    Attributes:
        track: Give people one index over the clip first; poses from Extract Poses already are.
        tracking: How people are followed.
        max_gap: Longest run of frames without a joint that is filled in; 0 fills nothing.
        min_cutoff_hz: One-Euro smoothing of joints at rest; lower is smoother, 0 is off.
        beta: How fast smoothing fades with speed, in Hz per person size per second.
        fps: Frame rate of the poses.
        target_fps: Frame rate to resample to; None leaves it.
    """

    track: bool = True
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    max_gap: int = 8
    min_cutoff_hz: float = 0.0
    beta: float = 10.0
    fps: FrameRate = 30
    target_fps: FrameRate | None = None

    def __post_init__(self) -> None:
        for name in ("max_gap", "min_cutoff_hz", "beta"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} is {value} but must be at least 0 and finite.")
        frame_rate(self.fps)
        if self.target_fps is not None:
            frame_rate(self.target_fps)


def clean_poses(frames: PoseSequence, config: CleaningConfig | None = None) -> list[FramePose]:
    """Track, fill gaps, smooth and resample.

    Args:
        frames: T frames, in any of which there may be nobody.
        config: What is repaired.

    Returns:
        T frames, or as many as the target frame rate asks for.

    Raises:
        DependencyError: If tracking is asked for and scipy is missing.
    """
    config = config or CleaningConfig()
    cleaned = track_people(frames, config.tracking) if config.track else list(frames)
    cleaned = fill_gaps(cleaned, config.max_gap)
    if config.min_cutoff_hz > 0:
        cleaned = smooth_poses(
            cleaned, config.fps, min_cutoff_hz=config.min_cutoff_hz, beta=config.beta
        )
    if config.target_fps is not None:
        cleaned = resample_poses(cleaned, config.fps, config.target_fps)
    return cleaned


def fill_gaps(frames: PoseSequence, max_gap: int) -> list[FramePose]:
    """Fill short gaps of each joint on a straight line; the confidence falls towards the middle.

    Args:
        frames: T frames of tracked people.
        max_gap: Longest gap that is filled, in frames. Longer ones, and those at the ends of the
            clip, stay absent.
    """
    if not frames or max_gap < 1:
        return list(frames)
    people = join_people(frames)
    found = people[..., 2] > 0
    time = np.arange(len(people)).reshape(-1, 1, 1)
    before = np.maximum.accumulate(np.where(found, time, -1), axis=0)
    after = np.minimum.accumulate(np.where(found, time, len(people))[::-1], axis=0)[::-1]
    fillable = ~found & (before >= 0) & (after < len(people)) & (after - before - 1 <= max_gap)
    frame, person, joint = np.nonzero(fillable)
    first, last = before[fillable], after[fillable]
    share = ((frame - first) / (last - first))[:, None]
    filled = (1 - share) * people[first, person, joint] + share * people[last, person, joint]
    depth = np.minimum(frame - first, last - frame) / ((max_gap + 1) / 2)
    filled[:, 2] *= 1 - _GAP_DOUBT * depth
    people[fillable] = filled
    return split_people(people, frames)


def smooth_poses(
    frames: PoseSequence, fps: FrameRate, *, min_cutoff_hz: float = 1.0, beta: float = 10.0
) -> list[FramePose]:
    """One-Euro smoothing of every joint: calm at rest, quick in motion.

    The filter runs forwards and backwards and the mean is taken, so motion does not lag behind
    the music as it would in a live filter. It starts afresh where a joint was absent.

    Args:
        frames: T frames of tracked people.
        fps: Their frame rate.
        min_cutoff_hz: Cutoff of joints at rest; lower is smoother.
        beta: Growth of the cutoff with speed, in Hz per person size per second.

    Source: Casiez, Roussel, Vogel: 1 Euro Filter, CHI 2012.
    """
    if min_cutoff_hz <= 0:
        raise ConfigError(f"min_cutoff_hz is {min_cutoff_hz} but must be above 0.")
    if len(frames) < 2:
        return list(frames)
    people = join_people(frames)
    found = people[..., 2] > 0
    present = found.any(axis=(0, 2))
    scale = np.ones(people.shape[1])
    scale[present] = np.nanmedian(sizes(people[:, present]), axis=0)
    places = people[..., :2] / scale[:, None, None]
    rate = float(frame_rate(fps))
    forwards = _one_euro(places, found, rate, min_cutoff_hz, beta)
    backwards = _one_euro(places[::-1], found[::-1], rate, min_cutoff_hz, beta)[::-1]
    smooth = (forwards + backwards) / 2 * scale[:, None, None]
    people[..., :2] = np.where(found[..., None], smooth, 0.0)
    return split_people(people, frames)


def resample_poses(
    frames: PoseSequence, source_fps: FrameRate, target_fps: FrameRate
) -> list[FramePose]:
    """The same motion at another frame rate.

    Frame k of the result shows the time k / target_fps. The duration stays the same to half a
    frame, so sound that belongs to the motion stays in step.

    Args:
        frames: T frames of tracked people.
        source_fps: Their frame rate.
        target_fps: The wanted frame rate.

    Returns:
        round(T * target_fps / source_fps) frames, at least one if there was one.

    Raises:
        ConfigError: If a frame rate is not a positive number.
    """
    step = frame_rate(source_fps) / frame_rate(target_fps)  # source frames per target frame
    if not frames or step == 1:
        return list(frames)
    count = max(math.floor(len(frames) / step + Fraction(1, 2)), 1)
    # whole numbers keep every frame's time exact, however long the clip is
    times = np.arange(count) * step.numerator
    last = len(frames) - 1
    first = np.minimum(times // step.denominator, last)
    second = np.minimum(first + 1, last)
    share = (times % step.denominator / step.denominator)[:, None, None, None]
    people = join_people(frames)
    earlier, later = people[first], people[second]
    # a joint that only one of both frames has belongs to the nearer frame
    both = (earlier[..., 2:] > 0) & (later[..., 2:] > 0)
    mixed = np.where(both, (1 - share) * earlier + share * later, 0.0)
    nearer = np.where(share < 0.5, earlier, later)
    resampled = np.where(both, mixed, nearer)
    canvases = [frames[index] for index in first]
    return split_people(resampled, canvases)


def frame_rate(value: FrameRate) -> Fraction:
    """An exact frame rate; 23.976, 29.97 and 59.94 become the NTSC fractions.

    Args:
        value: Frames per second; text may be a fraction such as "30000/1001".

    Raises:
        ConfigError: If it is not a positive number.
    """
    try:
        rate = Fraction(value)
        if rate <= 0:
            raise ValueError("it is not positive")
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise ConfigError(
            f"A frame rate is {value!r}, but a positive number is expected ({error})."
        ) from error
    ntsc = Fraction(math.ceil(rate) * 1000, 1001)
    if rate.denominator > 1 and abs(rate - ntsc) < Fraction(1, 200):
        return ntsc
    return rate.limit_denominator(1001)


def _one_euro(
    places: NDArray[np.float64],
    found: NDArray[np.bool_],
    rate: float,
    min_cutoff_hz: float,
    beta: float,
) -> NDArray[np.float64]:
    """Filter places [T, P, joints, 2] in person sizes, forwards in time."""
    smooth = np.zeros_like(places)
    speed = np.zeros_like(places[0])
    known = np.zeros_like(found[0])
    speed_share = _smoothing_share(np.array(_SPEED_CUTOFF_HZ), rate)
    for index, (place, is_found) in enumerate(zip(places, found, strict=True)):
        previous = smooth[index - 1]
        going_on = (known & is_found)[..., None]
        measured = np.where(going_on, (place - previous) * rate, 0.0)
        speed = np.where(going_on, speed + speed_share * (measured - speed), 0.0)
        cutoff = min_cutoff_hz + beta * np.linalg.norm(speed, axis=-1, keepdims=True)
        share = _smoothing_share(cutoff, rate)
        smooth[index] = np.where(going_on, previous + share * (place - previous), place)
        known = is_found
    return smooth


def _smoothing_share(cutoff_hz: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Weight of the newest value in a first-order low-pass filter."""
    return 1.0 / (1.0 + rate / (2 * math.pi * cutoff_hz))
