"""Model bundles: from published layouts, by seed, and written to files."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from factory import PARTS, SMALL, assert_same, small_models, write_published_layout
from golden_files import golden_cases, load_case

from animator_core.checkpoints.build import (
    PUBLISHED,
    ModelConfigs,
    build_models,
    empty_network,
    load_models,
    save_models,
)
from animator_core.errors import CheckpointError
from animator_core.interfaces import Conditioning


@pytest.fixture
def folder(tmp_path) -> Path:
    write_published_layout(tmp_path)
    return tmp_path


@pytest.mark.parametrize("legacy_pth", [False, True])
@pytest.mark.parametrize(
    "stable_video",
    ["SVD", "stable-video-diffusion-img2vid-xt", "SVD/stable-video-diffusion-img2vid-xt"],
)
def test_published_layouts_load(tmp_path, legacy_pth, stable_video):
    wanted = write_published_layout(tmp_path, legacy_pth=legacy_pth, stable_video=stable_video)
    found = load_models(tmp_path, torch.float32)
    assert_same(found, wanted)
    assert found.trained
    assert found.name == tmp_path.name
    for part in PARTS:
        module = getattr(found, part)
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())
        assert not any(b.is_meta for b in module.buffers())


def test_fp16_variant_and_other_stable_video_folder(tmp_path):
    wanted = write_published_layout(tmp_path / "a", fp16=True)
    shutil.move(tmp_path / "a" / "SVD", tmp_path / "elsewhere")
    found = load_models(
        tmp_path / "a", torch.float32, stable_video_folder=tmp_path / "elsewhere", name="x"
    )
    assert_same(found, wanted, rounded=("vae", "image_encoder"))
    assert found.name == "x"


def test_half_precision_prefers_the_fp16_files_and_full_precision_the_others(tmp_path, caplog):
    write_published_layout(tmp_path, seed=1, fp16=True)
    full = write_published_layout(tmp_path, seed=0)
    caplog.set_level(logging.INFO)
    assert_same(load_models(tmp_path, torch.float32), full)
    half = load_models(tmp_path, torch.float16)
    weight = "visual_projection.weight"
    other = small_models(seed=1).image_encoder.state_dict()[weight].half()
    assert torch.equal(half.image_encoder.state_dict()[weight], other)
    assert "model.fp16.safetensors rather than model.safetensors" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_vae_encoder_in_fp32(folder, dtype):
    for models in (load_models(folder, dtype), small_models(dtype=dtype)):
        kept = {"encoder", "quant_conv"}
        for name, parameter in models.vae.named_parameters():
            wanted = torch.float32 if name.split(".")[0] in kept else dtype
            assert parameter.dtype == wanted, name
        for part in ("unet", "pose_net", "face_encoder", "image_encoder"):
            assert {p.dtype for p in getattr(models, part).parameters()} == {dtype}
        assert models.dtype == dtype


def test_vae_without_force_upcast_is_all_half(folder):
    path = folder / "SVD/vae/config.json"
    path.write_text(json.dumps({**SMALL.vae, "force_upcast": False}))
    models = load_models(folder, torch.float16)
    assert {p.dtype for p in models.vae.parameters()} == {torch.float16}


def test_loaded_models_compute_what_the_written_ones_compute(folder):
    written, found = small_models(), load_models(folder, torch.float32)
    conditioning = Conditioning(
        image_tokens=torch.randn(1, 1, 64),
        identity_tokens=torch.randn(1, 4, 64),
        added_time_ids=torch.tensor([[6.0, 127.0, 0.02]]),
        pose_features=found.pose_net(torch.randn(2, 3, 64, 64))[None],
    )
    sample, time = torch.randn(1, 2, 8, 8, 8), torch.tensor(0.3)
    out = found.unet(sample, time, conditioning)
    assert torch.equal(out, written.unet(sample, time, conditioning))
    assert 0.1 < out.std() < 10
    pixels = torch.randn(1, 3, 56, 56)
    assert torch.equal(
        found.image_encoder(pixels).image_embeds, written.image_encoder(pixels).image_embeds
    )


def test_safetensors_win_over_pickles(folder, caplog):
    caplog.set_level(logging.INFO)
    other = small_models(seed=5)
    save_models(other, folder / "other")
    shutil.copy(folder / "other/Animation/unet.safetensors", folder / "Animation")
    found = load_models(folder, torch.float32)
    weight = "conv_in.weight"
    assert torch.equal(found.unet.state_dict()[weight], other.unet.state_dict()[weight])
    assert "unet.safetensors rather than unet.pth" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_save_and_load(tmp_path, dtype):
    models = small_models(dtype=dtype)
    save_models(models, tmp_path / "m")
    found = load_models(tmp_path / "m", dtype)
    assert_same(found, models)
    assert not found.trained  # random weights stay what they are
    with pytest.raises(CheckpointError, match="exists and is not overwritten"):
        save_models(models, tmp_path / "m")
    save_models(models, tmp_path / "m", overwrite=True)
    assert not list(tmp_path.rglob("*.part"))


def test_all_missing_files_are_named_at_once(folder):
    (folder / "Animation/pose_net.pth").unlink()
    (folder / "Animation/face_encoder.pth").unlink()
    (folder / "SVD/vae/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError) as error:
        load_models(folder, torch.float32)
    for text in ("3 of 5", "pose_net.pth", "face_encoder.pth", "diffusion_pytorch_model.fp16"):
        assert text in str(error.value)
    assert "FrancisRing/StableAnimator" in str(error.value)


def test_no_folder():
    with pytest.raises(CheckpointError, match="Expected a models folder"):
        load_models("/nonexistent/folder", torch.float32)


def test_without_config_only_the_published_architecture_is_assumed(folder):
    (folder / "SVD/vae/config.json").unlink()
    with pytest.raises(CheckpointError, match=r"of another shape: encoder.conv_in.weight"):
        load_models(folder, torch.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "holds a list"),
        ('{"in_channels": 8}', "lacks block_out_channels"),
    ],
)
def test_broken_config(folder, content, message):
    (folder / "SVD/unet/config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_models(folder, torch.float32)


def test_impossible_architecture():
    with pytest.raises(CheckpointError, match="architecture of the unet is not valid"):
        empty_network("unet", {**SMALL.unet, "down_block_types": ("Nonsense",)})


def test_face_encoder_of_another_unet(folder):
    wider = build_models(
        ModelConfigs(
            unet={**SMALL.unet, "cross_attention_dim": 128},
            vae=SMALL.vae,
            image_encoder=SMALL.image_encoder,
        ),
        seed=0,
    )
    torch.save(wider.face_encoder.state_dict(), folder / "Animation/face_encoder.pth")
    with pytest.raises(CheckpointError, match=r"norm.weight \(128,\) instead of \(64,\)"):
        load_models(folder, torch.float32)


def test_face_encoder_sizes_follow_from_its_weights(folder):
    other = build_models(
        ModelConfigs(
            unet=SMALL.unet,
            vae=SMALL.vae,
            image_encoder=SMALL.image_encoder,
            face_encoder={"id_embeddings_dim": 128, "num_tokens": 6},
        ),
        seed=0,
    )
    torch.save(other.face_encoder.state_dict(), folder / "Animation/face_encoder.pth")
    assert load_models(folder, torch.float32).face_encoder.num_tokens == 6


def test_seeds():
    assert_same(small_models(seed=3), small_models(seed=3))
    a, b = small_models(seed=3), small_models(seed=4)
    assert not torch.equal(a.unet.conv_in.weight, b.unet.conv_in.weight)
    # what a training starts at zero must matter here
    assert a.pose_net.final_proj.weight.std() > 0.01
    assert a.face_encoder.fusion_model.proj_out.weight.std() > 0.01


PRESETS = {
    "unet": "unet",
    "pose_net": "pose_net",
    "face_encoder": "face_encoder",
    "vae": "vae",
    "clip_image_encoder": "image_encoder",
}


@pytest.mark.parity
@pytest.mark.parametrize("case", golden_cases("11_keys_"))
def test_presets_have_the_published_keys_and_shapes(case):
    golden, _ = load_case(case)
    part = PRESETS[golden["module"]]
    module = empty_network(part, PUBLISHED.arguments(part))
    found = {name: list(value.shape) for name, value in module.state_dict().items()}
    assert found == {name: shape for name, (shape, _) in golden["keys"].items()}
    assert all(p.is_meta for p in module.parameters())


_PEAK_MEMORY = """
import resource, sys, os
from pathlib import Path
import torch
torch.set_num_threads(1)
from accelerate import init_empty_weights
from animator_core.checkpoints.state_dict import load_strict, read_state_dict

path, dtype = Path(sys.argv[1]), getattr(torch, sys.argv[2])
with init_empty_weights():
    module = torch.nn.Sequential(*[torch.nn.Linear(2048, 2048, bias=False) for _ in range(12)])

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(key))

before, anonymous = status("VmHWM:"), status("RssAnon:")
load_strict(module, read_state_dict(path), source=path, dtype=dtype)
touched = sum(float(p.float().sum()) for p in module.parameters())
size = path.stat().st_size
print((status("VmHWM:") - before) / size, (status("RssAnon:") - anonymous) / size)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(("dtype", "peak", "anonymous"), [("float32", 1.3, 0.3)])
def test_loading_makes_no_second_copy(tmp_path, suffix, dtype, peak, anonymous):
    from safetensors.torch import save_file

    weights = {f"{i}.weight": torch.randn(2048, 2048) for i in range(12)}
    path = tmp_path / f"w{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    script = textwrap.dedent(_PEAK_MEMORY)
    run = subprocess.run(
        [sys.executable, "-c", script, str(path), dtype],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
    )
    found_peak, found_anonymous = map(float, run.stdout.split())
    assert found_peak < peak
    assert found_anonymous < anonymous
