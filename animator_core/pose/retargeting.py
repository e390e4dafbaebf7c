"""Limb lengths: the driving person's angles with the reference person's bones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .keypoints import PersonPose
from .similarity import FloatArray
from .skeletons import BODY_LIMBS, NUM_BODY

__all__ = ["bone_ratios", "retarget_limbs"]

_ANKLES = np.array([10, 13])
_NOSE, _NECK = 0, 1
_WRISTS = {"right_hand": 4, "left_hand": 7}
_MIRRORED: tuple[tuple[int, int], ...] = (
    (0, 1),
    (2, 4),
    (3, 5),
    (6, 9),
    (7, 10),
    (8, 11),
    (13, 15),
    (14, 16),
)
"""Limbs (indices into BODY_LIMBS) of the right and the left side."""
_RATIO_RANGE = (0.6, 1.6)  # beyond this a bone is foreshortened or wrong rather than long


def _lengths(bodies: FloatArray) -> FloatArray:
    """Median length of each limb over the frames in which it is seen, [17]; NaN if never."""
    first, second = np.array(BODY_LIMBS).T
    seen = (bodies[:, first, 2] > 0) & (bodies[:, second, 2] > 0)
    length = np.linalg.norm(bodies[:, first, :2] - bodies[:, second, :2], axis=-1)
    result = np.full(len(BODY_LIMBS), np.nan)
    for limb in np.flatnonzero(seen.any(0)):
        result[limb] = np.median(length[seen[:, limb], limb])
    for right, left in _MIRRORED:  # the longer side is the less foreshortened one
        if np.isfinite(result[[right, left]]).any():
            result[[right, left]] = np.nanmax(result[[right, left]])
    return result


def bone_ratios(driving: FloatArray, reference: FloatArray) -> FloatArray:
    """How much longer the reference's limbs are, [17]; 1 where that is not known.

    Args:
        driving: [T, 18, 3] an aligned clip, in reference pixels.
        reference: [18, 3].
    """
    clip, goal = _lengths(driving), _lengths(reference[None])
    known = np.isfinite(clip) & np.isfinite(goal) & (clip > 0) & (goal > 0)
    ratios = np.where(known, goal, 1.0) / np.where(known, clip, 1.0)
    return ratios.clip(*_RATIO_RANGE)


def _scaled_body(body: FloatArray, ratios: FloatArray) -> FloatArray:
    """Joint displacements [18, 2] that give a body other bone lengths, from the neck outwards."""
    moved = np.zeros((NUM_BODY, 2))
    found = body[:, 2] > 0
    for limb, (parent, child) in enumerate(BODY_LIMBS):
        bone = body[child, :2] - body[parent, :2]
        both = found[parent] and found[child]
        moved[child] = moved[parent] + (bone * (ratios[limb] - 1) if both else 0)
    if found[_ANKLES].any():
        ankles = _ANKLES[found[_ANKLES]]
        before = body[ankles, 1].max()
        after = (body[ankles, 1] + moved[ankles, 1]).max()
        moved[:, 1] += before - after  # the lower foot stays on the ground
    return moved


def _shifted(points: FloatArray, shift: FloatArray) -> FloatArray:
    out = points.copy()
    found = points[:, 2] > 0
    out[found, :2] += shift
    return out


def retarget_limbs(driving: Sequence[PersonPose], reference: PersonPose) -> list[PersonPose]:
    """Give an aligned clip the reference's limb lengths.

    Every limb keeps its direction in every frame; its length is multiplied by one ratio for the
    whole clip. The lower ankle keeps its height in the picture. Face and hands move with nose and
    wrists.

    Args:
        driving: One aligned person over T frames, in reference pixels.
        reference: The person whose limbs are taken.
    """
    ratios = bone_ratios(np.stack([p.body for p in driving]), reference.body)
    result: list[PersonPose] = []
    for person in driving:
        moved = _scaled_body(person.body, ratios)
        body = person.body.copy()
        found = body[:, 2] > 0
        body[found, :2] += moved[found]
        head = moved[_NOSE] if found[_NOSE] else moved[_NECK]
        result.append(
            replace(
                person,
                body=body,
                face=_shifted(person.face, head),
                **{
                    hand: _shifted(getattr(person, hand), moved[wrist])
                    for hand, wrist in _WRISTS.items()
                },
            )
        )
    return result
