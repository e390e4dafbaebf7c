"""Keeping people apart over time: who is who in each frame.

Every person gets an index and keeps it. A frame in which somebody is absent holds an empty
`PersonPose` at that index. There is no notion of appearance: people are told apart by where they
are, how they move and how big they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DependencyError, NoPoseError
from .arrays import PointArray, bounds, join_people, sizes, split_people
from .keypoints import FramePose, PoseSequence

__all__ = ["PeopleChoice", "TrackingConfig", "select_people", "track_people"]

PeopleChoice = Literal["largest", "all"] | int
"""Whom to keep: who is largest over the clip, all, or one person, counted from 0 at the left."""

_NEVER = 1e6
_MEMORY = 0.7  # per frame, of a hidden joint's weight
_FORGOTTEN = 0.05
_SIZE_UPDATE = 0.2
_MIN_SIZE = 0.05  # of the canvas diagonal; somebody of whom one joint is seen has no size
_MIN_CLIP = 4  # of min_frames, below which nobody is a false alarm


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How people are followed.

    Attributes:
        max_jump: How far a joint may lie from its predicted place, in person sizes.
        jump_growth: How much farther for each frame that the person has been absent, in person
            sizes; this lets somebody who left at one side come back at the other.
        overlap_weight: Weight of box overlap beside joint distance.
        velocity_memory: Share of the old velocity in each update, 0..1.
        max_extrapolation: Frames for which an absent person is thought to move on.
        min_frames: People who are seen in fewer frames are dropped as false alarms; clips of less
            than four times this length keep everybody.
    """

    max_jump: float = 0.5
    jump_growth: float = 0.1
    overlap_weight: float = 0.3
    velocity_memory: float = 0.5
    max_extrapolation: int = 8
    min_frames: int = 2

    def __post_init__(self) -> None:
        for name in ("max_jump", "jump_growth", "overlap_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)} but must be at least 0.")
        if not 0 <= self.velocity_memory < 1:
            raise ConfigError(
                f"velocity_memory is {self.velocity_memory} but must lie in 0..1, without 1."
            )
        if self.max_extrapolation < 0 or self.min_frames < 1:
            raise ConfigError(
                f"max_extrapolation is {self.max_extrapolation} and min_frames is "
                f"{self.min_frames}; they must be at least 0 and 1."
            )


@dataclass(eq=False)
class _Track:
    """One person, as last seen; joints that are hidden now are carried along."""

    joints: PointArray  # [128, 3]
    min_size: float
    last_frame: int
    size: float = 0.0
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    frames: dict[int, int] = field(default_factory=dict)  # frame -> index among its people

    def __post_init__(self) -> None:
        self.size = self._current_size()

    def predicted(self, frame: int, horizon: int) -> PointArray:
        moved = self.joints.copy()
        moved[:, :2] += self.velocity * min(frame - self.last_frame, horizon)
        return moved

    def see(self, joints: PointArray, frame: int, place: int, config: TrackingConfig) -> None:
        found = joints[:, 2] > 0
        both = (self.joints[:, 2] > 0) & found
        elapsed = frame - self.last_frame
        if elapsed > config.max_extrapolation:
            # somebody who was away may have come back anywhere; that is no velocity
            self.velocity = np.zeros(2)
        elif both.any():
            shift = np.median(joints[both, :2] - self.joints[both, :2], axis=0) / elapsed
            memory = config.velocity_memory if len(self.frames) > 1 else 0.0
            self.velocity = memory * self.velocity + (1 - memory) * shift
        carried = self.predicted(frame, config.max_extrapolation)
        carried[:, 2] *= _MEMORY
        carried[carried[:, 2] < _FORGOTTEN] = 0.0
        self.joints = np.where(found[:, None], joints, carried)
        self.size += _SIZE_UPDATE * (self._current_size() - self.size)
        self.last_frame = frame
        self.frames[frame] = place

    def _current_size(self) -> float:
        return max(float(sizes(self.joints)), self.min_size)


