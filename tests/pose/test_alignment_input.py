"""Alignment of clips where people or joints are missing or wrong, and of unusual lengths."""

from __future__ import annotations

import numpy as np
import pytest
from alignment_factory import SIMILARITY_METHODS, SIZE, dance, error, hide, similarity, transformed

from animator_core.errors import ConfigError, NoPoseError
from animator_core.pose.alignment import AlignmentConfig, align
from animator_core.pose.keypoints import FramePose, PersonPose, part_array


@pytest.mark.parametrize("method", ["none", "rescale", *SIMILARITY_METHODS])
def test_frames_without_people_stay_empty(method):
    clip = dance(12)
    gaps = [
        FramePose(people=(), width=SIZE, height=SIZE) if i % 3 == 0 else f
        for i, f in enumerate(clip)
    ]
    result = align(gaps, clip[4], AlignmentConfig(method=method))
    assert [len(f.people) for f in result.frames] == [len(f.people) for f in gaps]
    assert np.isfinite(part_array(result.frames, "body")).all()


@pytest.mark.parametrize("method", ["none", "rescale", *SIMILARITY_METHODS])
def test_a_clip_without_anybody_comes_back_with_a_warning(method):
    empty = [FramePose(people=(), width=640, height=360)] * 5
    result = align(empty, dance(12)[0], AlignmentConfig(method=method))
    assert [(f.width, f.height, f.people) for f in result.frames] == [(SIZE, SIZE, ())] * 5
    assert "Nobody" in result.warnings[0]
    assert result.residual is None


@pytest.mark.parametrize("method", SIMILARITY_METHODS)
def test_a_reference_without_anybody_is_an_error(method):
    clip = dance(12)
    for people in ((), (PersonPose(),)):
        with pytest.raises(NoPoseError, match="no person"):
            align(
                clip,
                FramePose(people=people, width=SIZE, height=SIZE),
                AlignmentConfig(method=method),
            )


def test_no_common_part_names_what_there_is():
    clip = [
        FramePose(people=(PersonPose(body=f.people[0].body),), width=SIZE, height=SIZE)
        for f in dance(13)
    ]
    face = FramePose(
        people=(PersonPose(face=dance(13)[0].people[0].face),), width=SIZE, height=SIZE
    )
    with pytest.raises(NoPoseError, match=r"0 body joints, 68 face landmarks.*18 body joints"):
        align(clip, face)


def test_faces_are_aligned_where_there_is_no_body():
    clip = [
        FramePose(people=(PersonPose(face=f.people[0].face),), width=SIZE, height=SIZE)
        for f in dance(14)
    ]
    moved = transformed(clip, *similarity(2.0, 15, (-100, 30)))
    result = align(moved, clip[0])
    assert result.method == "procrustes"
    assert any("face" in w for w in result.warnings)
    assert result.transforms[0].scale == pytest.approx(0.5, rel=0.03)
    aligned = np.stack([f.people[0].face for f in result.frames])
    # all frames show the same face, so it is the clip's mean place that is put right
    np.testing.assert_allclose(aligned[:, :, :2].mean(0), clip[0].people[0].face[:, :2], atol=1)


@pytest.mark.parametrize("method", SIMILARITY_METHODS)
@pytest.mark.parametrize(
    ("hidden_in_clip", "hidden_in_reference", "limit"),
    [
        ((), (9, 10, 12, 13), 0.06),  # a reference cut at the knees
        ((8, 9, 10, 11, 12, 13), (), 0.08),  # an upper body
        ((0, 1, 2, 3, 4, 5, 6, 7, 14, 15, 16, 17), (), 0.12),  # only legs
        ((0, 12, 14, 15, 16, 17), (0, 12, 14, 15, 16, 17), 0.06),
    ],
)
def test_partial_bodies(method, hidden_in_clip, hidden_in_reference, limit):
    clip = dance(15, kind="wave")
    reference = hide(clip[20:21], hidden_in_reference)[0]
    moved = transformed(hide(clip, hidden_in_clip), *similarity(1.6, -12, (90, -20)))
    result = align(moved, reference, AlignmentConfig(method=method))
    assert error(result.frames, clip) < limit


def test_an_upside_down_clip_falls_back_to_the_closed_form_fit():
    clip = dance(16)
    moved = transformed(clip, *similarity(1.0, 180, (SIZE, SIZE)))
    result = align(moved, clip[5])
    assert result.method == "procrustes"
    assert any("turned" in w for w in result.warnings)
    assert error(result.frames, clip) < 0.05


def test_too_few_joints_fall_back_to_the_closed_form_fit():
    clip = dance(16)
    few = hide(clip, set(range(18)) - {3, 4, 6, 7})
    result = align(few, clip[5])
    assert result.method == "procrustes"
    assert any("only 4 body joints" in w for w in result.warnings)


def test_one_frame_and_long_clips():
    clip = dance(17, frames=40)
    moved = transformed(clip, *similarity(1.4, 8, (10, 10)))
    single = align(moved[7:8], clip[7])
    assert error(single.frames, clip[7:8]) < 1e-6
    long = align([moved[i % 40] for i in range(2000)], clip[9])
    assert len(long.frames) == 2000
    assert error(long.frames[:40], clip) < 0.05


@pytest.mark.parametrize("method", SIMILARITY_METHODS)
def test_wrong_joints_hardly_matter(method):
    clip = dance(18)
    moved = transformed(clip, *similarity(0.8, 5, (40, 40)))
    rng = np.random.default_rng(0)
    for frame in moved:
        wrong = rng.choice(18, 2, replace=False)
        frame.people[0].body[wrong, :2] += rng.normal(0, 60, (2, 2))
    result = align(moved, clip[9], AlignmentConfig(method=method))
    assert result.transforms[0].scale == pytest.approx(1.25, rel=0.04)


def test_canvases_of_different_sizes_in_a_clip_are_an_error():
    clip = dance(1)
    with pytest.raises(ConfigError, match="different sizes"):
        align([clip[0], *transformed(clip[1:2], *similarity(), width=640)], clip[0])
    with pytest.raises(ConfigError, match="no frames"):
        align([], clip[0])
