from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from animator_core.demo.identity import Character
from animator_core.demo.motion import dance_motion
from animator_core.errors import MediaError, ShapeError
from animator_core.evaluation.measures import ClipSource, MetricUnavailableError
from animator_core.evaluation.pose_error import PoseMeasure, pose_error, torso_length
from animator_core.pose.keypoints import (
    FramePose,
    PersonPose,
    map_points,
    save_pose_file,
    scale_to_canvas,
)


def motion(frames: int = 4, seed: int = 1) -> list[FramePose]:
    return dance_motion(Character(), frames, 8, width=96, height=96, seed=seed)


def moved(frames, x: float, y: float) -> list[FramePose]:
    shift = np.array([x, y])
    return [
        replace(f, people=tuple(map_points(p, np.eye(2), shift) for p in f.people)) for f in frames
    ]


def joints(**points) -> PersonPose:
    body = np.zeros((18, 3))
    for number, place in points.items():
        body[int(number[1:])] = (*place, 1)
    return PersonPose(body=body)


def frame(*people: PersonPose) -> FramePose:
    return FramePose(people=people, width=100, height=100)


def test_the_torso_by_hand():
    sides = joints(j1=(50, 20), j8=(40, 60), j11=(60, 60))
    one_hip = joints(j1=(50, 20), j8=(50, 50))
    assert torso_length([frame(sides)]) == 40
    assert torso_length([frame(one_hip)]) == 30
    assert torso_length([frame(sides), frame(one_hip), frame()]) == 35  # median
    assert math.isnan(torso_length([frame(joints(j1=(50, 20))), frame()]))


def test_a_shift_is_its_share_of_the_torso():
    driven = motion()
    error = pose_error(moved(driven, 3, 4), driven)
    assert error.mean == pytest.approx(5 / torso_length(driven))
    assert error.missed_joints == 0
    assert pose_error(driven, driven).mean == 0


def test_canvases_may_differ():
    driven = motion()
    double = [scale_to_canvas(f, 192, 192) for f in driven]
    assert pose_error(double, driven).mean == pytest.approx(0, abs=1e-9)


def test_missed_joints_are_counted_and_not_averaged():
    truth = joints(j1=(50, 20), j8=(50, 60), j4=(20, 20))
    found = joints(j1=(50, 24), j8=(50, 64), j7=(9, 9))
    error = pose_error([frame(found), frame()], [frame(truth), frame(truth)])
    assert error.frames[0] == pytest.approx(0.1)
    assert math.isnan(error.frames[1])
    assert error.mean == pytest.approx(0.1)
    assert error.missed_joints == pytest.approx(4 / 6)
    assert error.frames_without_pose == 1


def test_people_are_matched_by_place():
    left = joints(j1=(20, 20), j8=(20, 60))
    right = joints(j1=(80, 20), j8=(80, 60))
    error = pose_error([frame(right, left)], [frame(left, right)])
    assert error.mean == 0
    assert pose_error([frame(left)], [frame(left, right)]).mean == pytest.approx(60 / 40 / 2)


def test_lengths_must_agree():
    with pytest.raises(ShapeError, match="3 generated frames but of 4"):
        pose_error(motion(3), motion(4))


def test_no_torso_no_error():
    error = pose_error([frame(joints(j4=(1, 1)))], [frame(joints(j4=(2, 2)))])
    assert math.isnan(error.mean)


def feed(measure, source, frames):
    measure.begin(source)
    for _ in range(frames):
        measure.add(np.zeros((4, 4, 3), np.uint8), None)
    return measure.end()


def test_the_measure_reads_files(tmp_path):
    driven = motion()
    save_pose_file(driven, tmp_path / "driven.json")
    save_pose_file(moved(driven, 3, 4), tmp_path / "found.json")
    source = ClipSource(
        name="clip",
        driven_poses=tmp_path / "driven.json",
        generated_poses=tmp_path / "found.json",
    )
    result = feed(PoseMeasure(), source, 4)
    assert result.value == pytest.approx(5 / torso_length(driven))
    assert result.counts == {"frames_without_pose": 0, "missed_joints": 0}
    assert len(feed(PoseMeasure(), source, 2).frames) == 2
    with pytest.raises(ShapeError, match="4 frames for a clip of 6"):
        feed(PoseMeasure(), source, 6)
    with pytest.raises(MediaError, match="no pose file"):
        feed(PoseMeasure(), replace(source, generated_poses=tmp_path / "none.json"), 4)


def test_the_measure_asks_networks_for_what_is_not_given(tmp_path):
    driven = motion()
    save_pose_file(driven, tmp_path / "driven.json")
    source = ClipSource(name="clip", driven_poses=tmp_path / "driven.json")
    with pytest.raises(MetricUnavailableError, match="--generated-poses"):
        feed(PoseMeasure(), source, 4)
    asked = []

    def find(clip, generated):
        asked.append(generated)
        return moved(driven, 0, 5)

    found = feed(PoseMeasure(find), source, 4)
    assert asked == [True]
    assert found.value == pytest.approx(5 / torso_length(driven))
    nothing = feed(PoseMeasure(lambda clip, generated: [frame()] * 4), source, 4)
    assert "no frame shows joints" in nothing.reason
