"""Clips of one or two people with a known misalignment, for tests of alignment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from animator_core.pose.keypoints import FramePose, PersonPose, map_points, part_array
from animator_core.training.bodies import sample_bodies
from animator_core.training.kinematics import joint_positions, project, sample_cameras
from animator_core.training.motions import sample_motions

SIMILARITY_METHODS = ("procrustes", "learned")
SIZE = 512


def dance(
    seed: int = 0,
    frames: int = 30,
    kind: str = "dance_in_place",
    size: int = SIZE,
    moments: Sequence[float] | None = None,
) -> list[FramePose]:
    """A generated person in the middle of a canvas, with a face and hands."""
    rng = np.random.default_rng(seed)
    motions, bodies = sample_motions(rng, 1, [kind]), sample_bodies(rng, 1)
    times = (np.arange(frames) / 30.0 if moments is None else np.array(moments))[None]
    joints = joint_positions(motions, bodies, times)
    picture = project(sample_cameras(rng, joints.mean((1, 2))), joints)[0]
    picture = (picture - picture.mean()) * size / 2.5 + (size + 1j * size) / 2
    face = np.random.default_rng(9).normal(0, size / 60, (68, 2))
    hand = np.random.default_rng(8).normal(0, size / 80, (21, 2))
    ones = np.ones((18, 1))
    result = []
    for z in picture:
        body = np.hstack([np.stack([z.real, z.imag], -1), ones])

        def around(joint, offsets, body=body):
            return np.column_stack([body[joint, :2] + offsets, np.ones(len(offsets))])

        person = PersonPose(
            body=body,
            face=around(0, face),
            left_hand=around(7, hand),
            right_hand=around(4, hand),
        )
        result.append(FramePose(people=(person,), width=size, height=size))
    return result


def noisy(frame: FramePose, size_torso: float = 0.02) -> FramePose:
    """The same pose as another detection would report it."""
    body = frame.people[0].body.copy()
    body[:, :2] += np.random.default_rng(1).normal(0, size_torso * torso(frame), (18, 2))
    return FramePose(people=(PersonPose(body=body),), width=frame.width, height=frame.height)


def similarity(
    scale: float = 1.0, angle_deg: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix [2, 2] and shift [px] of a known map."""
    angle = np.deg2rad(angle_deg)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return matrix, np.array(shift, dtype=float)


def transformed(
    frames: Iterable[FramePose],
    matrix: NDArray[np.float64],
    shift: NDArray[np.float64],
    width: int = SIZE,
    height: int = SIZE,
) -> list[FramePose]:
    """The frames after a known map, on another canvas."""
    return [
        FramePose(
            people=tuple(map_points(p, matrix, shift) for p in f.people), width=width, height=height
        )
        for f in frames
    ]


def torso(frame: FramePose) -> float:
    """Length from neck to hips [px]."""
    body = frame.people[0].body
    return float(np.linalg.norm(body[1, :2] - (body[8, :2] + body[11, :2]) / 2))


def error(frames: Sequence[FramePose], wanted: Sequence[FramePose], person: int = 0) -> float:
    """Mean joint distance in torso lengths of the wanted clip."""
    a, b = part_array(frames, "body", person), part_array(wanted, "body", person)
    seen = (a[..., 2] > 0) & (b[..., 2] > 0)
    return float(np.linalg.norm(a - b, axis=-1)[seen].mean() / torso(wanted[0]))


def hide(frames: Iterable[FramePose], joints: Iterable[int]) -> list[FramePose]:
    """The same frames without these body joints."""
    result = []
    for f in frames:
        body = f.people[0].body.copy()
        body[list(joints)] = 0
        result.append(FramePose(people=(PersonPose(body=body),), width=f.width, height=f.height))
    return result


def two_people(frames: int = 20) -> list[FramePose]:
    """Two people side by side, the second one larger."""
    left, right = dance(20, frames), dance(21, frames)
    left = transformed(left, *similarity(0.5, 0, (-60, 100)))
    right = transformed(right, *similarity(0.6, 0, (250, 60)))
    return [
        FramePose(people=(a.people[0], b.people[0]), width=SIZE, height=SIZE)
        for a, b in zip(left, right, strict=True)
    ]
