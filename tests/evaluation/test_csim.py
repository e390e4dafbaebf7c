"""CSIM with miniature face networks: red above green is a face to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from faces.onnx_faces import marker_picture, save_detector, save_recogniser, small_recogniser
from PIL import Image

from animator_core.errors import CheckpointError, NoFaceError
from animator_core.evaluation.csim import CsimMeasure, open_face_analyzer
from animator_core.evaluation.measures import ClipSource, MetricUnavailableError
from animator_core.faces.similarity import face_similarity

EMPTY = np.full((640, 640, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def antelope(tmp_path_factory):
    folder = tmp_path_factory.mktemp("antelopev2")
    save_detector(folder / "scrfd_10g_bnkps.onnx")
    save_recogniser(folder / "glintr100.onnx", small_recogniser())
    return folder


@pytest.fixture(scope="module")
def analyzer(antelope):
    return open_face_analyzer([antelope.parent / "nowhere", antelope])


def person(column: int = 320, look: int = 0) -> np.ndarray:
    picture = marker_picture(640, 640, [(320, column)])
    picture[324 : 324 + 4 * look, column - 10 : column + 10] = (0, 200, 0)
    return picture


def run(measure, frames, **source):
    measure.begin(ClipSource(name="clip", **source))
    for generated, target in frames:
        measure.add(generated, target)
    return measure.end()


def test_against_an_identity_picture(analyzer, tmp_path):
    Image.fromarray(person()).save(tmp_path / "identity.png")
    frames = [(person(), None), (person(200), None), (person(look=3), None), (EMPTY, None)]
    result = run(CsimMeasure(analyzer), frames, identity=tmp_path / "identity.png")
    reference = analyzer.analyze(person())[0].embedding
    curve = face_similarity(np.stack([f for f, _ in frames]), reference, analyzer)
    assert result.frames == pytest.approx(curve.values, nan_ok=True)
    assert result.frames[0] == pytest.approx(1, abs=1e-4)
    assert result.frames[2] < result.frames[0]
    assert result.value == pytest.approx(curve.mean)
    assert result.counts == {"frames_without_face": 1}


def test_against_the_targets_own_faces(analyzer):
    frames = [(person(), person(250)), (EMPTY, person()), (person(), EMPTY), (EMPTY, EMPTY)]
    result = run(CsimMeasure(analyzer), frames)
    assert result.value == result.frames[0] == pytest.approx(1, abs=1e-3)
    assert [math.isnan(v) for v in result.frames] == [False, True, True, True]
    assert result.counts == {"frames_without_face": 1, "target_frames_without_face": 2}


def test_a_reference_for_all_clips(analyzer):
    embedding = analyzer.analyze(person())[0].embedding
    result = run(CsimMeasure(analyzer, embedding), [(person(), None)])
    assert result.value == pytest.approx(1, abs=1e-4)


def test_no_face_anywhere(analyzer, tmp_path):
    result = run(CsimMeasure(analyzer), [(EMPTY, person()), (EMPTY, person())])
    assert math.isnan(result.value)
    assert "none of 2 frames" in result.reason
    Image.fromarray(EMPTY).save(tmp_path / "nobody.png")
    with pytest.raises(NoFaceError, match=r"nobody\.png"):
        run(CsimMeasure(analyzer), [], identity=tmp_path / "nobody.png")


def test_where_networks_are_missing_or_damaged(antelope, tmp_path):
    with pytest.raises(MetricUnavailableError, match=r"antelopev2.*--faces"):
        open_face_analyzer([tmp_path])
    with pytest.raises(MetricUnavailableError, match="no folder"):
        open_face_analyzer([])
    for name in ("scrfd_10g_bnkps.onnx", "glintr100.onnx"):
        (tmp_path / name).write_bytes(b"not a network")
    with pytest.raises(CheckpointError):
        open_face_analyzer([tmp_path])
