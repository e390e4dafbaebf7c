from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from animator_core.errors import ConfigError, NoFaceError, ShapeError
from animator_core.faces.crops import (
    ARCFACE_TEMPLATE,
    FaceBox,
    FaceRegion,
    FaceTrack,
    cut_faces,
    similarity_to_template,
    support_box,
    warp_faces,
)
from animator_core.faces.tracks import (
    track_from_boxes,
    track_from_keypoints,
    track_from_masks,
    with_points,
)

SIZE = (96, 128)


def posed_points(scale=0.6, angle=0.0, shift=(30.0, 20.0)):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = ARCFACE_TEMPLATE @ (scale * turn).T + shift
    return np.concatenate([points, np.ones((5, 1))], axis=1)


def smooth_frame(height=SIZE[0], width=SIZE[1], seed=0):
    coarse = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(
        coarse, (height, width), mode="bicubic", align_corners=False
    ).clamp(-1, 1)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.2, 3), st.floats(-1.5, 1.5), st.floats(-50, 200), st.floats(-50, 200))
def test_similarity_carries_the_points_to_the_template(scale, angle, x, y):
    points = posed_points(scale, angle, (x, y))
    matrix = similarity_to_template(points)
    mapped = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(mapped, ARCFACE_TEMPLATE, atol=1e-6)
    two = points.copy()
    two[2:, 2] = 0
    np.testing.assert_allclose(similarity_to_template(two), matrix, atol=1e-6)


def test_one_point_is_not_enough():
    points = posed_points()
    points[1:, 2] = 0
    with pytest.raises(ShapeError, match="two different points"):
        similarity_to_template(points)


