"""What the pipeline does beyond the reference: anchors, any length, errors, cancelling."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from factory import small_models

from animator_core.config import (
    DecodeConfig,
    FrameSize,
    GuidanceConfig,
    SamplingConfig,
    WindowConfig,
)
from animator_core.driving import DrivingMotion
from animator_core.errors import (
    CancelledError,
    ConfigError,
    NoPoseError,
    ShapeError,
)
from animator_core.interfaces import PlainDeviceManager
from animator_core.pipeline import AnimationRequest, Animator, RunNoise
from animator_core.pose.keypoints import FramePose, PersonPose


@pytest.fixture(scope="module")
def models():
    return small_models(seed=1)


def standing_person(x=0.5, size=64):
    body = np.zeros((18, 3))
    heights = [0.15, 0.25, 0.25, 0.4, 0.5, 0.25, 0.4, 0.5, 0.55, 0.75, 0.9, 0.55, 0.75, 0.9]
    heights += [0.13, 0.13, 0.14, 0.14]
    sides = [
        0,
        0,
        -1,
        -1.3,
        -1.4,
        1,
        1.3,
        1.4,
        -0.6,
        -0.6,
        -0.6,
        0.6,
        0.6,
        0.6,
        -0.2,
        0.2,
        -0.4,
        0.4,
    ]
    body[:, 0] = [(x + 0.1 * s) * size for s in sides]
    body[:, 1] = [h * size for h in heights]
    body[:, 2] = 1
    return FramePose(people=(PersonPose(body=body),), width=size, height=size)


def walk(frames):
    return [standing_person(0.3 + 0.4 * i / max(frames - 1, 1)) for i in range(frames)]


def make_request(frames=3, **changes):
    base = AnimationRequest(
        reference=np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8),
        motion=DrivingMotion(poses=walk(frames), reference_pose=standing_person()),
        size=FrameSize(width=64, height=64),
        sampling=SamplingConfig(steps=2),
        window=WindowConfig(frames=4, overlap=1),
    )
    return replace(base, **changes)


def animate(models, request, **options):
    return Animator(models, PlainDeviceManager("cpu"), options.pop("monitor", None)).sample(
        request, **options
    )


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 11])
@pytest.mark.parametrize("anchor", ["first_frame", "reference_pose", "none"])
def test_any_length_with_any_anchor(models, frames, anchor):
    request = make_request(frames, window=WindowConfig(frames=4, overlap=1, anchor=anchor))
    latents = animate(models, request)
    assert latents.shape == (frames, 4, 8, 8)
    assert torch.isfinite(latents).all()


def test_a_seed_gives_the_same_video_and_another_seed_another(models):
    first, second = animate(models, make_request()), animate(models, make_request())
    assert torch.equal(first, second)
    other = animate(models, make_request(sampling=SamplingConfig(steps=2, seed=1)))
    assert not torch.allclose(first, other)


def test_branches_together_equal_branches_apart(models):
    results = [
        animate(models, make_request(6, guidance=GuidanceConfig(batching=batching)))
        for batching in ("together", "apart", "auto")
    ]
    scale = results[0].abs().max()
    assert (results[0] - results[1]).abs().max() <= 1e-4 * scale  # sigma 700 magnifies rounding
    assert torch.equal(results[0], results[2])  # a tiny model fits any device


def test_guidance_one_equals_the_conditional_branch_alone(models):
    plain = animate(models, make_request(guidance=GuidanceConfig(minimum=1, maximum=1)))
    nearly = GuidanceConfig(minimum=1, maximum=1 + 1e-7)
    torch.testing.assert_close(
        plain, animate(models, make_request(guidance=nearly)), rtol=1e-4, atol=1e-4
    )


def test_the_reference_pose_leads_every_window_and_is_dropped(models):
    window = WindowConfig(frames=4, overlap=1, anchor="reference_pose")
    request = make_request(6, window=window)
    animator = Animator(models, PlainDeviceManager("cpu"))
    noise = RunNoise.drawn(request)
    features = animator.condition(request, noise).pose_features
    assert len(features) == 7
    alone = animator.condition(
        make_request(1, motion=DrivingMotion(poses=[standing_person()])), noise
    )
    torch.testing.assert_close(features[:1], alone.pose_features)
    states = list(animator.iterate(request, animator.condition(request, noise), noise))
    assert states[-1].latents.shape[0] == 7
    torch.testing.assert_close(
        animate(models, request, noise=noise), states[-1].latents[1:], rtol=0, atol=0
    )


def test_the_reference_pose_anchor_needs_a_reference_pose(models):
    window = WindowConfig(frames=4, overlap=1, anchor="reference_pose")
    motion = DrivingMotion(poses=walk(3))
    with pytest.raises(NoPoseError, match="first_frame"):
        animate(models, make_request(window=window, motion=motion))


def test_keypoints_and_their_pictures_drive_alike(models):
    request = make_request(3)
    pictures = np.concatenate(list(request.motion.iter_pictures(3, request.size, "letterbox")))
    from_pictures = make_request(3, motion=DrivingMotion(skeletons=pictures))
    assert torch.equal(animate(models, request), animate(models, from_pictures))
    floats = DrivingMotion(skeletons=torch.from_numpy(pictures).float() / 255)
    assert torch.equal(animate(models, request), animate(models, make_request(3, motion=floats)))


def test_identity_changes_the_result_and_its_scale_matters(models):
    face = torch.randn(
        models.face_encoder.proj[0].in_features, generator=torch.Generator().manual_seed(3)
    )
    without = animate(models, make_request())
    with_face = animate(models, make_request(face_embedding=face))
    half = SamplingConfig(steps=2, identity_scale=0.5)
    assert not torch.allclose(without, with_face)
    assert not torch.allclose(
        with_face, animate(models, make_request(face_embedding=face, sampling=half))
    )
    with pytest.raises(ShapeError, match="face embedding"):
        animate(models, make_request(face_embedding=torch.zeros(7)))


def test_the_hook_sees_every_step_with_the_whole_clip(models):
    seen = []

    def correct(denoised, step):
        seen.append((step.index, tuple(denoised.shape)))
        return torch.zeros_like(denoised)

    latents = animate(models, make_request(5), correct_denoised=correct)
    assert seen == [(0, (5, 4, 8, 8)), (1, (5, 4, 8, 8))]
    assert latents.abs().max() < 1e-5  # the last step goes all the way to the corrected prediction


@pytest.mark.parametrize("fit", ["letterbox", "crop", "stretch"])
def test_references_of_other_proportions(models, fit):
    tall = np.zeros((90, 20, 3), dtype=np.uint8)
    size = FrameSize(width=128, height=64)
    assert animate(models, make_request(2, reference=tall, size=size, fit=fit)).shape[-1] == 16


def test_a_reference_of_one_pixel(models):
    one = np.full((1, 1, 3), 200, dtype=np.uint8)
    assert torch.isfinite(animate(models, make_request(1, reference=one))).all()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: make_request(num_frames=4), ConfigError, "only 3"),
        (lambda: make_request(num_frames=-1), ConfigError, "1 or more"),
        (lambda: make_request(size=FrameSize(width=72, height=64)), ConfigError, "multiple of 16"),
        (lambda: FrameSize(width=100), ConfigError, "use 96 or 104"),
        (lambda: SamplingConfig(steps=0), ConfigError, "at least 1"),
        (lambda: SamplingConfig(seed=-1), ConfigError, "seed"),
        (lambda: GuidanceConfig(minimum=float("nan")), ConfigError, "nan"),
        (lambda: GuidanceConfig(batching="both"), ConfigError, "apart"),
        (lambda: DecodeConfig(chunk_frames=0), ConfigError, "at least 1"),
        (lambda: DrivingMotion(), NoPoseError, "no motion"),
        (lambda: DrivingMotion(poses=[]), NoPoseError, "no frames"),
        (
            lambda: DrivingMotion(poses=[FramePose(people=(), width=8, height=8)] * 3),
            NoPoseError,
            "Nobody",
        ),
        (
            lambda: DrivingMotion(poses=walk(2), skeletons=np.zeros((3, 8, 8, 3), np.uint8)),
            ConfigError,
            "equally many",
        ),
    ],
)
def test_bad_requests_say_what_to_do(models, make, error, words):
    with pytest.raises(error, match=words):
        animate(models, make())


def test_frames_with_nobody_among_others_are_black_and_run(models):
    empty = FramePose(people=(), width=64, height=64)
    motion = DrivingMotion(poses=[*walk(2), empty])
    request = make_request(3, motion=motion)
    pictures = np.concatenate(list(motion.iter_pictures(3, request.size, "letterbox")))
    assert pictures[0].any()
    assert not pictures[2].any()
    assert torch.isfinite(animate(models, request)).all()


class StoppingMonitor:
    """Cancels after a number of reports of one stage."""

    def __init__(self, stage, reports):
        self.stage, self.left = stage, reports
        self.seen = []

    def update(self, progress):
        self.seen.append(progress)
        if progress.stage == self.stage:
            self.left -= 1

    def raise_if_cancelled(self):
        if self.left <= 0:
            raise CancelledError("stopped by the test")


@pytest.mark.parametrize("stage", ["sampling", "decoding"])
def test_cancel_in_the_middle_leaves_nothing_behind(models, stage):
    monitor = StoppingMonitor(stage, 2)
    animator = Animator(models, PlainDeviceManager("cpu"), monitor)
    request = make_request(9)
    noise = RunNoise.drawn(request)
    kept = []

    def run():
        conditioning = animator.condition(request, noise)
        kept.append(weakref.ref(conditioning.pose_features))
        latents = torch.zeros(9, 4, 8, 8)
        for state in animator.iterate(request, conditioning, noise):
            kept.append(weakref.ref(state.latents))
            latents = state.latents
        for frames in animator.decode(latents, DecodeConfig(chunk_frames=2)):
            kept.append(weakref.ref(frames))

    with pytest.raises(CancelledError):
        run()
    gc.collect()
    assert len(kept) > 1 or stage == "sampling"
    assert all(ref() is None for ref in kept)
    assert models.unet.attention_context._conditioning is None


def test_progress_counts_to_its_end(models):
    monitor = StoppingMonitor("never", 1)
    animator = Animator(models, PlainDeviceManager("cpu"), monitor)
    latents = animator.sample(make_request(9))
    list(animator.decode(latents, DecodeConfig(chunk_frames=4)))
    for stage in ("poses", "sampling", "decoding"):
        reports = [p for p in monitor.seen if p.stage == stage]
        counts = [p.done for p in reports]
        assert counts == sorted(counts)
        assert counts[-1] == reports[-1].total
    previews = [p.denoised for p in monitor.seen if p.denoised is not None]
    assert [tuple(p.shape) for p in previews] == [(9, 4, 8, 8)] * 2


def test_decoding_yields_chunks_of_float_frames(models):
    animator = Animator(models, PlainDeviceManager("cpu"))
    chunks = list(animator.decode(torch.randn(5, 4, 8, 8), DecodeConfig(chunk_frames=2)))
    assert [tuple(c.shape) for c in chunks] == [(2, 64, 64, 3), (2, 64, 64, 3), (1, 64, 64, 3)]
    assert all(((c >= 0) & (c <= 1)).all() for c in chunks)


def test_decoding_holds_one_chunk_at_a_time(models):
    animator = Animator(models, PlainDeviceManager("cpu"))
    earlier = []
    for chunk in animator.decode(torch.randn(6, 4, 8, 8), DecodeConfig(chunk_frames=1)):
        assert sum(ref() is not None for ref in earlier) <= 1
        earlier.append(weakref.ref(chunk))
    assert len(earlier) == 6
