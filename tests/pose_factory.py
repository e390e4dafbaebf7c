"""Simple people for tests of tracking and cleaning: a standing body, moved about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from animator_core.pose.keypoints import FramePose, PersonPose

# x, y of the 18 body joints of somebody who stands at the origin and is 1 tall
STANDING = np.array(
    [
        (0.0, -0.44), (0.0, -0.34), (-0.1, -0.34), (-0.14, -0.18), (-0.15, -0.03),
        (0.1, -0.34), (0.14, -0.18), (0.15, -0.03), (-0.07, -0.02), (-0.08, 0.24),
        (-0.08, 0.5), (0.07, -0.02), (0.08, 0.24), (0.08, 0.5),
        (-0.02, -0.46), (0.02, -0.46), (-0.05, -0.45), (0.05, -0.45),
    ]
)  # fmt: skip
UPRIGHT = np.eye(2)
UPSIDE_DOWN = np.array([[-1.0, 0.0], [0.0, -1.0]])
WIDTH, HEIGHT = 640, 480

Place = tuple[float, float] | None
Path = Callable[[int], Place]


def standing(
    x: float,
    y: float,
    height: float = 200.0,
    joints: Sequence[int] = range(18),
    turn: NDArray[np.float64] = UPRIGHT,
) -> PersonPose:
    """Somebody whose middle is at x, y [px]; only some joints are found."""
    body = np.zeros((18, 3))
    chosen = list(joints)
    body[chosen, :2] = STANDING[chosen] @ turn.T * height + (x, y)
    body[chosen, 2] = 0.9
    return PersonPose(body=body)


def clip_of(
    people: Sequence[PersonPose | None], width: int = WIDTH, height: int = HEIGHT
) -> FramePose:
    """A frame; None are people whom nobody detected."""
    return FramePose(people=tuple(p for p in people if p is not None), width=width, height=height)


def walking(
    paths: Sequence[Path], num_frames: int, seed: int = 0, **look: float
) -> list[FramePose]:
    """People on paths, in a random order in each frame, with a pixel of noise."""
    random = np.random.default_rng(seed)
    frames = []
    for index in range(num_frames):
        people: list[PersonPose] = []
        for path in paths:
            place = path(index)
            if place is not None:
                person = standing(*place, **look)
                person.body[:, :2] += random.normal(0, 1, (18, 2))
                people.append(person)
        random.shuffle(people)  # type: ignore[arg-type]
        frames.append(clip_of(people))
    return frames


def middles(frames: Sequence[FramePose], person: int) -> NDArray[np.float64]:
    """Neck places [T, 2] of one person; NaN where absent."""
    return np.array(
        [
            f.people[person].body[1, :2] if f.people[person].body[1, 2] > 0 else (np.nan, np.nan)
            for f in frames
        ]
    )
