"""Training of the VAE on drawn pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from animator_core.checkpoints.build import empty_network
from animator_core.checkpoints.state_dict import load_strict, read_state_dict
from animator_core.errors import ConfigError
from animator_core.training.drawn_clips import DrawnClipConfig
from animator_core.training.loop import LoopConfig, train
from animator_core.training.vae import (
    PictureSource,
    VaeObjective,
    VaeTrainingConfig,
    decode_pictures,
)


def config_in(folder, **changes):
    loop = {"steps": 10, "warmup_steps": 1, "workers": 0, "checkpoint_every": 100}
    loop |= changes.pop("loop", {})
    settings = {
        "widths": (64, 64, 64, 64),
        "norms": False,
        "batch": 4,
        "crop": 32,
        "whole_from": 0.5,
        "clips_from": 0.8,
        "clip_frames": 2,
        "data": DrawnClipConfig(width=48, height=32),
        "validation_clips": 3,
    }
    return VaeTrainingConfig(loop=LoopConfig(output=str(folder), **loop), **{**settings, **changes})


def test_the_source_draws_crops_then_pictures_then_clips(tmp_path):
    source = PictureSource(config_in(tmp_path))
    assert source(0, 1).shape == (4, 3, 32, 32)
    assert source(5, 1).shape == (2, 3, 32, 48)
    assert source(8, 1).shape == (1, 2, 3, 32, 48)
    assert source(0, 1).dtype == torch.uint8
    assert torch.equal(source(0, 7), source(0, 7))
    assert not torch.equal(source(0, 7), source(0, 8))


def test_a_short_run_learns_and_its_files_load(tmp_path):
    config = config_in(tmp_path, loop={"steps": 40, "learning_rate": 2e-3, "checkpoint_every": 20})
    train(VaeObjective(config), PictureSource(config), config.loop)
    entries = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["squared_error"] < 0.6 * entries[0]["squared_error"]
    folder = tmp_path / "SVD/vae"
    written = json.loads((folder / "config.json").read_text())
    vae = empty_network("vae", written)
    weights = read_state_dict(folder / "diffusion_pytorch_model.safetensors")
    load_strict(vae, weights, source=folder, dtype=torch.float32)
    assert written["scaling_factor"] != 0.18215

    again = replace(config, initial=str(folder / "diffusion_pytorch_model.safetensors"))
    objective = VaeObjective(again)
    figures = objective.validate(0)
    assert all(np.isfinite(v) for v in figures.values())
    for name, value in objective.vae.state_dict().items():
        assert torch.equal(value, weights[name])


def test_single_pictures_skip_temporal_layers_that_change_nothing_at_the_start(tmp_path):
    objective = VaeObjective(config_in(tmp_path))
    latents = torch.randn(2, 8, 4, 4)
    with torch.no_grad():
        alone = decode_pictures(objective.vae, latents)
        together = objective.vae.decode_frames(latents * objective.vae.scaling_factor)
    torch.testing.assert_close(alone, together)


def test_pictures_leave_temporal_layers_alone_and_clips_train_them(tmp_path):
    objective = VaeObjective(config_in(tmp_path))
    temporal = objective.vae.decoder.time_conv_out.weight
    source, generator = PictureSource(config_in(tmp_path)), torch.Generator().manual_seed(0)
    objective(source(0, 1), generator)["loss"].backward()
    assert temporal.grad is None
    objective(source(9, 1), generator)["loss"].backward()
    assert temporal.grad is not None


def test_the_encoder_can_be_left_alone(tmp_path):
    first = config_in(tmp_path / "first", loop={"steps": 1})
    train(VaeObjective(first), PictureSource(first), first.loop)
    written = tmp_path / "first/SVD/vae/diffusion_pytorch_model.safetensors"
    then = replace(
        config_in(tmp_path / "then", loop={"steps": 2}), initial=str(written), decoder_only=True
    )
    objective = VaeObjective(then)
    train(objective, PictureSource(then), then.loop)
    before = read_state_dict(written)
    after = read_state_dict(tmp_path / "then/SVD/vae/diffusion_pytorch_model.safetensors")
    for name, value in before.items():
        encodes = name.startswith(("encoder.", "quant_conv."))
        if encodes:
            assert torch.equal(after[name], value), name
    assert not torch.equal(after["decoder.conv_in.weight"], before["decoder.conv_in.weight"])


@pytest.mark.parametrize("wrong", [{"crop": 36}, {"crop": 64}, {"decoder_only": True}])
def test_bad_settings(tmp_path, wrong):
    with pytest.raises(ConfigError):
        config_in(tmp_path, **wrong)
