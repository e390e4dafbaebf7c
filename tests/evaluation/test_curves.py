from __future__ import annotations

import math

import numpy as np

from animator_core.evaluation.curves import draw_metric_curves
from animator_core.evaluation.measures import ClipResult
from animator_core.evaluation.psnr import psnr
from animator_core.evaluation.registry import Resources, open_measures
from animator_core.evaluation.run import evaluate_frames


def result(*values: float) -> ClipResult:
    return ClipResult.of_frames(list(values))


def test_one_panel_for_each_unit():
    shares, decibels = result(0.5, math.nan, -0.2), result(20, 31, 18)
    assert draw_metric_curves({"csim": shares}).shape == (320, 640, 3)
    assert draw_metric_curves({"psnr": decibels}, height=200).shape == (200, 640, 3)
    both = draw_metric_curves({"psnr": decibels, "csim": shares, "seams": ClipResult(value=1.0)})
    assert both.shape == (640, 640, 3)
    empty = draw_metric_curves({"csim": result(math.nan)})
    assert empty.shape == (320, 640, 3)
    assert (draw_metric_curves({}) == empty).all()


def test_curves_stay_inside_their_axes():
    drawn = draw_metric_curves({"psnr": result(100, 0, 100)})
    colored = (np.ptp(drawn.astype(int), axis=2) > 60).any(axis=1)
    rows = np.flatnonzero(colored)
    assert rows.min() >= 30 - 2
    assert rows.max() <= 320 - 34 + 2


def test_clips_in_memory():
    rng = np.random.default_rng(0)
    made, truth = rng.integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    measures, reasons = open_measures(["psnr"], Resources())
    assert not reasons
    found = evaluate_frames(zip(made, truth, strict=True), measures, num_frames=3)
    expected = [psnr(a, b) for a, b in zip(made, truth, strict=True)]
    assert math.isclose(found.means["psnr"].mean, np.mean(expected))
    assert found.clips[0].num_frames == 3
