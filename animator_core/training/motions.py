"""Smooth random motions: what a body does, independent of who does it.

Every quantity is a closed-form function of time (offset plus a few sinusoids), so a motion can be
evaluated at any moment, for any body. Feet stand still between steps and the body moves over them,
so root motion and limbs are coupled as they are in people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNELS", "KINDS", "MotionKind", "Motions", "sample_motions"]

Array = NDArray[np.float64]

CHANNELS: tuple[str, ...] = (
    *(f"{side}_{part}_{axis}" for side in "rl" for part in ("arm", "hand") for axis in "xyz"),
    "lean_forward",
    "lean_side",
    "twist",
    "head_yaw",
    "head_pitch",
    "head_roll",
    "sway_x",
    "sway_z",
    "crouch",
    "heading",
    "path_x",
    "path_z",
    "knee_r",
    "knee_l",
)
_INDEX = {name: i for i, name in enumerate(CHANNELS)}
_WAVES = 6
_ARM = slice(0, 12)


@dataclass(frozen=True, kw_only=True)
class MotionKind:
    """Typical amplitudes of one kind of motion.

    Attributes:
        arms: How far the arms leave their resting direction (1: anywhere).
        trunk: Leaning and twisting [rad].
        sway: Movement of the pelvis over the feet [m].
        crouch: Lowering of the pelvis, as a fraction of the leg.
        heading: Slow turning of the whole body [rad].
        turn_rate: Steady turning, at most [rad/s].
        path: Wandering of the place on the ground [m].
        speed: Steady travel, at most [m/s].
        sideways: Whether travel is across the picture while facing the camera.
        stepping: Whether feet step even when the place does not change.
        seated: Whether the person sits.
        share: How often the kind is drawn, relative to the others.
    """

    arms: float = 0.5
    trunk: float = 0.08
    sway: float = 0.03
    crouch: float = 0.02
    heading: float = 0.15
    turn_rate: float = 0.0
    path: float = 0.0
    speed: float = 0.0
    sideways: bool = False
    stepping: bool = False
    seated: bool = False
    share: float = 1.0


KINDS: dict[str, MotionKind] = {
    "dance": MotionKind(
        arms=0.9,
        trunk=0.10,
        sway=0.04,
        crouch=0.05,
        heading=0.25,
        path=0.03,
        stepping=True,
        share=1.5,
    ),
    "dance_in_place": MotionKind(
        arms=0.9, trunk=0.10, sway=0.04, crouch=0.05, heading=0.15, share=1.5
    ),
    "sidestep": MotionKind(
        arms=0.8,
        trunk=0.1,
        sway=0.04,
        crouch=0.05,
        heading=0.3,
        path=0.06,
        speed=0.4,
        sideways=True,
        stepping=True,
        share=0.5,
    ),
    "walk": MotionKind(
        arms=0.25, trunk=0.05, sway=0.02, path=0.05, speed=1.3, stepping=True, share=0.5
    ),
    "wave": MotionKind(arms=0.7, trunk=0.05, sway=0.02),
    "turn": MotionKind(
        arms=0.5, trunk=0.08, sway=0.04, heading=0.8, turn_rate=2.0, path=0.05, stepping=True
    ),
    "sit": MotionKind(arms=0.6, trunk=0.12, sway=0.01, crouch=0.0, seated=True),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Motions:
    """B motions as functions of time.

    Attributes:
        kinds: Index into `KINDS` of each motion, [B].
        offset: [B, channels].
        amplitude: [B, channels, waves].
        frequency_hz: [B, channels, waves].
        phase: [B, channels, waves], in radians.
        hold: [B]; above 0 poses are held and changed quickly.
        velocity: [B, 2] steady travel on the ground [m/s].
        turn_rate: [B] steady turning [rad/s].
        step_period_s: [B] time from a foot's step to its next; infinite when feet stay.
        step_height: [B] how high a foot is lifted [m].
        stance: [B] half the distance between the feet [m].
        step_noise: [B, 2 feet, 64 steps, 2] scatter of the places where feet land [m].
        seated: [B].
    """

    kinds: NDArray[np.int64]
    offset: Array
    amplitude: Array
    frequency_hz: Array
    phase: Array
    hold: Array
    velocity: Array
    turn_rate: Array
    step_period_s: Array
    step_height: Array
    stance: Array
    step_noise: Array
    seated: NDArray[np.bool_]

    def channels(self, times_s: Array, names: Sequence[str] | None = None) -> Array:
        """Values of the channels.

        Args:
            times_s: [B, T].
            names: Which channels; all of them if not given.

        Returns:
            [B, T, channels].
        """
        pick = slice(None) if names is None else [_INDEX[n] for n in names]
        angle = (
            2 * np.pi * self.frequency_hz[:, None, pick] * times_s[:, :, None, None]
            + self.phase[:, None, pick]
        )
        waves = np.einsum("btcw,bcw->btc", np.sin(angle), self.amplitude[:, pick])
        size = np.abs(self.amplitude[:, None, pick]).sum(-1) + 1e-9
        gain = 1 + 4 * self.hold[:, None, None]
        held = np.tanh(gain * waves / size) / np.tanh(gain) * size  # plateaus between quick changes
        waves = np.where(self.hold[:, None, None] > 0, held, waves)
        return self.offset[:, None, pick] + waves

    def ground(self, times_s: Array) -> tuple[Array, Array]:
        """Place on the ground [B, T, 2] in metres (x, z) and heading [B, T] in radians."""
        values = self.channels(times_s, ("path_x", "path_z", "heading"))
        place = values[..., :2] + self.velocity[:, None] * times_s[..., None]
        return place, values[..., 2] + self.turn_rate[:, None] * times_s


def _waves(rng: np.random.Generator, count: int, beat_hz: Array) -> tuple[Array, Array, Array]:
    """Amplitudes of unit size in all, frequencies and phases: half on the beat, half free."""
    shape = (count, len(CHANNELS), _WAVES)
    on_beat = beat_hz[:, None, None] * rng.choice([0.25, 0.5, 0.5, 1.0, 2.0], shape)
    free = np.exp(rng.uniform(np.log(0.05), np.log(1.2), shape))
    frequency = np.where(rng.random(shape) < 0.5, on_beat, free)
    amplitude = rng.normal(0, 1, shape) / np.sqrt(0.3 + frequency)
    amplitude /= np.sqrt((amplitude**2).sum(-1, keepdims=True)) / np.sqrt(2)
    return amplitude, frequency, rng.uniform(0, 2 * np.pi, shape)


def _scales(rng: np.random.Generator, rows: list[MotionKind]) -> Array:
    """Size of each channel's movement, [B, channels]."""
    count = len(rows)
    vigour = np.exp(rng.normal(-0.5, 0.6, count))  # calm people are calm all over

    def of(name: str) -> Array:
        typical = np.array([getattr(row, name) for row in rows], dtype=np.float64)
        share = 0.3 if name == "arms" else 1.0  # arms swing even when the body rests
        return typical * vigour**share * np.exp(rng.normal(0, 0.4, count))

    scale = np.zeros((count, len(CHANNELS)))
    for side in range(2):  # an arm that hangs still beside one that moves is common
        calm = np.where(rng.random(count) < 0.2, 0.2, 1.0)
        scale[:, 6 * side : 6 * side + 6] = (of("arms") * calm)[:, None]
    groups = {
        "trunk": ("lean_forward", "lean_side", "twist"),
        "sway": ("sway_x", "sway_z"),
        "crouch": ("crouch",),
        "heading": ("heading",),
        "path": ("path_x", "path_z"),
    }
    for name, members in groups.items():
        for member in members:
            scale[:, _INDEX[member]] = of(name)
    scale[:, _INDEX["path_z"]] *= 0.6
    for name, size in {"head_yaw": 0.3, "head_pitch": 0.15, "head_roll": 0.12}.items():
        scale[:, _INDEX[name]] = size * np.exp(rng.normal(0, 0.4, count))
    scale[:, [_INDEX["knee_r"], _INDEX["knee_l"]]] = 0.15
    return scale


