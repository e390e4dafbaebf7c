"""Encode Face, HJB Face Refine and Face Similarity, with small networks in antelopev2's layout."""

from __future__ import annotations

import json

import pytest
import torch
from comfy_host import execute, standing_person
from faces.onnx_faces import marker_picture, save_detector, save_recogniser, small_recogniser

from animator_core.demo.identity import Character
from animator_core.demo.motion import dance_motion
from animator_core.pose.keypoints import to_pose_keypoint

COMBINE, MASKS = "StableAnimatorCombineIdentities", "StableAnimatorFaceMasks"
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


def couple(frames=2, size=128):
    """A POSE_KEYPOINT value of two people beside each other, the first of whom moves."""
    found = []
    for index in range(frames):
        pair = [standing_person(x, size) for x in (0.25 + 0.02 * index, 0.75)]
        found.append({**pair[0], "people": [p["people"][0] for p in pair]})
    return found


def identity_of(pack, *centres, **changes):
    return execute(pack.nodes[ENCODE], images=photograph(*centres), **changes)[0]


def test_face_masks_follow_one_person(pack):
    poses = couple(3)
    head = execute(pack.nodes[MASKS], poses=poses, person=0)[0]
    assert head.shape == (3, 128, 128)
    assert head[0, 18, 32] == 1
    assert head[:, :, 70:].max() == 0
    other = execute(pack.nodes[MASKS], poses=poses, person=1)[0]
    assert other[:, 18, 96].min() == 1
    body = execute(pack.nodes[MASKS], poses=poses, person=1, part="body", feather=0.0)[0]
    assert body.sum() > other.sum()
    assert body[0, 100, 96] == 1
    larger = execute(pack.nodes[MASKS], poses=poses, person=0, grow=1.0)[0]
    assert larger.sum() > 2 * head.sum()
    assert ((larger >= 0) & (larger <= 1)).all()


def test_face_masks_of_nobody(pack):
    with pytest.raises(pack.errors.NoPoseError, match="Person 2 is in none of the 3 frames"):
        execute(pack.nodes[MASKS], poses=couple(3), person=2)
    with pytest.raises(pack.errors.NoPoseError, match="no frames"):
        execute(pack.nodes[MASKS], poses=[], person=0)
    away = couple(3)
    away[1] = {**away[1], "people": []}
    masks = execute(pack.nodes[MASKS], poses=away, person=0)[0]
    assert masks[0].any()
    assert not masks[1].any()


def test_two_people_keep_their_places_in_the_graph(pack, antelope, model):
    first, second = identity_of(pack), identity_of(pack, (300, 200), person=1)
    both = execute(pack.nodes[COMBINE], first=first, second=second)[0]
    assert [p.person for p in both.people] == [0, 1]
    poses = couple(2)
    given = {"poses": poses, "reference": photograph((200, 200), (200, 500))}
    together = animate(pack, model, both, **given)[0]["samples"]
    swapped = execute(
        pack.nodes[COMBINE],
        first=identity_of(pack, (300, 200)),
        second=identity_of(pack, person=1),
    )[0]
    assert not torch.allclose(animate(pack, model, swapped, **given)[0]["samples"], together)
    masks = [execute(pack.nodes[MASKS], poses=poses, person=p, part="body")[0] for p in (0, 1)]
    regional = execute(
        pack.nodes[COMBINE],
        first=identity_of(pack, region=masks[0]),
        second=identity_of(pack, (300, 200), person=1, region=masks[1]),
    )[0]
    latent, frames, _ = animate(pack, model, regional, identity_fade=1.0, **given)
    assert torch.isfinite(latent["samples"]).all()
    assert frames.shape == (2, 128, 128, 3)
    mean, curve, values = execute(
        pack.nodes[MEASURE], images=photograph((200, 200), (200, 500)), identity=both
    ).result
    assert len(json.loads(values)) == 2
    assert curve.ndim == 4
    assert -1 <= mean <= 1


def test_two_people_are_refined_towards_their_own_faces(pack, antelope, model):
    both = execute(
        pack.nodes[COMBINE],
        first=identity_of(pack),
        second=identity_of(pack, (300, 200), person=1),
    )[0]
    refiner = execute(pack.nodes[REFINE], iterations=1, first_step=1, last_step=1)[0]
    poses = [{**frame, "canvas_width": 128, "canvas_height": 128} for frame in couple(2, size=128)]
    for frame in poses:  # large enough heads to refine
        for person in frame["people"]:
            points = person["pose_keypoints_2d"]
            for joint, dx in ((14, -8), (15, 8)):
                points[3 * joint] = points[0] + dx
    plain = animate(pack, model, both, poses=poses)[0]["samples"]
    refined, _, curve = animate(pack, model, both, refiner, poses=poses)
    changed = (plain != refined["samples"]).any(dim=1).any(dim=0)
    assert changed[:, :8].any()
    assert changed[:, 8:].any()
    assert not changed.all()
    assert curve.ndim == 4
    masked = execute(
        pack.nodes[REFINE], iterations=1, first_step=1, last_step=1,
        face_masks=torch.ones(2, 8, 8),
    )[0]  # fmt: skip
    with pytest.raises(pack.errors.ConfigError, match="where one face is"):
        animate(pack, model, both, masked, poses=poses)


def test_bad_people_are_named_in_the_graph(pack, antelope, model):
    first = identity_of(pack)
    with pytest.raises(pack.errors.ConfigError, match="same person"):
        execute(pack.nodes[COMBINE], first=first, second=first)
    both = execute(pack.nodes[COMBINE], first=first, second=identity_of(pack, person=7))[0]
    with pytest.raises(pack.errors.ConfigError, match="acts nowhere"):
        animate(pack, model, both, poses=couple(2))
    with pytest.raises(pack.errors.NoPoseError, match="connect the keypoints"):
        animate(pack, model, both, poses=None, skeletons=torch.zeros(2, 128, 128, 3))
    with pytest.raises(pack.errors.NoPoseError, match="set the fade to 0"):
        animate(
            pack, model, first, poses=None, skeletons=torch.zeros(2, 128, 128, 3),
            identity_fade=0.5,
        )  # fmt: skip
    wrong = identity_of(pack, region=torch.ones(5, 16, 16))
    with pytest.raises(pack.errors.ShapeError, match="5 masks"):
        animate(pack, model, wrong)
    with pytest.raises(pack.errors.ConfigError, match="one is expected"):
        _ = both.face_embedding


def test_the_refiner_takes_face_masks(pack, antelope, model):
    identity = identity_of(pack)
    given = {"poses": None, "skeletons": torch.zeros(2, 128, 128, 3)}
    masks = torch.zeros(2, 64, 64)  # of other size than the frames
    masks[0, 10:30, 10:30] = 1

    def refined(masks, **changes):
        refiner = execute(
            pack.nodes[REFINE], iterations=1, first_step=1, last_step=1, face_masks=masks
        )[0]
        return animate(pack, model, identity, refiner, **(given | changes))[0]["samples"]

    plain = animate(pack, model, identity, **given)[0]["samples"]
    changed = (refined(masks) != plain).any(dim=1)
    assert changed[0, 2:7, 2:7].any()
    assert not changed[0, 10:].any()
    assert not changed[1].any()  # a black mask: no face in this frame
    for wrong in (torch.zeros(3, 64, 64), torch.zeros(64, 64)):
        with pytest.raises(pack.errors.ShapeError, match="one per frame"):
            refined(wrong)
    for empty in (torch.ones(2, 64, 64), torch.zeros(2, 64, 64)):
        with pytest.raises(pack.errors.NoFaceError, match="give face masks"):
            refined(empty)
