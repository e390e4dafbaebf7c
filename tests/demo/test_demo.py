from __future__ import annotations

from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
import torch

from animator_core.demo.casting import random_character
from animator_core.demo.character import draw_character, draw_people
from animator_core.demo.face import HeadPose, face_landmarks, head_joints
from animator_core.demo.head import head_of
from animator_core.demo.identity import (
    Beard,
    BodyShape,
    Character,
    FaceShape,
    Hair,
    HairStyle,
    Kind,
    Outfit,
    Pattern,
)
from animator_core.demo.model import (
    DEMO_FOLDER,
    DEMO_SIZE,
    demo_configs,
    load_demo_models,
)
from animator_core.demo.motion import dance_motion, standing_pose
from animator_core.errors import ConfigError
from animator_core.pose.keypoints import FramePose, PersonPose

PERSON = Character()


def drawn(character: Character = PERSON, size: int = 96, **changes: object) -> np.ndarray:
    pose = standing_pose(character, 128, 128)
    person = replace(pose.people[0], **changes)
    return draw_character(character, replace(pose, people=(person,)), size, size)


def test_characters_follow_from_their_seed():
    assert random_character(3) == random_character(3)
    assert len({random_character(seed) for seed in range(20)}) == 20


def test_the_cast_is_mixed():
    cast = [random_character(seed) for seed in range(300)]
    kinds = [character.kind for character in cast]
    assert set(kinds) == {"person", "cat", "dog", "bear", "rabbit", "robot"}
    assert 0.75 < kinds.count("person") / len(kinds) < 0.95
    assert {c.hair.style for c in cast} == set(get_args(HairStyle))
    assert {c.outfit.pattern for c in cast} == set(get_args(Pattern))
    assert {c.beard for c in cast} == set(get_args(Beard))


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("style", ["none", "mohawk", "ponytail"])
def test_every_kind_has_its_own_head(kind, style):
    character = replace(PERSON, kind=kind, hair=Hair(style=style), beard="goatee", freckles=True)
    plain = drawn(size=128)
    changed = (drawn(character, size=128) != plain).any(axis=2)
    y, x = np.nonzero(changed)
    head = standing_pose(PERSON, 128, 128).people[0].body[1, 1]
    assert changed.sum() > 60
    assert y.max() < head + 30  # hair may fall on the shoulders; the rest is the same person
    assert 30 < x.min() < x.max() < 98


def test_two_people_share_a_scene():
    first, second = random_character(1), random_character(2)
    pose = standing_pose(first, 128, 128).people[0]
    pair = [
        replace(pose, body=pose.body + np.array([shift, 0, 0]), face=np.zeros((68, 3)))
        for shift in (-25, 25)
    ]
    frame = FramePose(people=tuple(pair), width=128, height=128)
    both = draw_people((first, second), frame, 128, 128, first.scene)
    alone = draw_people((first,), replace(frame, people=(pair[0],)), 128, 128, first.scene)
    changed = (both != alone).any(axis=2)
    assert changed[:, 70:].mean() > 0.1  # the second one, on the right
    assert not changed[:, :30].any()


def test_the_first_of_the_people_is_in_front():
    first, second = replace(PERSON, outfit=Outfit(top=(255, 0, 0), pattern="plain")), PERSON
    pose = standing_pose(first, 128, 128)
    frame = replace(pose, people=pose.people * 2)
    both = draw_people((first, second), frame, 128, 128, first.scene)
    chest = pose.people[0].body[[1, 8, 11], :2].mean(axis=0).astype(int)
    assert tuple(both[chest[1], chest[0]]) == (255, 0, 0)


def test_every_person_needs_a_character():
    pose = standing_pose(PERSON, 64, 64)
    pair = replace(pose, people=pose.people * 2)
    with pytest.raises(ConfigError, match="1 characters were given for 2 people"):
        draw_people((PERSON,), pair, 64, 64, PERSON.scene)


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_patterns_stay_on_the_top(pattern):
    def dressed(pattern: Pattern) -> np.ndarray:
        return drawn(replace(PERSON, outfit=Outfit(pattern=pattern)), size=128)

    body = standing_pose(PERSON, 128, 128).people[0].body
    rows, columns = np.nonzero((dressed(pattern) != dressed("plain")).any(axis=2))
    assert (len(rows) == 0) == (pattern == "plain")
    assert (rows > body[1, 1] - 5).all()
    assert (rows < body[8, 1] + 5).all()
    assert (abs(columns - 64) < 22).all()


def test_a_larger_picture_shows_the_same():
    small, large = drawn(size=128).astype(float), drawn(size=512).astype(float)
    shrunk = large.reshape(128, 4, 128, 4, 3).mean(axis=(1, 3))
    other = drawn(random_character(1), size=128)
    assert np.abs(small - shrunk).mean() < 0.1 * np.abs(small - other).mean()


@pytest.mark.parametrize("seed", range(12))
def test_every_character_can_be_drawn(seed):
    character = random_character(seed)
    pose = standing_pose(character, 96, 128)
    picture = draw_character(character, pose, 96, 128)
    assert picture.shape == (128, 96, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, draw_character(character, pose, 96, 128))
    alone = draw_character(character, FramePose(people=(), width=96, height=128), 96, 128)
    changed = (picture != alone).any(axis=2)
    assert 0.08 < changed.mean() < 0.6
    assert not changed[:2].any()


