from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from animator_core.demo.casting import random_character
from animator_core.demo.character import draw_people
from animator_core.errors import ConfigError
from animator_core.faces.crops import ARCFACE_TEMPLATE, similarity_to_template
from animator_core.pose.keypoints import FramePose, PersonPose
from animator_core.training.drawn_clips import (
    SPLIT_SEEDS,
    DrawnClip,
    DrawnClipConfig,
    draw_clip,
    draw_portrait,
    five_points,
    split_of,
    visible_pose,
)
from animator_core.training.framing import face_box

SHORT = DrawnClipConfig(width=128, height=128, frames=3)
PAIRS = replace(SHORT, pairs=1.0)


def shown(clip: DrawnClip) -> list[tuple[np.ndarray, FramePose, np.ndarray]]:
    """Picture, pose and face boxes of the reference and of every frame."""
    pictures, poses = [clip.reference, *clip.frames], [clip.reference_pose, *clip.poses]
    boxes = [clip.reference_face_boxes, *clip.face_boxes]
    return list(zip(pictures, poses, boxes, strict=True))


def test_a_clip_has_all_its_parts():
    clip = draw_clip(3, DrawnClipConfig(width=96, height=80, frames=4))
    assert clip.reference.shape == (80, 96, 3)
    assert clip.frames.shape == (4, 80, 96, 3)
    assert clip.frames.dtype == clip.reference.dtype == np.uint8
    assert len(clip.poses) == 4
    people = len(clip.who)
    assert clip.face_boxes.shape == (4, people, 4)
    assert clip.reference_face_boxes.shape == (people, 4)
    assert clip.face_masks.shape == (4, 80, 96)
    for pose in (clip.reference_pose, *clip.poses):
        assert (pose.width, pose.height, len(pose.people)) == (96, 80, people)
        for person in pose.people:
            assert all((getattr(person, part.name)[:, 2] == 1).all() for part in fields(person))


@pytest.mark.parametrize("seed", [0, 1, 2**31 + 5])
def test_clips_follow_from_their_seed(seed):
    first, second = draw_clip(seed, SHORT), draw_clip(seed, SHORT)
    for part in ("reference", "frames", "face_boxes", "face_masks"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))
    assert first.who == second.who == (random_character(seed), *second.who[1:])
    other = draw_clip(seed + 1, SHORT)
    assert (first.frames != other.frames).any()
    assert first.who[0] != other.who[0]


def test_the_splits_share_no_seed_and_no_person():
    ranges = sorted(SPLIT_SEEDS.values(), key=lambda seeds: seeds.start)
    assert all(a.stop <= b.start for a, b in pairwise(ranges))
    for split, seeds in SPLIT_SEEDS.items():
        for seed in (seeds.start, seeds.start + 11, seeds.stop - 1):
            assert split_of(seed) == split
            clip = draw_clip(seed, PAIRS)
            assert len(clip.character_seeds) == 2
            assert all(character in seeds for character in clip.character_seeds)


@pytest.mark.parametrize("seed", [-1, max(seeds.stop for seeds in SPLIT_SEEDS.values())])
def test_a_seed_of_no_split_is_refused(seed):
    with pytest.raises(ConfigError, match="clip seed"):
        draw_clip(seed)


@pytest.mark.parametrize("seed", range(12))
def test_joints_lie_on_the_drawn_figure(seed):
    clip = draw_clip(seed, replace(SHORT, pairs=0.0))
    scene = clip.who[0].scene
    empty = draw_people((), FramePose(people=(), width=128, height=128), 128, 128, scene)
    for picture, pose, _ in shown(clip):
        figure = (picture != empty).any(axis=2)
        # a limb's middle is at least 2 px from its edge; colours may equal the wall's by chance
        seen = visible_pose(pose).people[0]
        points = np.concatenate([seen.body, seen.face])
        x, y = points[points[:, 2] > 0, :2].round().astype(int).T
        assert figure[y, x].mean() > 0.97


@pytest.mark.parametrize("seed", range(12))
def test_face_boxes_hold_the_landmarks_and_masks_the_boxes(seed):
    clip = draw_clip(seed, replace(SHORT, pairs=0.5))
    for picture, pose, boxes in shown(clip):
        height, width = picture.shape[:2]
        for person, box in zip(pose.people, boxes, strict=True):
            if not box.any():
                continue
            inside = person.face[:, :2].clip(0, [width - 1, height - 1])
            assert (inside >= box[:2] - 1e-9).all()
            assert (inside <= box[2:] + 1e-9).all()
            assert (box >= 0).all()
            assert (box <= [width - 1, height - 1] * 2).all()
    for mask, boxes in zip(clip.face_masks, clip.face_boxes, strict=True):
        wanted = np.zeros_like(mask)
        for left, top, right, bottom in boxes.round().astype(int):
            if right > left:
                wanted[top : bottom + 1, left : right + 1] = True
        np.testing.assert_array_equal(mask, wanted)


