"""LPIPS: layout of the feature networks, the formula, and local weights."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from animator_core.errors import CheckpointError, ShapeError
from animator_core.evaluation.lpips import Lpips, load_lpips
from animator_core.evaluation.measures import MetricUnavailableError
from animator_core.evaluation.regions import box_region

FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}


def noise(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random feature networks with torchvision's names, classifier included."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for net, name in FILES.items():
        features = {f"features.{k}": v for k, v in Lpips(net).features.state_dict().items()}
        torch.save(features | {"classifier.6.bias": torch.zeros(10)}, folder / name)
    return folder


def test_the_layers_are_torchvisions():
    alex = {k: tuple(v.shape) for k, v in Lpips("alex").features.named_parameters()}
    assert alex["0.weight"] == (64, 3, 11, 11)
    assert alex["10.weight"] == (256, 256, 3, 3)
    vgg = {k: tuple(v.shape) for k, v in Lpips("vgg").features.named_parameters()}
    assert vgg["0.weight"] == (64, 3, 3, 3)
    assert vgg["28.weight"] == (512, 512, 3, 3)
    assert len(vgg) == 26


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_it_is_torchmetrics_lpips(net, weights, monkeypatch):
    """torchmetrics takes its networks from torchvision; a stand-in hands it ours."""
    lpips = load_lpips(weights, net)
    from torchmetrics.functional.image import lpips as theirs

    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_a, **_k: lpips.features)
    reference = theirs._NoTrainLpips(net=net)
    a, b = noise(1), noise(2)
    first, second = (torch.from_numpy(p).movedim(-1, 0)[None].float() / 255 for p in (a, b))
    expected = float(reference(first, second, normalize=True))
    assert lpips.distance(a, b) == pytest.approx(expected, rel=1e-4)
    raw = load_lpips(weights, net, published_range=True)
    assert raw.distance(a, b) == pytest.approx(float(reference(first, second)), rel=1e-4)


def test_equal_pictures_and_symmetry(weights):
    lpips = load_lpips(weights, "alex")
    assert lpips.distance(noise(1), noise(1)) == 0
    there, back = lpips.distance(noise(1), noise(2)), lpips.distance(noise(2), noise(1))
    assert there == pytest.approx(back, rel=1e-5)
    assert there > 0


def test_a_region_looks_at_its_place(weights):
    lpips = load_lpips(weights, "alex")
    a, b = noise(1, 96), noise(1, 96)
    b[:32, :32] = 255 - b[:32, :32]
    near = lpips.distance(a, b, box_region((0, 0, 24, 24), 96, 96))
    far = lpips.distance(a, b, box_region((72, 72, 96, 96), 96, 96))
    assert near > 3 * far


def test_too_small(weights):
    with pytest.raises(ShapeError, match="16x16 px"):
        load_lpips(weights, "alex").distance(noise(1, 16), noise(2, 16))


def test_where_weights_are_missing_or_wrong(tmp_path, weights):
    with pytest.raises(MetricUnavailableError, match=r"AlexNet.*no folder"):
        load_lpips(None, "alex")
    with pytest.raises(MetricUnavailableError, match=r"VGG-16.*found none in"):
        load_lpips(tmp_path, "vgg")
    (tmp_path / FILES["alex"]).write_bytes((weights / FILES["vgg"]).read_bytes())
    with pytest.raises(CheckpointError, match="does not fit"):
        load_lpips(tmp_path, "alex")
    (tmp_path / FILES["alex"]).write_bytes(b"<html>")
    with pytest.raises(CheckpointError):
        load_lpips(tmp_path, "alex")


def test_torchvision_is_not_needed(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    assert isinstance(load_lpips(weights, "vgg"), nn.Module)
