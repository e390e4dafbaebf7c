"""Drawn people in motion: the aligner's motions and the dance, with heads, faces and hands.

Lengths are in standing heights of the person, x to the right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..demo.face import HeadPose, face_landmarks, head_joints
from ..demo.identity import BodyShape, Character
from ..demo.motion import dance_motion, hand_joints
from ..pose.keypoints import PersonPose
from .bodies import Bodies
from .kinematics import Cameras, joint_positions, project
from .motions import CHANNELS, Motions, sample_motions

__all__ = ["Performance", "dance", "moved", "random_performance"]

Floats = NDArray[np.float64]

# walking and sitting people are not drawn well: they turn away, and their thighs point at you
_KINDS = ("dance", "dance_in_place", "sidestep", "wave", "turn")
_CANDIDATES = 3  # the motion that hides the face least is taken: faces are to be learnt
_STATURE_M = 1.6
_CANVAS = 1000
_FIGURE_PX = 820.0  # of the dance on a canvas of 1000 px
_CHANNEL = {name: index for index, name in enumerate(CHANNELS)}
_MOST_TURNED = 0.6  # rad; a drawn trunk has no back


@dataclass(frozen=True, kw_only=True, eq=False)
class Performance:
    """One person's poses.

    Attributes:
        reference: A pose at another time, the head roughly towards the viewer.
        frames: The motion, one pose per frame.
    """

    reference: PersonPose
    frames: tuple[PersonPose, ...]


def dance(character: Character, num_frames: int, fps: float, seed: int) -> Performance:
    """The dance of the demo, and a moment of another dance as the reference."""

    def danced(seed: int, count: int) -> tuple[PersonPose, ...]:
        size = {"width": _CANVAS, "height": _CANVAS}
        poses = dance_motion(character, count, fps, **size, seed=seed)
        return tuple(moved(pose.people[0], 1 / _FIGURE_PX, np.zeros(2)) for pose in poses)

    return Performance(reference=danced(seed + 1, 1)[0], frames=danced(seed, num_frames))


def random_performance(
    rng: np.random.Generator, character: Character, num_frames: int, fps: float
) -> Performance:
    """A motion of the aligner's generator, seen by a camera before the person."""
    motions = _facing(rng, sample_motions(rng, _CANDIDATES, _KINDS))
    start = rng.uniform(0.0, 20.0)
    gap = rng.uniform(1.0, 5.0) * rng.choice([-1.0, 1.0])
    times_s = start + np.concatenate([[gap], np.arange(num_frames) / fps])
    every = np.repeat(times_s[None], _CANDIDATES, axis=0)
    joints = joint_positions(motions, _bodies(character.body, _CANDIDATES), every)
    chosen = int(np.argmin(_hiding(joints, character.body)))
    seen = project(_camera(rng, joints[[chosen]]), joints[[chosen]])[0] / _STATURE_M
    body = np.stack([seen.real, seen.imag], axis=-1)  # 1 + frames, 18, 2

    names = ("heading", "head_yaw", "head_roll", "lean_side")
    heading, yaw, roll, lean = motions.channels(every, names)[chosen].T
    yaw, roll = (heading + yaw) / (np.pi / 4), -(roll + lean)
    yaw[0] *= 0.4
    mouth, blink = _expressions(rng, times_s)
    blink[0] = 0.0  # the reference shows the eyes
    poses = [
        _posed(character, body[i], _HeadState(yaw[i], roll[i], mouth[i], blink[i]))
        for i in range(len(times_s))
    ]
    return Performance(reference=poses[0], frames=tuple(poses[1:]))


def moved(person: PersonPose, scale: float, shift: Floats) -> PersonPose:
    """A person scaled about the origin, then shifted by [2]; missing joints stay missing."""

    def part(points: Floats) -> Floats:
        places = np.where(points[:, 2:] > 0, points[:, :2] * scale + shift, 0.0)
        return np.concatenate([places, points[:, 2:]], axis=1)

    return PersonPose(
        body=part(person.body),
        face=part(person.face),
        left_hand=part(person.left_hand),
        right_hand=part(person.right_hand),
    )


@dataclass(frozen=True)
class _HeadState:
    yaw: float
    roll: float
    mouth_open: float
    blink: float


