"""All joints of all people of a clip as one array, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .keypoints import FramePose, PersonPose, PoseSequence, scale_to_canvas
from .skeletons import NUM_BODY, NUM_FACE, NUM_HAND

__all__ = ["NUM_JOINTS", "PointArray", "bounds", "join_people", "sizes", "split_people"]

PointArray = NDArray[np.float64]
"""Shape [frames, people, 128, 3]: x [px], y [px], confidence; parts of it keep the last axes."""

_PART_ENDS = np.cumsum([NUM_BODY, NUM_FACE, NUM_HAND])
NUM_JOINTS = NUM_BODY + NUM_FACE + 2 * NUM_HAND


def join_people(frames: PoseSequence) -> PointArray:
    """Joints of every person in every frame, on the canvas of the first frame.

    Args:
        frames: T frames.

    Returns:
        [T, P, 128, 3] in the order body, face, left hand, right hand; P is the largest number of
        people in a frame, and missing people are zeros.
    """
    count = max((len(frame.people) for frame in frames), default=0)
    joined = np.zeros((len(frames), count, NUM_JOINTS, 3))
    for index, frame in enumerate(frames):
        placed = scale_to_canvas(frame, frames[0].width, frames[0].height)
        for place, person in enumerate(placed.people):
            parts = (person.body, person.face, person.left_hand, person.right_hand)
            np.concatenate(parts, out=joined[index, place])
    # an absent joint may come with coordinates, which must not leak into what is computed
    joined[~(joined[..., 2] > 0)] = 0.0
    return joined


def split_people(joined: PointArray, canvases: Sequence[FramePose]) -> list[FramePose]:
    """The inverse of `join_people`.

    Args:
        joined: [T, P, 128, 3] on the canvas of the first frame.
        canvases: T frames whose canvas sizes the result gets.
    """
    if not canvases:
        return []
    width, height = canvases[0].width, canvases[0].height
    result: list[FramePose] = []
    for points, canvas in zip(joined, canvases, strict=True):
        people = tuple(_person(joints) for joints in points)
        frame = FramePose(people=people, width=width, height=height)
        result.append(scale_to_canvas(frame, canvas.width, canvas.height))
    return result


def bounds(people: PointArray) -> NDArray[np.float64]:
    """Boxes around the joints that were found.

    Args:
        people: [..., joints, 3].

    Returns:
        [..., 4]: left, top, right, bottom [px]; NaN where no joint was found.
    """
    found = people[..., 2:] > 0
    low = np.where(found, people[..., :2], np.inf).min(axis=-2)
    high = np.where(found, people[..., :2], -np.inf).max(axis=-2)
    boxes = np.concatenate([low, high], axis=-1)
    return np.where(found.any(axis=-2), boxes, np.nan)


def sizes(people: PointArray) -> NDArray[np.float64]:
    """The longer side of each person's box [...], in pixels; at least 1, NaN where absent."""
    boxes = bounds(people)
    return np.maximum((boxes[..., 2:] - boxes[..., :2]).max(axis=-1), 1.0)


def _person(joints: PointArray) -> PersonPose:
    body, face, left, right = np.split(joints, _PART_ENDS)
    return PersonPose(body=body, face=face, left_hand=left, right_hand=right)
