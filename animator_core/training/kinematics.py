"""Where the joints of a body are while it performs a motion, and how a camera sees them.

World axes: x to the right, y up, z towards the camera; metres. A heading of 0 faces the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..pose.skeletons import BODY_JOINTS, NUM_BODY
from .bodies import Bodies
from .motions import CHANNELS, Motions

__all__ = ["Cameras", "joint_positions", "project", "sample_cameras"]

Array = NDArray[np.float64]
_JOINT = {name: i for i, name in enumerate(BODY_JOINTS)}
_CHANNEL = {name: i for i, name in enumerate(CHANNELS)}
_REACH = 0.995  # a leg is never quite straight
_SWING = 0.4  # part of a step's period in which the foot is in the air


def _unit(vectors: Array) -> Array:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9)


def _basis(yaw: Array, pitch: Array, roll: Array) -> Array:
    """Rotations whose columns are the body's left, up and front axes, [..., 3, 3]."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(*rows: Array) -> Array:
        return np.stack(rows, -1).reshape(*yaw.shape, 3, 3)

    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_x = matrix(one, zero, zero, zero, cp, -sp, zero, sp, cp)
    about_z = matrix(cr, -sr, zero, sr, cr, zero, zero, zero, one)
    return about_y @ about_x @ about_z


def _plant(motions: Motions, foot: int, step: NDArray[np.int64], size: Array) -> Array:
    """Where a foot stands during its n-th step, [B, T, 2] on the ground."""
    period = motions.step_period_s[:, None]
    still = ~np.isfinite(period)
    middle = np.where(still, 0.0, (step + 0.5 - 0.5 * foot) * np.where(still, 1.0, period))
    place, heading = motions.ground(middle)
    side = (-1.0 if foot == 0 else 1.0) * motions.stance[:, None] * size
    across = np.stack([np.cos(heading), -np.sin(heading)], -1) * side[..., None]
    rows = np.arange(len(step))[:, None]
    return place * size[..., None] + across + motions.step_noise[rows, foot, step % 64]


def _foot(motions: Motions, foot: int, times_s: Array, size: Array) -> Array:
    """Ankle above the ground contact, [B, T, 3] in metres; foot 0 is the right one."""
    period = motions.step_period_s[:, None]
    moving = np.isfinite(period)
    phase = np.where(moving, times_s / np.where(moving, period, 1.0) + 0.5 * foot, 0.0)
    step = np.floor(phase).astype(np.int64)
    swing = np.clip((phase - step - (1 - _SWING)) / _SWING, 0, 1)
    blend = (swing * swing * (3 - 2 * swing))[..., None]
    place = _plant(motions, foot, step, size) * (1 - blend)
    place = place + _plant(motions, foot, step + 1, size) * blend
    lift = motions.step_height[:, None] * np.sin(np.pi * swing)
    return np.stack([place[..., 0], lift, place[..., 1]], -1)


def _knee(hip: Array, ankle: Array, pole: Array, thigh: Array, shank: Array) -> tuple[Array, Array]:
    """Knee of a leg with given ends (two-bone inverse kinematics) and the ankle it can reach."""
    line = ankle - hip
    distance = np.linalg.norm(line, axis=-1, keepdims=True)
    reach = np.clip(distance, 0.3 * (thigh + shank), _REACH * (thigh + shank))
    axis = line / (distance + 1e-9)
    along = (thigh**2 - shank**2 + reach**2) / (2 * reach)
    aside = np.sqrt(np.maximum(thigh**2 - along**2, 0))
    pole = _unit(pole - (pole * axis).sum(-1, keepdims=True) * axis)
    return hip + axis * along + pole * aside, hip + axis * reach


