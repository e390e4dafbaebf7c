from __future__ import annotations

import logging

import numpy as np
import pytest
from faces.onnx_faces import (
    MARKER_PX,
    POINTS_PX,
    marker_picture,
    save_detector,
    save_recogniser,
    small_recogniser,
)

from animator_core.errors import CheckpointError, NoFaceError, ShapeError
from animator_core.faces.analysis import (
    AntelopeFiles,
    DetectedFace,
    FaceAnalyzer,
    average_faces,
    choose_face,
    find_antelope_files,
)

SIZE = (640, 640)  # shown to the detector at its own size


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "antelopev2"
    folder.mkdir()
    save_detector(folder / "scrfd_10g_bnkps.onnx")
    save_recogniser(folder / "glintr100.onnx", small_recogniser())
    return folder


@pytest.fixture(scope="module")
def analyzer(folder):
    return FaceAnalyzer(find_antelope_files(folder))


def test_faces_are_found_embedded_and_ordered(analyzer):
    centres = [(200, 408), (320, 120)]
    faces = analyzer.analyze(marker_picture(*SIZE, centres))
    assert len(faces) == 2
    for face, (row, column) in zip(faces, sorted(centres, key=lambda c: c[1]), strict=True):
        assert face.embedding.shape == (32,)
        centre = np.array([face.box_px[[0, 2]].mean(), face.box_px[[1, 3]].mean()])
        np.testing.assert_allclose(centre, [column, row], atol=9)
        np.testing.assert_allclose(face.points_px, centre + POINTS_PX, atol=0.1)
        assert face.height_px == pytest.approx(MARKER_PX)
        assert np.linalg.norm(face.normed) == pytest.approx(1)


def test_pictures_are_rgb(analyzer):
    picture = marker_picture(*SIZE, [(320, 320)])
    assert len(analyzer.analyze(picture)) == 1
    assert analyzer.analyze(np.ascontiguousarray(picture[..., ::-1])) == []


def test_embedding_equals_the_differentiable_network(analyzer):
    import torch

    from animator_core.faces.crops import FaceBox, FaceRegion
    from animator_core.faces.similarity import embed_faces

    picture = marker_picture(*SIZE, [(320, 320)])
    (face,) = analyzer.analyze(picture)
    frames = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    points = np.concatenate([face.points_px, np.ones((5, 1))], axis=1)
    region = FaceRegion(box=FaceBox(top=0, bottom=9, left=0, right=9), points_px=points)
    (ours,) = embed_faces(small_recogniser(), frames, [region])
    cosine = float(
        ours.numpy() @ face.embedding / np.linalg.norm(ours) / np.linalg.norm(face.embedding)
    )
    assert cosine > 0.999


def test_crop_equals_insightface(analyzer):
    from skimage.transform import SimilarityTransform

    from animator_core.faces.crops import ARCFACE_TEMPLATE, similarity_to_template

    points = ARCFACE_TEMPLATE * 1.7 @ np.array([[0.9, 0.3], [-0.3, 0.9]]) + [30, 80]
    points += np.random.default_rng(0).normal(0, 3, (5, 2))
    try:
        expected = SimilarityTransform.from_estimate(points, ARCFACE_TEMPLATE).params[:2]
    except AttributeError:
        transform = SimilarityTransform()
        transform.estimate(points, ARCFACE_TEMPLATE)
        expected = transform.params[:2]
    np.testing.assert_allclose(similarity_to_template(points), expected, atol=1e-8)


