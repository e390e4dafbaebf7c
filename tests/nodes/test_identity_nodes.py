"""Encode Face, HJB Face Refine and Face Similarity, with small networks in antelopev2's layout."""

from __future__ import annotations

import json

import pytest
import torch
from comfy_host import execute
from faces.onnx_faces import marker_picture, save_detector, save_recogniser, small_recogniser

from animator_core.demo.identity import Character
from animator_core.demo.motion import dance_motion
from animator_core.pose.keypoints import to_pose_keypoint

ENCODE, REFINE = "StableAnimatorEncodeFace", "StableAnimatorFaceRefine"
MEASURE, ANIMATE = "StableAnimatorFaceSimilarity", "StableAnimatorAnimate"


@pytest.fixture
def antelope(folders):
    """The two face networks, in miniature: red above green is a face to them."""
    folder = folders.models / "antelopev2"
    folder.mkdir()
    save_detector(folder / "scrfd_10g_bnkps.onnx")
    save_recogniser(folder / "glintr100.onnx", small_recogniser(num_features=512))
    return folder


def photograph(*centres) -> torch.Tensor:
    picture = marker_picture(640, 640, list(centres or [(320, 320)]))
    return torch.from_numpy(picture).float()[None] / 255


def test_encode_finds_the_face_and_shows_it(pack, antelope):
    identity, preview = execute(pack.nodes[ENCODE], images=photograph()).result
    assert identity.face_embedding.shape == (512,)
    assert preview.shape == (1, 112, 112, 3)
    assert preview[0, :40, :, 0].mean() > preview[0, :40, :, 1].mean()  # red above


def test_encode_takes_the_chosen_face(pack, antelope):
    pictures = photograph((200, 120), (400, 500))
    for index in (0, 1):
        execute(pack.nodes[ENCODE], images=pictures, face="chosen", face_index=index)
    with pytest.raises(pack.errors.NoFaceError, match="Face 2"):
        execute(pack.nodes[ENCODE], images=pictures, face="chosen", face_index=2)


def test_no_face_and_no_networks_say_what_to_do(pack, folders, antelope):
    with pytest.raises(pack.errors.NoFaceError, match="picture 0"):
        execute(pack.nodes[ENCODE], images=torch.zeros(1, 640, 640, 3))
    (antelope / "glintr100.onnx").unlink()
    with pytest.raises(pack.errors.CheckpointError, match="antelopev2 is not installed"):
        execute(pack.nodes[ENCODE], images=photograph())


def test_a_photograph_resembles_itself(pack, antelope):
    identity = execute(pack.nodes[ENCODE], images=photograph())[0]
    frames = torch.cat((photograph(), torch.zeros(1, 640, 640, 3)))
    mean, curve, values = execute(pack.nodes[MEASURE], images=frames, identity=identity).result
    assert mean == pytest.approx(1.0, abs=1e-4)
    assert json.loads(values)[1] is None
    assert curve.ndim == 4


def animate(pack, model, identity, refiner=None, **changes):
    motion = dance_motion(Character(), 2, 8, width=128, height=128, seed=1)
    settings = {
        "model": model,
        "reference": photograph(),
        "poses": to_pose_keypoint(motion),
        "identity": identity,
        "refiner": refiner,
        "width": 128,
        "height": 128,
        "steps": 2,
    }
    return execute(pack.nodes[ANIMATE], **(settings | changes)).result


def test_the_refiner_works_inside_animate(pack, antelope, model):
    identity = execute(pack.nodes[ENCODE], images=photograph())[0]
    refiner = execute(pack.nodes[REFINE], iterations=2, first_step=1, last_step=1)[0]
    plain, _, _ = animate(pack, model, identity)
    refined, frames, curve = animate(pack, model, identity, refiner)
    changed = (plain["samples"] != refined["samples"]).any(dim=1)
    assert changed.any()
    assert not changed.all()  # away from the face every latent keeps its value
    assert torch.isfinite(refined["samples"]).all()
    assert frames.shape == (2, 128, 128, 3)
    assert curve.ndim == 4


def test_the_refiner_needs_a_face_and_keypoints(pack, antelope, model):
    identity = execute(pack.nodes[ENCODE], images=photograph())[0]
    refiner = execute(pack.nodes[REFINE], iterations=1, first_step=0, last_step=0)[0]
    with pytest.raises(pack.errors.NoFaceError, match="connect an identity"):
        animate(pack, model, None, refiner)
    with pytest.raises(pack.errors.NoPoseError, match="keypoints"):
        animate(pack, model, identity, refiner, poses=None, skeletons=torch.zeros(2, 128, 128, 3))


def test_the_refiner_knows_the_reference_pose_anchor(pack, antelope, model):
    identity = execute(pack.nodes[ENCODE], images=photograph())[0]
    refiner = execute(pack.nodes[REFINE], iterations=1, first_step=1, last_step=1)[0]
    pose = to_pose_keypoint(dance_motion(Character(), 1, 8, width=128, height=128, seed=1))
    latent, _, _ = animate(
        pack, model, identity, refiner, anchor="reference_pose", reference_pose=pose
    )
    assert latent["samples"].shape[0] == 2