def _offsets(rng: np.random.Generator, count: int) -> Array:
    """Resting posture of each channel, [B, channels]."""
    offset = np.zeros((count, len(CHANNELS)))
    for side in "rl":
        offset[:, _INDEX[f"{side}_arm_x"]] = rng.normal(0.3, 0.2, count)
        offset[:, _INDEX[f"{side}_arm_y"]] = rng.normal(-0.8, 0.35, count)
        offset[:, _INDEX[f"{side}_arm_z"]] = rng.normal(0.1, 0.2, count)
        offset[:, _INDEX[f"{side}_hand_x"]] = rng.normal(-0.2, 0.4, count)
        offset[:, _INDEX[f"{side}_hand_y"]] = rng.normal(-0.2, 0.7, count)
        offset[:, _INDEX[f"{side}_hand_z"]] = rng.normal(0.5, 0.4, count)
        offset[:, _INDEX[f"knee_{side}"]] = rng.normal(0.2, 0.25, count)
    offset[:, _INDEX["lean_forward"]] = rng.normal(0.03, 0.07, count)
    offset[:, _INDEX["lean_side"]] = rng.normal(0, 0.03, count)
    offset[:, _INDEX["head_pitch"]] = rng.normal(0, 0.12, count)
    offset[:, _INDEX["crouch"]] = np.abs(rng.normal(0.03, 0.03, count))
    away = rng.random(count) < 0.12  # seen from any side; otherwise roughly facing the camera
    offset[:, _INDEX["heading"]] = np.where(
        away, rng.uniform(-np.pi, np.pi, count), rng.normal(0, 0.35, count)
    )
    return offset


