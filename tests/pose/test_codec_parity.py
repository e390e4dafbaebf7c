"""DWPose's arithmetic against the golden files 10_codec_*, through real ONNX sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_files import golden_cases, load_case
from numpy.typing import NDArray
from onnx_factory import save_constant_network

from animator_core.interfaces import SilentMonitor
from animator_core.pose.detector import PersonDetector, decode_boxes, letterbox
from animator_core.pose.extraction import ExtractionConfig, PoseExtractor
from animator_core.pose.keypoints import FramePose
from animator_core.pose.wholebody import (
    WholebodyNetwork,
    crop_frame,
    crop_person,
    to_openpose,
)

pytestmark = pytest.mark.parity

PIXELS = 1e-3  # boxes, keypoints and scores
GREY_LEVELS = 0.035  # two grey levels after normalisation; OpenCV's versions differ by that


class Case:
    """A golden case as numpy arrays, and ONNX files that answer as it says."""

    def __init__(self, name: str, folder: Path) -> None:
        self.config, tensors = load_case(name)
        self.arrays: dict[str, NDArray] = {key: value.numpy() for key, value in tensors.items()}
        self.image: NDArray[np.uint8] = self.arrays["in.image"]
        quarter = self.arrays["out.yolox_input_sub4"]
        self.detector_size = (quarter.shape[1] * 4, quarter.shape[2] * 4)
        self.pose_size: tuple[int, int] = tuple(self.config["pose_input_hw"])
        self.num_people = sum(key.startswith("in.simcc_x.") for key in tensors)
        self.detector_file = self._save_detector(folder / "detector.onnx")
        self.pose_file = self._save_pose_network(folder / "pose.onnx")

    def _save_detector(self, path: Path) -> Path:
        raw = np.full(self.config["yolox"]["shape"], self.config["yolox"]["fill_value"], np.float32)
        raw[0, self.arrays["in.yolox_rows_index"]] = self.arrays["in.yolox_rows_value"]
        return save_constant_network(path, (1, 3, *self.detector_size), {"output": raw})

    def _save_pose_network(self, path: Path) -> Path:
        outputs = {
            axis: np.concatenate([self.arrays[f"in.{axis}.{i}"] for i in range(self.num_people)])
            for axis in ("simcc_x", "simcc_y")
        }
        return save_constant_network(path, (self.num_people, 3, *self.pose_size), outputs)

    @property
    def boxes(self) -> NDArray[np.float32]:
        """The boxes that people are cut out by: the whole picture where nobody was found."""
        height, width = self.image.shape[:2]
        found = self.arrays["out.boxes"]
        return found if len(found) else np.array([[0, 0, width, height]], np.float32)


@pytest.fixture(params=golden_cases("10_codec_"))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(request.param, tmp_path)


def test_letterbox_is_equal(case: Case) -> None:
    boxed, _ = letterbox(case.image, *case.detector_size)
    np.testing.assert_array_equal(
        boxed.transpose(2, 0, 1)[:, ::4, ::4], case.arrays["out.yolox_input_sub4"]
    )
    prepared, _ = PersonDetector(case.detector_file).prepare(case.image)
    np.testing.assert_array_equal(prepared, boxed.transpose(2, 0, 1))


def test_grid_decoding(case: Case) -> None:
    decoded = decode_boxes(
        case.arrays["in.yolox_rows_value"], case.arrays["in.yolox_rows_index"], *case.detector_size
    )
    np.testing.assert_allclose(
        decoded, case.arrays["out.yolox_decoded_rows"], atol=PIXELS, rtol=1e-6
    )


def test_boxes_in_order(case: Case) -> None:
    detector = PersonDetector(case.detector_file)
    prepared, ratio = detector.prepare(case.image)
    (boxes,) = detector.detect(prepared[None], [ratio])
    assert len(boxes) == case.config["n_boxes"]
    np.testing.assert_allclose(boxes, case.arrays["out.boxes"], atol=PIXELS)


def test_crops(case: Case) -> None:
    height, width = case.pose_size
    for index, box in enumerate(case.boxes):
        frame = crop_frame(box, width / height)
        np.testing.assert_allclose(frame[0], case.arrays["out.centers"][index], atol=PIXELS)
        np.testing.assert_allclose(frame[1], case.arrays["out.scales"][index], atol=PIXELS)
        crop = crop_person(case.image, frame, height, width)
        expected = case.arrays[f"out.pose_input.{index}"]
        np.testing.assert_allclose(crop, expected, atol=GREY_LEVELS)
        assert np.abs(crop - expected).mean() < GREY_LEVELS / 10


def test_crops_of_the_published_size(case: Case) -> None:
    height, width = 384, 288
    for index, box in enumerate(case.boxes):
        crop = crop_person(case.image, crop_frame(box, width / height), height, width)
        expected = case.arrays[f"out.pose_input_384x288_sub6.{index}"]
        np.testing.assert_allclose(crop[:, ::6, ::6], expected, atol=GREY_LEVELS)


def test_the_extractor_feeds_these_crops(case: Case) -> None:
    extractor = PoseExtractor(case.detector_file, case.pose_file, providers=["cpu"])
    crops = extractor._cut_out([case.image], [case.arrays["out.boxes"]])
    expected = [case.arrays[f"out.pose_input.{i}"] for i in range(case.num_people)]
    np.testing.assert_allclose(crops.inputs, expected, atol=GREY_LEVELS)


def test_keypoints(case: Case) -> None:
    network = WholebodyNetwork(case.pose_file)
    assert network.split_ratio == case.config["simcc_split_ratio"]
    prepared = [network.prepare(case.image, box) for box in case.boxes]
    inputs = np.stack([crop for crop, _ in prepared])
    frames = np.stack([frame for _, frame in prepared])
    found = network.keypoints(inputs, frames, max_batch=1)
    np.testing.assert_allclose(found[..., :2], case.arrays["out.keypoints133"], atol=PIXELS)
    np.testing.assert_allclose(found[..., 2], case.arrays["out.scores133"], atol=PIXELS)
    openpose = to_openpose(found)
    np.testing.assert_allclose(openpose[..., :2], case.arrays["out.keypoints134"], atol=PIXELS)
    np.testing.assert_allclose(openpose[..., 2], case.arrays["out.scores134"], atol=PIXELS)


def test_extractor_gives_the_final_dictionary(case: Case) -> None:
    extractor = PoseExtractor(case.detector_file, case.pose_file, providers=["cpu"])
    (frame,) = extractor._extract_all(
        [case.image], ExtractionConfig(people="all", min_joints=1), SilentMonitor()
    )
    _assert_equal_dictionary(frame, case)
    # tracking orders people from left to right, so compare it as a set
    (tracked,) = extractor.extract([case.image], ExtractionConfig(people="all", min_joints=1))
    noses = sorted(person.body.tobytes() for person in frame.people)
    assert sorted(person.body.tobytes() for person in tracked.people) == noses


def _assert_equal_dictionary(frame: FramePose, case: Case) -> None:
    height, width = case.image.shape[:2]
    assert len(frame.people) == case.num_people
    size = np.array([width, height])
    candidate = case.arrays["out.pose.candidate"].reshape(case.num_people, 18, 2) * size
    faces, hands = case.arrays["out.pose.faces"], case.arrays["out.pose.hands"]
    hands_score = case.arrays["out.pose.hands_score"]
    for index, person in enumerate(frame.people):
        visible = case.arrays["out.pose.subset"][index] >= 0
        np.testing.assert_array_equal(person.body[:, 2] > 0, visible)
        np.testing.assert_allclose(person.body[visible, :2], candidate[index, visible], atol=PIXELS)
        np.testing.assert_allclose(
            person.body[visible, 2], case.arrays["out.pose.body_score"][index, visible], atol=PIXELS
        )
        parts = (
            (person.face, faces[index], case.arrays["out.pose.faces_score"][index]),
            # the reference lists all left hands before all right hands
            (person.left_hand, hands[index], hands_score[index]),
            (
                person.right_hand,
                hands[case.num_people + index],
                hands_score[case.num_people + index],
            ),
        )
        for points, places, scores in parts:
            found = scores > 0
            np.testing.assert_array_equal(points[:, 2] > 0, found)
            np.testing.assert_allclose(points[found, :2], places[found] * size, atol=PIXELS)
            np.testing.assert_allclose(points[found, 2], scores[found], atol=PIXELS)
