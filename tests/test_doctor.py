"""The report on this installation, and on broken ones."""

from __future__ import annotations

import builtins
import sys
from collections import namedtuple

import pytest
from factory import write_published_layout

from animator_core import doctor
from animator_core.doctor import Check, format_report, report

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "einops",
    "numpy",
    "onnxruntime",
    "av",
    "psutil",
)


def named(checks, name):
    return next(check for check in checks if check.name == name)


def test_a_complete_installation(tmp_path):
    write_published_layout(tmp_path)
    for name in ("DWPose/yolox_l.onnx", "antelopev2/antelopev2/glintr100.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x08\x08onnx")
    checks = report(tmp_path)
    for name in ("Python", "torch", "diffusers", "onnxruntime", "PyAV", "memory"):
        assert named(checks, name).status == "ok", name
    unet = named(checks, "weights: video UNet with ID adapter")
    assert unet.status == "ok"
    assert "unet.pth" in unet.found
    assert "Apache-2.0" in unet.found
    assert "Stability" in named(checks, "weights: VAE").found
    assert named(checks, "weights: glintr100.onnx").status == "ok"
    missing = named(checks, "weights: scrfd_10g_bnkps.onnx")
    assert missing.status == "missing"
    assert "download --components antelopev2" in missing.remedy
    assert "non-commercial research only" in missing.remedy


def test_every_gap_has_a_remedy(tmp_path):
    for check in report(tmp_path / "nothing here"):
        assert check.found
        assert bool(check.remedy) == (check.status != "ok")


def test_weights_elsewhere(tmp_path):
    write_published_layout(tmp_path / "a")
    (tmp_path / "a/SVD").rename(tmp_path / "b")
    checks = report(tmp_path / "a", stable_video_folder=tmp_path / "b")
    assert named(checks, "weights: VAE").status == "ok"


def test_stand_ins_are_no_weights(tmp_path):
    write_published_layout(tmp_path)
    (tmp_path / "Animation/unet.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    check = named(report(tmp_path), "weights: video UNet with ID adapter")
    assert check.status == "missing"
    assert "git-lfs pointer" in check.remedy


@pytest.mark.parametrize("package", PACKAGES)
def test_any_package_may_be_missing(monkeypatch, package, tmp_path):
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    checks = report(tmp_path)
    found = {check.name: check for check in checks}
    if package != "psutil":
        name = "PyAV" if package == "av" else package
        assert found[name].status == "missing"
        assert "pip install" in found[name].remedy
    assert found["memory"].status == "ok"
    assert "weights: PoseNet" in found


def test_all_packages_missing(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] in PACKAGES:
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(doctor.importlib, "import_module", without)
    monkeypatch.setattr(doctor, "_version", lambda _: None)
    checks = report(tmp_path)
    assert sum(check.status == "missing" for check in checks) >= 9 + 9
    assert "MISSING  torch" in format_report(checks)


def test_a_broken_package_does_not_end_the_report(monkeypatch):
    import onnxruntime

    def broken():
        raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "get_available_providers", broken)
    check = named(report(), "onnxruntime")
    assert check.status == "warn"
    assert "libcudart" in check.found


def test_both_onnxruntimes(monkeypatch):
    import onnxruntime

    monkeypatch.setattr(doctor, "_version", lambda name: "1")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(doctor, "_has_cuda", lambda: False)
    check = named(report(), "onnxruntime")
    assert check.status == "ok"
    assert "both installed" in check.found
    monkeypatch.setattr(doctor, "_has_cuda", lambda: True)
    check = named(report(), "onnxruntime")
    assert check.status == "warn"
    assert "pip install --force-reinstall --no-deps onnxruntime-gpu" in check.remedy


def test_gpu_without_the_gpu_provider(monkeypatch):
    monkeypatch.setattr(doctor, "_has_cuda", lambda: True)
    monkeypatch.setattr(doctor, "_version", lambda name: "1" if name != "onnxruntime-gpu" else None)
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    check = named(report(), "onnxruntime")
    assert check.status == "warn"
    assert "pip install onnxruntime-gpu" in check.remedy


def test_devices(monkeypatch):
    import torch

    properties = namedtuple("properties", "name total_memory")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: properties("Some GPU", 8 << 30)
    )
    assert named(report(), "device cuda:0").found == "Some GPU, 8.0 GiB"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert named(report(), "device mps").status == "ok"


def test_no_encoder(monkeypatch):
    import av

    def unknown(*_):
        raise ValueError("h264")

    monkeypatch.setattr(av, "Codec", unknown)
    check = named(report(), "PyAV")
    assert check.status == "missing"
    assert "PNGs" in check.remedy


def test_small_computers(monkeypatch, tmp_path):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(1 << 30))
    monkeypatch.setattr(doctor, "_total_ram", lambda: 4 << 30)
    monkeypatch.setattr(doctor.sys, "version_info", (3, 9))
    checks = report(tmp_path)
    assert named(checks, "disk").status == "warn"
    assert named(checks, "memory").status == "warn"
    assert named(checks, "Python").status == "missing"
    monkeypatch.setattr(doctor, "_total_ram", lambda: None)
    assert named(report(tmp_path), "memory").found == "size unknown"


def test_layout_of_the_text():
    checks = [
        Check(name="a", status="ok", found="1"),
        Check(name="long name", status="warn", found="2", remedy="do this"),
    ]
    assert format_report(checks).splitlines() == [
        "ok       a          1",
        "warning  long name  2",
        "                    → do this",
        "0 missing, 1 warnings",
    ]
