from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from animator_core.demo.identity import Character
from animator_core.demo.motion import dance_motion
from animator_core.errors import ConfigError, MediaError, NoPoseError
from animator_core.evaluation.misalign import (
    MisalignConfig,
    list_motions,
    misalign,
    random_misalignment,
    write_pairs,
)
from animator_core.pose.interchange import save_openpose_folder
from animator_core.pose.keypoints import FramePose, PersonPose, load_pose_file, save_pose_file
from animator_core.video import write_video


def motion(seed: int = 1):
    return dance_motion(Character(), 3, 8, width=96, height=64, seed=seed)


@given(st.text(min_size=1, max_size=8), st.integers(0, 1000))
def test_transforms_stay_in_their_ranges(name, seed):
    config = MisalignConfig(seed=seed)
    t = random_misalignment(name, 96, 64, config)
    assert t == random_misalignment(name, 96, 64, config)
    assert abs(t.angle_deg) <= 30
    assert 0.4 <= t.scale <= 2.5
    assert abs(t.shift_px[0]) <= 48
    assert abs(t.shift_px[1]) <= 32
    assert t != random_misalignment(name, 96, 64, MisalignConfig(seed=seed + 1))
    assert t != random_misalignment(name + "2", 96, 64, config)


def test_transforms_fill_their_ranges():
    many = [random_misalignment(str(i), 100, 100) for i in range(2000)]
    assert np.mean([t.angle_deg for t in many]) == pytest.approx(0, abs=1.5)
    assert np.median([t.scale for t in many]) == pytest.approx(1, rel=0.06)  # log-uniform
    assert max(t.scale for t in many) > 2.4
    assert min(t.shift_px[1] for t in many) < -49


def test_it_is_a_similarity_about_the_middle():
    frames = motion()
    transform = random_misalignment("a", 96, 64)
    changed = misalign(frames, transform)
    before, after = frames[0].people[0].body, changed[0].people[0].body
    seen = before[:, 2] > 0
    lengths = [np.linalg.norm(np.diff(b[seen, :2], axis=0), axis=1) for b in (before, after)]
    assert lengths[1] == pytest.approx(transform.scale * lengths[0])
    middle = transform.matrix @ np.array([48, 32]) + transform.offset_px
    assert middle == pytest.approx(np.array([48, 32]) + transform.shift_px)
    assert (changed[0].width, changed[0].height) == (96, 64)


def no_networks(path):
    raise AssertionError(path)


def test_pairs_are_written_and_depend_on_name_and_seed_only(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    save_pose_file(motion(1), source / "walk.json")
    save_openpose_folder(motion(2), source / "turn")
    motions = list_motions(source)
    assert list(motions) == ["turn", "walk"]
    config = MisalignConfig(seed=5)
    index = write_pairs(motions, tmp_path / "one", config, no_networks)
    write_pairs(list_motions(source / "walk.json"), tmp_path / "two", config, no_networks)
    name = "misaligned/walk.json"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    content = json.loads(index.read_text())
    assert (content["seed"], content["rotation_deg"], content["scale"]) == (5, 30, [0.4, 2.5])
    for entry in content["sequences"]:
        true = load_pose_file(tmp_path / f"one/original/{entry['name']}.json")
        moved = load_pose_file(tmp_path / f"one/misaligned/{entry['name']}.json")
        assert entry["frames"] == len(true) == len(moved) == 3
        a, b = true[1].people[0].body, moved[1].people[0].body
        expected = a[:, :2] @ np.array(entry["matrix"]).T + entry["offset_px"]
        assert b[a[:, 2] > 0, :2] == pytest.approx(expected[a[:, 2] > 0])


def test_clips_go_through_the_pose_networks(tmp_path):
    write_video(tmp_path / "in/clip.mp4", [np.zeros((64, 96, 3), np.uint8)] * 3, 8)
    asked = []

    def find(path):
        asked.append(path.name)
        return motion()

    write_pairs(list_motions(tmp_path / "in"), tmp_path / "out", MisalignConfig(), find)
    assert asked == ["clip.mp4"]
    assert len(load_pose_file(tmp_path / "out/original/clip.json")) == 3


def test_bad_input(tmp_path):
    with pytest.raises(MediaError, match="no folder"):
        list_motions(tmp_path / "none")
    with pytest.raises(MediaError, match="neither pose files"):
        list_motions(tmp_path)
    save_pose_file([FramePose(people=(PersonPose(),), width=9, height=9)], tmp_path / "x.json")
    with pytest.raises(NoPoseError, match=r"x\.json"):
        write_pairs(list_motions(tmp_path), tmp_path / "o", MisalignConfig(), no_networks)
    with pytest.raises(ConfigError, match="seed"):
        MisalignConfig(seed=-1)
    with pytest.raises(ConfigError, match="ascending"):
        MisalignConfig(scale=(2, 1))
