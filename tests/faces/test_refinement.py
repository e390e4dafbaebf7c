from __future__ import annotations

import gc
import logging
import math
from dataclasses import replace

import pytest
import torch
from faces.onnx_faces import small_recogniser
from torch import nn

from animator_core.config import FaceRefineConfig
from animator_core.errors import CancelledError, ConfigError, NoFaceError, ShapeError
from animator_core.faces.crops import FaceTrack
from animator_core.faces.likeness import Likeness, change_weights, plan_chunks
from animator_core.faces.refinement import FaceRefineModels, FaceRefiner
from animator_core.faces.tracks import track_from_boxes
from animator_core.faces.window_decoding import LatentWindow, WindowDecoder
from animator_core.interfaces import PlainDeviceManager, SamplerStep, SilentMonitor
from animator_core.models.vae import VideoVAE

HEIGHT, WIDTH = 64, 80
STEP = SamplerStep(index=2, total=10, sigma=5.0)
BOXES = [(16, 39, 24, 47), (18, 41, 26, 49), None, (20, 43, 28, 51), (22, 45, 30, 53)]


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(3)
    vae = VideoVAE(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=1,
    )
    # decoders of random weights are nearly linear; stronger last weights use the whole range
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(3)
    vae.eval().requires_grad_(False)
    reference = torch.randn(32, generator=torch.Generator().manual_seed(5))
    return FaceRefineModels(vae=vae, recogniser=small_recogniser(), reference_embedding=reference)


@pytest.fixture
def track():
    return track_from_boxes(BOXES, HEIGHT, WIDTH)


