"""How a run gets its face refiner: places, targets, several people, memory."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from faces.onnx_faces import small_recogniser
from factory import small_models

from animator_core.config import FaceRefineConfig, FrameSize, SamplingConfig, WindowConfig
from animator_core.driving import DrivingMotion
from animator_core.errors import CancelledError, ConfigError, NoFaceError, NoPoseError, ShapeError
from animator_core.faces.likeness import activation_bytes
from animator_core.interfaces import PlainDeviceManager, SamplerStep, SilentMonitor
from animator_core.people import PersonIdentity
from animator_core.pipeline import AnimationRequest, Animator
from animator_core.pose.keypoints import FramePose, PersonPose
from animator_core.refining import FaceRefinement, build_refiner, driven_faces, masked_faces

SIZE = FrameSize(width=192, height=128)
STEP = SamplerStep(index=0, total=2, sigma=5.0)


def person(x, y=40.0):
    body = np.zeros((18, 3))
    for joint, (dx, dy) in {0: (0, 4), 14: (-9, -5), 15: (9, -5), 1: (0, 36)}.items():
        body[joint] = (x + dx, y + dy, 1)
    return PersonPose(body=body)


def frame(*places):
    people = tuple(person(x) for x in places)
    return FramePose(people=people, width=SIZE.width, height=SIZE.height)


def identity(seed, number=0):
    face = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return PersonIdentity(face_embedding=face, person=number)


@pytest.fixture(scope="module")
def models():
    return small_models(seed=1)


@pytest.fixture
def request_of_two():
    return AnimationRequest(
        reference=np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8),
        motion=DrivingMotion(poses=[frame(40, 150)] * 2, reference_pose=frame(40, 150)),
        people=(identity(0, 0), identity(1, 1)),
        size=SIZE,
        sampling=SamplingConfig(steps=2),
        window=WindowConfig(frames=4, overlap=1),
    )


def build(request, models, monitor=None, face_masks=None, **settings):
    config = FaceRefineConfig(**{"iterations": 1, "last_step": 1, "feather": 0, **settings})
    wanted = FaceRefinement(config=config, recogniser=small_recogniser(), face_masks=face_masks)
    return build_refiner(
        request, models, wanted, devices=PlainDeviceManager("cpu"), monitor=monitor
    )


def latents(frames=2):
    return torch.randn(frames, 4, 16, 24, generator=torch.Generator().manual_seed(2))


def test_each_person_is_refined_towards_their_own_face(models, request_of_two):
    refiner = build(request_of_two, models, iterations=4, rate=0.5, early_stop=False)
    start = latents()
    refined = refiner(start, STEP)
    changed = (refined != start).any(dim=1).any(dim=0)
    assert changed[:, :10].any()
    assert changed[:, 13:].any()
    assert not changed[:, 11:13].any()
    assert [c.name[-8:] for c in refiner.curves] == ["person 0", "person 1"]
    for curve in refiner.curves:
        assert len(curve.values) == 4
        assert curve.values[-1] > curve.values[0]
    swapped = replace(request_of_two, people=(identity(1, 0), identity(0, 1)))
    assert not torch.allclose(build(swapped, models)(start, STEP), refined)


def test_nobody_in_particular_is_not_refined(models, request_of_two):
    one = replace(request_of_two, people=(identity(0, None), identity(1, 1)))
    assert len(build(one, models).refiners) == 1
    nobody = replace(request_of_two, people=())
    bad = replace(identity(0), face_embedding=torch.full((32,), float("nan")))
    for request in (nobody, replace(request_of_two, people=(bad,))):
        with pytest.raises(NoFaceError, match="connect an identity"):
            build(request, models)


def test_a_person_without_a_face_in_the_motion(models, request_of_two):
    absent = replace(request_of_two, people=(identity(0, 0), identity(1, 5)))
    with pytest.raises(NoFaceError, match="give face masks"):
        build(absent, models)


def test_box_crops_aim_at_the_reference_cut_out_in_the_same_way(models, request_of_two):
    one = replace(request_of_two, people=(identity(0, 1),))

    def target(request, **settings):
        (refiner,) = build(request, models, **settings).refiners
        return refiner._models.reference_embedding

    own = one.people[0].face_embedding
    assert torch.equal(target(one), own)
    assert torch.equal(target(one, crop="box", mode="reference"), own)
    boxed = target(one, crop="box")
    assert boxed.shape == own.shape
    assert not torch.allclose(boxed, own)
    other = replace(one, people=(identity(0, 0),))
    assert not torch.allclose(target(other, crop="box"), boxed)
    unknown = replace(one, motion=DrivingMotion(poses=[frame(40, 150)] * 2))
    assert torch.equal(target(unknown, crop="box"), own)
    alone = replace(one, motion=replace(one.motion, reference_pose=frame(40)))
    assert torch.equal(target(alone, crop="box"), own)


def test_masks_say_where_the_face_is_and_poses_where_its_points_are(request_of_two):
    masks = torch.zeros(2, 64, 96)
    masks[0, 8:32, 8:32] = 1
    track = masked_faces(request_of_two, masks)
    assert track.regions[1] is None
    box = track.regions[0].box
    assert (box.left, box.right, box.top, box.bottom) == (16, 63, 16, 63)
    assert track.regions[0].points_px is not None
    assert masked_faces(request_of_two, masks, 1).regions[0].points_px is None
    pictures = replace(
        request_of_two, motion=DrivingMotion(skeletons=np.zeros((2, 128, 192, 3), np.uint8))
    )
    assert masked_faces(pictures, masks).regions[0].points_px is None
    with pytest.raises(NoPoseError, match="give face masks"):
        driven_faces(pictures)
    for wrong in (masks[:1], masks[0], masks[:, :0]):
        with pytest.raises(ShapeError, match=r"one per frame|both sides"):
            masked_faces(request_of_two, wrong)
    with pytest.raises(ConfigError, match="where one face is"):
        build(request_of_two, None, face_masks=masks)


def test_frames_of_the_anchor_are_left_alone(request_of_two):
    lead = replace(
        request_of_two, window=WindowConfig(frames=4, overlap=1, anchor="reference_pose")
    )
    masks = torch.ones(2, 128, 192)
    masks[..., 90:] = 0
    for track in (driven_faces(lead, 1), masked_faces(lead, masks)):
        assert len(track.regions) == 3
        assert track.regions[0] is None
        assert track.regions[1] is not None


def test_the_memory_of_a_step_is_announced(models, request_of_two):
    announced = []

    class Recording(PlainDeviceManager):
        @contextmanager
        def loaded(self, *modules, activation_bytes=0):
            announced.append(activation_bytes)
            with super().loaded(*modules):
                yield

    wanted = FaceRefinement(
        config=FaceRefineConfig(iterations=1, last_step=1), recogniser=small_recogniser()
    )
    refiner = build_refiner(request_of_two, models, wanted, devices=Recording("cpu"))
    refiner(latents(), STEP)
    one = refiner.refiners[0]
    assert announced[0] == activation_bytes(one._models, one._track, wanted.config) > 0
    config = FaceRefineConfig()

    def need(**settings):
        return activation_bytes(one._models, one._track, replace(config, **settings))

    assert need() < need(recompute=False)
    assert need() <= need(exact_levels=4) <= need(margin=None)
    assert need(margin=None) < need(mode="reference", crop="box") * 1.01


class CancelAfter(SilentMonitor):
    def __init__(self, calls):
        self.left = calls

    def raise_if_cancelled(self):
        self.left -= 1
        if self.left < 0:
            raise CancelledError("stopped")


def test_cancel_between_two_people(models, request_of_two):
    refiner = build(request_of_two, models, CancelAfter(1))
    start = latents()
    before = start.clone()
    with pytest.raises(CancelledError):
        refiner(start, STEP)
    assert torch.equal(start, before)


def test_a_range_outside_the_steps_is_named_before_the_run_is_over(models, request_of_two):
    refiner = build(request_of_two, models, first_step=2, last_step=3)
    people = tuple(replace(p, face_embedding=torch.randn(512)) for p in request_of_two.people)
    run = replace(request_of_two, people=people)
    with pytest.raises(ConfigError, match=r"starts at step 2 .* 0..1"):
        Animator(models, PlainDeviceManager("cpu")).sample(run, correct_denoised=refiner)
