"""Training on of the decoder, for what a denoiser makes."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from animator_core.checkpoints.build import load_network
from animator_core.errors import ConfigError
from animator_core.training import decoder as module
from animator_core.training.decoder import TASK, DecoderObjective, DecoderSource, _Generated
from animator_core.training.settings import read_settings

CROP = 24


@pytest.fixture(scope="module")
def tables(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    shared = json.loads(json.dumps(settings))
    return {
        "folder": str(folder / "generated"),
        "generated_clips": 4,
        "held_out_clips": 3,
        "frames": 2,
        "sampling_steps": 2,
        "crop": CROP,
        "batch": 6,
        "identity_weight": 0.1,
        "frozen": shared["frozen"],
        "pictures": shared["pictures"],
        "clips": shared["clips"],
        "loop": shared["loop"] | {"output": str(folder / "run"), "steps": 4, "validate_every": 2},
    }


@pytest.fixture(scope="module")
def config(tables):
    return read_settings(TASK.config, tables, source="test")


@pytest.fixture(scope="module")
def pool(config):
    return _Generated(config, "train").pool()


def test_a_training_changes_the_decoder_alone(tables, config):
    before = load_network("vae", config.frozen.models)
    folder = TASK(json.loads(json.dumps(tables)), "test")
    after = load_network("vae", folder)
    changed = {
        name
        for (name, value), other in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(value, other)
    }
    assert "decoder.conv_out.weight" in changed
    assert all(name.startswith("decoder.") for name in changed)
    assert not any("temporal" in name or "time_" in name for name in changed)
    assert after.scaling_factor == before.scaling_factor
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {"loss", "squared_error", "identity"} <= entries[-1].keys()
    found = entries[-1]["validation"]
    assert {"latents_psnr", "generated_psnr", "latents_csim", "generated_csim"} == found.keys()


def test_generated_clips_are_those_of_the_reference(pool, config):
    """The generated latents are of other pictures than the true ones, on the same scale."""
    assert pool["frames"].shape[:2] == pool["generated"].shape[:2] == (4, 2)
    vae: Any = load_network("vae", config.frozen.models)
    pictures = torch.from_numpy(pool["frames"][0].transpose(0, 3, 1, 2) / 127.5 - 1).float()
    with torch.no_grad():
        expected = vae.encode_chunks(pictures)
    torch.testing.assert_close(
        torch.from_numpy(np.array(pool["latents"][0])).float(), expected, rtol=0.01, atol=0.01
    )
    assert np.abs(pool["generated"][0].astype(float) - pool["latents"][0]).max() > 0.01


def test_crops_of_pictures_and_latents_lie_at_the_same_place(config, pool):
    side = CROP // 8
    found = 0
    for seed in range(4):
        batch = DecoderSource(config)(0, seed)
        for latents, picture, points in zip(
            batch["latents"], batch["pictures"], batch["points"], strict=True
        ):
            top, left, clip, frame = _place_of(picture.numpy(), pool)
            part = (..., slice(top, top + side), slice(left, left + side))
            candidates = [pool[kind][clip, frame][part] for kind in ("latents", "generated")]
            assert any(np.array_equal(latents.numpy(), one) for one in candidates)
            if points.any():
                found += 1
                moved = points.numpy() + np.array([8 * left, 8 * top])
                assert np.allclose(moved, pool["points"][clip, frame])
    assert found


def _place_of(picture, pool):
    frames = pool["frames"]
    for clip, frame in np.ndindex(frames.shape[:2]):
        for top, left in np.ndindex(2, 2):
            part = frames[clip, frame, 8 * top : 8 * top + CROP, 8 * left : 8 * left + CROP]
            if np.array_equal(part.transpose(2, 0, 1), picture):
                return top, left, clip, frame
    raise AssertionError("no such picture")


@pytest.mark.parametrize(("share", "kind"), [(0.0, "latents"), (1.0, "generated")])
def test_the_share_of_generated_latents_is_kept(config, pool, share, kind):
    known = {row.tobytes() for row in _all_crops(pool[kind])}
    batch = DecoderSource(replace(config, generated_share=share))(0, 3)
    assert all(row.numpy().astype(np.float16).tobytes() in known for row in batch["latents"])


def _all_crops(latents):
    side = CROP // 8
    for place in np.ndindex(latents.shape[:2]):
        for top, left in np.ndindex(2, 2):
            yield latents[place][:, top : top + side, left : left + side]


def test_a_perfect_decoder_has_no_loss(config, monkeypatch):
    objective = DecoderObjective(config).train()
    batch = DecoderSource(config)(0, 1)
    batch["points"][:] = 0
    batch["points"][0] = torch.tensor([[9, 9], [15, 9], [12, 12], [10, 15], [14, 15.0]])
    monkeypatch.setattr(module, "decode_pictures", lambda *_: batch["pictures"].float() / 127.5 - 1)
    losses = objective(batch, torch.Generator())
    assert losses["loss"].item() == pytest.approx(0, abs=1e-5)
    monkeypatch.setattr(module, "decode_pictures", lambda *_: torch.zeros(6, 3, CROP, CROP))
    losses = objective(batch, torch.Generator())
    assert losses["identity"].item() > 0.001
    assert losses["loss"].item() > losses["squared_error"].item() / 2


def test_crops_that_cut_a_face_say_nothing_of_it(config):
    objective = DecoderObjective(config)
    batch = DecoderSource(config)(0, 1)
    batch["points"][:] = 0
    losses = objective(batch, torch.Generator())
    assert losses["identity"].item() == 0
    face = np.array([[9, 9], [15, 9], [12, 12], [10, 15], [14, 15.0]])
    shown = module.FaceBox(top=0, bottom=31, left=0, right=31)
    assert module._shows(shown, face, 32, 32)
    cut = module.FaceBox(top=0, bottom=23, left=8, right=31)
    assert not module._shows(cut, face, 32, 32)


@pytest.mark.parametrize(
    "wrong", [{"crop": 20}, {"crop": 40}, {"crop": 16}, {"head_share": 1.5}, {"frames": 9}]
)
def test_bad_settings(tables, wrong):
    with pytest.raises(ConfigError):
        read_settings(TASK.config, json.loads(json.dumps(tables)) | wrong, source="test")
