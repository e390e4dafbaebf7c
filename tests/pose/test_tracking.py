"""People keep their index: crossings, leaving and coming back, false alarms."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pose_factory import UPSIDE_DOWN, Place, clip_of, middles, standing, walking

from animator_core.errors import ConfigError, DependencyError, NoPoseError
from animator_core.pose.keypoints import FramePose, PersonPose, scale_to_canvas
from animator_core.pose.tracking import TrackingConfig, select_people, track_people


def right(frame: int) -> Place:
    return 100.0 + 8 * frame, 240.0


def left(frame: int) -> Place:
    return 540.0 - 8 * frame, 240.0


def assert_on_path(frames: list[FramePose], person: int, path: Any) -> None:
    for index, middle in enumerate(middles(frames, person)):
        place = path(index)
        if place is None:
            assert np.isnan(middle).all(), index
        else:
            # the neck is above the middle by .34 of the height, which is 200 px
            np.testing.assert_allclose(middle, (place[0], place[1] - 68), atol=6)


def test_people_in_random_order_keep_their_index() -> None:
    paths = [lambda i: (120, 240), lambda i: (320 + 3 * i, 240), lambda i: (560, 240 - i)]
    tracked = track_people(walking(paths, 30))
    assert {len(frame.people) for frame in tracked} == {3}
    for person, path in enumerate(paths):
        assert_on_path(tracked, person, path)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("speed", [3, 8, 16])
def test_crossing(seed: int, speed: float) -> None:
    def there(frame: int) -> Place:
        return 100.0 + speed * frame, 240.0

    def back(frame: int) -> Place:
        return 540.0 - speed * frame, 250.0

    tracked = track_people(walking([there, back], int(440 / speed) + 1, seed))
    assert len(tracked[0].people) == 2
    assert_on_path(tracked, 0, there)
    assert_on_path(tracked, 1, back)


@pytest.mark.parametrize("hidden", [2, 5, 8])
def test_crossing_while_one_hides_the_other(hidden: int) -> None:
    def behind(frame: int) -> Place:
        return None if abs(frame - 27) <= hidden / 2 else left(frame)

    tracked = track_people(walking([right, behind], 56))
    assert len(tracked[0].people) == 2
    assert_on_path(tracked, 0, right)
    assert_on_path(tracked, 1, behind)


@pytest.mark.parametrize(("gap", "back_at"), [(3, 320.0), (15, 350.0), (60, 600.0), (60, 40.0)])
def test_leaving_and_coming_back(gap: int, back_at: float) -> None:
    def leaves(frame: int) -> Place:
        if frame < 20:
            return 320.0, 240.0
        return None if frame < 20 + gap else (back_at, 240.0)

    def stays(frame: int) -> Place:
        return 150.0, 240.0

    tracked = track_people(walking([leaves, stays], 120))
    assert len(tracked[0].people) == 2
    assert_on_path(tracked, 0, stays)
    assert_on_path(tracked, 1, leaves)


def test_somebody_else_enters_elsewhere() -> None:
    def first(frame: int) -> Place:
        return (100.0, 240.0) if frame < 20 else None

    def second(frame: int) -> Place:
        return (560.0, 240.0) if frame >= 22 else None

    tracked = track_people(walking([first, second], 40))
    assert len(tracked[0].people) == 2
    assert_on_path(tracked, 0, first)
    assert_on_path(tracked, 1, second)


@pytest.mark.parametrize("jump", [250.0, -250.0])
def test_a_cut_in_the_video_makes_no_new_people(jump: float) -> None:
    def first(frame: int) -> Place:
        return 290.0 + (0 if frame < 15 else jump), 240.0

    def second(frame: int) -> Place:
        return 350.0 + (0 if frame < 15 else jump), 120.0

    assert len(track_people(walking([first], 30))[0].people) == 1
    tracked = track_people(walking([first, second], 30))
    assert len(tracked[0].people) == 2
    assert not any(person.is_empty for frame in tracked for person in frame.people)


def test_a_ghost_does_not_take_over() -> None:
    def flickering(frame: int) -> Place:
        return None if frame == 15 else (100.0, 240.0)

    def ghost(frame: int) -> Place:
        return (560.0, 240.0) if frame == 15 else None

    tracked = track_people(walking([flickering, ghost], 30))
    assert len(tracked[0].people) == 1
    assert_on_path(tracked, 0, flickering)


def test_a_false_alarm_makes_no_person() -> None:
    def ghost(frame: int) -> Place:
        return (560.0, 240.0) if frame == 7 else None

    frames = walking([right, ghost], 20)
    assert len(track_people(frames)[0].people) == 1
    assert len(track_people(frames, TrackingConfig(min_frames=1))[0].people) == 2
    # a short clip has no room for doubt
    assert len(track_people(frames[5:9])[0].people) == 2


def test_frames_without_anybody() -> None:
    assert track_people([]) == []
    nobody = [clip_of([])] * 5
    assert [frame.people for frame in track_people(nobody)] == [()] * 5
    hollow = [clip_of([PersonPose(), PersonPose()])] * 3
    assert [frame.people for frame in track_people(hollow)] == [()] * 3
    (one,) = track_people([clip_of([standing(300, 240)])])
    assert not one.people[0].is_empty


@pytest.mark.parametrize("joints", [[0, 14, 15, 16, 17], [8, 9, 10, 11, 12, 13], [4]])
def test_parts_of_a_person(joints: list[int]) -> None:
    frames = [
        clip_of([standing(400 - 2 * i, 240, joints=joints), standing(100 + 2 * i, 240)])
        for i in range(20)
    ]
    tracked = track_people(frames)
    assert {len(frame.people) for frame in tracked} == {2}
    for frame in tracked:
        assert (frame.people[0].body[:, 2] > 0).all()
        assert (frame.people[1].body[:, 2] > 0).sum() == len(joints)


def test_joints_that_come_and_go() -> None:
    upper, lower = list(range(8)), list(range(8, 14))
    frames = [
        clip_of([standing(300 + 3 * i, 240, joints=upper if i % 2 else lower)]) for i in range(20)
    ]
    assert {len(frame.people) for frame in track_people(frames)} == {1}


def test_hidden_joints_are_remembered() -> None:
    head, feet = [0, 14, 15, 16, 17], [10, 13]
    seen = [range(18), *([head, feet] * 10)]
    frames = [clip_of([standing(300 + 3 * i, 240, joints=j)]) for i, j in enumerate(seen)]
    assert {len(frame.people) for frame in track_people(frames)} == {1}


def test_a_single_joint_may_tremble() -> None:
    random = np.random.default_rng(0)
    places = random.normal((300, 240), 4, (30, 2))
    frames = [clip_of([standing(x, y, joints=[4])]) for x, y in places]
    assert {len(frame.people) for frame in track_people(frames)} == {1}


def test_parts_far_apart_are_two_people() -> None:
    legs, head = [8, 9, 10, 11, 12, 13], [0, 14, 15, 16, 17]
    frames = [clip_of([standing(100, 240, joints=legs)])] * 10
    frames += [clip_of([])] * 2
    frames += [clip_of([standing(560, 240, joints=head)])] * 10
    assert {len(frame.people) for frame in track_people(frames)} == {2}


def test_upside_down_somersault() -> None:
    turns = [np.deg2rad(18 * i) for i in range(21)]
    frames = [
        clip_of(
            [
                standing(
                    200, 240, turn=np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
                ),
                standing(480, 240, turn=UPSIDE_DOWN),
            ]
        )
        for a in turns
    ]
    tracked = track_people(frames)
    assert {len(frame.people) for frame in tracked} == {2}
    assert (np.abs(middles(tracked, 1)[:, 0] - 480) < 1).all()


def test_canvases_of_different_size() -> None:
    frames = walking([right, left], 40)
    mixed = [scale_to_canvas(f, 1280, 960) if i % 3 == 1 else f for i, f in enumerate(frames)]
    tracked = track_people(mixed)
    assert [(f.width, f.height) for f in tracked] == [(f.width, f.height) for f in mixed]
    same_size = [scale_to_canvas(frame, 640, 480) for frame in tracked]
    assert_on_path(same_size, 0, right)


def test_tracking_again_changes_nothing() -> None:
    once = track_people(walking([right, left, lambda i: None if i < 20 else (320.0, 100.0)], 50))
    again = track_people(once)
    for first, second in zip(once, again, strict=True):
        for person, same in zip(first.people, second.people, strict=True):
            np.testing.assert_array_equal(person.body, same.body)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 4),
    num_frames=st.integers(1, 12),
    config=st.builds(TrackingConfig, min_frames=st.integers(1, 3)),
)
def test_nobody_is_invented(seed: int, count: int, num_frames: int, config: TrackingConfig) -> None:
    random = np.random.default_rng(seed)
    frames = [
        clip_of(
            [standing(*random.uniform(0, 600, 2)) for _ in range(random.integers(0, count + 1))]
        )
        for _ in range(num_frames)
    ]
    tracked = track_people(frames, config)
    assert len({len(frame.people) for frame in tracked}) == 1
    for before, after in zip(frames, tracked, strict=True):
        given_bodies = sorted(p.body.tobytes() for p in before.people)
        kept = [p.body.tobytes() for p in after.people if not p.is_empty]
        assert all(body in given_bodies for body in kept)
        if num_frames < 4 * config.min_frames:
            assert sorted(kept) == given_bodies


def test_many_frames_are_quick() -> None:
    frames = walking([right, left, lambda i: (320.0, 240.0)], 2000)
    start = time.process_time()
    tracked = track_people(frames)
    assert time.process_time() - start < 10  # about 1 s on an idle core
    assert len(tracked) == 2000


def test_choosing_people() -> None:
    small, large = standing(100, 240, 100), standing(400, 240, 300)
    frames = track_people([clip_of([large, small])] * 3)
    assert len(select_people(frames, "all")[0].people) == 2
    for choice, size in (("largest", 300), (0, 100), (1, 300)):
        (person,) = select_people(frames, choice)[0].people  # type: ignore[arg-type]
        np.testing.assert_allclose(np.ptp(person.body[:, 1]), 0.96 * size)
    with pytest.raises(NoPoseError, match=r"only 2 people were found; choose 0 to 1"):
        select_people(frames, 2)
    with pytest.raises(ConfigError, match="'largest', 'all' or a number"):
        select_people(frames, "smallest")  # type: ignore[arg-type]
    assert select_people([], "largest") == []
    assert select_people([clip_of([])], 5)[0].people == ()


@pytest.mark.parametrize(
    "values",
    [
        {"max_jump": -1},
        {"jump_growth": float("nan")},
        {"overlap_weight": -0.1},
        {"velocity_memory": 1.0},
        {"max_extrapolation": -1},
        {"min_frames": 0},
    ],
)
def test_settings_out_of_range(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        TrackingConfig(**values)  # type: ignore[arg-type]


def test_scipy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(DependencyError, match="pip install scipy"):
        track_people([clip_of([standing(300, 240)])] * 2)


def test_module_needs_no_onnxruntime() -> None:
    import subprocess

    code = (
        "import sys, animator_core.pose.tracking, animator_core.pose.cleaning, json\n"
        "heavy = ('onnxruntime', 'cv2', 'scipy', 'insightface', 'diffusers')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    root = Path(__file__).resolve().parents[2]
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert json.loads(output.stdout) == []
