from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from golden_files import golden_cases, golden_dir, load_case
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from animator_core.errors import CancelledError, ConfigError, DependencyError, ShapeError
from animator_core.interfaces import Progress, SilentMonitor
from animator_core.pose.drawing import draw_pose, draw_poses, overlay_pose
from animator_core.pose.keypoints import FramePose, PersonPose
from benchmarks.drawing import draw_plainly, moving_people

SIZES = [
    (512, 512),
    (512, 768),
    (576, 1024),
    (256, 384),
    (333, 517),
    (517, 333),
    (64, 64),
    (77, 91),
]


def _golden_frame(pose: dict[str, Any]) -> FramePose:
    """A golden pose; its coordinates are relative, so the canvas is one pixel."""

    def joints(points: Any, scores: Any) -> NDArray[np.float64]:
        return np.column_stack([np.array(points, dtype=float), np.array(scores, dtype=float)])

    bodies, hands, hand_scores = pose["bodies"], pose["hands"], pose["hands_score"]
    candidate = np.array(bodies["candidate"], dtype=float)
    count = len(bodies["subset"])
    people = tuple(
        PersonPose(
            body=joints(candidate[18 * i : 18 * i + 18], bodies["score"][i]),
            face=joints(pose["faces"][i], pose["faces_score"][i]),
            left_hand=joints(hands[i], hand_scores[i]),
            right_hand=joints(hands[count + i], hand_scores[count + i]),
        )
        for i in range(count)
    )
    return FramePose(people=people, width=1, height=1)


def _random_frame(seed: int, people: int) -> FramePose:
    """Joints all over the canvas and beyond it, some absent, some doubtful, some above 1."""
    random = np.random.default_rng(seed)

    def part(joints: int, spread: float) -> NDArray[np.float64]:
        center = random.uniform(-60, 860, 2)
        places = center + random.normal(0, spread, (joints, 2))
        scores = random.uniform(0, 1.3, (joints, 1))
        points = np.concatenate([places, scores], axis=1)
        points[random.uniform(size=joints) < 0.15] = 0.0
        return points

    return FramePose(
        people=tuple(
            PersonPose(
                body=part(18, 200.0),
                face=part(68, 30.0),
                left_hand=part(21, 40.0),
                right_hand=part(21, 40.0),
            )
            for _ in range(people)
        ),
        width=800,
        height=700,
    )


def _body_frame(*joints: tuple[int, float, float, float]) -> FramePose:
    body = np.zeros((18, 3))
    for index, x, y, confidence in joints:
        body[index] = x, y, confidence
    return FramePose(people=(PersonPose(body=body),), width=512, height=512)


@pytest.mark.parametrize("case", golden_cases("08_pose_"))
def test_exact_equals_golden_pictures(case: str) -> None:
    description, _ = load_case(case)
    with Image.open(golden_dir() / description["png"]) as picture:
        expected = np.array(picture.convert("RGB"))
    frame = _golden_frame(description["pose"])
    drawn = draw_pose(frame, description["width"], description["height"], "exact")
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("case", golden_cases("08_pose_"))
def test_fast_resembles_golden_pictures(case: str) -> None:
    description, _ = load_case(case)
    frame = _golden_frame(description["pose"])
    width, height = description["width"], description["height"]
    exact, fast = draw_pose(frame, width, height, "exact"), draw_pose(frame, width, height, "fast")
    assert np.abs(exact.astype(int) - fast).mean() < 2.0
    near = np.pad(fast.max(axis=2) > 0, 2)
    near = np.max(
        [near[dy : dy + height, dx : dx + width] for dy in range(5) for dx in range(5)], axis=0
    )
    assert near[exact.max(axis=2) > 0].mean() > 0.999  # the same marks at the same places


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from(SIZES))
@example(0, 2, (512, 512))
@example(1, 1, (576, 1024))
@example(2, 1, (3000, 2400))
@settings(max_examples=12, deadline=None)
def test_exact_equals_drawing_everything_plainly(
    seed: int, people: int, size: tuple[int, int]
) -> None:
    frame = _random_frame(seed, people)
    np.testing.assert_array_equal(draw_pose(frame, *size, "exact"), draw_plainly(frame, *size))


