"""The built-in family has face and pose networks of its own; faces of two families never mix."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from comfy_host import execute, walk
from faces.onnx_faces import marker_picture, save_detector, save_recogniser, small_recogniser
from onnx_factory import save_marker_detector, save_marker_pose_network

BUILT_IN = "demo (built-in)"
COMBINE, ENCODE = "StableAnimatorCombineIdentities", "StableAnimatorEncodeFace"
REFINE, ANIMATE = "StableAnimatorFaceRefine", "StableAnimatorAnimate"
EXTRACT, LOAD = "StableAnimatorExtractPoses", "StableAnimatorLoadModel"
MEASURE, METRICS = "StableAnimatorFaceSimilarity", "StableAnimatorMetrics"


def _save_faces(folder, seed):
    folder.mkdir(parents=True)
    save_detector(folder / "scrfd_10g_bnkps.onnx")
    save_recogniser(folder / "glintr100.onnx", small_recogniser(seed, num_features=512))


@pytest.fixture
def weights(pack, folders, model, monkeypatch):
    """A miniature of the built-in family, and no antelopev2."""
    place = folders.inputs.parent / "weights"
    _save_faces(place / "antelopev2", seed=1)
    (place / "DWPose").mkdir()
    save_marker_detector(place / "DWPose" / "yolox_l.onnx")
    save_marker_pose_network(place / "DWPose" / "dw-ll_ucoco_384.onnx")
    for module in ("animator_core.comfy_adapter", "nodes.families"):
        monkeypatch.setattr(pack.module(module), "DEMO_FOLDER", place)
    monkeypatch.setattr(
        pack.module("animator_core.demo.model"), "load_demo_models", lambda _dtype: model.models
    )
    return place


@pytest.fixture
def demo(pack, weights):
    """A STABLEANIMATOR_MODEL of the built-in family."""
    return execute(pack.nodes[LOAD], checkpoint=BUILT_IN)[0]


@pytest.fixture
def antelope(folders):
    """The published family's face networks."""
    folder = folders.models / "antelopev2"
    _save_faces(folder, seed=0)
    return folder


def photograph(*centres) -> torch.Tensor:
    picture = marker_picture(640, 640, list(centres or [(320, 320)]))
    return torch.from_numpy(picture).float()[None] / 255


def test_a_model_knows_its_family(demo, model):
    assert demo.family == "built-in"
    assert model.family == "published"


def test_faces_are_encoded_by_the_models_own_networks(pack, demo, antelope, model):
    def encoded(**inputs):
        return execute(pack.nodes[ENCODE], images=photograph(), **inputs)[0]

    own, published, without = encoded(model=demo), encoded(model=model), encoded()
    assert (own.family, published.family, without.family) == ("built-in", "published", "published")
    assert torch.equal(published.face_embedding, without.face_embedding)
    cosine = torch.cosine_similarity(own.face_embedding, published.face_embedding, dim=0)
    assert cosine < 0.9
    shutil.rmtree(antelope)
    assert torch.equal(encoded(model=demo).face_embedding, own.face_embedding)
    with pytest.raises(pack.errors.CheckpointError, match="antelopev2 is not installed"):
        encoded(model=model)


def test_likeness_is_measured_by_the_networks_of_the_identity(pack, demo, model):
    """There is no antelopev2."""
    identity = execute(pack.nodes[ENCODE], images=photograph(), model=demo)[0]
    inputs = {"images": photograph(), "identity": identity}
    for given in ({}, {"model": demo}):
        assert execute(pack.nodes[MEASURE], **inputs, **given)[0] == pytest.approx(1, abs=1e-4)
        assert execute(pack.nodes[METRICS], **inputs, **given)[5] == pytest.approx(1, abs=1e-3)
    for node in (MEASURE, METRICS):
        with pytest.raises(pack.errors.ConfigError, match="connect the model to Encode Face"):
            execute(pack.nodes[node], **inputs, model=model)


def test_families_do_not_mix(pack, demo, antelope, model, short):
    own = execute(pack.nodes[ENCODE], images=photograph(), model=demo)[0]
    published = execute(pack.nodes[ENCODE], images=photograph(), person=1)[0]
    inputs = {"reference": photograph(), "poses": walk(2), **short}
    for animated, face in ((demo, published), (model, own)):
        with pytest.raises(pack.errors.ConfigError, match="connect the model to Encode Face"):
            execute(pack.nodes[ANIMATE], **inputs, model=animated, identity=face)
    with pytest.raises(pack.errors.ConfigError, match="the same model to every Encode Face"):
        execute(pack.nodes[COMBINE], first=own, second=published)
    refiner = execute(pack.nodes[REFINE], first_step=0, last_step=0)[0]
    assert refiner.family == "published"
    with pytest.raises(pack.errors.ConfigError, match="connect the model to HJB Face Refine"):
        execute(pack.nodes[ANIMATE], **inputs, model=demo, identity=own, refiner=refiner)


def test_the_built_in_family_needs_no_file_of_the_user(pack, demo, short):
    """Encoded, combined, refined and animated without antelopev2."""
    faces = [
        execute(pack.nodes[ENCODE], images=photograph(), model=demo, person=p)[0] for p in (0, 1)
    ]
    both = execute(pack.nodes[COMBINE], first=faces[0], second=faces[1])[0]
    assert both.family == "built-in"
    refiner = execute(pack.nodes[REFINE], iterations=1, first_step=1, last_step=1, model=demo)[0]
    assert refiner.family == "built-in"
    inputs = {"reference": photograph(), "poses": walk(2), "model": demo}
    frames = execute(
        pack.nodes[ANIMATE],
        **{**inputs, **short, "width": 192, "height": 192},
        identity=dataclasses.replace(both, people=both.people[:1]),
        refiner=refiner,
    )[1]
    assert frames.shape == (2, 192, 192, 3)


def test_the_built_in_pose_networks_can_be_chosen(pack, weights):
    for choice, published in zip(
        pack.nodes[EXTRACT].GET_SCHEMA().inputs[1:3],
        ("DWPose/yolox_l.onnx", "DWPose/dw-ll_ucoco_384.onnx"),
        strict=True,
    ):
        assert choice.options[:2] == [published, BUILT_IN]
        assert choice.default == published
    picture = torch.zeros(2, 64, 64, 3)
    picture[:, 16:44, 20:40, 0] = 1
    with pytest.raises(pack.errors.CheckpointError, match="not installed"):
        execute(pack.nodes[EXTRACT], images=picture)
    poses, _ = execute(
        pack.nodes[EXTRACT], images=picture, detector=BUILT_IN, pose_network=BUILT_IN
    ).result
    assert [len(frame["people"]) for frame in poses] == [1, 1]
