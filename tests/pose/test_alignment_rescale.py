"""The reference's line fit: parity, and what it says when it cannot fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from alignment_factory import SIZE, dance, transformed
from golden_files import golden_dir

from animator_core.errors import NoPoseError
from animator_core.pose.alignment import AlignmentConfig, align
from animator_core.pose.keypoints import FramePose, PersonPose


def golden_frame(pose: dict, width: int, height: int) -> FramePose:
    """A frame of the golden files: coordinates relative to the picture, made pixels of a canvas."""
    size = np.array([width, height])
    people = []
    for i, scores in enumerate(pose["bodies"]["score"]):

        def part(points, confidence):
            return np.column_stack([np.array(points) * size, confidence])

        people.append(
            PersonPose(
                body=part(pose["bodies"]["candidate"][18 * i : 18 * i + 18], scores),
                face=part(pose["faces"][i], pose["faces_score"][i]),
                left_hand=part(pose["hands"][2 * i], pose["hands_score"][2 * i]),
                right_hand=part(pose["hands"][2 * i + 1], pose["hands_score"][2 * i + 1]),
            )
        )
    return FramePose(people=tuple(people), width=width, height=height)


@pytest.mark.parity
@pytest.mark.parametrize("path", sorted(golden_dir().glob("09_align_*.json")), ids=lambda p: p.stem)
@pytest.mark.parametrize("canvas", ["unit", "picture"])
def test_rescale_equals_the_reference(path, canvas):
    case = json.loads(path.read_text())
    width, height = (1, 1) if canvas == "unit" else (case["width"], case["height"])
    result = align(
        [golden_frame(p, width, height) for p in case["driving"]],
        golden_frame(case["ref"], width, height),
        AlignmentConfig(method="rescale"),
    )
    size = np.array([width, height])
    for frame, expected in zip(result.frames, case["aligned"], strict=True):
        wanted = golden_frame(expected, width, height)
        assert len(frame.people) == len(wanted.people)
        for ours, theirs in zip(frame.people, wanted.people, strict=True):
            for part in ("body", "face", "left_hand", "right_hand"):
                difference = (getattr(ours, part) - getattr(theirs, part))[:, :2] / size
                assert np.abs(difference).max() < 1e-9
    a, b = case["affine"]["a_xy"], case["affine"]["b_xy"]
    moved = result.transforms[0].map
    np.testing.assert_allclose([moved.scale_x, moved.scale_y], a, atol=1e-9)
    np.testing.assert_allclose(moved.shift_px / size, b, atol=1e-9)


def test_rescale_without_a_single_person_frame_uses_the_first_person():
    clip = dance()
    both = [FramePose(people=f.people * 2, width=SIZE, height=SIZE) for f in clip]
    config = AlignmentConfig(method="rescale")
    alone, pairs = align(clip, clip[0], config), align(both, clip[0], config)
    assert alone.transforms[0].scale == pytest.approx(pairs.transforms[0].scale)


def test_rescale_between_canvas_shapes_stretches_as_the_reference_does():
    clip = dance()
    matrix = np.diag([2.0, 1.0])
    wide = transformed(clip, matrix, np.zeros(2), width=2 * SIZE)
    result = align(clip, wide[0], AlignmentConfig(method="rescale"))
    assert result.transforms[0].map.scale_x == pytest.approx(2 * result.transforms[0].map.scale_y)


def test_rescale_without_a_body_says_what_is_missing():
    clip = dance()
    legs = FramePose(people=(PersonPose(face=clip[0].people[0].face),), width=SIZE, height=SIZE)
    with pytest.raises(NoPoseError, match="0 usable"):
        align(clip, legs, AlignmentConfig(method="rescale"))
    nobody = FramePose(people=(), width=SIZE, height=SIZE)
    with pytest.raises(NoPoseError, match="no person"):
        align(clip, nobody, AlignmentConfig(method="rescale"))
