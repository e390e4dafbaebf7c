"""Speed of skeleton drawing: the plain way, `exact` and `fast`, in one run.

Run: python benchmarks/drawing.py [--frames 450] [--width 512] [--height 512]
"""

from __future__ import annotations

import argparse
import colorsys
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from animator_core.pose.drawing import draw_poses
from animator_core.pose.keypoints import FramePose, PersonPose
from animator_core.pose.skeletons import BODY_COLORS_RGB, BODY_LIMBS, HAND_BONES

Picture = NDArray[np.uint8]


def draw_plainly(frame: FramePose, width: int, height: int) -> Picture:
    """The reference's way, step by step: fresh large canvas, limbs, dimming, the rest, shrinking.

    Slow, and independent of animator_core.pose.drawing; tests compare `exact` with it.
    """
    enlarge = 2160 / min(width, height)
    big_width, big_height = int(width * enlarge), int(height * enlarge)
    size = np.array([big_width, big_height, 1.0])
    canvas = np.zeros((big_height, big_width, 3), dtype=np.uint8)

    def points(part: NDArray[np.float64]) -> NDArray[np.float64]:
        return part / [frame.width, frame.height, 1.0] * size

    bodies = [points(person.body) for person in frame.people]
    for limb, (a, b) in enumerate(BODY_LIMBS):
        for body in bodies:
            if body[a, 2] >= 0.3 and body[b, 2] >= 0.3:
                _plain_limb(canvas, body[a], body[b], BODY_COLORS_RGB[limb])
    canvas = (canvas * 0.6).astype(np.uint8)
    for joint in range(18):
        for body in bodies:
            x, y, score = body[joint]
            if score > 0.3:
                color = [int(c * score) for c in BODY_COLORS_RGB[joint]]
                cv2.circle(canvas, (int(x), int(y)), 4, color, thickness=-1)
    for hand in [p.left_hand for p in frame.people] + [p.right_hand for p in frame.people]:
        _plain_hand(canvas, points(hand))
    for person in frame.people:
        for x, y, score in points(person.face):
            if int(x) > 0.01 and int(y) > 0.01:
                cv2.circle(canvas, (int(x), int(y)), 3, [int(score * 255)] * 3, thickness=-1)
    return cv2.resize(canvas, (width, height)).astype(np.uint8)


def _plain_limb(canvas: Picture, a: NDArray, b: NDArray, color: tuple[int, int, int]) -> None:
    (x, y), (dx, dy) = (a[:2] + b[:2]) / 2, a[:2] - b[:2]
    half = int(math.sqrt(dx * dx + dy * dy) / 2)
    angle = int(math.degrees(math.atan2(dy, dx)))
    outline = cv2.ellipse2Poly((int(x), int(y)), (half, 4), angle, 0, 360, 1)
    cv2.fillConvexPoly(canvas, outline, [int(c * (a[2] * b[2])) for c in color])


def _plain_hand(canvas: Picture, hand: NDArray[np.float64]) -> None:
    whole = hand[:, :2].astype(int)
    for bone, (a, b) in enumerate(HAND_BONES):
        if (whole[[a, b]] > 0.01).all():
            hue = np.array(colorsys.hsv_to_rgb(bone / 20, 1.0, 1.0))
            color = hue * int(hand[a, 2] * hand[b, 2] * 255)
            cv2.line(canvas, whole[a].tolist(), whole[b].tolist(), color.tolist(), thickness=2)
    for (x, y), score in zip(whole.tolist(), hand[:, 2], strict=True):
        if x > 0.01 and y > 0.01:
            cv2.circle(canvas, (x, y), 4, (0, 0, int(score * 255)), thickness=-1)


def moving_people(num_frames: int, seed: int = 0) -> list[FramePose]:
    """One person whose joints swing smoothly about random places, with hands and a face."""
    random = np.random.default_rng(seed)
    time_axis = np.linspace(0.0, 1.0, num_frames)[:, None, None]

    def swinging(joints: int, center: NDArray, spread: float) -> NDArray[np.float64]:
        rest = center + random.normal(0.0, spread, (1, joints, 2))
        phase, speed = random.uniform(0, 6.3, (1, joints, 2)), random.uniform(3, 30, (1, joints, 1))
        places = rest + spread / 3 * np.sin(phase + speed * time_axis)
        scores = random.uniform(0.4, 1.0, (1, joints, 1)).repeat(num_frames, axis=0)
        return np.concatenate([places, scores], axis=2)

    body = swinging(18, np.array([256.0, 256.0]), 90.0)
    face = swinging(68, np.array([256.0, 100.0]), 15.0)
    left = swinging(21, np.array([380.0, 260.0]), 12.0)
    right = swinging(21, np.array([130.0, 260.0]), 12.0)
    return [
        FramePose(
            people=(
                PersonPose(body=body[i], face=face[i], left_hand=left[i], right_hand=right[i]),
            ),
            width=512,
            height=512,
        )
        for i in range(num_frames)
    ]


def _timed(
    name: str, frames: list[FramePose], draw: Callable[[], Picture]
) -> tuple[Picture, float]:
    start = time.perf_counter()
    pictures = draw()
    seconds = time.perf_counter() - start
    print(f"{name:6} {len(frames) / seconds:8.1f} frames/s   {seconds:6.2f} s")
    return pictures, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=450)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=512)
    options = parser.parse_args()
    width, height = options.width, options.height
    frames = moving_people(options.frames)
    plain, plain_seconds = _timed(
        "plain", frames, lambda: np.stack([draw_plainly(f, width, height) for f in frames])
    )
    exact, exact_seconds = _timed("exact", frames, lambda: draw_poses(frames, width, height))
    fast, fast_seconds = _timed("fast", frames, lambda: draw_poses(frames, width, height, "fast"))
    difference = np.mean(
        [np.abs(a.astype(int) - b).mean() for a, b in zip(exact, fast, strict=True)]
    )
    print(f"exact is {plain_seconds / exact_seconds:.1f} times as fast as the plain way, ", end="")
    print("pixel-equal" if np.array_equal(plain, exact) else "BUT DIFFERS")
    print(f"fast is {plain_seconds / fast_seconds:.1f} times as fast as the plain way, ", end="")
    print(f"mean difference to exact {difference:.3f} grey levels")


if __name__ == "__main__":
    main()
