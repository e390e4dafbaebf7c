from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from faces.onnx_faces import marker_picture, save_detector, save_recogniser, small_recogniser

from animator_core.errors import CancelledError, ShapeError
from animator_core.faces.analysis import AntelopeFiles, FaceAnalyzer
from animator_core.faces.similarity import (
    SimilarityCurve,
    draw_curves,
    embed_faces,
    face_similarity,
    track_similarity,
)
from animator_core.faces.tracks import track_from_boxes
from animator_core.interfaces import SilentMonitor


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    return FaceAnalyzer(
        AntelopeFiles(
            detector=save_detector(folder / "scrfd_10g_bnkps.onnx"),
            recogniser=save_recogniser(folder / "glintr100.onnx", small_recogniser()),
        )
    )


def test_similarity_over_time(analyzer):
    one = marker_picture(640, 640, [(320, 320)])
    empty = np.full_like(one, 90)
    (face,) = analyzer.analyze(one)
    curve = face_similarity(np.stack([one, empty, one]), face.embedding, analyzer)
    assert curve.values[0] == pytest.approx(1, abs=1e-5)
    assert math.isnan(curve.values[1])
    assert curve.frames_without_face == 1
    assert curve.mean == pytest.approx(1, abs=1e-5)
    assert face_similarity(one[None], -face.embedding, analyzer).mean == pytest.approx(-1, abs=1e-5)


def test_the_most_similar_of_several_faces_counts(analyzer):
    two = marker_picture(640, 640, [(320, 160), (320, 480)])
    for face in analyzer.analyze(two):
        curve = face_similarity(two[None], face.embedding, analyzer)
        assert curve.mean == pytest.approx(1, abs=1e-5)


def test_another_recogniser_is_refused(analyzer):
    one = marker_picture(640, 640, [(320, 320)])
    with pytest.raises(ShapeError, match=r"512 numbers .* makes 32"):
        face_similarity(one[None], np.ones(512, np.float32), analyzer)


def test_it_can_be_cancelled(analyzer):
    class Cancelled(SilentMonitor):
        def raise_if_cancelled(self):
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        face_similarity(np.zeros((1, 64, 64, 3), np.uint8), np.ones(32), analyzer, Cancelled())


def test_tracks_need_no_detector():
    frames = torch.rand(3, 3, 96, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    track = track_from_boxes([(10, 60, 20, 70), None, (10, 60, 20, 70)], 96, 128)
    net = small_recogniser()
    reference = embed_faces(net, frames[:1], [track.regions[0]])[0]
    curve = track_similarity(net, frames, track, reference)
    assert curve.values[0] == pytest.approx(1, abs=1e-5)
    assert math.isnan(curve.values[1])
    assert curve.values[2] < 1


def test_empty_curves():
    curve = SimilarityCurve(values=(math.nan,))
    assert math.isnan(curve.mean)
    assert math.isnan(curve.minimum)
    assert draw_curves([curve]).shape == (320, 640, 3)
    assert draw_curves([]).shape == (320, 640, 3)
    with pytest.raises(ShapeError, match="160x120"):
        draw_curves([curve], width=20)


def test_curves_are_drawn_with_gaps():
    values = [0.6 + 0.2 * math.sin(i / 3) for i in range(24)]
    values[8] = math.nan
    plain = draw_curves([SimilarityCurve(values=tuple(values))])
    assert plain.dtype == np.uint8
    blue = (plain == (31, 119, 180)).all(axis=-1)
    assert blue[40:280, 60:].sum() > 200
    negative = draw_curves([SimilarityCurve(values=(-0.5, 0.5)), SimilarityCurve(values=(0.1,))])
    assert not np.array_equal(plain, negative)