def test_faces_are_mostly_seen_and_come_in_all_sizes():
    clips = [draw_clip(seed, replace(SHORT, frames=1)) for seed in range(60)]
    boxes = np.concatenate([clip.face_boxes[0] for clip in clips])
    seen = boxes.any(axis=1)
    assert seen.mean() > 0.95
    height = (boxes[:, 3] - boxes[:, 1])[seen]
    assert np.percentile(height, 10) < 22
    assert np.percentile(height, 90) > 40
    assert sum(len(clip.who) == 2 for clip in clips) > 2


def test_faces_turn_speak_and_blink():
    def spread(values: list[float]) -> float:
        return float(np.percentile(values, 95) - np.percentile(values, 5))

    yaws, mouths, eyes = [], [], []
    for seed in range(40):
        for pose in draw_clip(seed, SHORT).poses:
            face = pose.people[0].face[:, :2]
            size = np.linalg.norm(face[8] - face[27])
            yaws.append((face[30] - face[[0, 16]].mean(axis=0))[0] / size)
            mouths.append(np.linalg.norm(face[66] - face[62]) / size)
            eyes.append(np.linalg.norm(face[41] - face[37]) / np.linalg.norm(face[39] - face[36]))
    assert spread(yaws) > 0.2
    assert spread(mouths) > 0.1
    assert min(eyes) < 0.25 < np.median(eyes)


def test_the_scene_stays_while_the_people_move():
    clip = draw_clip(0, DrawnClipConfig(frames=6, pairs=0.0))
    pictures = np.stack([clip.reference, *clip.frames])
    still = (pictures == pictures[0]).all(axis=(0, 3))
    assert 0.25 < still.mean() < 0.95
    necks = np.stack([pose.people[0].body[4, :2] for pose in clip.poses])
    assert np.ptp(necks, axis=0).max() > 2


def test_joints_outside_the_picture_can_be_removed():
    clip = draw_clip(0, replace(SHORT, frames=1, close_ups=1.0, half_bodies=0.0))
    person = visible_pose(clip.poses[0]).people[0]
    assert not person.body[[10, 13]].any()  # no feet in a close-up
    assert person.body[0, 2] == 1
    kept = person.body[person.body[:, 2] > 0, :2]
    assert (kept >= 0).all()
    assert (kept <= 127).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 8}, "at least 16x16"),
        ({"frames": 0}, "0 frames"),
        ({"fps": 0.0}, "0.0 fps"),
        ({"pairs": 1.5}, "Shares"),
        ({"close_ups": 0.7, "half_bodies": 0.4}, "at most 1"),
    ],
)
def test_impossible_clips_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        DrawnClipConfig(**changes)


def test_portraits_are_aligned_and_of_one_person():
    def portrait(person: int, seed: int):
        return draw_portrait(person, np.random.default_rng(seed))

    same, again, later = portrait(5, 0), portrait(5, 0), portrait(5, 1)
    assert same.picture.shape == (128, 128, 3)
    assert same.crop.shape == (112, 112, 3)
    np.testing.assert_array_equal(same.crop, again.crop)
    assert (same.crop != later.crop).any()
    for one in (same, later):
        np.testing.assert_allclose(five_points(one.pose.people[0]), one.points_px)
        matrix = similarity_to_template(one.points_px)
        placed = one.points_px @ matrix[:, :2].T + matrix[:, 2]
        assert np.abs(placed - ARCFACE_TEMPLATE).max() < 16  # a face of one's own shape
        face = one.pose.people[0].face[:, :2]
        assert (face >= one.box[:2] - 1).all()
        assert (face <= one.box[2:] + 1).all()


def test_pictures_of_one_person_are_alike():
    def crops(person: int) -> np.ndarray:
        rng = np.random.default_rng(person)
        faces = np.stack([draw_portrait(person, rng).crop for _ in range(8)]).astype(float)
        return faces.mean(axis=(1, 2)) / faces.mean(axis=(1, 2, 3))[:, None]  # tint without light

    tints = np.stack([crops(person) for person in range(10)])
    within = tints.std(axis=1).mean()
    between = tints.mean(axis=1).std(axis=0).mean()
    assert between > 1.3 * within


def test_people_without_a_face_have_no_box():
    assert not face_box(PersonPose(), 64, 64).any()
    points = np.ones((68, 3))
    points[:, :2] = np.random.default_rng(0).uniform(-20, 8, (68, 2))  # mostly outside
    assert not face_box(PersonPose(face=points), 64, 64).any()


def test_a_reference_in_the_motion_s_framing_changes_nothing_else():
    config = DrawnClipConfig(frames=3, pairs=0.0)
    usual, same = (draw_clip(7, config, same_framing=value) for value in (False, True))
    assert np.array_equal(usual.frames, same.frames)
    sizes = [np.ptp(clip.reference_pose.people[0].body[:, 1]) for clip in (usual, same)]
    assert sizes[0] != pytest.approx(sizes[1], rel=1e-3)
    # the length of the head does not depend on the pose
    lengths = [np.ptp(pose.people[0].face[:, 1]) for pose in (usual.poses[0], same.reference_pose)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.15)
