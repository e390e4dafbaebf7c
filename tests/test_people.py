"""Several people in one animation: regions, fade, and what happens to bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from factory import small_models

from animator_core.config import FrameSize, SamplingConfig, WindowConfig
from animator_core.driving import DrivingMotion
from animator_core.errors import ConfigError, NoPoseError, ShapeError
from animator_core.interfaces import PlainDeviceManager
from animator_core.people import PersonIdentity, fit_mask, identity_fade, identity_regions
from animator_core.pipeline import AnimationRequest, Animator
from animator_core.pose.keypoints import FramePose, PersonPose

SIZE = FrameSize(width=128, height=64)


def person(x, y=20.0, *, facing=True):
    body = np.zeros((18, 3))
    places = {1: (0, 18), 2: (-10, 18), 5: (10, 18), 8: (-6, 40), 11: (6, 40)}
    head = {0: (0, 1), 14: (-3, -2), 15: (3, -2)} if facing else {16: (-5, 0), 17: (5, 0)}
    for joint, (dx, dy) in {**places, **head}.items():
        body[joint] = (x + dx, y + dy, 1)
    return PersonPose(body=body)


def frame(*people):
    return FramePose(people=people, width=128, height=64)


@pytest.fixture(scope="module")
def models():
    return small_models(seed=1)


@pytest.fixture
def motion():
    return DrivingMotion(poses=[frame(person(24 + 4 * i), person(96)) for i in range(5)])


def face(seed):
    return torch.randn(512, generator=torch.Generator().manual_seed(seed))


def identity(seed=0, person=0, region=None):
    return PersonIdentity(face_embedding=face(seed), person=person, region=region)


def halves():
    left = torch.zeros(1, 64, 128)
    left[..., :64] = 1
    return left, 1 - left


def regions_of(people, motion, **changes):
    given = {"num_frames": 5, "size": SIZE, "fit": "letterbox", **changes}
    return identity_regions(people, motion, **given)


def test_one_person_without_a_region_needs_none(motion):
    assert regions_of([], motion) is None
    assert regions_of([identity()], motion) is None
    assert regions_of([identity(person=None)], motion) is None


def test_masks_become_regions_of_the_latents(motion):
    left, right = halves()
    regions = regions_of([identity(0, 0, left), identity(1, 1, right)], motion)
    assert regions.shape == (5, 2, 8, 16)
    assert (regions[:, 0, :, :7] == 1).all()
    assert (regions[:, 0, :, 9:] == 0).all()
    torch.testing.assert_close(regions.sum(dim=1), torch.ones(5, 8, 16), rtol=0, atol=0.01)


def test_regions_follow_the_heads(motion):
    regions = regions_of([identity(0, 0), identity(1, 1)], motion)
    columns = torch.arange(16) + 0.5
    for number, places in ((0, [24 + 4 * i for i in range(5)]), (1, [96] * 5)):
        weight = regions[:, number].sum(dim=1)
        centre = (weight * columns).sum(dim=1) / weight.sum(dim=1)
        torch.testing.assert_close(centre * 8, torch.tensor(places).float(), rtol=0, atol=2.0)
    assert (regions[:, :, 6:] == 0).all()  # the legs belong to nobody's face


def test_the_rest_goes_to_the_identity_of_nobody_in_particular(motion):
    regions = regions_of([identity(0, None), identity(1, 1)], motion)
    torch.testing.assert_close(regions.sum(dim=1), torch.ones(5, 8, 16))
    assert (regions[:, 0, :, :8] == 1).all()
    assert regions[:, 0, 2, 12].max() < 0.1


def test_overlapping_regions_share(motion):
    both = torch.ones(1, 64, 128)
    regions = regions_of([identity(0, 0, both), identity(1, 1, both)], motion)
    torch.testing.assert_close(regions, torch.full((5, 2, 8, 16), 0.5))


def test_an_all_white_mask_is_the_whole_frame(motion):
    white = regions_of([identity(region=torch.ones(1, 64, 128))], motion)
    assert torch.equal(white, torch.ones(5, 1, 8, 16))


def test_masks_of_other_proportions_are_fitted_like_the_pictures(motion):
    square = torch.ones(1, 32, 32)
    boxed = regions_of([identity(region=square)], motion)
    assert (boxed[..., :4] == 0).all()
    assert (boxed[..., 4:12] == 1).all()
    assert (regions_of([identity(region=square)], motion, fit="stretch") == 1).all()
    assert fit_mask(torch.full((4, 4), float("nan")), SIZE, "stretch").max() == 0
    assert fit_mask(torch.full((4, 4), 300.0), SIZE, "stretch").min() == 1


def test_the_lead_frame_stands_where_the_reference_stands(motion):
    given = replace(motion, reference_pose=frame(person(60), person(96)))
    people = [identity(0, 0), identity(1, 1)]
    lead = regions_of(people, given, lead_frames=1)
    assert lead.shape[0] == 6
    assert lead[0, 0, 2, 7] > 0.5
    assert lead[1, 0, 2, 7] < 0.1
    unknown = regions_of(people, motion, lead_frames=1)
    assert torch.equal(unknown[0], unknown[1])
    moving = torch.zeros(5, 64, 128)
    moving[0, :, :64], moving[1:, :, 64:] = 1, 1
    masked = regions_of([identity(region=moving)], motion, lead_frames=1)
    assert torch.equal(masked[0], masked[1])
    assert not torch.equal(masked[1], masked[2])


@pytest.mark.parametrize(
    ("people", "error", "words"),
    [
        ([identity(region=torch.ones(3, 64, 128))], ShapeError, "3 masks"),
        ([identity(region=torch.ones(64, 128))], ShapeError, "connect a mask"),
        ([identity(region=torch.ones(0, 64, 128))], ShapeError, "connect a mask"),
        ([identity(region=torch.zeros(1, 64, 128))], ConfigError, "black in all 5"),
        ([identity(0, 0), identity(1, 0)], ConfigError, "same person"),
        ([identity(0, None), identity(1, None)], ConfigError, "same person"),
        ([identity(0, 0), identity(1, 7)], ConfigError, "never seen"),
        ([identity(0, -1)], ConfigError, "counted from 0"),
    ],
)
def test_contradictions_are_named(motion, people, error, words):
    with pytest.raises(error, match=words):
        regions_of(people, motion)


def test_following_and_fading_need_keypoints():
    pictures = DrivingMotion(skeletons=np.zeros((5, 64, 128, 3), np.uint8))
    with pytest.raises(NoPoseError, match="connect the keypoints"):
        regions_of([identity(0, 0), identity(1, 1)], pictures)
    with pytest.raises(NoPoseError, match="set the fade to 0"):
        identity_fade([identity()], pictures, 5, 1.0)


def test_a_face_that_is_never_seen_is_told(caplog):
    turned = DrivingMotion(poses=[frame(person(30, facing=False))] * 3)
    assert not identity_fade([identity()], turned, 3, 1.0).any()
    assert "person 0 is seen in no frame" in caplog.text


def test_the_fade_follows_the_faces():
    turning = [frame(person(30, facing=i < 10), person(90)) for i in range(20)]
    people = [identity(0, 0), identity(1, 1), identity(2, None)]
    fade = identity_fade(people, DrivingMotion(poses=turning), 20, 0.8)
    assert fade[0, 0] == 1
    assert fade[-1, 0] == pytest.approx(0.2)
    assert (fade[:, 1:] == 1).all()


def make_request(motion, **changes):
    base = AnimationRequest(
        reference=np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8),
        motion=motion,
        size=SIZE,
        sampling=SamplingConfig(steps=2),
        window=WindowConfig(frames=4, overlap=1),
    )
    return replace(base, **changes)


def sample(models, request):
    return Animator(models, PlainDeviceManager("cpu")).sample(request)


def test_a_list_of_one_person_is_the_face_embedding_bit_for_bit(models, motion):
    short = sample(models, make_request(motion, face_embedding=face(0)))
    listed = sample(models, make_request(motion, people=(identity(0),)))
    assert torch.equal(short, listed)
    white = identity(0, region=torch.ones(1, 64, 128))
    everywhere = sample(models, make_request(motion, people=(white,)))
    torch.testing.assert_close(everywhere, short, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="put the face into the list"):
        make_request(motion, face_embedding=face(0), people=(identity(0),))


@pytest.mark.parametrize("batching", ["together", "apart"])
@pytest.mark.parametrize("anchor", ["first_frame", "reference_pose"])
def test_two_people_through_windows_anchors_and_branches(models, motion, anchor, batching):
    motion = replace(motion, reference_pose=frame(person(24), person(96)))
    window = WindowConfig(frames=4, overlap=1, anchor=anchor)
    request = make_request(motion, window=window)
    request = replace(request, guidance=replace(request.guidance, batching=batching))
    people = (identity(0, 0), identity(1, 1))
    latents = sample(models, replace(request, people=people))
    assert latents.shape == (5, 4, 8, 16)
    again = replace(request, people=people[::-1])
    torch.testing.assert_close(sample(models, again), latents, rtol=1e-4, atol=1e-4)
    swapped = (identity(1, 0), identity(0, 1))
    assert not torch.allclose(sample(models, replace(request, people=swapped)), latents)


def test_a_face_acts_in_its_own_half(models, motion):
    left, right = halves()
    request = make_request(motion, sampling=SamplingConfig(steps=1))

    def run(first, second):
        people = (identity(first, 0, left), identity(second, 1, right))
        return sample(models, replace(request, people=people))

    before = run(0, 1)
    change = (run(2, 1) - before).abs()
    assert change[..., :6].mean() > 1.3 * change[..., 10:].mean()


def test_fading_in_the_pipeline(models, motion):
    turned = DrivingMotion(poses=[frame(person(30, facing=False))] * 3)
    fading = SamplingConfig(steps=2, identity_fade=1.0)
    off = SamplingConfig(steps=2, identity_scale=0.0)
    given = {"motion": turned, "face_embedding": face(0)}
    gone = sample(models, make_request(**given, sampling=fading))
    torch.testing.assert_close(gone, sample(models, make_request(**given, sampling=off)))
    seen = {"motion": motion, "face_embedding": face(0)}
    kept = sample(models, make_request(**seen, sampling=fading))
    torch.testing.assert_close(kept, sample(models, make_request(**seen)), rtol=1e-4, atol=1e-4)
    two = (identity(0, 0), identity(1, 1))
    both = sample(models, make_request(motion, people=two, sampling=fading))
    assert torch.isfinite(both).all()
    lead = WindowConfig(frames=4, overlap=1, anchor="reference_pose")
    turned = replace(turned, reference_pose=frame(person(30)))
    request = make_request(turned, face_embedding=face(0), sampling=fading, window=lead)
    conditioning = Animator(models, PlainDeviceManager("cpu")).condition(request)
    assert conditioning.identity_scale.tolist() == [1, 0, 0, 0]
    with pytest.raises(ConfigError, match=r"fade is 1.5 .* 0..1"):
        SamplingConfig(identity_fade=1.5)
