"""Alignment of poses: parity with the reference, recovery of known maps, and bad input."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animator_core.errors import ConfigError, NoPoseError
from animator_core.pose.alignment import AlignmentConfig, align
from animator_core.pose.keypoints import FramePose, PersonPose, map_points, part_array
from animator_core.pose.retargeting import bone_ratios
from animator_core.pose.skeletons import BODY_LIMBS
from animator_core.training.bodies import sample_bodies
from animator_core.training.kinematics import joint_positions, project, sample_cameras
from animator_core.training.motions import sample_motions

GOLDEN = Path(os.environ.get("ANIMATOR_GOLDEN_DIR", Path(__file__).parents[1] / "golden"))
SIMILARITY_METHODS = ("procrustes", "learned")
SIZE = 512


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


def dance(seed=0, frames=30, kind="dance_in_place", size=SIZE, moments=None) -> list[FramePose]:
    """A generated person in the middle of a canvas, with a face and hands."""
    rng = np.random.default_rng(seed)
    motions, bodies = sample_motions(rng, 1, [kind]), sample_bodies(rng, 1)
    times = (np.arange(frames) / 30.0 if moments is None else np.array(moments))[None]
    joints = joint_positions(motions, bodies, times)
    picture = project(sample_cameras(rng, joints.mean((1, 2))), joints)[0]
    picture = (picture - picture.mean()) * size / 2.5 + (size + 1j * size) / 2
    face = np.random.default_rng(9).normal(0, size / 60, (68, 2))
    hand = np.random.default_rng(8).normal(0, size / 80, (21, 2))
    ones = np.ones((18, 1))
    result = []
    for z in picture:
        body = np.hstack([np.stack([z.real, z.imag], -1), ones])

        def around(joint, offsets, body=body):
            return np.column_stack([body[joint, :2] + offsets, np.ones(len(offsets))])

        person = PersonPose(
            body=body,
            face=around(0, face),
            left_hand=around(7, hand),
            right_hand=around(4, hand),
        )
        result.append(FramePose(people=(person,), width=size, height=size))
    return result


def noisy(frame, size_torso=0.02):
    """The same pose as another detection would report it."""
    body = frame.people[0].body.copy()
    body[:, :2] += np.random.default_rng(1).normal(0, size_torso * torso(frame), (18, 2))
    return FramePose(people=(PersonPose(body=body),), width=frame.width, height=frame.height)


def similarity(scale=1.0, angle_deg=0.0, shift=(0.0, 0.0)):
    angle = np.deg2rad(angle_deg)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return matrix, np.array(shift, dtype=float)


def transformed(frames, matrix, shift, width=SIZE, height=SIZE):
    return [
        FramePose(
            people=tuple(map_points(p, matrix, shift) for p in f.people), width=width, height=height
        )
        for f in frames
    ]


def torso(frame: FramePose) -> float:
    body = frame.people[0].body
    return float(np.linalg.norm(body[1, :2] - (body[8, :2] + body[11, :2]) / 2))


def error(frames, wanted, person=0) -> float:
    """Mean joint distance in torso lengths of the wanted clip."""
    a, b = part_array(frames, "body", person), part_array(wanted, "body", person)
    seen = (a[..., 2] > 0) & (b[..., 2] > 0)
    return float(np.linalg.norm(a - b, axis=-1)[seen].mean() / torso(wanted[0]))


def hide(frames, joints):
    """The same frames without these body joints."""
    result = []
    for f in frames:
        body = f.people[0].body.copy()
        body[list(joints)] = 0
        result.append(FramePose(people=(PersonPose(body=body),), width=f.width, height=f.height))
    return result


# --- the reference's line fit -----------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("09_align_*.json")), ids=lambda p: p.stem)
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


# --- recovery of known maps -------------------------------------------------------------------


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


# --- options ----------------------------------------------------------------------------------


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


# --- several people ---------------------------------------------------------------------------


def two_people(frames=20):
    left, right = dance(20, frames), dance(21, frames)
    left = transformed(left, *similarity(0.5, 0, (-60, 100)))
    right = transformed(right, *similarity(0.6, 0, (250, 60)))
    return [
        FramePose(people=(a.people[0], b.people[0]), width=SIZE, height=SIZE)
        for a, b in zip(left, right, strict=True)
    ]


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


# --- bad input --------------------------------------------------------------------------------


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


def test_a_reference_out_of_the_clip_is_met_exactly():
    clip = dance(25)
    moved = transformed(clip, *similarity(0.6, -14, (120, 35)))
    for method in SIMILARITY_METHODS:
        result = align(moved, clip[0], AlignmentConfig(method=method))
        assert error(result.frames, clip) < 1e-6


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


def test_result_as_plain_numbers():
    clip = dance(1)
    result = align(transformed(clip, *similarity(2.0)), clip[0])
    plain = json.loads(json.dumps(result.as_dict()))
    assert plain["scale"] == pytest.approx(0.5, rel=0.05)
    assert {"angle_deg", "shift_px", "residual", "method", "warnings", "people"} <= plain.keys()
