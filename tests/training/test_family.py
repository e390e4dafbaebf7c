"""Gathering trained networks into one models folder."""

from pathlib import Path

import pytest
import torch
from factory import small_models

from animator_core.checkpoints.build import load_models, load_network, save_models, save_network
from animator_core.errors import CheckpointError, ConfigError
from animator_core.training.family import gather_family


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "runs"
    save_models(small_models(), folder / "animation")
    for name, file in (("recogniser", "glintr100.onnx"), ("face_detector", "scrfd_10g_bnkps.onnx")):
        path = folder / name / "antelopev2" / file
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
    names = ("animation", "recogniser", "face_detector")
    return {name: str(folder / name) for name in names} | {"output": str(tmp_path / "family")}


def test_a_family_is_a_models_folder_in_half_precision(sources):
    folder = gather_family(sources, "test")
    for _ in range(2):  # again: files are replaced
        gather_family(sources, "test")
    ours, theirs = (
        load_models(folder, torch.float32),
        load_models(sources["animation"], torch.float32),
    )
    for name in ("unet", "vae", "pose_net", "face_encoder", "image_encoder"):
        expected = getattr(theirs, name).state_dict()
        for key, value in getattr(ours, name).state_dict().items():
            assert torch.equal(value, expected[key].half().float()), key
    assert (folder / "antelopev2/glintr100.onnx").read_bytes() == b"recogniser"
    halves = (folder / "Animation/unet.safetensors").stat().st_size
    assert halves < 0.6 * (Path(sources["animation"]) / "Animation/unet.safetensors").stat().st_size


def test_a_decoder_that_was_trained_on_takes_its_place(sources, tmp_path):
    vae = load_network("vae", sources["animation"])
    with torch.no_grad():
        vae.decoder.conv_in.bias += 1
    save_network("vae", vae, tmp_path / "decoder", overwrite=True)
    folder = gather_family({**sources, "decoder": str(tmp_path / "decoder")}, "test")
    ours = load_models(folder, torch.float32).vae
    torch.testing.assert_close(
        ours.decoder.conv_in.bias, vae.decoder.conv_in.bias, atol=1e-3, rtol=0
    )
    with torch.no_grad():
        vae.quant_conv.bias += 1
    save_network("vae", vae, tmp_path / "decoder", overwrite=True)
    with pytest.raises(CheckpointError, match="another quant_conv"):
        gather_family({**sources, "decoder": str(tmp_path / "decoder")}, "test")


def test_missing_parts_are_named(sources):
    with pytest.raises(CheckpointError, match=r"dw-ll_ucoco_384.onnx is missing"):
        gather_family({**sources, "pose_detector": "nowhere"}, "test")
    with pytest.raises(ConfigError, match="speed"):
        gather_family({**sources, "speed": 1}, "test")