def _mirror_arms(
    rng: np.random.Generator, amplitude: Array, frequency: Array, phase: Array
) -> None:
    """In a third of the motions the left arm does what the right one does, or half a wave later."""
    both = np.flatnonzero(rng.random(len(amplitude)) < 0.35)
    lag = rng.choice([0.0, 0.0, np.pi], len(both))[:, None, None]
    amplitude[both, 6:12] = amplitude[both, 0:6]
    frequency[both, 6:12] = frequency[both, 0:6]
    phase[both, 6:12] = phase[both, 0:6] + lag


def sample_motions(
    rng: np.random.Generator, count: int, kinds: Sequence[str] | None = None
) -> Motions:
    """Draw motions.

    Args:
        rng: Source of randomness.
        count: Number of motions B.
        kinds: Names out of `KINDS` to draw from; all of them if not given.
    """
    names = list(KINDS)
    chosen = [names.index(k) for k in (kinds or names)]
    share = np.array([KINDS[names[i]].share for i in chosen])
    index = rng.choice(chosen, count, p=share / share.sum())
    rows = [KINDS[names[i]] for i in index]
    beat_hz = rng.uniform(1.2, 2.4, count)
    amplitude, frequency, phase = _waves(rng, count, beat_hz)
    slow = [_INDEX[n] for n in ("heading", "path_x", "path_z")]
    frequency[:, slow] = np.minimum(frequency[:, slow], beat_hz[:, None, None] / 2) * 0.5
    _mirror_arms(rng, amplitude, frequency, phase)
    amplitude *= _scales(rng, rows)[..., None] / np.sqrt(2)

    speed = np.array([r.speed for r in rows]) * rng.uniform(0, 1, count)
    offset = _offsets(rng, count)
    direction = offset[:, _INDEX["heading"]] + np.where(
        [r.sideways for r in rows],
        np.pi / 2 * rng.choice([-1, 1], count),
        rng.normal(0, 0.1, count),
    )
    # walking people are seen from any side
    walking = np.array([r.speed > 1 for r in rows])
    around = rng.uniform(-np.pi, np.pi, count) * walking
    offset[:, _INDEX["heading"]] += around
    direction = direction + around
    stepping = np.array([r.stepping for r in rows]) | (speed > 0.05)
    return Motions(
        kinds=index,
        offset=offset,
        amplitude=amplitude,
        frequency_hz=frequency,
        phase=phase,
        hold=np.where(rng.random(count) < 0.4, rng.uniform(0.1, 1, count), 0.0),
        velocity=speed[:, None] * np.stack([np.sin(direction), np.cos(direction)], -1),
        turn_rate=np.array([r.turn_rate for r in rows]) * rng.uniform(-1, 1, count),
        step_period_s=np.where(stepping, rng.choice([1.0, 2.0, 2.0], count) / beat_hz, np.inf),
        step_height=rng.uniform(0.03, 0.2, count),
        stance=np.abs(rng.normal(0.11, 0.06, count)),
        step_noise=rng.normal(0, 0.02, (count, 2, 64, 2)) * rng.uniform(0, 2, (count, 1, 1, 1)),
        seated=np.array([r.seated for r in rows]),
    )
