"""How much a face's embedding differs between decoding its neighbourhood and the whole frame."""

from __future__ import annotations

import pytest
import torch
from faces.onnx_faces import small_recogniser
from golden_files import golden_cases, load_case
from recipes import load_recipe

from animator_core.config import LATENT_SCALE, FaceRefineConfig
from animator_core.faces.crops import cut_faces
from animator_core.faces.likeness import FaceRefineModels, plan_chunks
from animator_core.faces.tracks import track_from_boxes
from animator_core.faces.window_decoding import WindowDecoder
from animator_core.models.vae import VideoVAE

SIDE = 28  # latents


@pytest.fixture(scope="module")
def scene():
    case, _ = load_case(golden_cases("06_")[0])
    vae = VideoVAE(**case["config"]["vae"])
    load_recipe(vae, case["recipes"]["vae"])
    vae.eval().requires_grad_(False)
    noise = torch.randn(2, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(noise, (2, 2, 2, 2), mode="replicate"), 5, 1
    )
    latents = 3 * (smooth[:1] + 0.2 * (smooth - smooth[:1]))  # frames resemble each other
    latents[:, :, :10] *= 0.4  # and places do not
    boxes = [(80, 127, 88, 135), (82, 129, 90, 137)]
    track = track_from_boxes(boxes, SIDE * LATENT_SCALE, SIDE * LATENT_SCALE)
    with torch.no_grad():
        frames = vae.decode_frames(latents).clamp(-1, 1)
    faces = cut_faces(frames, track.regions, "box")
    recogniser = discerning(small_recogniser(), frames)
    reference = recogniser(other_places(frames)[:1])[0]
    models = FaceRefineModels(vae=vae, recogniser=recogniser, reference_embedding=reference)
    return models, track, latents, faces


def other_places(frames):
    """Crops from all over the frames, which stand for other people's faces."""
    size, stride = 48, 24
    cut = frames.unfold(2, size, stride).unfold(3, size, stride)
    cut = cut.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    return torch.nn.functional.interpolate(cut, (112, 112), mode="bilinear")


def discerning(recogniser, frames):
    """Give a random recogniser norms that fit its inputs, so that faces differ to it."""
    norms = (torch.nn.BatchNorm2d, torch.nn.BatchNorm1d)
    for norm in (m for m in recogniser.modules() if isinstance(m, norms)):
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        recogniser.train()(other_places(frames))
        recogniser.eval()
        embeddings = recogniser(other_places(frames))
    cosines = torch.cosine_similarity(embeddings[:, None], embeddings[None], dim=2)
    assert cosines.fill_diagonal_(0).abs().mean() < 0.35  # as between strangers
    return recogniser


@torch.no_grad()
def window_faces(scene, margin, *, held=True, exact_levels=None):
    models, track, latents, _ = scene
    (chunk,) = plan_chunks(track, "box", 2, margin)
    if not held:
        rows, columns = chunk.window.slices
        pixels = models.vae.decode_frames(latents[..., rows, columns])
        return cut_faces(pixels.clamp(-1, 1), chunk.regions, "box", chunk.origin_px)
    levels = FaceRefineConfig().exact_levels if exact_levels is None else exact_levels
    decoder = WindowDecoder(models.vae, exact_levels=levels)
    with decoder.decoded(latents, chunk.window, decoder.observe(latents)) as pixels:
        return cut_faces(pixels.clamp(-1, 1), chunk.regions, "box", chunk.origin_px)


@torch.no_grad()
def embedding_error(scene, faces):
    """Difference of the similarity, and angle between the embeddings (1 - cosine)."""
    models, *_, whole = scene
    difference = (models.similarity(faces) - models.similarity(whole)).abs().max().item()
    angle = 1 - torch.cosine_similarity(models.recogniser(faces), models.recogniser(whole))
    return difference, angle.max().item()


def test_the_default_keeps_the_embedding(scene):
    _, angle = embedding_error(scene, window_faces(scene, FaceRefineConfig().margin))
    assert angle < 0.01


def test_an_exact_look_keeps_even_the_similarity(scene):
    difference, angle = embedding_error(scene, window_faces(scene, 2, exact_levels=4))
    assert difference < 0.01
    assert angle < 0.002


def test_cutting_the_latents_alone_does_not(scene):
    margin = FaceRefineConfig().margin
    _, held = embedding_error(scene, window_faces(scene, margin))
    _, cut = embedding_error(scene, window_faces(scene, margin, held=False))
    assert cut > 0.05
    assert held < 0.1 * cut
