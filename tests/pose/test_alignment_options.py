"""Options of alignment: strength, per frame, limbs, doing nothing; and the result as numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from alignment_factory import SIMILARITY_METHODS, SIZE, dance, error, similarity, transformed

from animator_core.errors import ConfigError
from animator_core.pose.alignment import AlignmentConfig, align
from animator_core.pose.keypoints import FramePose, PersonPose, part_array
from animator_core.pose.retargeting import bone_ratios
from animator_core.pose.skeletons import BODY_LIMBS


def test_none_keeps_poses_and_fits_another_canvas():
    clip = dance(1)
    config = AlignmentConfig(method="none")
    same = align(clip, clip[0], config)
    assert error(same.frames, clip) == 0
    wide = FramePose(people=clip[0].people, width=2 * SIZE, height=SIZE)
    fitted = align(clip, wide, config)
    assert fitted.transforms[0].scale == pytest.approx(1)
    assert fitted.transforms[0].shift_px == pytest.approx((SIZE / 2, 0))


@pytest.mark.parametrize("method", SIMILARITY_METHODS)
def test_strength_interpolates_scale_angle_and_place(method):
    clip = dance(2)
    moved = transformed(clip, *similarity(2.0, 20, (60, -30)))

    def at(strength):
        return align(moved, clip[8], AlignmentConfig(method=method, strength=strength))

    full, half, off = at(1.0), at(0.5), at(0.0)
    assert error(off.frames, moved) == pytest.approx(0, abs=1e-9)
    assert half.transforms[0].scale == pytest.approx(full.transforms[0].scale ** 0.5, rel=1e-6)
    assert half.transforms[0].angle_deg == pytest.approx(full.transforms[0].angle_deg / 2)
    middle = [part_array(r.frames, "body")[..., :2].mean((0, 1)) for r in (off, half, full)]
    np.testing.assert_allclose(middle[1], (middle[0] + middle[2]) / 2, atol=8)


@pytest.mark.parametrize("method", SIMILARITY_METHODS)
def test_an_aligned_clip_is_left_alone(method):
    clip = dance(8, kind="wave")
    result = align(clip, clip[11], AlignmentConfig(method=method))
    assert error(result.frames, clip) == 0


def test_per_frame_follows_a_zooming_camera():
    clip = dance(12, frames=60, kind="wave")
    zoomed = []
    for i, frame in enumerate(clip):
        zoomed += transformed([frame], *similarity(1 + i / 60, 0, (-4 * i, -4 * i)))
    clip_wide = align(zoomed, clip[0], AlignmentConfig(method="procrustes"))
    per_frame = align(
        zoomed, clip[0], AlignmentConfig(method="procrustes", per_frame=True, smoothing_frames=3)
    )
    assert len(per_frame.transforms[0].frame_maps) == len(clip)
    assert error(per_frame.frames, clip) < 0.5 * error(clip_wide.frames, clip)
    scales = np.array([m.scale for m in per_frame.transforms[0].frame_maps])
    assert np.abs(np.diff(np.log(scales))).max() < 0.05


def test_retargeting_takes_bone_lengths_and_keeps_angles_and_ground():
    clip = dance(11, kind="wave")
    body = clip[0].people[0].body.copy()
    for knee, hip, ankle in ((9, 8, 10), (12, 11, 13)):  # a reference with shanks 1.3 times as long
        assert hip < ankle
        body[ankle, :2] = body[knee, :2] + 1.3 * (body[ankle, :2] - body[knee, :2])
    reference = FramePose(people=(PersonPose(body=body),), width=SIZE, height=SIZE)
    config = AlignmentConfig(method="none", retarget_limbs=True)
    before = part_array(clip, "body")
    after = part_array(align(clip, reference, config).frames, "body")
    ratios = bone_ratios(before, reference.people[0].body)
    for limb, (parent, child) in enumerate(BODY_LIMBS):
        bone_before = before[:, child, :2] - before[:, parent, :2]
        bone_after = after[:, child, :2] - after[:, parent, :2]
        np.testing.assert_allclose(bone_after, ratios[limb] * bone_before, atol=1e-6)
    shank = BODY_LIMBS.index((9, 10))
    assert ratios[shank] == pytest.approx(1.3, rel=0.1)
    np.testing.assert_allclose(after[:, [10, 13], 1].max(1), before[:, [10, 13], 1].max(1))


def test_options_are_checked():
    with pytest.raises(ConfigError, match="method"):
        AlignmentConfig(method="magic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="strength"):
        AlignmentConfig(strength=1.5)
    with pytest.raises(ConfigError, match="smoothing_frames"):
        AlignmentConfig(smoothing_frames=0)


def test_result_as_plain_numbers():
    clip = dance(1)
    result = align(transformed(clip, *similarity(2.0)), clip[0])
    plain = json.loads(json.dumps(result.as_dict()))
    assert plain["scale"] == pytest.approx(0.5, rel=0.05)
    assert {"angle_deg", "shift_px", "residual", "method", "warnings", "people"} <= plain.keys()
