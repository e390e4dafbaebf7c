"""OpenPose JSON folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pose_factory import clip_of, standing

from animator_core.errors import ConfigError, MediaError
from animator_core.pose.interchange import (
    holds_keypoints,
    load_openpose_folder,
    load_poses,
    save_openpose_folder,
    settle_confidence,
)
from animator_core.pose.keypoints import (
    PersonPose,
    from_pose_keypoint,
    part_array,
    save_pose_file,
)

CANVAS = {"canvas_width": 640, "canvas_height": 480}


def write(folder: Path, name: str, content: Any) -> None:
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")


def openpose_frame(x: float, joints: int = 18) -> dict[str, Any]:
    """As OpenPose writes it: no canvas size, all parts, empty ones for what it did not look for."""
    points = np.tile([x, 20.0, 0.5], joints).tolist()
    person = {
        "person_id": [-1],
        "pose_keypoints_2d": points,
        "face_keypoints_2d": [],
        "hand_left_keypoints_2d": [],
        "hand_right_keypoints_2d": [],
        "pose_keypoints_3d": [],
    }
    return {"version": 1.3, "people": [person]}


def test_round_trip(tmp_path: Path) -> None:
    frames = [clip_of([standing(100 + i, 240), standing(400, 240)]) for i in range(12)]
    frames[5] = clip_of([])
    frames[6] = clip_of([PersonPose(), standing(400, 240)])
    files = save_openpose_folder(frames, tmp_path / "deep" / "poses")
    assert len(files) == 12
    loaded = load_openpose_folder(tmp_path / "deep" / "poses")
    for person in (0, 1):
        np.testing.assert_array_equal(
            part_array(loaded, "body", person), part_array(frames, "body", person)
        )
    assert (loaded[0].width, loaded[0].height) == (frames[0].width, frames[0].height)


@pytest.mark.parametrize("joints", [18, 25])
def test_files_of_openpose(tmp_path: Path, joints: int) -> None:
    for index in (0, 1, 2, 9, 10, 11, 100):
        write(tmp_path, f"clip_{index}_keypoints.json", openpose_frame(index + 1, joints))
    frames = load_openpose_folder(tmp_path, canvas=(640, 480))
    assert part_array(frames, "body")[:, 0, 0].tolist() == [1, 2, 3, 10, 11, 12, 101]
    assert {(frame.width, frame.height) for frame in frames} == {(640, 480)}
    assert not frames[0].people[0].face.any()
    with pytest.raises(MediaError, match=r"clip_0_keypoints\.json .* canvas width"):
        load_openpose_folder(tmp_path)


def test_the_canvas_in_the_file_wins(tmp_path: Path) -> None:
    entry = {"canvas_width": 100, "canvas_height": 50, **openpose_frame(0.5)}
    write(tmp_path, "a_0.json", [entry])
    write(tmp_path, "a_1.json", {**entry, "people": []})
    frames = load_openpose_folder(tmp_path, canvas=(640, 480))
    assert [(frame.width, frame.height) for frame in frames] == [(100, 50)] * 2
    assert frames[1].people == ()


@pytest.mark.parametrize(
    "content", ["{", "[]", "[1]", '{"poses": []}', "3", '{"people": [{"pose_keypoints_2d": [1]}]}']
)
def test_files_that_hold_no_pose(tmp_path: Path, content: str) -> None:
    write(tmp_path, "frame_0.json", content)
    with pytest.raises(MediaError, match=r"frame_0\.json"):
        load_openpose_folder(tmp_path, canvas=(640, 480))


def test_folders_that_hold_no_poses(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no \.json files"):
        load_openpose_folder(tmp_path)
    with pytest.raises(MediaError, match="is none"):
        load_openpose_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="cannot be written"):
        save_openpose_folder([clip_of([])], tmp_path / "file" / "poses")


BODY = [10.0, 20.0, 1.0] * 18


def test_absent_people_keep_the_others_places() -> None:
    entry = {"people": [None, {}, {"pose_keypoints_2d": BODY}, None], **CANVAS}
    (frame,) = from_pose_keypoint([entry])
    assert [person.is_empty for person in frame.people] == [True, True, False]


@pytest.mark.parametrize(
    "entry",
    [
        {"people": 5},
        {"people": [[1.0, 2.0]]},
        {"people": ["someone"]},
        {"people": [{"pose_keypoints_2d": 5}]},
        {"people": [], "canvas_width": float("inf")},
    ],
)
def test_pose_keypoint_with_odd_contents(entry: dict[str, Any]) -> None:
    with pytest.raises(MediaError):
        from_pose_keypoint([{**CANVAS, **entry}])


def test_certain_or_absent() -> None:
    frame = clip_of([standing(100, 240), standing(400, 240)])
    frame.people[0].body[:3, 2] = (0.3, 0.29, 1.4)
    (settled,) = settle_confidence([frame], min_confidence=0.3)
    assert settled.people[0].body[:3, 2].tolist() == [1, 0, 1]
    assert not settled.people[0].body[1].any()
    np.testing.assert_array_equal(settled.people[1].body[:, :2], frame.people[1].body[:, :2])
    assert set(settled.people[1].body[:, 2]) == {1.0}
    assert settle_confidence([]) == []
    assert settle_confidence([clip_of([])])[0].people == ()
    with pytest.raises(ConfigError):
        settle_confidence([frame], min_confidence=1.5)


def test_a_file_and_a_folder_are_read_alike(tmp_path: Path) -> None:
    frames = [clip_of([standing(320, 240)])]
    save_pose_file(frames, tmp_path / "poses.json")
    save_openpose_folder(frames, tmp_path / "folder")
    (tmp_path / "pictures").mkdir()
    for path in (tmp_path / "poses.json", tmp_path / "folder"):
        assert holds_keypoints(path)
        np.testing.assert_allclose(part_array(load_poses(path), "body"), part_array(frames, "body"))
    assert not holds_keypoints(tmp_path / "pictures")
    assert not holds_keypoints(tmp_path / "film.mp4")