def test_thick_lines_do_not_fall_to_dots_in_small_pictures() -> None:
    frame = _body_frame((1, 64.0, 40.0, 1.0), (2, 20.0, 100.0, 1.0))
    small = FramePose(people=frame.people, width=128, height=128)
    thin, thick = (draw_pose(small, 128, 128, mode).max(axis=2) > 0 for mode in ("exact", "thick"))
    rows = slice(45, 96)
    assert thick[rows].any(axis=1).all()
    assert not thin[rows].any(axis=1).all()
    for side in (512, 640):
        np.testing.assert_array_equal(
            draw_pose(small, side, side, "exact"), draw_pose(small, side, side)
        )


def test_clip_equals_its_frames_drawn_one_by_one() -> None:
    frames = [*moving_people(3), FramePose(people=(), width=9, height=9), *moving_people(1, seed=7)]
    for mode in ("exact", "thick", "fast"):
        clip = draw_poses(frames, 96, 128, mode)
        assert clip.shape == (5, 128, 96, 3)
        assert clip.dtype == np.uint8
        for picture, frame in zip(clip, frames, strict=True):
            np.testing.assert_array_equal(picture, draw_pose(frame, 96, 128, mode))


@pytest.mark.parametrize("mode", ["exact", "thick", "fast"])
def test_nobody_is_black(mode: Any) -> None:
    nobody = FramePose(people=(), width=512, height=512)
    absent = FramePose(people=(PersonPose(), PersonPose()), width=512, height=512)
    assert not draw_pose(nobody, 64, 64, mode).any()
    assert not draw_pose(absent, 64, 64, mode).any()
    assert draw_poses([], 64, 64, mode).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("mode", ["exact", "thick", "fast"])
def test_first_limb_is_red_and_dimmer_than_its_joints(mode: Any) -> None:
    frame = _body_frame((1, 100, 100, 1.0), (2, 300, 100, 1.0))
    picture = draw_pose(frame, 2160, 2160, mode)
    y, x = 422, int(200 / 512 * 2160)
    assert picture[y, x].tolist() == [153, 0, 0]
    assert picture[y, int(300 / 512 * 2160)].tolist() == [255, 170, 0]


def test_limbs_need_both_joints_at_least_at_the_threshold() -> None:
    def limb_pixels(confidence: float) -> int:
        frame = _body_frame((1, 100, 100, 1.0), (2, 400, 100, confidence))
        return int(draw_pose(frame, 512, 512)[:, 150:350].any(axis=2).sum())

    assert limb_pixels(0.29) == 0
    assert limb_pixels(0.31) > 100


def test_score_at_the_threshold_draws_the_limb_to_its_own_joint() -> None:
    frame = _body_frame((1, 100, 100, 1.0), (2, 400, 100, 0.3), (17, 100, 500, 1.0))
    picture = draw_pose(frame, 512, 512)
    assert picture[98:103, 200:300].any()
    assert not picture[150:450, 50:400].any()  # the reference would draw it to the last joint
    assert not picture[:, 402:].any()  # and no circle, which needs more than 0.3


def test_confidences_above_one_look_like_one() -> None:
    places = [(1, 100, 100), (2, 300, 150), (3, 350, 300)]
    one = draw_pose(_body_frame(*((*p, 1.0) for p in places)), 256, 256)
    for confidence in (1e6, 1e300, np.inf):
        above = draw_pose(_body_frame(*((*p, confidence) for p in places)), 256, 256)
        assert (above > 0).sum() >= (one > 0).sum()
        assert (above[one == 255] == 255).all()


