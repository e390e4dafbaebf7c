"""Poses of the people in pictures: detector and pose network over batches of frames.

While the networks run on one batch, a thread already decodes and prepares the next one, and
another one cuts out the people for the pose network.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ShapeError
from ..interfaces import Monitor, Progress, SilentMonitor
from .arrays import sizes
from .detector import PersonDetector
from .keypoints import FramePose, PersonPose
from .runtime import CPU_PROVIDER
from .tracking import PeopleChoice, check_choice, select_people, track_people
from .wholebody import WholebodyNetwork, to_openpose, to_person

__all__ = ["ExtractionConfig", "PoseExtractor"]

logger = logging.getLogger(__name__)

_SAME_PERSON = 0.05  # mean distance of joints, in person sizes
_MIN_COMMON_JOINTS = 3
_GPU_BATCH = 8

Picture = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ExtractionConfig:
    """How poses are found.

    Attributes:
        people: Whom to keep; see `tracking.select_people`.
        confidence: Body joints must exceed this, else they are absent.
        part_confidence: Face and hand joints must exceed this. The model was trained on
            pictures that show uncertain hands and faces, dimmed, hence the low default.
        min_joints: Where no person is detected, the whole frame is tried as one; this many body
            joints must then be found for it to count.
        batch_frames: Frames that go through the networks together; 0 chooses 8, but 1 on the CPU,
            where batches are no faster and cancelling would take longer.
    """

    people: PeopleChoice = "largest"
    confidence: float = 0.3
    part_confidence: float = 0.0
    min_joints: int = 3
    batch_frames: int = 0

    def __post_init__(self) -> None:
        check_choice(self.people)
        for name in ("confidence", "part_confidence"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} is {getattr(self, name)} but must lie in 0..1, without 1; "
                    "0.3 is usual for bodies."
                )
        for name, low in (("min_joints", 1), ("batch_frames", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)} but must be at least {low}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """Frames that were decoded and prepared for the detector."""

    pictures: list[Picture]
    inputs: NDArray[np.float32]
    ratios: list[float]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Crops:
    """People that were cut out of a batch for the pose network."""

    sizes: list[tuple[int, int]]  # height, width of each picture
    owners: list[int]  # picture of each person
    detected: list[bool]  # per picture, False where the whole frame is tried
    inputs: NDArray[np.float32]
    frames: NDArray[np.float64]


class PoseExtractor:
    """Detector and pose network, opened once and used for any number of clips.

    Args:
        detector_path: YOLOX person detector, such as yolox_l.onnx.
        pose_path: RTMPose whole-body network, such as dw-ll_ucoco_384.onnx.
        providers: Execution providers to try, best first ("cuda", "directml", "coreml", "cpu" or
            onnxruntime's names); None tries all that are there.

    Raises:
        CheckpointError: If a file is missing, damaged or another network.
        DependencyError: If onnxruntime or a working provider is missing.
        ConfigError: If a provider's name is unknown.
    """

    def __init__(
        self,
        detector_path: str | Path,
        pose_path: str | Path,
        providers: Sequence[str] | None = None,
    ) -> None:
        self._detector = PersonDetector(detector_path, providers)
        self._wholebody = WholebodyNetwork(pose_path, providers)
        if CPU_PROVIDER in self.providers:
            logger.info(
                "Pose extraction runs on the CPU. With a GPU, install onnxruntime-gpu (NVIDIA) or "
                "onnxruntime-directml (Windows) in place of onnxruntime to speed it up."
            )

    @property
    def providers(self) -> tuple[str, str]:
        """Execution providers that the detector and the pose network run on."""
        return self._detector.network.provider, self._wholebody.network.provider

    def extract(
        self,
        frames: Iterable[Picture],
        config: ExtractionConfig | None = None,
        monitor: Monitor | None = None,
    ) -> list[FramePose]:
        """Poses of the people in a clip.

        Args:
            frames: RGB pictures [H, W, 3], uint8; a generator is read as it is needed.
            config: How poses are found.
            monitor: Receives progress, and is asked before every batch whether to stop.

        Returns:
            One pose per frame in pixels; every frame holds the same people at the same index,
            counted from the left, and empty ones where somebody is absent.

        Raises:
            ShapeError: If a frame is not an RGB picture; the message names the frame.
            NoPoseError: If a chosen person does not exist although others do.
        """
        config = config or ExtractionConfig()
        found = self._extract_all(frames, config, monitor or SilentMonitor())
        if found and not any(frame.people for frame in found):
            logger.warning(
                "No person was found in any of %d frames; lower the confidence threshold or check "
                "that the pictures show people.",
                len(found),
            )
        return select_people(track_people(found), config.people)

    def _extract_all(
        self, frames: Iterable[Picture], config: ExtractionConfig, monitor: Monitor
    ) -> list[FramePose]:
        on_cpu = CPU_PROVIDER in self.providers
        batch_frames = config.batch_frames or (1 if on_cpu else _GPU_BATCH)
        total = length_hint(frames)
        source = iter(frames)
        done: list[FramePose] = []
        pending: Future[_Crops] | None = None

        def finish(crops: Future[_Crops]) -> None:
            done.extend(self._poses(crops.result(), config, batch_frames))
            monitor.update(
                Progress(stage="extracting poses", done=len(done), total=max(total, len(done)))
            )

        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="poses") as pool:
            start = 0
            upcoming = pool.submit(self._next_batch, source, start, batch_frames)
            while (batch := upcoming.result()) is not None:
                monitor.raise_if_cancelled()
                start += len(batch.pictures)
                upcoming = pool.submit(self._next_batch, source, start, batch_frames)
                boxes = self._detector.detect(batch.inputs, batch.ratios)
                crops = pool.submit(self._cut_out, batch.pictures, boxes)
                if pending is not None:
                    finish(pending)
                pending = crops
            if pending is not None:
                monitor.raise_if_cancelled()
                finish(pending)
        return done

    def _next_batch(self, source: Iterator[Picture], start: int, size: int) -> _Batch | None:
        pictures = [
            _checked(picture, start + offset) for offset, picture in enumerate(islice(source, size))
        ]
        if not pictures:
            return None
        prepared = [self._detector.prepare(picture) for picture in pictures]
        return _Batch(
            pictures=pictures,
            inputs=np.stack([picture for picture, _ in prepared]),
            ratios=[ratio for _, ratio in prepared],
        )

    def _cut_out(self, pictures: list[Picture], boxes: list[NDArray[np.float32]]) -> _Crops:
        inputs, frames, owners = [], [], []
        for index, (picture, own) in enumerate(zip(pictures, boxes, strict=True)):
            height, width = picture.shape[:2]
            for box in own if len(own) else np.array([[0, 0, width, height]]):
                crop, frame = self._wholebody.prepare(picture, box)
                inputs.append(crop)
                frames.append(frame)
                owners.append(index)
        return _Crops(
            sizes=[(picture.shape[0], picture.shape[1]) for picture in pictures],
            owners=owners,
            detected=[len(own) > 0 for own in boxes],
            inputs=np.stack(inputs),
            frames=np.stack(frames),
        )

    def _poses(self, crops: _Crops, config: ExtractionConfig, max_batch: int) -> list[FramePose]:
        keypoints = self._wholebody.keypoints(crops.inputs, crops.frames, max_batch)
        people: list[list[PersonPose]] = [[] for _ in crops.sizes]
        for owner, joints in zip(
            crops.owners, to_openpose(keypoints, config.confidence), strict=True
        ):
            person = to_person(joints, config.confidence, config.part_confidence)
            body_joints = int((person.body[:, 2] > 0).sum())
            # a network that looks at an empty room still finds a joint or two
            if body_joints >= (1 if crops.detected[owner] else config.min_joints):
                people[owner].append(person)
        return [
            FramePose(people=_without_duplicates(found), width=width, height=height)
            for found, (height, width) in zip(people, crops.sizes, strict=True)
        ]


def _without_duplicates(people: list[PersonPose]) -> tuple[PersonPose, ...]:
    """Drop people whom the detector boxed twice, say with and without legs.

    Both crops then give the same joints, nearer to each other than two people can be.
    """
    kept: list[PersonPose] = []
    for person in sorted(people, key=lambda p: p.body[:, 2].sum(), reverse=True):
        if not any(_is_same(person.body, other.body) for other in kept):
            kept.append(person)
    return tuple(person for person in people if any(person is other for other in kept))


def _is_same(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    both = (first[:, 2] > 0) & (second[:, 2] > 0)
    if both.sum() < _MIN_COMMON_JOINTS:
        return False
    distance = np.linalg.norm(first[both, :2] - second[both, :2], axis=1).mean()
    return bool(distance < _SAME_PERSON * sizes(first))


def _checked(picture: Picture, index: int) -> Picture:
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ShapeError(
            f"Frame {index} is {picture.dtype} of shape {picture.shape}; an RGB picture is "
            "expected, uint8 of shape (height, width, 3)."
        )
    return np.ascontiguousarray(picture)