def test_warp_equals_opencv():
    import cv2

    frame = smooth_frame()
    matrix = similarity_to_template(posed_points(0.5, 0.2, (60, 10)))  # reaches over the border
    picture = ((frame[0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.float32)
    expected = cv2.warpAffine(picture, matrix, (112, 112), borderValue=0.0) / 127.5 - 1
    warped = warp_faces(frame, [matrix])[0].permute(1, 2, 0).numpy()
    assert np.abs(warped - expected).mean() < 5e-3  # OpenCV rounds to 1/32 px
    assert np.abs(warped - expected).max() < 0.15
    assert warped.min() == pytest.approx(-1)  # black outside


def test_warp_has_gradients_and_reads_only_its_support():
    frame = smooth_frame().requires_grad_()
    region = FaceRegion(box=FaceBox(top=0, bottom=5, left=0, right=5), points_px=posed_points(0.4))
    cut_faces(frame, [region], "aligned").sum().backward()
    touched = frame.grad.abs().sum(dim=(0, 1)) > 0
    box = support_box(region, "aligned", *SIZE)
    inside = torch.zeros_like(touched)
    inside[box.top : box.bottom + 1, box.left : box.right + 1] = True
    assert touched.any()
    assert not (touched & ~inside).any()


@pytest.mark.parametrize("method", ["aligned", "box"])
def test_a_part_of_the_frame_gives_the_same_crop(method):
    frame = smooth_frame()
    box = FaceBox(top=24, bottom=80, left=40, right=90)
    region = FaceRegion(box=box, points_px=posed_points(0.3, 0.1, (48, 32)))
    whole = cut_faces(frame, [region], method)
    part = cut_faces(frame[..., 16:88, 32:104], [region], method, origin=(16, 32))
    torch.testing.assert_close(part, whole, atol=2e-5, rtol=0)


def test_aligned_needs_points():
    region = FaceRegion(box=FaceBox(top=1, bottom=20, left=1, right=20))
    with pytest.raises(ConfigError, match="points to align"):
        cut_faces(smooth_frame(), [region], "aligned")
    assert cut_faces(smooth_frame(), [region], "auto").shape == (1, 3, 112, 112)
    outside = FaceRegion(box=FaceBox(top=1, bottom=20, left=500, right=600))
    with pytest.raises(ShapeError, match="outside"):
        support_box(outside, "box", *SIZE)


def landmarks(points, spread=1.0):
    face = np.zeros((68, 3))
    face[:, 2] = 1
    left, right, nose, mouth_left, mouth_right = points[:, :2]
    middle = points[:, :2].mean(axis=0)
    angles = np.linspace(0, np.pi, 17)
    reach = np.linalg.norm(right - left) * 1.1 * spread
    face[:17, :2] = middle + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    face[17:27, :2] = np.linspace(np.add(left, (-4, -10)), np.add(right, (4, -10)), 10)
    face[27:36, :2] = nose
    face[36:42, :2] = left + np.array([[-3, 0], [-1, -1], [1, -1], [3, 0], [1, 1], [-1, 1]])
    face[42:48, :2] = right + np.array([[-3, 0], [-1, -1], [1, -1], [3, 0], [1, 1], [-1, 1]])
    face[48:68, :2] = (mouth_left + mouth_right) / 2
    face[48, :2], face[54, :2] = mouth_left, mouth_right
    return face


def body_of(points):
    body = np.zeros((18, 3))
    body[[14, 15, 0]] = points[:3]  # the person's right eye is left in the picture
    body[1] = (*points[2, :2] + [0, 60], 1)
    return body


def test_track_from_landmarks_and_from_the_body():
    points = posed_points(0.5, 0.05, (30, 25))
    body, face = body_of(points), landmarks(points)
    none = np.zeros((68, 3))
    track = track_from_keypoints(np.stack([body, body]), np.stack([face, none]), *SIZE)
    by_landmarks, by_body = track.regions
    np.testing.assert_allclose(by_landmarks.points_px[:, :2], points[:, :2], atol=1e-9)
    assert list(by_body.points_px[:, 2]) == [1, 1, 1, 0, 0]
    for region in track.regions:
        left, top = points[:, :2].min(axis=0)
        right, bottom = points[:, :2].max(axis=0)
        box = region.box
        assert box.left < left
        assert box.right > right
        assert box.top < top
        assert box.bottom > bottom
    with pytest.raises(ShapeError, match="68"):
        track_from_keypoints(np.zeros((2, 18, 3)), np.zeros((2, 70, 3)), *SIZE)


def test_frames_without_a_face_are_skipped():
    points = posed_points(0.5, 0, (30, 25))
    back = np.zeros((18, 3))
    back[[1, 16, 17]] = [[60, 60, 1], [50, 30, 1], [70, 30, 1]]  # neck and ears only
    unsure = body_of(points)
    unsure[:, 2] *= 0.2
    away = body_of(points)
    away[away[:, 2] > 0, 0] += 400
    half_out = body_of(points)
    half_out[half_out[:, 2] > 0, 0] -= 64
    bodies = np.stack([body_of(points), back, unsure, away, half_out])
    track = track_from_keypoints(bodies, np.zeros((5, 68, 3)), *SIZE)
    assert [r is not None for r in track.regions] == [True, False, False, False, False]
    assert track.frames_with_face == 1


def test_a_face_cut_by_the_border_keeps_its_visible_part():
    points = posed_points(0.5, 0, (-8, 25))
    track = track_from_keypoints(body_of(points)[None], np.zeros((1, 68, 3)), *SIZE)
    assert track.regions[0].box.left == 0
    assert support_box(track.regions[0], "aligned", *SIZE).left == 0


def test_masks():
    masks = torch.zeros(4, *SIZE)
    masks[0, 10:30, 20:50] = 1
    masks[1] = 1
    masks[3, 5, 7] = 1
    track = track_from_masks(masks, 4)
    assert track.regions[0].box == FaceBox(top=10, bottom=29, left=20, right=49)
    assert track.regions[1] is None  # white all over
    assert track.regions[2] is None  # black
    assert track.regions[3].box == FaceBox(top=5, bottom=5, left=7, right=7)
    assert (track.height, track.width) == SIZE
    eight_bit = track_from_masks((masks * 255).to(torch.uint8), 4)
    assert [r and r.box for r in eight_bit.regions] == [r and r.box for r in track.regions]


def test_an_all_white_mask_is_reported(caplog):
    with caplog.at_level(logging.WARNING):
        track_from_masks(torch.ones(1, *SIZE), 1)
    assert "white all over" in caplog.text


@pytest.mark.parametrize("shape", [(3, 96, 128), (5, 96, 128), (96, 128), (4, 1, 96, 128)])
def test_masks_of_the_wrong_number(shape):
    with pytest.raises(ShapeError, match="one per frame"):
        track_from_masks(torch.zeros(shape), 4)


def test_boxes_outside_the_picture():
    track = track_from_boxes([(-5, 20, 100, 300), None], *SIZE)
    assert track.regions[0].box == FaceBox(top=0, bottom=20, left=100, right=127)
    for box in ((10, 20, 128, 150), (-9, -1, 0, 5), (20, 10, 0, 5)):
        with pytest.raises(ShapeError, match="frame 1"):
            track_from_boxes([None, box], *SIZE)


def test_points_join_the_masks_they_lie_in():
    points = posed_points(0.5, 0, (30, 25))
    poses = track_from_keypoints(np.stack([body_of(points)] * 2), np.zeros((2, 68, 3)), *SIZE)
    boxes = track_from_boxes([(30, 80, 40, 90), (0, 9, 0, 9)], *SIZE)
    here, elsewhere = with_points(boxes, poses).regions
    assert here.points_px is not None
    assert elsewhere.points_px is None
    with pytest.raises(ShapeError, match="make them equal"):
        with_points(track_from_boxes([None], *SIZE), poses)


def test_small_faces_are_left_out_and_none_left_is_an_error():
    track = track_from_boxes([(10, 21, 10, 21), (10, 40, 10, 40)], *SIZE)  # 12 px and 31 px
    assert [r is not None for r in track.usable(16, "auto").regions] == [False, True]
    with pytest.raises(NoFaceError, match=r"None of the 2 frames.*64 px"):
        track.usable(64, "auto")
    with pytest.raises(NoFaceError, match="eye and nose points"):
        track.usable(16, "aligned")
    with pytest.raises(NoFaceError):
        FaceTrack(regions=(None,), height=9, width=9).usable(1, "auto")