@pytest.fixture
def denoised():
    generator = torch.Generator().manual_seed(7)
    return torch.randn(len(BOXES), 4, HEIGHT // 8, WIDTH // 8, generator=generator)


def config(**changes):
    return FaceRefineConfig(**{"margin": 2, "chunk_frames": 2, "feather": 1, **changes})


def make(models, track, monitor=None, **changes):
    return FaceRefiner(models, track, config(**changes), PlainDeviceManager("cpu"), monitor)


def test_similarity_rises_and_everything_away_from_faces_is_bit_equal(models, track, denoised):
    before = denoised.clone()
    refiner = make(models, track, iterations=4, rate=0.5, early_stop=False)
    refined = refiner(denoised, STEP)
    assert torch.equal(denoised, before)
    (record,) = refiner.records
    assert record.mean_similarity[-1] > record.mean_similarity[0] + 0.01
    assert (record.step, record.sigma) == (2, 5.0)
    assert record.rate == pytest.approx(0.4)
    assert math.isnan(record.similarity[0][2])
    free = change_weights(track, "auto", feather=1).expand_as(denoised) > 0
    assert torch.equal(refined[~free], denoised[~free])
    assert torch.equal(refined[2], denoised[2])
    assert (refined[free] != denoised[free]).float().mean() > 0.9
    assert refined.dtype == torch.float32
    assert not refined.requires_grad


def test_only_the_configured_steps_are_refined(models, track, denoised):
    refiner = make(models, track, first_step=3, last_step=4, iterations=1)
    for index in range(10):
        out = refiner(denoised, replace(STEP, index=index))
        assert (out is denoised) == (index not in (3, 4))
    assert [r.step for r in refiner.records] == [3, 4]
    with pytest.raises(ConfigError, match=r"starts at step 3 .* 0..2"):
        refiner(denoised, SamplerStep(index=0, total=3, sigma=1.0))


def test_zero_iterations_change_nothing(models, track, denoised):
    assert make(models, track, iterations=0)(denoised, STEP) is denoised


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": -1}, "iterations"),
        ({"first_step": 5, "last_step": 4}, "must not come before"),
        ({"first_step": -1}, "at least 0"),
        ({"rate": 0.0}, "above 0"),
        ({"rate": math.nan}, "above 0"),
        ({"crop": "round"}, "'auto', 'aligned' or 'box'"),
        ({"mode": "fast"}, "'local' or 'reference'"),
        ({"mode": "reference", "crop": "aligned"}, "crops by boxes"),
        ({"margin": -1}, "margin"),
        ({"chunk_frames": 0}, "chunk"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        FaceRefineConfig(**changes)


def test_frames_of_another_number_or_size_are_refused(models, track, denoised):
    refiner = make(models, track)
    with pytest.raises(ShapeError, match=r"5 frames of 80x64 .* 3 frames"):
        refiner(denoised[:3], STEP)
    with pytest.raises(ShapeError, match="80x56 px"):
        refiner(denoised[..., :7, :], STEP)


def test_a_wrong_recogniser_is_named(models, track, denoised):
    other = replace(models, reference_embedding=torch.randn(512))
    with pytest.raises(ShapeError, match=r"512 numbers .* makes 32"):
        make(other, track)(denoised, STEP)


def test_a_clip_without_faces_is_an_error(models):
    with pytest.raises(NoFaceError, match="turn face refinement off"):
        make(models, FaceTrack(regions=(None,) * 5, height=HEIGHT, width=WIDTH))
    with pytest.raises(NoFaceError, match="at least 60 px"):
        make(models, track_from_boxes(BOXES, HEIGHT, WIDTH), minimum_face_px=60)


def test_reference_mode_names_the_frame_without_a_face(models, track):
    with pytest.raises(NoFaceError, match=r"frames \[2\]"):
        make(models, track, mode="reference")


def test_twelve_pixel_face_is_left_alone(models, denoised):
    boxes = [BOXES[0], (10, 21, 10, 21), None, None, None]
    refined = make(models, track_from_boxes(boxes, HEIGHT, WIDTH), iterations=1)(denoised, STEP)
    assert torch.equal(refined[1:], denoised[1:])
    assert not torch.equal(refined[0], denoised[0])


def test_face_at_the_border(models, denoised):
    boxes = [(-10, 30, -20, 25), (45, 140, 60, 190), None, None, None]
    refiner = make(models, track_from_boxes(boxes, HEIGHT, WIDTH), iterations=2, early_stop=False)
    assert refiner(denoised, STEP).isfinite().all()


class CancelAfter(SilentMonitor):
    def __init__(self, calls):
        self.left = calls

    def raise_if_cancelled(self):
        self.left -= 1
        if self.left < 0:
            raise CancelledError("stopped")


def test_cancel_inside_an_iteration(models, track, denoised):
    refiner = make(models, track, CancelAfter(4), iterations=3)  # three chunks per iteration
    before = denoised.clone()
    with pytest.raises(CancelledError):
        refiner(denoised, STEP)
    assert refiner.records == []
    assert torch.equal(denoised, before)
    assert "forward" not in vars(models.vae.decoder.conv_norm_out)
    assert not any("forward" in vars(m) for m in models.vae.modules())


def test_early_stop_returns_the_best_prediction(models, track, denoised):
    refiner = make(models, track, iterations=8, rate=0.5, minimum_rise=0.007, margin=None)
    refined = refiner(denoised, STEP)
    means = refiner.records[0].mean_similarity
    assert len(means) < 8
    assert means[-1] <= max(means[:-1]) + 0.007
    again = make(models, track, iterations=1, margin=None)
    again(refined, STEP)
    assert again.records[0].mean_similarity[0] == pytest.approx(max(means), abs=1e-4)


class SpoiltRecogniser(nn.Module):
    """Makes the gradient of every second face NaN."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, faces):
        spoil = torch.where(torch.arange(len(faces)) % 2 == 1, math.inf, 0.0).view(-1, 1, 1, 1)
        return self.inner(faces + (faces.abs().sqrt() - faces.abs().sqrt().detach()) * spoil * 0)


def test_gradients_that_are_not_finite_are_left_out(models, track, denoised, caplog):
    spoilt = replace(models, recogniser=SpoiltRecogniser(models.recogniser))
    refiner = make(spoilt, track, iterations=2, early_stop=False, chunk_frames=1)
    with torch.no_grad():
        spoilt.recogniser(torch.zeros(1, 3, 112, 112))
    spoilt_chunk = make(spoilt, track, iterations=1, early_stop=False)
    with caplog.at_level(logging.WARNING):
        out = spoilt_chunk(denoised, STEP)
    assert out.isfinite().all()
    assert spoilt_chunk.records[0].skipped_gradients > 0
    assert "not finite" in caplog.text
    assert refiner(denoised, STEP).isfinite().all()


def test_gradient_of_chunks_equals_the_gradient_of_the_clip(models, track, denoised):
    chunks = plan_chunks(track, "auto", 2, margin=None)
    likeness = Likeness(models, chunks, "auto")
    parts = torch.zeros_like(denoised)
    for chunk in chunks:
        part = slice(chunk.start, chunk.stop)
        parts[part] = likeness.gradient(chunk, denoised[part])[1]
    whole = _gradient_of_the_clip(models, track, denoised, chunk_frames=2)
    assert (parts - whole).abs().max() <= 1e-3 * whole.abs().max()
    wrong = _gradient_of_the_clip(models, track, denoised, chunk_frames=5)
    assert (parts - wrong).abs().max() > 1e-2 * whole.abs().max()


def _gradient_of_the_clip(models, track, denoised, chunk_frames):
    from animator_core.faces.crops import cut_faces

    leaf = denoised.clone().requires_grad_()
    frames = torch.cat([models.vae.decode_frames(p) for p in leaf.split(chunk_frames)])
    shown = [i for i, region in enumerate(track.regions) if region is not None]
    faces = cut_faces(frames[shown].clamp(-1, 1), [track.regions[i] for i in shown], "box")
    (1 - models.similarity(faces)).abs().mean().backward()
    return leaf.grad


def test_a_window_of_all_of_the_frame_is_the_frame(models, denoised):
    decoder = WindowDecoder(models.vae, exact_levels=4)
    whole = LatentWindow(top=0, bottom=HEIGHT // 8, left=0, right=WIDTH // 8)
    frames = denoised[:2]
    with torch.no_grad():
        seen = decoder.observe(frames)
        with decoder.decoded(frames, whole, seen) as pixels:
            torch.testing.assert_close(pixels, models.vae.decode_frames(frames), atol=1e-4, rtol=0)


def test_recomputing_gives_the_same_gradient(models, track, denoised):
    gradients = []
    for recompute in (False, True):
        (chunk,) = plan_chunks(track, "auto", 5, margin=2)
        likeness = Likeness(models, [chunk], "auto", recompute=recompute)
        gradients.append(likeness.gradient(chunk, denoised)[1])
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_chunks_follow_the_decoder(track):
    chunks = plan_chunks(track, "auto", 2, margin=1)
    assert [(c.start, c.stop, c.frames) for c in chunks] == [
        (0, 2, (0, 1)),
        (2, 4, (1,)),
        (4, 5, (0,)),
    ]
    assert chunks[0].window == LatentWindow(top=1, bottom=7, left=2, right=8)
    lonely = FaceTrack(regions=(*[None] * 4, track.regions[0]), height=HEIGHT, width=WIDTH)
    assert [c.start for c in plan_chunks(lonely, "auto", 2, margin=1)] == [4]


def test_it_works_in_inference_mode(models, track, denoised):
    expected = make(models, track, iterations=2)(denoised, STEP)
    with torch.inference_mode():
        import copy

        inside = FaceRefineModels(
            vae=copy.deepcopy(models.vae),
            recogniser=copy.deepcopy(models.recogniser),
            reference_embedding=models.reference_embedding.clone(),
        )
        assert next(inside.vae.parameters()).is_inference()
        refined = make(inside, track, iterations=2)(denoised.clone(), STEP)
        torch.testing.assert_close(refined, expected)
        assert (refined + 1).shape == denoised.shape
    assert set(inside.vae.state_dict()) == set(models.vae.state_dict())


def _living_tensors():
    gc.collect()
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())


def test_nothing_is_kept_after_a_step(models, track, denoised):
    refiner = make(models, track, iterations=1)
    refiner(denoised, STEP)
    before = _living_tensors()
    for _ in range(2):
        refiner(denoised, STEP)
    assert _living_tensors() <= before
    assert all(not p.requires_grad and p.grad is None for p in models.vae.parameters())
    assert all(isinstance(v, float) for r in refiner.records for row in r.similarity for v in row)