def track_people(frames: PoseSequence, config: TrackingConfig | None = None) -> list[FramePose]:
    """Give every person one index for the whole clip.

    Args:
        frames: T frames with people in any order; empty people are ignored.
        config: How people are followed.

    Returns:
        T frames that all hold the same number of people. Person 0 is the leftmost one of the first
        frame in which most people are visible; who is not in that frame follows by appearance.

    Raises:
        DependencyError: If scipy is missing.
    """
    config = config or TrackingConfig()
    if not frames:
        return []
    people = join_people(frames)  # on the canvas of the first frame
    tracks = _follow(people, config, _MIN_SIZE * math.hypot(frames[0].width, frames[0].height))
    if len(frames) >= _MIN_CLIP * config.min_frames:
        tracks = [track for track in tracks if len(track.frames) >= config.min_frames]
    tracked = np.zeros((len(frames), len(tracks), *people.shape[2:]))
    for index, track in enumerate(tracks):
        for frame, place in track.frames.items():
            tracked[frame, index] = people[frame, place]
    return split_people(tracked[:, _left_to_right(tracked)], frames)


def select_people(frames: PoseSequence, choice: PeopleChoice) -> list[FramePose]:
    """Keep one or all people of a tracked clip.

    Args:
        frames: Frames from `track_people`.
        choice: Whom to keep. The largest person is the one whose joints cover the largest area
            on average over the clip, so it does not change from frame to frame.

    Returns:
        Frames with the chosen people; with a single choice, each holds exactly one person, who may
        be empty. A clip without anybody is returned as it is.

    Raises:
        NoPoseError: If the chosen person does not exist although others do.
        ConfigError: If the choice is none of the three.
    """
    check_choice(choice)
    if choice == "all" or not frames:
        return list(frames)
    people = join_people(frames)
    count = people.shape[1]
    if count == 0:
        return list(frames)
    if choice == "largest":
        chosen = int(_areas(people).mean(axis=0).argmax())
    elif choice < count:
        chosen = choice
    else:
        raise NoPoseError(
            f"Person {choice} was chosen, counted from 0 at the left, but only {count} "
            f"{'person was' if count == 1 else 'people were'} found; choose 0 to {count - 1}, or "
            "lower the confidence threshold."
        )
    return split_people(people[:, [chosen]], frames)


def check_choice(choice: PeopleChoice) -> None:
    """Check a choice of people.

    Raises:
        ConfigError: If the choice is not "largest", "all" or an index.
    """
    is_index = isinstance(choice, int) and not isinstance(choice, bool) and choice >= 0
    if choice not in ("largest", "all") and not is_index:
        raise ConfigError(
            f"The choice of people is {choice!r}; use 'largest', 'all' or a number from 0, counted "
            "from the left."
        )


def _follow(people: PointArray, config: TrackingConfig, min_size: float) -> list[_Track]:
    tracks: list[_Track] = []
    found = np.asarray((people[..., 2] > 0).any(axis=2))
    for frame in range(len(people)):
        waiting = np.flatnonzero(found[frame])
        # those who were just here come first; the others' places are too uncertain to compete
        recent = [t for t in tracks if frame - t.last_frame <= config.max_extrapolation]
        away = [t for t in tracks if frame - t.last_frame > config.max_extrapolation]
        for group in (recent, away):
            waiting = _assign(group, people[frame], waiting, frame, config)
        for place in waiting.tolist():
            track = _Track(joints=people[frame, place], min_size=min_size, last_frame=frame)
            track.frames[frame] = place
            tracks.append(track)
    return _joined_at_cuts(tracks, people)


