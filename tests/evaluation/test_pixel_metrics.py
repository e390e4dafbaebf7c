"""L1, PSNR, SSIM: against formulas written down by hand and against other packages."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from animator_core.errors import ShapeError
from animator_core.evaluation.l1 import l1, l1_published
from animator_core.evaluation.psnr import psnr, psnr_published
from animator_core.evaluation.regions import box_region, frame_values
from animator_core.evaluation.ssim import ssim, ssim_published

METRICS = [l1, l1_published, psnr, psnr_published, ssim, ssim_published]
ON_CONSTANTS = [l1, psnr, psnr_published]


def noise(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def near(picture: np.ndarray, strength: int = 20, seed: int = 9) -> np.ndarray:
    change = np.random.default_rng(seed).integers(-strength, strength + 1, picture.shape)
    return np.clip(picture.astype(int) + change, 0, 255).astype(np.uint8)


@given(st.integers(0, 2**31))
def test_l1_and_psnr_by_hand(seed):
    a, b = noise(seed), noise(seed + 1)
    total = squares = 0
    for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        total += abs(x - y)
        squares += (x - y) ** 2
    assert l1(a, b) == pytest.approx(total / a.size / 255)
    assert l1_published(a, b) == pytest.approx(total / a.size / (24 * 32))
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / (squares / a.size)))


@given(st.integers(0, 2**31))
def test_the_published_psnr_wraps_in_eight_bits(seed):
    a, b = noise(seed), noise(seed + 1)
    squares = 0
    for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        wrapped = (x - y) % 256
        squares += wrapped * wrapped % 256
    assert psnr_published(a, b) == pytest.approx(10 * math.log10(255**2 / (squares / a.size)))
    assert np.mean((a - b) ** 2) == pytest.approx(squares / a.size)  # what the script writes


def test_the_published_psnr_forgives_large_errors():
    a = np.zeros((16, 16, 3), np.uint8)
    for difference in (16, 32, 128):  # their squares are 0 in eight bits
        assert psnr_published(a, a + np.uint8(difference)) == 100
    assert psnr(a, a + np.uint8(128)) < 10
    small = near(noise(0), 15)
    assert psnr_published(noise(0), small) == pytest.approx(psnr(noise(0), small))


def test_equal_pictures():
    a = noise(3)
    assert [m(a, a) for m in METRICS] == pytest.approx([0, 0, 100, 100, 1, 1])


def test_ssim_is_torchmetrics(monkeypatch):
    from torchmetrics.image import StructuralSimilarityIndexMeasure

    a, b = noise(1), near(noise(1), 60)
    expected = StructuralSimilarityIndexMeasure(data_range=1.0)(
        *(torch.from_numpy(p).movedim(-1, 0)[None].float() / 255 for p in (a, b))
    )
    assert ssim(a, b) == pytest.approx(float(expected), abs=1e-6)
    assert ssim(b, a) == pytest.approx(ssim(a, b), abs=1e-6)


def test_the_published_ssim_is_scikit_images():
    metrics = pytest.importorskip("skimage.metrics")
    cv2 = pytest.importorskip("cv2")
    a, b = noise(1), near(noise(1), 60)
    grey = [cv2.cvtColor(p[..., ::-1].copy(), cv2.COLOR_BGR2GRAY) for p in (a, b)]
    expected = metrics.structural_similarity(*grey)
    assert ssim_published(a, b) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_a_region_sees_nothing_outside(metric):
    a, b = noise(1), near(noise(1))
    region = box_region((16, 8, 28, 20), 24, 32)
    assert region.sum() == 12 * 12
    before = metric(a, b, region)
    elsewhere = b.copy()
    elsewhere[:, :8] = 255 - elsewhere[:, :8]  # beyond the reach of every window
    assert metric(a, elsewhere, region) == pytest.approx(before)
    inside = b.copy()
    inside[region] = 255 - inside[region]
    assert metric(a, inside, region) != pytest.approx(before)


@pytest.mark.parametrize("metric", ON_CONSTANTS)
def test_a_region_is_a_crop(metric):
    a, b = noise(1), near(noise(1))
    region = box_region((4.4, 3, 20, 15), 24, 32)
    assert metric(a, b, region) == pytest.approx(metric(a[3:15, 4:20], b[3:15, 4:20]))


def test_boxes_outside_the_picture():
    assert box_region((-5, -5, 0, 3), 24, 32) is None
    assert box_region((-5, -5, 2, 3), 24, 32).sum() == 6


def test_values_over_a_clip():
    a = [noise(i) for i in range(3)]
    b = [near(picture) for picture in a]
    values = frame_values(psnr, a, b)
    assert values == pytest.approx([psnr(x, y) for x, y in zip(a, b, strict=True)])
    head = box_region((0, 0, 8, 8), 24, 32)
    values = frame_values(psnr, a, b, [head, None, head])
    assert np.isnan(values).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="shorter"):
        frame_values(psnr, a, b[:2])


@pytest.mark.parametrize("metric", METRICS)
def test_pictures_that_cannot_be_compared(metric):
    a = noise(1)
    with pytest.raises(ShapeError, match="32x24 px but its target has 30x24"):
        metric(a, a[:, :30])
    with pytest.raises(ShapeError, match="float64"):
        metric(a / 255, a)
    with pytest.raises(ShapeError, match=r"\[24, 32\]"):
        metric(a[..., 0], a)
    with pytest.raises(ShapeError, match="no pixel"):
        metric(a, a, np.zeros((24, 32), bool))
    with pytest.raises(ShapeError, match="region"):
        metric(a, a, np.ones((2, 32), bool))


def test_ssim_needs_room():
    a = noise(1, 10, 40)
    with pytest.raises(ShapeError, match=r"40x10 px.*11"):
        ssim(a, a)
    with pytest.raises(ShapeError, match=r"6x6 px.*7"):
        ssim_published(a[:6, :6], a[:6, :6])
    with pytest.raises(ShapeError, match="outer 3 px"):
        ssim_published(a, a, box_region((0, 0, 3, 3), 10, 40))