def test_one_folder_too_deep(folder, tmp_path):
    files = find_antelope_files(folder)
    deep = tmp_path / "antelopev2" / "antelopev2"
    deep.mkdir(parents=True)
    for file in (files.detector, files.recogniser):
        (deep / file.name).write_bytes(file.read_bytes())
    for given in (tmp_path, tmp_path / "antelopev2", deep):
        assert find_antelope_files(given).detector == deep / "scrfd_10g_bnkps.onnx"
    (deep / "glintr100.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"needs glintr100.onnx of insightface"):
        find_antelope_files(tmp_path)


def test_wrong_and_damaged_files_are_named(folder, tmp_path):
    files = find_antelope_files(folder)
    swapped = AntelopeFiles(detector=files.recogniser, recogniser=files.detector)
    with pytest.raises(CheckpointError, match="detection network but is another"):
        FaceAnalyzer(swapped)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x00\x01 not a network")
    with pytest.raises(CheckpointError, match=r"broken\.onnx cannot be run"):
        FaceAnalyzer(AntelopeFiles(detector=files.detector, recogniser=broken))


def test_bad_pictures(analyzer):
    with pytest.raises(ShapeError, match="uint8"):
        analyzer.analyze(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ShapeError, match="RGB"):
        analyzer.analyze(np.zeros((8, 8, 4), np.uint8))


def face(height=50.0, left=0.0, embedding=(1.0, 0, 0), width=None):
    right = left + (width or height)
    return DetectedFace(
        box_px=np.array([left, 10, right, 10 + height], np.float32),
        points_px=np.zeros((5, 2), np.float32),
        score=0.9,
        embedding=np.array(embedding, np.float32),
    )


def test_no_face_names_the_picture_and_the_ways_out(analyzer):
    drawing = np.full((480, 640, 3), 255, np.uint8)
    drawing[100:300, 200:220] = 0
    with pytest.raises(NoFaceError, match=r"No face .* sketch.png.*without identity"):
        choose_face(analyzer.analyze(drawing), picture="sketch.png")


def test_one_of_ten_faces():
    faces = [face(height=30 + 5 * (i == 4), left=60.0 * i, embedding=(i, 1, 0)) for i in range(10)]
    assert choose_face(faces, picture="crowd.png") is faces[4]
    assert choose_face(faces, picture="crowd.png", index=7) is faces[7]
    with pytest.raises(NoFaceError, match=r"Face 10 of crowd.png.*0 to 9"):
        choose_face(faces, picture="crowd.png", index=10)


def test_a_tiny_face_is_refused():
    with pytest.raises(NoFaceError, match="only 12 px high"):
        choose_face([face(height=12)], picture="far.png")


def test_a_face_cut_by_the_border_is_embedded(analyzer):
    faces = analyzer.analyze(marker_picture(*SIZE, [(320, 20)]))
    assert len(faces) == 1
    assert faces[0].box_px[0] <= 0
    assert np.isfinite(faces[0].embedding).all()


def test_photographs_are_averaged():
    same = [face(embedding=(8, 6, 0)), face(embedding=(16, 12, 0))]
    np.testing.assert_allclose(average_faces(same, ["a", "b"]).embedding, [12, 9, 0], rtol=1e-5)


def test_an_outlier_is_named_and_left_out(caplog):
    faces = [face(embedding=(10, 1, 0)), face(embedding=(10, -1, 0)), face(embedding=(0, 0, 10))]
    with caplog.at_level(logging.WARNING):
        averaged = average_faces(faces, ["front.png", "side.png", "brother.png"])
    mean = averaged.embedding
    assert averaged.used == (True, True, False)
    assert averaged.cosines[2] == pytest.approx(0, abs=1e-6)
    assert "brother.png (cosine 0.00)" in caplog.text
    assert "front.png" not in caplog.text
    np.testing.assert_allclose(mean / np.linalg.norm(mean), [1, 0, 0], atol=1e-6)


def test_two_strangers_are_both_kept_with_a_warning(caplog):
    faces = [face(embedding=(1, 0, 0)), face(embedding=(0, 1, 0))]
    with caplog.at_level(logging.WARNING):
        mean = average_faces(faces, ["a.png", "b.png"]).embedding
    assert "a.png" in caplog.text
    assert "All are kept" in caplog.text
    assert mean[0] == pytest.approx(mean[1])


def test_no_photographs():
    with pytest.raises(NoFaceError, match="No photograph"):
        average_faces([], [])
