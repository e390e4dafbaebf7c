from __future__ import annotations

import itertools

import numpy as np
import pytest

from animator_core.errors import ShapeError
from animator_core.faces.visibility import face_visibility

EYE_X, EYE_Z, NOSE_Z, MOUTH_Y = 16.0, 0.0, 16.0, 30.0


def turned(degrees, confidence=0.9, roll=0.0):
    """Body joints of a head turned about the vertical axis, from the front at 0."""
    angle = np.deg2rad(degrees)
    points = {0: (0, 8, NOSE_Z), 14: (-EYE_X, -10, EYE_Z), 15: (EYE_X, -10, EYE_Z), 1: (0, 60, -5)}
    body = np.zeros((18, 3))
    turn = np.deg2rad(roll)
    for joint, (x, y, z) in points.items():
        x = x * np.cos(angle) + z * np.sin(angle)
        x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
        body[joint] = (100 + x, 80 + y, confidence)
    return body


def visibility(body, frames=9):
    return face_visibility(np.stack([body] * frames), np.zeros((frames, 68, 3)))[frames // 2]


def test_it_falls_as_the_head_turns_away():
    values = [visibility(turned(d)) for d in (0, 25, 45, 60, 75, 85)]
    assert values[0] == values[1] == pytest.approx(1)
    assert all(a > b for a, b in itertools.pairwise(values[1:]))
    assert values[-1] == 0
    for degrees in (20, 50):
        assert visibility(turned(degrees)) == pytest.approx(visibility(turned(-degrees)))
        assert visibility(turned(degrees, roll=40)) == pytest.approx(visibility(turned(degrees)))


def test_from_behind_there_is_no_face():
    assert visibility(turned(180)) == 0
    assert visibility(turned(150)) == 0
    assert visibility(turned(0, confidence=0.2)) == 0
    assert visibility(np.zeros((18, 3))) == 0


def test_an_uncertain_face_counts_less_and_one_eye_is_a_profile():
    assert 0 < visibility(turned(0, confidence=0.45)) < 1
    profile = turned(0)
    profile[15] = 0
    assert 0.2 < visibility(profile) < 0.5


def test_landmarks_come_before_the_body():
    face = np.zeros((68, 3))
    face[36:42], face[42:48], face[30] = (84, 70, 1), (116, 70, 1), (100, 88, 1)
    face[48], face[54] = (90, 100, 1), (110, 100, 1)
    behind = np.stack([turned(180)] * 7)
    assert face_visibility(behind, np.stack([face] * 7))[3] == pytest.approx(1)
    swapped = face.copy()
    swapped[36:42], swapped[42:48] = face[42:48], face[36:42]
    assert face_visibility(behind, np.stack([swapped] * 7))[3] == 0


def test_it_does_not_jump():
    bodies = np.stack([turned(0)] * 10 + [np.zeros((18, 3))] * 10)
    values = face_visibility(bodies, np.zeros((20, 68, 3)))
    assert np.abs(np.diff(values)).max() <= 0.26
    assert values[0] == pytest.approx(1)
    assert values[-1] == 0
    assert len(face_visibility(bodies[:1], np.zeros((1, 68, 3)))) == 1


def test_arrays_of_other_shapes():
    with pytest.raises(ShapeError, match="landmarks"):
        face_visibility(np.zeros((2, 18, 3)), np.zeros((3, 68, 3)))