def _arms(
    values: Array, bodies: Bodies, chest: Array, shoulders: tuple[Array, Array]
) -> list[Array]:
    """Right elbow, right wrist, left elbow, left wrist, each [B, T, 3]."""
    joints: list[Array] = []
    for side, shoulder in enumerate(shoulders):
        start = 6 * side
        mirror = np.array([-1.0 if side == 0 else 1.0, 1, 1])  # positive x is outwards
        upper = _unit(values[..., start : start + 3] * mirror)
        bend = values[..., start + 3 : start + 6] * mirror
        lower = _unit(upper * 0.9 + _unit(bend) * np.linalg.norm(bend, axis=-1, keepdims=True))
        elbow = shoulder + (chest @ upper[..., None])[..., 0] * bodies["upper_arm"][:, None, None]
        wrist = elbow + (chest @ lower[..., None])[..., 0] * bodies["forearm"][:, None, None]
        joints += [elbow, wrist]
    return joints


def _head(values: Array, bodies: Bodies, heading: Array, neck: Array) -> list[Array]:
    """Nose, right eye, left eye, right ear, left ear, each [B, T, 3]."""
    turn = _basis(
        heading + values[..., _CHANNEL["head_yaw"]],
        values[..., _CHANNEL["head_pitch"]] + values[..., _CHANNEL["lean_forward"]],
        values[..., _CHANNEL["head_roll"]] + values[..., _CHANNEL["lean_side"]],
    )
    up, depth, eyes, ears = (
        bodies[n][:, None] for n in ("neck_to_nose", "nose_depth", "eyes", "ears")
    )
    zero = np.zeros_like(up)
    points = [
        (zero, up, depth),
        (-eyes / 2, up * 1.22, depth * 0.75),
        (eyes / 2, up * 1.22, depth * 0.75),
        (-ears / 2, up * 1.15, -depth * 0.3),
        (ears / 2, up * 1.15, -depth * 0.3),
    ]
    return [neck + (turn @ np.stack(p, -1)[..., None])[..., 0] for p in points]


def _pelvis(motions: Motions, bodies: Bodies, values: Array, feet: list[Array]) -> Array:
    """Centre of the hips, [B, T, 3]: over the feet, as high as both legs allow."""
    size = bodies.leg[:, None] / 0.83
    middle = (feet[0] + feet[1]) / 2
    sway = values[..., [_CHANNEL["sway_x"], _CHANNEL["sway_z"]]] * size[..., None]
    x, z = middle[..., 0] + sway[..., 0], middle[..., 2] + sway[..., 1]
    leg = bodies.leg[:, None]
    spread = _farther_foot(feet, x, z)
    highest = np.sqrt(np.maximum((_REACH * leg) ** 2 - spread**2, (0.4 * leg) ** 2))
    wanted = leg * (1 - np.abs(values[..., _CHANNEL["crouch"]]))
    lift = np.minimum(feet[0][..., 1], feet[1][..., 1])
    y = np.minimum(wanted, highest) + lift
    seat = 0.52 * leg
    y = np.where(motions.seated[:, None], seat, y)
    return np.stack([x, y, z], -1)


def _farther_foot(feet: list[Array], x: Array, z: Array) -> Array:
    """Horizontal distance from a place to the farther foot, [B, T]."""
    return np.maximum(*(np.hypot(foot[..., 0] - x, foot[..., 2] - z) for foot in feet))


def _legs(
    motions: Motions, bodies: Bodies, values: Array, stand: tuple[Array, Array, list[Array]]
) -> dict[str, Array]:
    """Hips, knees and ankles by name, each [B, T, 3], from pelvis, its axes and the feet."""
    pelvis, facing, feet = stand
    front, left = facing[..., 2], facing[..., 0]
    joints: dict[str, Array] = {}
    for foot, (side, sign) in enumerate((("right", -1), ("left", 1))):
        hip = pelvis + sign * left * bodies["hips"][:, None, None] / 2
        ankle = feet[foot].copy()
        seated = motions.seated[:, None, None]
        ankle = np.where(seated, ankle + front * 0.95 * bodies["thigh"][:, None, None], ankle)
        pole = front + sign * left * values[..., [_CHANNEL[f"knee_{side[0]}"]]]
        pole = np.where(seated, pole + np.array([0, 1.0, 0]), pole)
        knee, ankle = _knee(
            hip, ankle, pole, bodies["thigh"][:, None, None], bodies["shank"][:, None, None]
        )
        joints |= {f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle}
    return joints


