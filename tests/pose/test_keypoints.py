from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animator_core.errors import MediaError, ShapeError
from animator_core.pose.keypoints import (
    FramePose,
    PersonPose,
    from_pose_keypoint,
    load_pose_file,
    map_points,
    part_array,
    save_pose_file,
    scale_to_canvas,
    to_pose_keypoint,
)

PARTS = {"body": 18, "face": 68, "left_hand": 21, "right_hand": 21}
BODY = [float(v) for joint in range(18) for v in (10 + joint, 20 + joint, 0.5)]


def _entry(people: Any, width: Any = 512, height: Any = 768) -> dict[str, Any]:
    return {"people": people, "canvas_width": width, "canvas_height": height}


def _person(seed: int) -> PersonPose:
    random = np.random.default_rng(seed)

    def part(joints: int) -> np.ndarray:
        points = random.uniform(-50, 900, (joints, 3))
        points[:, 2] = random.uniform(0.01, 1.2, joints)
        points[random.uniform(size=joints) < 0.2] = 0
        return points

    person = PersonPose(**{name: part(joints) for name, joints in PARTS.items()})
    person.body[1] = 300, 400, 1  # never empty, and clearly in pixels
    return person


def _assert_equal(first: list[FramePose], second: list[FramePose]) -> None:
    assert [(f.width, f.height, len(f.people)) for f in first] == [
        (f.width, f.height, len(f.people)) for f in second
    ]
    for a, b in zip(first, second, strict=True):
        for p, q in zip(a.people, b.people, strict=True):
            for name in PARTS:
                np.testing.assert_array_equal(getattr(p, name), getattr(q, name))


@given(st.lists(st.lists(st.integers(0, 2**31), max_size=3), max_size=4))
@settings(max_examples=20, deadline=None)
def test_interchange_format_round_trip(clip: list[list[int]]) -> None:
    frames = [
        FramePose(people=tuple(_person(s) for s in seeds), width=640, height=480) for seeds in clip
    ]
    _assert_equal(from_pose_keypoint(to_pose_keypoint(frames)), frames)
    _assert_equal(from_pose_keypoint(json.loads(json.dumps(to_pose_keypoint(frames)))), frames)


def test_file_round_trip(tmp_path: Path) -> None:
    frames = [
        FramePose(people=(_person(1), _person(2)), width=512, height=704),
        FramePose(people=(), width=512, height=704),
    ]
    path = tmp_path / "pösen.json"
    save_pose_file(frames, path)
    _assert_equal(load_pose_file(path), frames)
    assert list(tmp_path.iterdir()) == [path]


def test_missing_and_none_parts_are_absent() -> None:
    (frame,) = from_pose_keypoint(
        [
            _entry(
                [
                    {
                        "pose_keypoints_2d": BODY,
                        "face_keypoints_2d": None,
                        "hand_left_keypoints_2d": [],
                    }
                ]
            )
        ]
    )
    (person,) = frame.people
    np.testing.assert_array_equal(person.body.ravel(), BODY)
    assert not person.face.any()
    assert not person.left_hand.any()
    assert not person.right_hand.any()


@pytest.mark.parametrize("people", [None, [], [None], [{}], [{"pose_keypoints_2d": [0.0] * 54}]])
def test_frames_without_people(people: Any) -> None:
    (frame,) = from_pose_keypoint([_entry(people)])
    assert frame.people == ()


def test_absent_person_in_the_middle_keeps_the_places_of_the_others() -> None:
    nobody = {"pose_keypoints_2d": [0.0] * 54}
    (frame,) = from_pose_keypoint([_entry([nobody, {"pose_keypoints_2d": BODY}, nobody])])
    assert [p.is_empty for p in frame.people] == [True, False]


def test_relative_coordinates_become_pixels() -> None:
    relative = [v for joint in range(18) for v in (joint / 18, joint / 36, 1.0)]
    (frame,) = from_pose_keypoint([_entry([{"pose_keypoints_2d": relative}])])
    np.testing.assert_allclose(frame.people[0].body[9], [256.0, 192.0, 1.0])


def test_a_one_pixel_canvas_keeps_relative_coordinates() -> None:
    relative = [v for joint in range(18) for v in (joint / 18, joint / 36, 1.0)]
    (frame,) = from_pose_keypoint([_entry([{"pose_keypoints_2d": relative}], 1, 1)])
    np.testing.assert_allclose(frame.people[0].body[9], [0.5, 0.25, 1.0])


