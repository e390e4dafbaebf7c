"""Previews show what is being made, for every kind of latents whose colours are known."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from comfy_host import execute
from factory import SMALL

from animator_core.training.drawn_clips import SPLIT_SEEDS, DrawnClipConfig, draw_clip

LOAD, ANIMATE, DEMO, DRAW = (
    "StableAnimatorLoadModel",
    "StableAnimatorAnimate",
    "StableAnimatorDemoCharacter",
    "StableAnimatorDrawPoses",
)


@pytest.fixture
def previews(pack, monkeypatch):
    """Pictures [h, w, 3] in 0..1 that reach the page, with ComfyUI's previews switched on."""
    cli_args = importlib.import_module("comfy.cli_args")
    utils = importlib.import_module("comfy.utils")
    method = cli_args.LatentPreviewMethod.Latent2RGB
    monkeypatch.setattr(cli_args.args, "preview_method", method)
    seen = []

    def shown(_done, _total, preview, node_id=None):
        if preview is not None:
            seen.append(np.asarray(preview[1], dtype=np.float64) / 255)

    utils.set_progress_bar_global_hook(shown)
    yield seen
    utils.set_progress_bar_global_hook(None)


def report(pack, models, latents):
    """Report scaled latents [1, c, h, w] as the sampler does."""
    progress = pack.module("animator_core.interfaces").Progress
    monitor = pack.module("animator_core.comfy_adapter").ComfyMonitor(models)
    monitor.update(progress(stage="sampling", done=1, total=1, denoised=latents))


def explained(preview, picture):
    """R2 of a preview [h, w, 3] for a picture [8h, 8w, 3], both in 0..1."""
    height, width, _ = preview.shape
    small = picture.reshape(height, 8, width, 8, 3).mean(axis=(1, 3))
    rest = ((small - preview) ** 2).sum((0, 1))
    return 1 - rest / ((small - small.mean((0, 1))) ** 2).sum((0, 1))


def test_latents_of_a_drawn_picture_look_like_it(pack, previews):
    models = execute(pack.nodes[LOAD])[0].models
    assert models.vae.latent_channels == 8
    for seed in SPLIT_SEEDS["validation"][:4]:
        picture = draw_clip(seed, DrawnClipConfig(frames=1)).reference / 255
        pixels = torch.from_numpy(picture).movedim(-1, 0)[None].float() * 2 - 1
        with torch.inference_mode():
            latents = models.vae.encode_chunks(pixels) * models.vae.scaling_factor
        report(pack, models, latents)
        assert previews[-1].shape == (24, 24, 3)
        assert explained(previews[-1], picture).min() > 0.95
    assert len(previews) == 4


def test_the_first_run_previews_what_it_makes(pack, previews):
    """The last preview is of the latents that the frame is decoded from."""
    reference, _, motion, _ = execute(pack.nodes[DEMO], frames=1).result
    run = execute(
        pack.nodes[ANIMATE], model=execute(pack.nodes[LOAD])[0], reference=reference,
        skeletons=execute(pack.nodes[DRAW], poses=motion)[0], width=128, height=128, steps=2,
    )  # fmt: skip
    assert len(previews) == 2
    assert explained(previews[-1], run[1][0].double().numpy()).min() > 0.9


def test_four_channels_have_the_colours_of_stable_diffusion(pack, model, previews):
    sd15 = importlib.import_module("comfy.latent_formats").SD15()
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    report(pack, model.models, latents)
    colours = latents[0].movedim(0, -1).numpy() @ np.array(sd15.latent_rgb_factors)
    wanted = ((colours + 1) / 2).clip(0, 1)
    np.testing.assert_allclose(previews[0], wanted, atol=1 / 255)  # the previewer rounds down


def test_latents_of_unknown_colours_have_no_preview(pack, previews):
    builder = pack.module("animator_core.checkpoints.build")
    configs = builder.ModelConfigs(
        unet={**SMALL.unet, "in_channels": 12, "out_channels": 6},
        vae={**SMALL.vae, "latent_channels": 6},
        image_encoder=SMALL.image_encoder,
    )
    models = builder.build_models(configs, seed=0)
    assert models.latent_colours is None
    report(pack, models, torch.randn(1, 6, 8, 8))
    assert not previews


def test_previews_that_are_switched_off_stay_off(pack, model, previews, monkeypatch):
    cli_args = importlib.import_module("comfy.cli_args")
    off = cli_args.LatentPreviewMethod.NoPreviews
    monkeypatch.setattr(cli_args.args, "preview_method", off)
    report(pack, model.models, torch.randn(1, 4, 8, 8))
    assert not previews


def test_colours_follow_the_scaling_of_the_latents(pack, previews):
    """They are measured on unscaled latents; the sampler's factor must not change a picture."""
    models = execute(pack.nodes[LOAD])[0].models
    latents = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0)) / 4
    for scale in (models.vae.scaling_factor, 0.18215):
        models.vae.register_to_config(scaling_factor=scale)
        report(pack, models, latents * scale)
    np.testing.assert_allclose(previews[0], previews[1], atol=1 / 255)