@pytest.mark.parametrize("mode", ["exact", "thick", "fast"])
@pytest.mark.parametrize("far", [1e5, -1e5, 1e9, 1e300, np.inf, np.nan])
def test_joints_far_away_are_harmless(mode: Any, far: float) -> None:
    hand = np.full((21, 3), 1.0)
    hand[:, :2] = far
    hand[0] = 30, 30, 1
    body = np.zeros((18, 3))
    body[1], body[2], body[3] = (100, 100, 1), (far, 200, 1), (200, far, 1)
    face = np.full((68, 3), far)
    face[:, 2] = 1
    person = PersonPose(body=body, face=face, left_hand=hand, right_hand=hand)
    picture = draw_pose(FramePose(people=(person,), width=512, height=512), 512, 512, mode)
    assert picture[98:103, 98:103].any()  # the neck is still there


@pytest.mark.parametrize("mode", ["exact", "thick", "fast"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 90), (2160, 2160), (64, 640)])
def test_odd_sizes(mode: Any, width: int, height: int) -> None:
    assert draw_pose(moving_people(1)[0], width, height, mode).shape == (height, width, 3)


def test_mirrored_pose_swaps_sides_and_canvas_scale_does_not_matter() -> None:
    frame = _body_frame((1, 128, 64, 1.0), (2, 64, 64, 1.0))
    double = FramePose(
        people=(PersonPose(body=frame.people[0].body * [2, 2, 1]),), width=1024, height=1024
    )
    np.testing.assert_array_equal(draw_pose(frame, 128, 128), draw_pose(double, 128, 128))


def test_impossible_requests_are_refused() -> None:
    frame = moving_people(1)[0]
    with pytest.raises(ConfigError, match="0x64"):
        draw_pose(frame, 0, 64)
    with pytest.raises(ConfigError, match="'exact', 'thick' or 'fast'"):
        draw_pose(frame, 64, 64, "pretty")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="use mode 'fast'"):
        draw_pose(frame, 8, 4096, "exact")
    assert draw_pose(frame, 8, 4096, "fast").shape == (4096, 8, 3)


def test_progress_and_cancelling() -> None:
    class Impatient(SilentMonitor):
        def __init__(self) -> None:
            self.reports: list[tuple[int, int]] = []

        def update(self, progress: Progress) -> None:
            self.reports.append((progress.done, progress.total))

        def raise_if_cancelled(self) -> None:
            if len(self.reports) == 2:
                raise CancelledError("stop")

    monitor = Impatient()
    with pytest.raises(CancelledError):
        draw_poses(moving_people(4), 64, 64, monitor=monitor)
    assert monitor.reports == [(1, 4), (2, 4)]


def test_overlay_keeps_the_picture_around_the_skeleton() -> None:
    picture = np.full((256, 192, 3), 77, dtype=np.uint8)
    frame = _body_frame((1, 128, 128, 1.0), (2, 384, 128, 1.0))
    painted = overlay_pose(picture, frame)
    assert (picture == 77).all()
    changed = (painted != 77).any(axis=2)
    assert changed[64, 96]
    assert changed.mean() < 0.1
    assert not changed[150:].any()
    nobody = FramePose(people=(), width=5, height=5)
    np.testing.assert_array_equal(overlay_pose(picture, nobody), picture)


def test_overlay_refuses_other_pictures() -> None:
    with pytest.raises(ShapeError, match="picture_to_uint8"):
        overlay_pose(np.zeros((8, 8, 3)), moving_people(1)[0])  # pyright: ignore[reportArgumentType]


def test_missing_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_opencv(name: str, *rest: Any, **options: Any) -> Any:
        if name == "cv2":
            raise ImportError("No module named 'cv2'")
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_opencv)
    for mode in ("exact", "thick", "fast"):
        with pytest.raises(DependencyError, match="opencv-python-headless"):
            draw_pose(moving_people(1)[0], 64, 64, mode)
