"""Gaps, smoothing and resampling of poses over time."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pose_factory import clip_of, standing, walking

from animator_core.errors import ConfigError
from animator_core.pose.cleaning import (
    CleaningConfig,
    clean_poses,
    fill_gaps,
    frame_rate,
    resample_poses,
    smooth_poses,
)
from animator_core.pose.keypoints import FramePose, PersonPose, part_array, scale_to_canvas


def moving(num_frames: int, speed: float = 4.0) -> list[FramePose]:
    return [clip_of([standing(100 + speed * i, 240)]) for i in range(num_frames)]


def without(frames: list[FramePose], joint: int, absent: set[int]) -> list[FramePose]:
    """The same clip with a joint missing in some frames."""
    for index in absent:
        frames[index].people[0].body[joint] = 0.0
    return frames


# --- gaps ------------------------------------------------------------------------------------


def test_a_short_gap_is_filled_on_a_line() -> None:
    whole = part_array(moving(12), "body")
    filled = part_array(fill_gaps(without(moving(12), 4, {3, 4, 5}), max_gap=3), "body")
    np.testing.assert_allclose(filled[..., :2], whole[..., :2], atol=1e-9)
    confidence = filled[2:7, 4, 2]
    assert confidence[0] == confidence[4] == 0.9
    assert (np.diff(confidence)[:2] < 0).all()
    assert (np.diff(confidence)[2:] > 0).all()
    assert confidence.min() >= 0.9 * 0.7
    others = np.delete(np.arange(18), 4)
    np.testing.assert_array_equal(filled[:, others], whole[:, others])


def test_long_gaps_and_ends_stay_absent() -> None:
    frames = without(moving(20), 4, {0, 1, 5, 6, 7, 8, 18, 19})
    filled = part_array(fill_gaps(frames, max_gap=3), "body")
    np.testing.assert_array_equal(filled, part_array(frames, "body"))
    found = part_array(fill_gaps(frames, max_gap=4), "body")[:, 4, 2] > 0
    assert np.flatnonzero(~found).tolist() == [0, 1, 18, 19]


def test_each_joint_has_its_own_gaps() -> None:
    frames = without(without(moving(12), 4, {3}), 10, {3, 4, 5, 6, 7})
    found = part_array(fill_gaps(frames, max_gap=2), "body")[..., 2] > 0
    assert found[:, 4].all()
    assert not found[3:8, 10].any()


def test_a_person_who_vanishes_for_a_moment() -> None:
    frames = moving(10)
    frames[4] = frames[5] = clip_of([])
    cleaned = clean_poses(frames)
    np.testing.assert_allclose(
        part_array(cleaned, "body")[..., :2], part_array(moving(10), "body")[..., :2], atol=1e-9
    )


def test_coordinates_of_absent_joints_do_not_leak() -> None:
    frames = moving(8)
    frames[3].people[0].body[4] = (9999.0, -9999.0, 0.0)
    filled = part_array(fill_gaps(frames, max_gap=2), "body")
    np.testing.assert_allclose(filled[3, 4, :2], part_array(moving(8), "body")[3, 4, :2])


def test_no_gaps_wanted() -> None:
    frames = without(moving(5), 4, {2})
    assert fill_gaps(frames, 0) == frames
    assert fill_gaps([], 5) == []


# --- smoothing -------------------------------------------------------------------------------


def jitter(frames: list[FramePose]) -> float:
    places = part_array(frames, "body")[..., :2]
    return float(np.abs(np.diff(places, n=2, axis=0)).mean())


def test_smoothing_calms_somebody_at_rest() -> None:
    frames = walking([lambda i: (320.0, 240.0)], 90)
    smooth = smooth_poses(frames, 30)
    assert jitter(smooth) < 0.25 * jitter(frames)
    rest = part_array([clip_of([standing(320, 240)])], "body")[0, :, :2]
    assert np.abs(part_array(smooth, "body")[..., :2] - rest).mean() < 0.6


def test_smoothing_neither_lags_nor_shrinks_motion() -> None:
    time_axis = np.arange(120) / 30
    swing = 320 + 120 * np.sin(2 * np.pi * time_axis)  # once a second
    frames = [clip_of([standing(x, 240)]) for x in swing]
    smooth = part_array(smooth_poses(frames, 30, beta=1.0), "body")[:, 1, 0]
    shifts = range(-4, 5)
    errors = [np.abs(smooth[10:-10] - np.roll(swing, s)[10:-10]).mean() for s in shifts]
    assert shifts[int(np.argmin(errors))] == 0
    usual = part_array(smooth_poses(frames, 30), "body")[:, 1, 0]
    assert np.ptp(usual[10:-10]) > 0.95 * np.ptp(swing)


def test_smoothing_is_relative_to_the_person() -> None:
    near = smooth_poses(walking([lambda i: (320.0, 240.0)], 40), 30)
    frames = walking([lambda i: (320.0, 240.0)], 40)
    small = [scale_to_canvas(frame, 64, 48) for frame in frames]
    far = [scale_to_canvas(frame, 640, 480) for frame in smooth_poses(small, 30)]
    np.testing.assert_allclose(part_array(far, "body"), part_array(near, "body"), atol=1e-6)


def test_smoothing_starts_afresh_after_an_absence() -> None:
    frames = moving(30)
    for index in range(10, 20):
        frames[index] = clip_of([PersonPose()])
    for index in range(20, 30):
        frames[index] = clip_of([standing(600, 100)])
    smooth = smooth_poses(frames, 30)
    assert all(frame.people[0].is_empty for frame in smooth[10:20])
    expected = part_array(frames, "body")[20:]
    np.testing.assert_allclose(part_array(smooth, "body")[20:], expected, atol=1e-9)


def test_confidence_is_not_smoothed() -> None:
    frames = walking([lambda i: (320.0, 240.0)], 20)
    smooth = smooth_poses(frames, 30)
    np.testing.assert_array_equal(
        part_array(smooth, "body")[..., 2], part_array(frames, "body")[..., 2]
    )


def test_smoothing_of_next_to_nothing() -> None:
    assert smooth_poses([], 30) == []
    assert len(smooth_poses(moving(1), 30)) == 1
    assert [f.people for f in smooth_poses([clip_of([])] * 3, 30)] == [()] * 3
    assert len(smooth_poses([clip_of([PersonPose()])] * 3, 30)) == 3
    with pytest.raises(ConfigError):
        smooth_poses(moving(3), 30, min_cutoff_hz=0)


# --- resampling ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (30, 24, 80),
        (30, 60, 200),
        (24, 30, 125),
        (30, 30, 100),
        (25, 24, 96),
        (30, 1, 3),
        (60, 8, 13),
    ],
)
def test_number_of_frames(source: int, target: int, expected: int) -> None:
    assert len(resample_poses(moving(100), source, target)) == expected


def test_resampled_motion_is_in_time() -> None:
    frames = resample_poses(moving(100), 30, 24)
    necks = part_array(frames, "body")[:, 1, 0]
    times = np.arange(80) * 30 / 24
    np.testing.assert_allclose(necks, 100 + 4 * np.minimum(times, 99), atol=1e-9)


def test_frames_that_coincide_are_copied() -> None:
    frames = walking([lambda i: (320.0, 240.0)], 41)
    slower = resample_poses(frames, 30, 24)
    np.testing.assert_array_equal(
        part_array(slower, "body")[::4], part_array(frames, "body")[::5][: len(slower[::4])]
    )
    doubled = resample_poses(frames, 30, 60)
    np.testing.assert_array_equal(part_array(doubled, "body")[::2], part_array(frames, "body"))


def test_joints_that_one_neighbour_lacks() -> None:
    frames = without(moving(4), 4, {1})
    found = part_array(resample_poses(frames, 10, 40), "body")[:, 4, 2] > 0
    # frame 1 stands for the times nearer to it: 2/4 of a frame before, less than 2/4 after
    assert np.flatnonzero(~found).tolist() == [2, 3, 4, 5]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 60),
    source=st.fractions(1, 120, max_denominator=1001),
    target=st.fractions(1, 120, max_denominator=1001),
)
def test_the_duration_stays(count: int, source: Fraction, target: Fraction) -> None:
    resampled = resample_poses(moving(count), source, target)
    difference = abs(len(resampled) / target - count / source)
    assert len(resampled) == 1 or difference <= 1 / (2 * target)
    places = part_array(resampled, "body")[:, 1, 0]
    assert places.min() >= 100 - 1e-6
    assert places.max() <= 100 + 4 * (count - 1) + 1e-6


def test_no_drift_over_an_hour() -> None:
    rate = frame_rate(29.97)
    assert rate == Fraction(30000, 1001)
    frames = [clip_of([])] * 3000
    assert len(resample_poses(frames, rate, 24)) == round(3000 / rate * 24)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (30, Fraction(30)),
        (24.0, Fraction(24)),
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94005994, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        ("30000/1001", Fraction(30000, 1001)),
        (Fraction(25, 3), Fraction(25, 3)),
    ],
)
def test_frame_rates(value: Any, expected: Fraction) -> None:
    assert frame_rate(value) == expected


@pytest.mark.parametrize("value", [0, -24, float("nan"), float("inf"), "fast", None, "1/0"])
def test_no_frame_rates(value: Any) -> None:
    with pytest.raises(ConfigError, match="frame rate"):
        frame_rate(value)


# --- all together ----------------------------------------------------------------------------


def test_cleaning_does_all_in_order() -> None:
    frames = walking([lambda i: (100.0 + 2 * i, 240.0), lambda i: (500.0 - 2 * i, 240.0)], 60)
    frames[20] = clip_of([])
    config = CleaningConfig(min_cutoff_hz=1.0, fps=30, target_fps=24)
    cleaned = clean_poses(frames, config)
    assert len(cleaned) == 48
    assert {len(frame.people) for frame in cleaned} == {2}
    assert not any(person.is_empty for frame in cleaned for person in frame.people)


def test_cleaning_people_who_are_tracked_already() -> None:
    frames = [clip_of([standing(100, 240), PersonPose(), standing(400, 240)])] * 4
    kept = clean_poses(frames, CleaningConfig(track=False))
    assert [len(frame.people) for frame in kept] == [3] * 4
    assert kept[0].people[1].is_empty


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("people", [0, 1])
def test_cleaning_of_next_to_nothing(count: int, people: int) -> None:
    frames = [clip_of([standing(300, 240)] * people)] * count
    config = CleaningConfig(min_cutoff_hz=1.0, target_fps=60)
    cleaned = clean_poses(frames, config)
    assert len(cleaned) == 2 * count
    assert all(len(frame.people) == people for frame in cleaned)


def test_cleaning_keeps_each_canvas() -> None:
    frames = [scale_to_canvas(f, 320, 480) if i % 2 else f for i, f in enumerate(moving(10))]
    frames = without(frames, 4, {3})
    cleaned = clean_poses(frames, CleaningConfig(min_cutoff_hz=5.0))
    assert [(f.width, f.height) for f in cleaned] == [(f.width, f.height) for f in frames]
    expected = part_array([scale_to_canvas(f, 640, 480) for f in cleaned], "body")[3, 4, :2]
    np.testing.assert_allclose(expected, part_array(moving(10), "body")[3, 4, :2], atol=8)


def test_many_frames_are_quick() -> None:
    frames = without(moving(2000, speed=0.2), 4, set(range(0, 2000, 7)))
    config = CleaningConfig(track=False, min_cutoff_hz=1.0, target_fps=24)
    start = time.process_time()
    assert len(clean_poses(frames, config)) == 1600
    assert time.process_time() - start < 6  # well under 1 s on an idle core


@pytest.mark.parametrize(
    "values",
    [
        {"max_gap": -1},
        {"min_cutoff_hz": -1.0},
        {"min_cutoff_hz": float("inf")},
        {"beta": float("nan")},
        {"fps": 0},
        {"target_fps": -24},
    ],
)
def test_settings_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CleaningConfig(**values)
