"""Pickles to safetensors: strict, whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
from collections import namedtuple

import pytest
import torch
from factory import assert_same, small_models, write_published_layout
from safetensors import safe_open
from safetensors.torch import load_file

from animator_core.checkpoints import convert as convert_module
from animator_core.checkpoints.build import PUBLISHED, empty_network, load_models
from animator_core.checkpoints.convert import convert
from animator_core.checkpoints.networks import infer_config
from animator_core.checkpoints.writing import write_safetensors
from animator_core.errors import CancelledError, CheckpointError


class Cancelling:
    def __init__(self, after):
        self.left = after

    def update(self, progress):
        assert 0 <= progress.done <= progress.total
        self.left -= 1

    def raise_if_cancelled(self):
        if self.left <= 0:
            raise CancelledError("stopped")


def content_of(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_folder_to_another_folder(tmp_path):
    wanted = write_published_layout(tmp_path / "a")
    (tmp_path / "a/DWPose").mkdir()
    (tmp_path / "a/DWPose/yolox_l.onnx").write_bytes(b"onnx")
    written = convert(tmp_path / "a", tmp_path / "b")
    assert sorted(path.name for path in written) == [
        "face_encoder.safetensors",
        "pose_net.safetensors",
        "unet.safetensors",
    ]
    assert_same(load_models(tmp_path / "b", torch.float32), wanted)
    assert not [name for name in content_of(tmp_path / "b") if name.endswith((".pth", ".part"))]
    assert (tmp_path / "b/DWPose/yolox_l.onnx").read_bytes() == b"onnx"
    with safe_open(tmp_path / "b/Animation/unet.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_folder_in_place(tmp_path):
    wanted = write_published_layout(tmp_path)
    convert(tmp_path, tmp_path)
    for path in (tmp_path / "Animation").glob("*.pth"):
        path.unlink()
    assert_same(load_models(tmp_path, torch.float32), wanted)


@pytest.mark.parametrize("part", ["unet", "pose_net", "face_encoder", "vae", "image_encoder"])
def test_single_file_of_every_network(tmp_path, part):
    weights = getattr(small_models(), part).state_dict()
    torch.save({"state_dict": weights}, tmp_path / "w.bin")
    (written,) = convert(tmp_path / "w.bin", tmp_path / "out")
    assert written == tmp_path / "out/w.safetensors"
    found = load_file(written)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


@pytest.mark.parametrize("part", ["unet", "pose_net", "face_encoder", "vae", "image_encoder"])
def test_published_architecture_is_told_by_the_shapes(part):
    weights = empty_network(part, PUBLISHED.arguments(part)).state_dict()
    inferred = empty_network(part, infer_config(part, weights, source="x")).state_dict()
    assert {k: v.shape for k, v in inferred.items()} == {k: v.shape for k, v in weights.items()}


def test_missing_and_foreign_keys(tmp_path):
    weights = small_models().pose_net.state_dict()
    del weights["conv_layers.4.bias"]
    torch.save(weights, tmp_path / "pose_net.pth")
    with pytest.raises(CheckpointError, match=r"1 missing: conv_layers.4.bias"):
        convert(tmp_path / "pose_net.pth", tmp_path / "out")
    torch.save(
        {"conv_layers.0.weight": torch.zeros(1), "final_proj.x": torch.zeros(1)},
        tmp_path / "half.pth",
    )
    with pytest.raises(CheckpointError, match=r"final_proj.weight.* was not found"):
        convert(tmp_path / "half.pth", tmp_path / "out")
    torch.save({"a.lora_up.weight": torch.zeros(1)}, tmp_path / "lora.pth")
    with pytest.raises(CheckpointError, match=r"not converted. It looks like a LoRA. Expected one"):
        convert(tmp_path / "lora.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_foreign_files_in_a_folder_are_left_out(tmp_path, caplog):
    write_published_layout(tmp_path / "a")
    torch.save({"a.lora_up.weight": torch.zeros(1)}, tmp_path / "a/lora.pth")
    assert len(convert(tmp_path / "a", tmp_path / "b")) == 3
    assert "lora.pth is left out. It looks like a LoRA." in caplog.text


def test_one_bad_file_and_nothing_is_written(tmp_path):
    write_published_layout(tmp_path / "a")
    path = tmp_path / "a/Animation/unet.pth"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        convert(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_unsafe_pickles_are_refused(tmp_path):
    torch.save({"conv_layers.0.weight": Attack(tmp_path / "pwned")}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="refused"):
        convert(tmp_path / "w.pth", tmp_path / "out")
    assert not (tmp_path / "pwned").exists()


def test_nothing_is_overwritten(tmp_path):
    write_published_layout(tmp_path)
    convert(tmp_path, tmp_path)
    before = (tmp_path / "Animation/unet.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=r"unet.safetensors exist and are not overwritten"):
        convert(tmp_path, tmp_path)
    assert (tmp_path / "Animation/unet.safetensors").read_bytes() == before


def test_nothing_to_convert(tmp_path):
    with pytest.raises(CheckpointError, match="found nothing"):
        convert(tmp_path / "no", tmp_path)
    with pytest.raises(CheckpointError, match="nothing to convert"):
        convert(tmp_path, tmp_path / "out")


def test_disk_too_small(tmp_path, monkeypatch):
    write_published_layout(tmp_path / "a")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(convert_module.shutil, "disk_usage", lambda _: usage(1000))
    with pytest.raises(CheckpointError, match=r"0.0 GB free"):
        convert(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_disk_full_while_writing_leaves_no_half_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"the disk is full. No half file"):
        write_safetensors(tmp_path / "w.safetensors", {"a": torch.zeros(4)})
    assert content_of(tmp_path) == []


def test_cancel_leaves_no_half_file(tmp_path):
    write_published_layout(tmp_path / "a")
    with pytest.raises(CancelledError):
        convert(tmp_path / "a/Animation/unet.pth", tmp_path / "b", Cancelling(after=5))
    assert content_of(tmp_path / "b") == []


def test_shared_strided_and_odd_tensors(tmp_path):
    base = torch.randn(6, 6)
    tensors = {
        "whole": base,
        "part": base[1:3],
        "transposed": base.T,
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.0),
        "bytes": torch.arange(3, dtype=torch.uint8),
        "half": torch.randn(5).half(),
        "brain": torch.randn(3).bfloat16(),
        "flag": torch.tensor([True, False]),
        "count": torch.tensor(7),
    }
    write_safetensors(tmp_path / "w.safetensors", tensors)
    found = load_file(tmp_path / "w.safetensors")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    with pytest.raises(CheckpointError, match="complex64"):
        write_safetensors(tmp_path / "c.safetensors", {"c": torch.zeros(1, dtype=torch.cfloat)})


def test_folders_log_what_became_what(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_published_layout(tmp_path / "a", legacy_pth=True)
    convert(tmp_path / "a", tmp_path / "b")
    assert "pose_net.pth → " in caplog.text