def _joined_at_cuts(tracks: list[_Track], people: PointArray) -> list[_Track]:
    """Make one track of two where one person's end is another's beginning.

    Where somebody is gone for good in the very frame in which somebody else appears, the video
    was cut or the person moved too fast to follow.
    """
    joined: list[_Track] = []
    for track in tracks:  # in the order of their first frames
        start = min(track.frames)
        ended = [other for other in joined if other.last_frame == start - 1]
        if not ended:
            joined.append(track)
            continue
        middle = _middle(people[start, track.frames[start]])
        ends = [_middle(people[start - 1, other.frames[start - 1]]) for other in ended]
        nearest = ended[int(np.argmin(np.linalg.norm(np.array(ends) - middle, axis=1)))]
        nearest.frames.update(track.frames)
        nearest.last_frame = track.last_frame
    return joined


def _middle(joints: PointArray) -> NDArray[np.float64]:
    box = bounds(joints)
    return (box[:2] + box[2:]) / 2


def _assign(
    tracks: list[_Track],
    people: PointArray,
    waiting: NDArray[np.intp],
    frame: int,
    config: TrackingConfig,
) -> NDArray[np.intp]:
    """Continue tracks with the people of one frame; returns who is left over."""
    if not tracks or not len(waiting):
        return waiting
    costs = _costs(tracks, people[waiting], frame, config)
    taken: list[int] = []
    for row, column in zip(*_hungarian()(costs), strict=True):
        if costs[row, column] < _NEVER:
            place = int(waiting[column])
            tracks[row].see(people[place], frame, place, config)
            taken.append(place)
    return np.setdiff1d(waiting, taken)


def _costs(
    tracks: list[_Track], candidates: PointArray, frame: int, config: TrackingConfig
) -> NDArray[np.float64]:
    """Cost [tracks, n] of continuing each track with each of [n, 128, 3] candidates."""
    size = np.array([[track.size] for track in tracks])
    missed = np.array([[frame - track.last_frame - 1] for track in tracks])
    predicted = np.stack([t.predicted(frame, config.max_extrapolation) for t in tracks])[:, None]
    weights = np.sqrt(predicted[..., 2] * candidates[..., 2])
    offsets = candidates[..., :2] - predicted[..., :2]
    total = weights.sum(axis=2)
    apart = (weights * np.hypot(offsets[..., 0], offsets[..., 1])).sum(axis=2)
    gaps, overlaps = _compare_boxes(bounds(predicted), bounds(candidates))
    # without a joint in common, how far apart the boxes are has to do
    distance = np.where(total > 0, apart / np.maximum(total, 1e-9), gaps) / size
    limit = config.max_jump + config.jump_growth * missed
    cost = distance + config.overlap_weight * (1 - overlaps)
    return np.where(distance <= limit, cost, _NEVER)


def _compare_boxes(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gap between boxes [..., 4] in pixels, and their intersection over union."""
    low = np.maximum(first[..., :2], second[..., :2])
    shared = np.minimum(first[..., 2:], second[..., 2:]) - low
    gaps = np.hypot(*np.moveaxis(np.maximum(-shared, 0.0), -1, 0))
    common = np.maximum(shared, 0.0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    return gaps, common / np.maximum(sum(areas) - common, 1e-9)


def _areas(people: PointArray) -> NDArray[np.float64]:
    boxes = np.nan_to_num(bounds(people))
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _left_to_right(people: PointArray) -> NDArray[np.intp]:
    """Order of people [T, P, ...] by their place in the first fullest frame."""
    if people.shape[1] == 0:
        return np.zeros(0, dtype=np.intp)
    found = np.asarray((people[..., 2] > 0).any(axis=2))
    fullest = int(found.sum(axis=1).argmax())
    boxes = bounds(people[fullest])
    across = (boxes[:, 0] + boxes[:, 2]) / 2
    appearance = found.argmax(axis=0)
    return np.lexsort((appearance, np.where(found[fullest], across, np.inf)))


def _hungarian() -> Callable[[NDArray[np.float64]], tuple[NDArray, NDArray]]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise DependencyError(
            f"Tracking needs scipy, which cannot be imported ({error}). "
            "Install it with: pip install scipy"
        ) from error
    return linear_sum_assignment
