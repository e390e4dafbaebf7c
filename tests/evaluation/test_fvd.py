"""Fréchet distances against the closed form, I3D's shape, and the measure over clips."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from animator_core.errors import CheckpointError, ShapeError
from animator_core.evaluation import fvd
from animator_core.evaluation.frechet import frechet_distance
from animator_core.evaluation.fvd import FvdMeasure, clip_input, load_i3d
from animator_core.evaluation.i3d import I3D, I3DWidths
from animator_core.evaluation.measures import ClipSource, MetricUnavailableError

SMALL = I3DWidths(
    stem=(2, 2, 3),
    mixed=tuple((name, (1, 1, 2, 1, 1, 1)) for name, _ in I3DWidths().mixed),
    classes=5,
)


def gaussian(seed: int, mean, deviation, count: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, deviation, (count, len(mean)))


def exact(features: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """The same features with exactly this sample mean and covariance."""
    centred = features - features.mean(axis=0)
    whitened = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    return whitened @ np.linalg.cholesky(covariance).T + mean


def test_diagonal_gaussians_have_a_closed_form():
    a = exact(gaussian(0, [0, 0, 0], 1, 50), np.array([1.0, 0, 2]), np.diag([1.0, 4, 9]))
    b = exact(gaussian(1, [0, 0, 0], 1, 70), np.array([0.0, 0, 5]), np.diag([9.0, 4, 1]))
    expected = (1 + 0 + 9) + (1 - 3) ** 2 + 0 + (3 - 1) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


def test_full_covariances_match_the_matrix_root():
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(60, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(80, 6))
    one, two = np.cov(a.T), np.cov(b.T)
    offset = a.mean(axis=0) - b.mean(axis=0)
    root = np.real(linalg.sqrtm(one @ two))
    assert frechet_distance(a, b) == pytest.approx(
        offset @ offset + np.trace(one + two - 2 * root), rel=1e-9
    )


def test_one_distribution_is_near_and_a_shifted_one_far():
    a, b = gaussian(0, [0, 1], 1), gaussian(1, [0, 1], 1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) < 0.01
    assert frechet_distance(a, b + np.array([3, 0])) == pytest.approx(9, rel=0.05)


def test_fewer_clips_than_features():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 400))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 0.5) == pytest.approx(100)


def test_what_has_no_covariance():
    with pytest.raises(ShapeError, match="at least 2"):
        frechet_distance(np.ones((1, 3)), np.ones((4, 3)))
    with pytest.raises(ShapeError, match="one d"):
        frechet_distance(np.ones((4, 3)), np.ones((4, 2)))


def test_i3d_has_the_published_names_and_size():
    with torch.device("meta"):
        weights = I3D().state_dict()
    assert weights["Conv3d_1a_7x7.conv3d.weight"].shape == (64, 3, 7, 7, 7)
    assert weights["Mixed_4f.b2b.bn.running_var"].shape == (128,)
    assert weights["logits.conv3d.weight"].shape == (400, 1024, 1, 1, 1)
    assert weights["logits.conv3d.bias"].shape == (400,)
    trained = [v for k, v in weights.items() if "running" not in k and "batches" not in k]
    assert sum(v.numel() for v in trained) == 12_697_264


def test_i3d_pads_as_tensorflow_does():
    torch.manual_seed(0)
    net = I3D(SMALL).eval()
    with torch.inference_mode():
        assert net(torch.zeros(2, 3, 16, 224, 224)).shape == (2, 5)
        stem = net.get_submodule("Conv3d_1a_7x7")
        # an even side loses one row less before than after
        stem.conv3d.weight.zero_()[:, :, 2, 2, 2] = 1
        picture = torch.rand(1, 3, 4, 8, 8)
        expected = picture[0].sum(dim=0)[::2, ::2, ::2]
        assert torch.allclose(stem(picture)[0, 0] * 1.001**0.5, expected, atol=1e-5)


def test_frames_as_i3d_takes_them():
    frames = np.zeros((2, 30, 60, 3), np.uint8)
    frames[:, :, 15:45] = 255  # the middle square
    clip = clip_input(frames)
    assert clip.shape == (3, 2, 224, 224)
    assert clip[..., 4:-4].min() == pytest.approx(1)
    assert clip_input(frames.swapaxes(1, 2)).shape == (3, 2, 224, 224)
    assert clip_input(np.zeros((1, 5, 5, 3), np.uint8)).unique().tolist() == [-1]


class MeanColour(nn.Module):
    def forward(self, clips):
        return clips.mean(dim=(2, 3, 4))


def feed(measure, videos):
    for generated, target in videos:
        measure.begin(ClipSource(name="video"))
        for pair in zip(generated, target, strict=True):
            measure.add(*pair)
        measure.end()
    return measure.pooled()


def video(seed: int, frames: int) -> np.ndarray:
    level = np.random.default_rng(seed).integers(50, 200, (1, 1, 1, 3))
    return np.broadcast_to(level, (frames, 8, 8, 3)).astype(np.uint8)


def test_the_measure_cuts_videos_into_clips_of_16():
    same = feed(FvdMeasure(MeanColour()), [(video(i, 20), video(i, 20)) for i in range(4)])
    assert same.value == pytest.approx(0, abs=1e-6)
    assert same.counts == {"clips_of_16_frames": 4}  # rests of 4 frames are not joined
    darker = [(video(i, 33), video(i, 33) - 51) for i in range(2)]
    found = feed(FvdMeasure(MeanColour()), darker)
    assert found.counts == {"clips_of_16_frames": 4}
    assert found.value == pytest.approx(3 * 0.4**2, rel=1e-4)


def test_one_clip_has_no_distance():
    found = feed(FvdMeasure(MeanColour()), [(video(0, 31), video(0, 31))])
    assert math.isnan(found.value)
    assert "at least 2 clips of 16 frames, found 1" in found.reason


def test_weights_come_from_a_local_state_dict(tmp_path, monkeypatch):
    monkeypatch.setattr(fvd, "I3D", lambda: I3D(SMALL))
    with pytest.raises(MetricUnavailableError, match="no folder"):
        load_i3d(None)
    with pytest.raises(MetricUnavailableError, match="found none in"):
        load_i3d(tmp_path)
    net = I3D(SMALL)
    old = {k: v for k, v in net.state_dict().items() if "batches" not in k}
    torch.save(old, tmp_path / "rgb_imagenet.pt")
    assert torch.equal(load_i3d(tmp_path).logits.conv3d.bias, net.logits.conv3d.bias)
    old.pop("logits.conv3d.bias")
    torch.save(old, tmp_path / "rgb_imagenet.pt")
    with pytest.raises(CheckpointError, match=r"logits\.conv3d\.bias"):
        load_i3d(tmp_path)
    save_file(net.state_dict(), tmp_path / "i3d.safetensors")
    load_i3d(tmp_path)


def test_torchscript_is_refused(tmp_path):
    script = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    script.save(tmp_path / "i3d_torchscript.pt")
    with pytest.raises(CheckpointError, match="TorchScript"):
        load_i3d(tmp_path)
