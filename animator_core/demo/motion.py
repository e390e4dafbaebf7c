"""A smooth dance, as poses of a body of given proportions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..pose.keypoints import FramePose, PersonPose, PoseSequence
from ..pose.skeletons import NUM_BODY, NUM_HAND
from .face import HeadPose, face_landmarks, head_joints
from .identity import BodyShape, Character

__all__ = ["Dance", "dance_motion", "hand_joints", "standing_pose"]

Floats = NDArray[np.float64]

_FIGURE_SHARE = 0.82  # of the canvas height, so that raised hands stay inside
_FLOOR = 0.93  # the soles, as a share of the canvas height
_BEATS_PER_SECOND = 1.1
_DOWN = np.array([0.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class Dance:
    """How a dance is done; every number of these follows from the seed.

    Attributes:
        sway: Sideways travel of the hips, as a share of the standing height.
        bounce: How far they sink, likewise.
        raise_high: Highest angle of the upper arms from hanging down, in radians.
        wave: Swing of the forearms, in radians.
        phase: Where the dance begins, in radians.
        arm_lag: By how much the left arm follows the right one, in radians.
    """

    sway: float
    bounce: float
    raise_high: float
    wave: float
    phase: float
    arm_lag: float

    @staticmethod
    def drawn(seed: int) -> Dance:
        """Draw a dance by lot; a seed always gives the same one."""
        lot = np.random.default_rng(seed)
        return Dance(
            sway=float(lot.uniform(0.02, 0.045)),
            bounce=float(lot.uniform(0.012, 0.03)),
            raise_high=float(lot.uniform(1.7, 2.1)),
            wave=float(lot.uniform(0.4, 0.7)),
            phase=float(lot.uniform(0.0, 2 * np.pi)),
            arm_lag=float(lot.uniform(0.6, 1.4) * np.pi),
        )


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """The state of the body at one time; angles in radians, lengths in standing heights."""

    hip_shift: float = 0.0
    sink: float = 0.0
    lean: float = 0.0
    upper_arms: tuple[float, float] = (0.28, 0.28)
    forearms: tuple[float, float] = (0.12, 0.12)
    lifts: tuple[float, float] = (0.0, 0.0)
    roll: float = 0.0
    yaw: float = 0.0
    mouth_open: float = 0.0
    blink: float = 0.0


def standing_pose(character: Character, width: int, height: int) -> FramePose:
    """The person standing at ease, facing the viewer.

    Args:
        character: Whose proportions to take.
        width: Of the canvas [px].
        height: Of the canvas [px].
    """
    return _posed(character, _Moment(), width, height)


def dance_motion(
    character: Character, num_frames: int, fps: float, *, width: int, height: int, seed: int
) -> PoseSequence:
    """A person swaying, stepping and waving, with all joints, hands and face landmarks.

    Args:
        character: Whose proportions to take.
        num_frames: Length.
        fps: Frames per second.
        width: Of the canvas [px].
        height: Of the canvas [px].
        seed: Of the dance.
    """
    dance = Dance.drawn(seed)
    moments = (_moment(dance, frame / fps) for frame in range(num_frames))
    return [_posed(character, moment, width, height) for moment in moments]


def _moment(dance: Dance, seconds: float) -> _Moment:
    beat = 2 * np.pi * _BEATS_PER_SECOND * seconds + dance.phase
    half = beat / 2  # a step to each side takes two beats
    arms, bends = [], []
    for lag in (0.0, dance.arm_lag):
        up = 0.5 - 0.5 * np.cos(half / 2 + lag)  # 0 hanging, 1 raised
        arms.append(0.3 + (dance.raise_high - 0.3) * up + 0.12 * np.sin(beat + lag))
        # a raised arm waves with its forearm; a hanging one swings a little
        bends.append(0.25 + up * (0.75 + dance.wave * np.sin(2 * beat + lag)))
    return _Moment(
        hip_shift=dance.sway * np.sin(half),
        sink=dance.bounce * (0.5 - 0.5 * np.cos(beat)),
        lean=0.07 * np.sin(half + 0.4),
        upper_arms=(arms[0], arms[1]),
        forearms=(bends[0], bends[1]),
        lifts=(0.03 * max(np.sin(half), 0.0) ** 2, 0.03 * max(-np.sin(half), 0.0) ** 2),
        roll=0.12 * np.sin(half + 0.9),
        yaw=0.35 * np.sin(half / 2 + 0.3),
        mouth_open=0.35 * (0.5 + 0.5 * np.sin(beat * 0.75)),
        blink=float(np.exp(-((seconds % 2.3 - 1.2) ** 2) / 0.004)),
    )


def _posed(character: Character, moment: _Moment, width: int, height: int) -> FramePose:
    body, unit = character.body, _FIGURE_SHARE * height
    joints = _joints(body, moment)
    origin = np.array([width / 2, _FLOOR * height])
    pixels = origin + unit * joints
    up = _rotated(-_DOWN, moment.lean + moment.roll)
    head = HeadPose(
        center=pixels[1] + unit * (body.neck + body.head / 2) * up,
        half_height=unit * body.head / 2,
        roll=moment.lean + moment.roll,
        yaw=moment.yaw,
        mouth_open=moment.mouth_open,
        blink=moment.blink,
    )
    pixels[[0, 14, 15, 16, 17]] = head_joints(character.face, head)
    person = PersonPose(
        body=_sure(pixels),
        face=_sure(face_landmarks(character.face, head)),
        right_hand=_sure(hand_joints(pixels[3], pixels[4], unit, -1.0)),
        left_hand=_sure(hand_joints(pixels[6], pixels[7], unit, 1.0)),
    )
    return FramePose(people=(person,), width=width, height=height)


def _joints(body: BodyShape, moment: _Moment) -> Floats:
    """Body joints [18, 2] in standing heights, floor at 0; those of the head stay 0."""
    joints = np.zeros((NUM_BODY, 2))
    hip_height = body.ankle + 0.985 * (body.shin + body.thigh) - moment.sink
    hips = np.array([moment.hip_shift, -hip_height])
    along = _rotated(-_DOWN, moment.lean)
    across = np.array([-along[1], along[0]])
    neck = hips + body.torso * along
    joints[1] = neck
    for side, shoulder, hip in ((-1.0, 2, 8), (1.0, 5, 11)):
        index = 0 if side < 0 else 1
        joints[shoulder] = neck + side * body.shoulders / 2 * across
        upper = _rotated(_DOWN, -side * moment.upper_arms[index])
        bend = moment.upper_arms[index] + moment.forearms[index]
        joints[shoulder + 1] = joints[shoulder] + body.upper_arm * upper
        lower = _rotated(_DOWN, -side * bend)
        joints[shoulder + 2] = joints[shoulder + 1] + body.forearm * lower
        joints[hip] = hips + side * body.hips / 2 * across
        foot = np.array([side * (body.hips / 2 + 0.03), -body.ankle - moment.lifts[index]])
        joints[hip + 1] = _knee(joints[hip], foot, body, side)
        joints[hip + 2] = foot
    return joints


def _knee(hip: Floats, ankle: Floats, body: BodyShape, side: float) -> Floats:
    """Knee of a leg that points a little outwards when it bends."""
    line = ankle - hip
    distance = float(np.hypot(*line))
    reach = min(distance, body.thigh + body.shin)
    along = (reach**2 + body.thigh**2 - body.shin**2) / (2 * reach)
    bulge = np.sqrt(max(body.thigh**2 - along**2, 0.0))
    direction = line / distance
    outwards = side * np.array([direction[1], -direction[0]])
    # seen from the front, most of the bend is towards the viewer
    return hip + along * direction + 0.45 * bulge * outwards


def hand_joints(elbow: Floats, wrist: Floats, unit: float, side: float) -> Floats:
    """Joints [21, 2] of an open hand in line with the forearm, the thumb towards the head.

    Args:
        elbow: [2].
        wrist: [2].
        unit: Standing height, in the same unit.
        side: -1 for the person's right hand, 1 for the left one.
    """
    line = wrist - elbow
    along = line / max(float(np.hypot(*line)), 1e-9)
    joints = np.empty((NUM_HAND, 2))
    joints[0] = wrist
    # palm to the viewer when raised, its back when hanging, on edge in between
    turn = side * float(np.clip(-2.0 * along[1], -1.0, 1.0))
    spreads, lengths = (-0.9, -0.32, -0.08, 0.16, 0.42), (0.75, 0.95, 1.0, 0.95, 0.8)
    for finger, (spread, length) in enumerate(zip(spreads, lengths, strict=True)):
        direction = _rotated(along, turn * spread)
        for joint, share in enumerate((0.45, 0.68, 0.86, 1.0)):
            joints[1 + 4 * finger + joint] = wrist + 0.075 * unit * length * share * direction
    return joints


def _rotated(vector: Floats, angle: float) -> Floats:
    """Clockwise on the screen by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([vector[0] * cos - vector[1] * sin, vector[0] * sin + vector[1] * cos])


def _sure(points: Floats) -> Floats:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)