def test_none_nan_and_zero_confidence_joints_are_absent() -> None:
    values: list[Any] = list(BODY)
    values[0] = None
    values[4] = float("nan")
    values[8] = 0.0
    values[11] = -1.0
    values[12] = float("inf")
    (frame,) = from_pose_keypoint([_entry([{"pose_keypoints_2d": values}])])
    body = frame.people[0].body
    assert not body[:5].any()
    assert body[5:].all()


def test_confidences_above_one_are_kept() -> None:
    values = list(BODY)
    values[2] = 7.5
    (frame,) = from_pose_keypoint([_entry([{"pose_keypoints_2d": values}])])
    assert frame.people[0].body[0, 2] == 7.5


def test_longer_known_layouts() -> None:
    body25 = [float(v) for joint in range(25) for v in (100 + joint, 200, 1)]
    face70 = [float(v) for joint in range(70) for v in (100 + joint, 200, 1)]
    entry = _entry([{"pose_keypoints_2d": body25, "face_keypoints_2d": face70}])
    (frame,) = from_pose_keypoint(entry)
    person = frame.people[0]
    # BODY_25 puts the middle of the hips at 8, before the right hip
    assert person.body[:, 0].tolist() == [*range(100, 108), *range(109, 119)]
    assert person.face[:, 0].tolist() == [*range(100, 168)]


def test_a_single_frame_needs_no_list() -> None:
    assert len(from_pose_keypoint(_entry([{"pose_keypoints_2d": BODY}]))) == 1
    assert from_pose_keypoint([]) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("poses", "list of frames"),
        (3, "list of frames"),
        ([None], "frame 0 is NoneType"),
        ([_entry([]), "x"], "frame 1 is str"),
        ([{"people": []}], "canvas_width"),
        ([_entry([], "wide", 3)], "canvas_width"),
        ([_entry([{"pose_keypoints_2d": [1.0, 2.0]}])], "54 are expected"),
        ([_entry([{"pose_keypoints_2d": [1.0] * 55}])], "54 are expected"),
        ([_entry([{"face_keypoints_2d": ["a"] * 204}])], "not a number"),
    ],
)
def test_other_content_is_refused(content: Any, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        from_pose_keypoint(content)


@pytest.mark.parametrize("content", [b"", b"[{", b"\xff\xfe\x00", b"nonsense"])
def test_broken_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"broken\.json"):
        load_pose_file(path)


def test_missing_file_and_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no pose file"):
        load_pose_file(tmp_path / "none.json")
    with pytest.raises(MediaError, match="cannot be read"):
        load_pose_file(tmp_path)
    with pytest.raises(MediaError, match="cannot be written"):
        save_pose_file([], tmp_path / "missing" / "poses.json")


def test_part_array_gives_zeros_for_absent_people() -> None:
    person = _person(3)
    frames = [
        FramePose(people=(person,), width=9, height=9),
        FramePose(people=(), width=9, height=9),
    ]
    array = part_array(frames, "body")
    np.testing.assert_array_equal(array[0], person.body)
    assert not array[1].any()
    assert not part_array(frames, "body", person=1).any()


def test_map_points_moves_only_found_joints() -> None:
    person = _person(4)
    moved = map_points(person, np.array([[0.0, -2.0], [2.0, 0.0]]), np.array([5.0, 7.0]))
    found = person.body[:, 2] > 0
    np.testing.assert_allclose(moved.body[found, 0], -2 * person.body[found, 1] + 5)
    np.testing.assert_allclose(moved.body[found, 1], 2 * person.body[found, 0] + 7)
    np.testing.assert_array_equal(moved.body[:, 2], person.body[:, 2])
    assert not moved.body[~found].any()


def test_scale_to_canvas() -> None:
    frame = FramePose(people=(_person(5),), width=100, height=200)
    double = scale_to_canvas(frame, 200, 200)
    assert (double.width, double.height) == (200, 200)
    np.testing.assert_allclose(double.people[0].face, frame.people[0].face * [2, 1, 1])
    assert scale_to_canvas(frame, 100, 200) is frame


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(18, 3\)"):
        PersonPose(body=np.zeros((17, 3)))
    with pytest.raises(ShapeError, match="at least 1"):
        FramePose(people=(), width=0, height=5)