def _facing(rng: np.random.Generator, motions: Motions) -> Motions:
    """The motions of people who turn to the side at most, and stay about where they are."""
    offset, amplitude = motions.offset.copy(), motions.amplitude.copy()
    heading, twist = _CHANNEL["heading"], _CHANNEL["twist"]
    offset[:, heading] = rng.normal(0.0, 0.2, len(offset)).clip(-0.35, 0.35)
    for channel, most in ((heading, _MOST_TURNED - 0.35), (twist, 0.25)):
        size = np.abs(amplitude[:, channel]).sum(axis=-1, keepdims=True)
        amplitude[:, channel] *= np.minimum(1.0, most / np.maximum(size, 1e-9))
    amplitude[:, [_CHANNEL["path_x"], _CHANNEL["path_z"]]] *= 0.5
    still = np.zeros_like(motions.velocity)
    return replace(
        motions,
        offset=offset,
        amplitude=amplitude,
        velocity=still,
        turn_rate=still[:, 0],
        step_noise=0.5 * motions.step_noise,
    )


def _hiding(joints: Floats, shape: BodyShape) -> Floats:
    """How often hands are before the face, for each motion; joints [B, T, 18, 3] in metres."""
    head = joints[..., [1], :2] + np.array([0.0, _STATURE_M * (shape.neck + shape.head / 2)])
    away = np.linalg.norm(joints[..., [3, 4, 6, 7], :2] - head, axis=-1)
    return (away < 0.75 * _STATURE_M * shape.head).mean(axis=(1, 2))


def _bodies(shape: BodyShape, count: int) -> Bodies:
    """The drawn proportions in metres; the head's joints are replaced afterwards."""
    lengths = {
        "torso": shape.torso,
        "shoulders": shape.shoulders,
        "hips": shape.hips,
        "upper_arm": shape.upper_arm,
        "forearm": shape.forearm,
        "thigh": shape.thigh,
        "shank": shape.shin,
        "ankle_height": shape.ankle,
        "neck_to_nose": shape.neck + shape.head / 2,
        "nose_depth": 0.06,
        "eyes": 0.04,
        "ears": 0.09,
    }
    return Bodies(
        lengths={name: np.full(count, _STATURE_M * size) for name, size in lengths.items()}
    )


def _camera(rng: np.random.Generator, joints: Floats) -> Cameras:
    center = joints.mean(axis=(1, 2))
    offset = [rng.normal(0.0, 0.2), rng.normal(0.0, 0.3), np.exp(rng.uniform(1.1, 2.2))]
    return Cameras(
        position=center + np.array([offset]), target=center, roll=rng.normal(0.0, 0.015, 1)
    )


def _expressions(rng: np.random.Generator, times_s: Floats) -> tuple[Floats, Floats]:
    """How far the mouth is open and the eyes are closed, 0..1, at each time."""
    talk = np.sin(2 * np.pi * rng.uniform(0.3, 1.5) * times_s + rng.uniform(0, 2 * np.pi))
    beat = np.sin(2 * np.pi * rng.uniform(0.1, 0.5) * times_s + rng.uniform(0, 2 * np.pi))
    mouth = rng.uniform(0.0, 1.0) * np.clip(talk * beat + rng.uniform(-0.3, 0.5), 0.0, 1.0)
    period, late = rng.uniform(1.5, 4.0), rng.uniform(0.0, 4.0)
    since = (times_s + late) % period - period / 2
    return mouth, np.exp(-((since / 0.1) ** 2))


def _posed(character: Character, body: Floats, state: _HeadState) -> PersonPose:
    shape = character.body
    up = np.array([np.sin(state.roll), -np.cos(state.roll)])
    head = HeadPose(
        center=body[1] + (shape.neck + shape.head / 2) * up,
        half_height=shape.head / 2,
        roll=state.roll,
        yaw=float(np.clip(state.yaw, -1.0, 1.0)),
        mouth_open=state.mouth_open,
        blink=state.blink,
    )
    body = body.copy()
    body[[0, 14, 15, 16, 17]] = head_joints(character.face, head)
    return PersonPose(
        body=_sure(body),
        face=_sure(face_landmarks(character.face, head)),
        right_hand=_sure(hand_joints(body[3], body[4], 1.0, -1.0)),
        left_hand=_sure(hand_joints(body[6], body[7], 1.0, 1.0)),
    )


def _sure(points: Floats) -> Floats:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)