def test_the_face_is_there():
    with_face, size = drawn(size=256), 256
    pose = standing_pose(PERSON, size, size).people[0]
    x, y = pose.body[14, :2].round().astype(int)
    eye = with_face[y - 6 : y + 6, x - 6 : x + 6].reshape(-1, 3).astype(int)
    assert eye.min() < 80  # the pupil
    assert eye.sum(axis=1).max() > 720  # its highlight or the white around
    mouth = pose.face[48:60, :2].mean(axis=0).round().astype(int)
    lips = with_face[mouth[1] - 2 : mouth[1] + 3, mouth[0] - 3 : mouth[0] + 4].reshape(-1, 3)
    assert (lips[:, 0].astype(int) - lips[:, 1]).max() > 40  # redder than skin


@pytest.mark.parametrize("joint", range(18))
def test_any_joint_may_be_missing(joint):
    body = standing_pose(PERSON, 128, 128).people[0].body.copy()
    body[joint] = 0.0
    drawn(body=body, face=np.zeros((68, 3)), left_hand=np.zeros((21, 3)))


def test_without_a_neck_nobody_is_drawn():
    body = standing_pose(PERSON, 128, 128).people[0].body.copy()
    body[1] = 0.0
    empty = draw_character(PERSON, FramePose(people=(), width=128, height=128), 96, 96)
    np.testing.assert_array_equal(drawn(body=body), empty)


def test_landmarks_equal_those_that_the_joints_imply():
    # a drawing from body joints alone has the same face, but for mouth and lids
    np.testing.assert_array_equal(drawn(), drawn(face=np.zeros((68, 3))))


@pytest.mark.parametrize("yaw", [-0.6, 0.0, 0.5])
@pytest.mark.parametrize("roll", [-0.3, 0.0, 0.4])
def test_the_head_is_found_again_from_its_joints(yaw, roll):
    shape, face = BodyShape(), FaceShape()
    unit = 200.0
    half = unit * shape.head / 2
    up = np.array([np.sin(roll), -np.cos(roll)])
    neck = np.array([100.0, 120.0])
    head = HeadPose(
        center=neck + (unit * shape.neck + half) * up, half_height=half, roll=roll, yaw=yaw
    )
    body = np.zeros((18, 2))
    body[1] = neck
    body[[0, 14, 15, 16, 17]] = head_joints(face, head)
    found = head_of(PERSON, body, np.ones(18, dtype=bool), unit)
    np.testing.assert_allclose(found.center, head.center, atol=1.0)
    assert found.half_height == pytest.approx(half, rel=0.02)
    assert found.roll == pytest.approx(roll, abs=0.02)
    assert found.yaw == pytest.approx(yaw, abs=0.05)


def test_mouth_and_lids_move():
    def landmarks(**state: float) -> np.ndarray:
        return face_landmarks(FaceShape(), HeadPose(center=np.zeros(2), half_height=100.0, **state))

    rest, speaking, asleep = landmarks(), landmarks(mouth_open=1.0), landmarks(blink=1.0)
    assert rest.shape == (68, 2)
    assert (speaking[66] - speaking[62])[1] > (rest[66] - rest[62])[1] + 20
    assert (asleep[41] - asleep[37])[1] < 0.3 * (rest[41] - rest[37])[1]


@pytest.mark.parametrize("seed", range(5))
def test_the_dance_is_smooth_complete_and_inside(seed):
    person = random_character(seed)
    frames = dance_motion(person, 24, 8, width=300, height=400, seed=seed)
    parts = [f.name for f in fields(PersonPose)]
    joints = np.stack([np.concatenate([getattr(f.people[0], n) for n in parts]) for f in frames])
    assert joints.shape == (24, 128, 3)
    assert (joints[..., 2] == 1).all()
    assert (joints[..., 1] > 0).all()
    assert (joints[..., 1] < 400).all()
    steps = np.linalg.norm(np.diff(joints[:, :18, :2], axis=0), axis=-1)
    assert steps.max() < 0.2 * 400
    assert steps[:, 4].mean() > 3  # the hands move
    again = dance_motion(person, 24, 8, width=300, height=400, seed=seed)
    np.testing.assert_array_equal(frames[5].people[0].body, again[5].people[0].body)
    other = dance_motion(person, 24, 8, width=300, height=400, seed=seed + 1)
    assert (frames[5].people[0].body != other[5].people[0].body).any()


def test_bones_have_the_lengths_of_the_body():
    person = random_character(4)
    frames = dance_motion(person, 10, 8, width=400, height=400, seed=0)
    for frame in frames:
        body = frame.people[0].body[:, :2]
        upper, fore = np.hypot(*(body[3] - body[2])), np.hypot(*(body[4] - body[3]))
        assert upper / fore == pytest.approx(person.body.upper_arm / person.body.forearm)


def test_an_empty_picture_is_refused():
    with pytest.raises(ConfigError, match="0x5"):
        draw_character(PERSON, standing_pose(PERSON, 64, 64), 0, 5)


def test_the_demo_model_is_small_trained_and_fits_its_size():
    models = load_demo_models(torch.float32)
    assert models.trained
    DEMO_SIZE.check_multiple(8 * models.unet.latent_multiple)
    built = demo_configs()
    assert tuple(models.unet.config.block_out_channels) == built.unet["block_out_channels"]
    assert models.vae.latent_channels == built.vae["latent_channels"]
    assert models.face_encoder.proj[0].in_features == built.face_encoder["id_embeddings_dim"]


def test_the_family_s_files_are_few_safe_and_small():
    files = [p for p in DEMO_FOLDER.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} <= {".safetensors", ".onnx", ".json", ".md", ".toml", ".jsonl"}
    assert sum(p.stat().st_size for p in files) < 60e6