def joint_positions(motions: Motions, bodies: Bodies, times_s: Array) -> Array:
    """Joints of B bodies that perform B motions.

    Args:
        motions: What they do.
        bodies: Who does it; steps are scaled by the legs.
        times_s: [B, T] moments.

    Returns:
        [B, T, 18, 3] in metres, in the order of `skeletons.BODY_JOINTS`.
    """
    values = motions.channels(times_s)
    size = bodies.leg[:, None] / 0.83
    _, heading = motions.ground(times_s)
    feet = [_foot(motions, foot, times_s, size) for foot in (0, 1)]
    pelvis = _pelvis(motions, bodies, values, feet)
    facing = _basis(heading, np.zeros_like(heading), np.zeros_like(heading))
    chest = _basis(
        heading + values[..., _CHANNEL["twist"]],
        values[..., _CHANNEL["lean_forward"]],
        values[..., _CHANNEL["lean_side"]],
    )
    neck = pelvis + chest[..., 1] * bodies["torso"][:, None, None]
    across = chest[..., 0] * bodies["shoulders"][:, None, None] / 2
    joints = np.zeros((*times_s.shape, NUM_BODY, 3))
    joints[:, :, _JOINT["neck"]] = neck
    for joint, value in zip(
        ("right_shoulder", "left_shoulder"), (neck - across, neck + across), strict=True
    ):
        joints[:, :, _JOINT[joint]] = value
    arms = _arms(values, bodies, chest, (neck - across, neck + across))
    for joint, value in zip(
        ("right_elbow", "right_wrist", "left_elbow", "left_wrist"), arms, strict=True
    ):
        joints[:, :, _JOINT[joint]] = value
    heads = _head(values, bodies, heading, neck)
    for joint, value in zip(
        ("nose", "right_eye", "left_eye", "right_ear", "left_ear"), heads, strict=True
    ):
        joints[:, :, _JOINT[joint]] = value
    for name, value in _legs(motions, bodies, values, (pelvis, facing, feet)).items():
        joints[:, :, _JOINT[name]] = value
    joints[..., 1] += bodies["ankle_height"][:, None, None]
    return joints


@dataclass(frozen=True, kw_only=True, eq=False)
class Cameras:
    """B cameras that look at a point and do not move.

    Attributes:
        position: [B, 3] in metres.
        target: [B, 3] in metres.
        roll: [B] in radians.
    """

    position: Array
    target: Array
    roll: Array


def sample_cameras(rng: np.random.Generator, centres: Array, roll_rad: float = 0.015) -> Cameras:
    """Cameras at human heights, 1.8 to 9 m away.

    Args:
        rng: Source of randomness.
        centres: [B, 3] middle of what is to be seen, in metres.
        roll_rad: Standard deviation of the roll; a tripod's is small.
    """
    count = len(centres)
    distance = np.exp(rng.uniform(np.log(1.8), np.log(9.0), count))
    height = rng.normal(1.2, 0.4, count).clip(0.2, 2.4)
    position = centres + np.stack([rng.normal(0, 0.15, count), np.zeros(count), distance], -1)
    position[:, 1] = height
    target = centres + rng.normal(0, 0.1, (count, 3))
    return Cameras(position=position, target=target, roll=rng.normal(0, roll_rad, count))


def project(cameras: Cameras, points: Array) -> NDArray[np.complex128]:
    """Pictures of points, in units of about one metre at the target.

    Args:
        cameras: B cameras.
        points: [B, T, J, 3] in metres.

    Returns:
        [B, T, J] complex picture coordinates, x right and y down.
    """
    look = _unit(cameras.position - cameras.target)  # from the target to the camera
    right = _unit(np.cross(np.array([0.0, 1.0, 0.0]), look))
    up = np.cross(look, right)
    relative = points - cameras.position[:, None, None]
    depth = -np.einsum("btjc,bc->btj", relative, look).clip(max=-0.3)
    focal = np.linalg.norm(cameras.position - cameras.target, axis=-1)[:, None, None]
    x = np.einsum("btjc,bc->btj", relative, right) / depth * focal
    y = -np.einsum("btjc,bc->btj", relative, up) / depth * focal
    return (x + 1j * y) * np.exp(1j * cameras.roll)[:, None, None]
