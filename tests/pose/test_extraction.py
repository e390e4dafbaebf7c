"""Extraction end to end on tiny networks that find red markers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx_factory import (
    marker_shifts,
    num_cells,
    save_constant_network,
    save_marker_detector,
    save_marker_pose_network,
)
from pose_factory import standing

from animator_core.errors import (
    CancelledError,
    ConfigError,
    NoPoseError,
    ShapeError,
)
from animator_core.interfaces import Progress
from animator_core.pose.detector import non_maximum_suppression
from animator_core.pose.extraction import (
    ExtractionConfig,
    PoseExtractor,
    _without_duplicates,
)
from animator_core.pose.keypoints import FramePose, part_array
from animator_core.pose.wholebody import decode_simcc, to_openpose

Picture = NDArray[np.uint8]
EVERYBODY = ExtractionConfig(people="all")
WIDTH, HEIGHT = 320, 320


def picture(*markers: tuple[int, int], width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """A grey picture with red squares of 64 px at the given left top corners."""
    image = np.full((height, width, 3), 30, dtype=np.uint8)
    for left, top in markers:
        image[top : top + 64, left : left + 64] = (255, 0, 0)
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def files(folder: Path) -> tuple[Path, Path]:
    detector = save_marker_detector(folder / "detector.onnx", batch="N")
    return detector, save_marker_pose_network(folder / "pose.onnx")


@pytest.fixture(scope="module")
def extractor(files: tuple[Path, Path]) -> PoseExtractor:
    return PoseExtractor(*files, providers=["cpu"])


def assert_same(first: list[FramePose], second: list[FramePose]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert len(one.people) == len(other.people)
        for person, counterpart in zip(one.people, other.people, strict=True):
            for part in ("body", "face", "left_hand", "right_hand"):
                np.testing.assert_allclose(
                    getattr(person, part), getattr(counterpart, part), atol=1e-3
                )


class Recorder:
    """A monitor that writes down progress and cancels after some batches."""

    def __init__(self, cancel_after: int | None = None) -> None:
        self.reports: list[Progress] = []
        self.asked = 0
        self._cancel_after = cancel_after

    def update(self, progress: Progress) -> None:
        self.reports.append(progress)

    def raise_if_cancelled(self) -> None:
        self.asked += 1
        if self._cancel_after is not None and self.asked > self._cancel_after:
            raise CancelledError("stopped by the test")


def test_joints_lie_where_the_marker_says(extractor: PoseExtractor) -> None:
    (frame,) = extractor.extract([picture((96, 64))])
    assert (frame.width, frame.height) == (WIDTH, HEIGHT)
    (person,) = frame.people
    assert (person.body[:, 2] > 0.3).all()
    assert (person.face[:, 2] > 0).all()
    assert (person.left_hand[:, 2] > 0).all()
    # face landmarks are numbers 23 to 90 of the network's 133; bins are half crop pixels
    shifts = marker_shifts()[23:91]
    distances = person.face[:, :2] - person.face[0, :2]
    crop_pixel = 1.25 * 256 / 96  # the padded box over the crop, both in height
    np.testing.assert_allclose(distances, (shifts - shifts[0]) / 2 * crop_pixel, atol=1e-6)
    assert np.abs(person.face[0, :2] - shifts[0] / 2 * crop_pixel - (96, 64)).max() < 4


def test_poses_follow_the_motion(extractor: PoseExtractor) -> None:
    frames = extractor.extract([picture((32 + 8 * i, 128)) for i in range(12)])
    necks = part_array(frames, "body")[:, 1, 0]
    np.testing.assert_allclose(necks - necks[0], 8 * np.arange(12), atol=4)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_fixed_and_open_batches_agree(extractor: PoseExtractor, folder: Path, batch: int) -> None:
    clip = [picture((16 * i, 64), (192, 10 * i)) for i in range(7)]
    fixed = PoseExtractor(
        save_marker_detector(folder / f"detector_{batch}.onnx", batch=batch),
        save_marker_pose_network(folder / f"pose_{batch}.onnx", batch=batch),
        providers=["cpu"],
    )
    expected = [extractor._extract_all([image], EVERYBODY, Recorder())[0] for image in clip]
    for size in (1, 2, 4, 16):
        config = ExtractionConfig(people="all", batch_frames=size)
        assert_same(fixed._extract_all(clip, config, Recorder()), expected)
        assert_same(extractor._extract_all(clip, config, Recorder()), expected)


def test_people_from_left_to_right(extractor: PoseExtractor) -> None:
    clip = [picture((224, 0), (0, 128)), picture((216, 0), (8, 128))]
    both = extractor.extract(clip, EVERYBODY)
    assert [len(frame.people) for frame in both] == [2, 2]
    assert all(frame.people[0].body[1, 0] < frame.people[1].body[1, 0] for frame in both)
    right = extractor.extract(clip, ExtractionConfig(people=1))
    np.testing.assert_array_equal(part_array(right, "body"), part_array(both, "body", person=1))


def test_a_person_who_does_not_exist(extractor: PoseExtractor) -> None:
    with pytest.raises(NoPoseError, match=r"Person 3 .* 1 person was found; choose 0 to 0"):
        extractor.extract([picture((96, 64))], ExtractionConfig(people=3))


def test_the_largest_person_stays_the_same(extractor: PoseExtractor, folder: Path) -> None:
    # the left person is in every frame, the right one only once
    clip = [picture((0, 128)), picture((0, 128), (224, 0)), picture((8, 128))]
    chosen = extractor.extract(clip, ExtractionConfig(people="largest"))
    assert [len(frame.people) for frame in chosen] == [1, 1, 1]
    assert (part_array(chosen, "body")[:, 1, 0] < 100).all()


@pytest.mark.parametrize("choice", ["largest", "all", 0, 2])
def test_nobody(extractor: PoseExtractor, choice: Any, caplog: pytest.LogCaptureFixture) -> None:
    frames = extractor.extract([picture()] * 3, ExtractionConfig(people=choice))
    assert [frame.people for frame in frames] == [(), (), ()]
    assert "No person was found in any of 3 frames" in caplog.text


def test_somebody_in_some_frames(extractor: PoseExtractor) -> None:
    clip = [picture(), picture((96, 64)), picture(), picture((96, 64))]
    frames = extractor.extract(clip)
    assert [frame.people[0].is_empty for frame in frames] == [True, False, True, False]


def test_the_whole_frame_counts_only_with_enough_joints(folder: Path, files: Any) -> None:
    blind = np.zeros((1, num_cells((64, 64)), 85), np.float32)
    detector = save_constant_network(folder / "blind.onnx", (1, 3, 64, 64), {"output": blind})
    simcc = {
        name: np.zeros((1, 133, n), np.float32) for name, n in (("simcc_x", 8), ("simcc_y", 16))
    }
    for name in simcc:
        simcc[name][:, :3, 5] = 0.9  # nose and eyes
        simcc[name][:, 23:91, 2] = 0.2  # an uncertain face
    pose = save_constant_network(folder / "three.onnx", (1, 3, 8, 4), simcc)
    unsure = PoseExtractor(detector, pose, providers=["cpu"])
    clip = [picture()]
    (frame,) = unsure.extract(clip, ExtractionConfig(min_joints=3))
    assert (frame.people[0].body[:, 2] > 0).sum() == 3
    assert (frame.people[0].face[:, 2] > 0).all()
    assert unsure.extract(clip, ExtractionConfig(min_joints=4))[0].people == ()
    assert unsure.extract(clip, ExtractionConfig(confidence=0.95))[0].people == ()
    (strict,) = unsure.extract(clip, ExtractionConfig(part_confidence=0.3))
    assert not strict.people[0].face.any()


def test_one_person_boxed_twice_is_one() -> None:
    whole, half, other = standing(100, 240), standing(101, 242, joints=range(8)), standing(140, 240)
    tiny, single = standing(300, 100, joints=[4]), standing(300, 100, joints=[4])
    kept = _without_duplicates([half, whole, other, tiny, single])
    assert [person is one for person, one in zip(kept, (whole, other, tiny, single), strict=True)]
    assert _without_duplicates([]) == ()


def test_frames_of_several_sizes(extractor: PoseExtractor) -> None:
    clip = [picture((96, 64)), picture((96, 64), width=640, height=480)]
    frames = extractor.extract(clip)
    assert [(frame.width, frame.height) for frame in frames] == [(320, 320), (640, 480)]


def test_no_frames(extractor: PoseExtractor) -> None:
    assert extractor.extract([]) == []


def test_progress_and_a_generator(extractor: PoseExtractor) -> None:
    monitor = Recorder()
    frames = (picture((8 * i, 64)) for i in range(7))
    poses = extractor.extract(frames, ExtractionConfig(batch_frames=3), monitor)
    assert len(poses) == 7
    assert [report.done for report in monitor.reports] == [3, 6, 7]
    assert {report.stage for report in monitor.reports} == {"extracting poses"}
    monitor = Recorder()
    extractor.extract([picture()] * 4, ExtractionConfig(batch_frames=2), monitor)
    assert [(report.done, report.total) for report in monitor.reports] == [(2, 4), (4, 4)]


@pytest.mark.parametrize(("provider", "steps"), [("CPU", 9), ("CUDA", 2)])
def test_the_batch_size_suits_the_processor(
    extractor: PoseExtractor, monkeypatch: pytest.MonkeyPatch, provider: str, steps: int
) -> None:
    monkeypatch.setattr(extractor._detector.network, "provider", f"{provider}ExecutionProvider")
    monkeypatch.setattr(extractor._wholebody.network, "provider", f"{provider}ExecutionProvider")
    monitor = Recorder()
    extractor.extract([picture((96, 64))] * 9, monitor=monitor)
    assert len(monitor.reports) == steps


def test_cancelling_reads_no_further(extractor: PoseExtractor) -> None:
    read = 0

    def endless() -> Iterator[Picture]:
        nonlocal read
        while True:
            read += 1
            yield picture((96, 64))

    with pytest.raises(CancelledError):
        extractor.extract(endless(), ExtractionConfig(batch_frames=2), Recorder(cancel_after=2))
    assert read <= 8


def test_an_error_while_decoding_comes_through(extractor: PoseExtractor) -> None:
    def broken() -> Iterator[Picture]:
        yield picture((96, 64))
        raise OSError("the video ends in the middle")

    with pytest.raises(OSError, match="ends in the middle"):
        extractor.extract(broken())


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_frames_that_are_no_pictures(extractor: PoseExtractor, frame: NDArray) -> None:
    with pytest.raises(ShapeError, match="Frame 1 is"):
        extractor.extract([picture(), frame])


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (3000, 2)])
def test_extreme_pictures(extractor: PoseExtractor, size: tuple[int, int]) -> None:
    (frame,) = extractor.extract([np.zeros((*size, 3), np.uint8)])
    assert frame.people == ()


@pytest.mark.parametrize(
    "values",
    [
        {"people": "smallest"},
        {"people": -1},
        {"people": True},
        {"people": 1.5},
        {"confidence": 1.0},
        {"confidence": float("nan")},
        {"part_confidence": -0.1},
        {"min_joints": 0},
        {"batch_frames": -1},
    ],
)
def test_settings_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ExtractionConfig(**values)


# --- arithmetic ------------------------------------------------------------------------------


def test_suppression_keeps_the_best_of_each_cluster() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 9]], np.float32)
    kept = non_maximum_suppression(boxes, np.array([0.5, 0.9, 0.6, 0.8], np.float32))
    np.testing.assert_array_equal(kept, [1, 2])
    assert non_maximum_suppression(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)).size == 0


@pytest.mark.parametrize(
    ("size", "shift", "is_covered"),
    # intersection over union in whole pixels: 62/138, 63/137 and 5/11; the limit is .45
    [(99, 38, False), (99, 37, True), (7, 3, True)],
)
def test_the_overlap_that_suppresses(size: int, shift: int, is_covered: bool) -> None:
    boxes = np.array([[0, 0, size, size], [shift, 0, size + shift, size]], np.float32)
    kept = non_maximum_suppression(boxes, np.array([0.9, 0.8], np.float32))
    assert len(kept) == (1 if is_covered else 2)


def test_scores_take_the_weaker_axis() -> None:
    x, y = np.zeros((1, 2, 4), np.float32), np.zeros((1, 2, 6), np.float32)
    x[0, 0, 3], y[0, 0, 5] = 0.9, 0.4
    x[0, 1, 2] = 0.9  # nothing along y
    bins, scores = decode_simcc(x, y)
    np.testing.assert_allclose(scores, [[0.4, 0.0]])
    np.testing.assert_array_equal(bins, [[[3, 5], [-1, -1]]])


def test_the_neck_needs_both_shoulders() -> None:
    joints = np.zeros((2, 133, 3))
    joints[:, 5], joints[:, 6] = (10, 20, 0.9), (30, 40, 0.9)
    joints[1, 6, 2] = 0.3  # not above the threshold
    neck = to_openpose(joints)[:, 1]
    np.testing.assert_array_equal(neck, [[20, 30, 1], [20, 30, 0]])
