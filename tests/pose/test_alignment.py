"""Alignment of poses undoes known maps, for one person and for several."""

from __future__ import annotations

import numpy as np
import pytest
from alignment_factory import (
    SIMILARITY_METHODS,
    SIZE,
    dance,
    error,
    noisy,
    similarity,
    transformed,
    two_people,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from animator_core.pose.alignment import AlignmentConfig, align
from animator_core.pose.keypoints import FramePose, PersonPose, map_points


@pytest.mark.parametrize("method", SIMILARITY_METHODS)
@pytest.mark.parametrize(
    ("scale", "angle", "shift"),
    [
        (0.4, 0, (0, 0)),
        (2.5, 0, (-200, 100)),
        (1, 30, (0, 0)),
        (1.7, -25, (150, -90)),
        (1, 0, (250, 0)),
    ],
)
def test_known_misalignment_is_undone(method, scale, angle, shift):
    clip = dance(3)
    reference = noisy(clip[17])
    moved = transformed(clip, *similarity(scale, angle, shift))
    result = align(moved, reference, AlignmentConfig(method=method))
    assert result.method == method
    assert error(result.frames, clip) < 0.08
    transform = result.transforms[0]
    assert transform.scale == pytest.approx(1 / scale, rel=0.05)
    assert transform.angle_deg == pytest.approx(-angle, abs=2.5)
    assert transform.residual is not None
    assert transform.residual < 0.1


@settings(max_examples=15, deadline=None)
@given(
    scale=st.floats(0.2, 5),
    angle=st.floats(-50, 50),
    x=st.floats(-2000, 2000),
    y=st.floats(-2000, 2000),
)
def test_closed_form_is_equivariant(scale, angle, x, y):
    clip = dance(4, frames=12)
    config = AlignmentConfig(method="procrustes", keep_aligned=False)
    plain = align(clip, clip[5], config)
    moved = align(transformed(clip, *similarity(scale, angle, (x, y))), clip[5], config)
    assert error(moved.frames, plain.frames) < 1e-3


@pytest.mark.parametrize("method", SIMILARITY_METHODS)
def test_a_raised_arm_is_not_a_bigger_person(method):
    clip = dance(5, kind="wave")
    reference = clip[0]
    body = reference.people[0].body.copy()
    reach = np.linalg.norm(body[2, :2] - body[3, :2])
    for frame in clip:  # both arms straight up in the clip, where the reference has them down
        for shoulder, elbow, wrist in ((2, 3, 4), (5, 6, 7)):
            frame.people[0].body[elbow, :2] = frame.people[0].body[shoulder, :2] - [0, reach]
            frame.people[0].body[wrist, :2] = frame.people[0].body[shoulder, :2] - [0, 2 * reach]
    reference = FramePose(people=(PersonPose(body=body),), width=SIZE, height=SIZE)
    result = align(clip, reference, AlignmentConfig(method=method, keep_aligned=False))
    assert result.transforms[0].scale == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("method", SIMILARITY_METHODS)
def test_another_canvas_size_and_shape(method):
    clip = dance(6)
    large = transformed(clip, *similarity(1.5, 0, (400, 40)), width=1920, height=1080)
    result = align(large, clip[9], AlignmentConfig(method=method))
    assert error(result.frames, clip) < 0.05
    assert {(f.width, f.height) for f in result.frames} == {(SIZE, SIZE)}


def test_face_and_hands_move_with_the_body():
    clip = dance(7)
    moved = transformed(clip, *similarity(1.5, 10, (30, 40)))
    result = align(moved, clip[3], AlignmentConfig(method="procrustes"))
    matrix, shift = result.transforms[0].map.matrix, result.transforms[0].map.shift_px
    for before, after in zip(moved, result.frames, strict=True):
        for part in ("face", "left_hand", "right_hand"):
            points = getattr(before.people[0], part)
            expected = points[:, :2] @ matrix.T + shift
            np.testing.assert_allclose(getattr(after.people[0], part)[:, :2], expected)


def test_a_reference_out_of_the_clip_is_met_exactly():
    clip = dance(25)
    moved = transformed(clip, *similarity(0.6, -14, (120, 35)))
    for method in SIMILARITY_METHODS:
        result = align(moved, clip[0], AlignmentConfig(method=method))
        assert error(result.frames, clip) < 1e-6


# --- several people ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", SIMILARITY_METHODS)
def test_each_person_follows_its_own_reference(method):
    clip = two_people()
    maps = [similarity(1.6, 12, (-80, 20)), similarity(0.7, -9, (60, 90))]
    moved = [
        FramePose(
            people=tuple(map_points(p, *m) for p, m in zip(f.people, maps, strict=True)),
            width=SIZE,
            height=SIZE,
        )
        for f in clip
    ]
    result = align(moved, clip[6], AlignmentConfig(method=method))
    for person in (0, 1):
        assert error(result.frames, clip, person) < 0.06
        assert result.transforms[person].reference_person == person


def test_matching_by_position_ignores_the_order_of_people():
    clip = two_people()
    swapped = FramePose(people=clip[6].people[::-1], width=SIZE, height=SIZE)
    result = align(clip, swapped, AlignmentConfig(method="procrustes", matching="position"))
    assert [t.reference_person for t in result.transforms] == [1, 0]
    assert error(result.frames, clip) < 0.05


def test_a_person_without_counterpart_moves_with_the_first():
    clip = two_people()
    alone = FramePose(people=clip[0].people[:1], width=SIZE, height=SIZE)
    moved = transformed(clip, *similarity(1.5, 0, (20, 20)))
    result = align(moved, alone, AlignmentConfig(method="procrustes"))
    assert result.transforms[1].reference_person is None
    assert result.transforms[1].map == result.transforms[0].map
    assert any("Person 1 has no counterpart" in w for w in result.warnings)
