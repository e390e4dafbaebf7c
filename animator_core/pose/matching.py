"""Which reference person each driving person follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .keypoints import PersonPose
from .similarity import FloatArray

__all__ = ["match_people"]


def _all_points(person: PersonPose) -> FloatArray:
    parts = np.concatenate([person.body, person.face, person.left_hand, person.right_hand])
    return parts[parts[:, 2] > 0]


def _place(track: Sequence[PersonPose]) -> tuple[float, float]:
    """Horizontal place and height of a person over time, medians in pixels."""
    points = [p for p in map(_all_points, track) if len(p)]
    middle = np.median([np.median(p[:, 0]) for p in points])
    height = np.median([np.ptp(p[:, 1]) for p in points])
    return float(middle), float(height)


def match_people(
    tracks: Sequence[Sequence[PersonPose]],
    reference: Sequence[PersonPose],
    matching: Literal["index", "position"],
) -> dict[int, int]:
    """Driving index to reference index; people without a partner are left out.

    Args:
        tracks: Each driving person over T frames.
        reference: The people of the reference.
        matching: By 'index', or by 'position' from left to right. By position, the largest people
            take part where one side has more.
    """
    present = [i for i, t in enumerate(tracks) if any(not p.is_empty for p in t)]
    goals = [j for j, p in enumerate(reference) if not p.is_empty]
    if matching == "index":
        return {i: i for i in present if i in goals}
    count = min(len(present), len(goals))

    def left_to_right(people: dict[int, tuple[float, float]]) -> list[int]:
        largest = sorted(people, key=lambda i: people[i][1], reverse=True)[:count]
        return sorted(largest, key=lambda i: people[i][0])

    driving = left_to_right({i: _place(tracks[i]) for i in present})
    targets = left_to_right({j: _place([reference[j]]) for j in goals})
    return dict(zip(driving, targets, strict=True))
