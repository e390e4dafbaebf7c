"""Training data in the published layout from videos: frames, poses, face masks, embeddings."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..checkpoints.writing import write_safetensors
from ..config import FrameSize
from ..errors import AnimatorError, CancelledError, ConfigError, MediaError, NoPoseError
from ..faces.analysis import DetectedFace, FaceAnalyzer
from ..frames import fit_picture
from ..interfaces import Monitor, Progress, SilentMonitor
from ..pose.drawing import draw_pose
from ..pose.extraction import ExtractionConfig, PoseExtractor
from ..pose.keypoints import PoseSequence, save_pose_file
from ..video import probe, read_frames
from .dataset import EMBEDDINGS_FILE, Part

__all__ = ["PreparationConfig", "PreparationReport", "VideoPreparer", "prepare_videos"]

logger = logging.getLogger(__name__)

Picture = NDArray[np.uint8]

SIZES: dict[Part, FrameSize] = {
    "rec": FrameSize(width=512, height=512),
    "vec": FrameSize(width=576, height=1024),
}
"""Parts of the published data."""

_MASKED = 255


@dataclass(frozen=True, kw_only=True)
class PreparationConfig:
    """How videos become training data.

    Attributes:
        output: Folder that gets `rec` and `vec`.
        max_frames: Frames of a video, at most; 0 for all.
        least_seen: Share of the frames that must show a person, else the video is skipped.
        extraction: How poses are found.
    """

    output: str
    max_frames: int = 0
    least_seen: float = 0.5
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)

    def __post_init__(self) -> None:
        if self.max_frames < 0 or not 0 <= self.least_seen <= 1:
            raise ConfigError(
                f"max_frames is {self.max_frames} and least_seen {self.least_seen}; they must be "
                "at least 0, and in 0..1."
            )


@dataclass(frozen=True, kw_only=True)
class PreparationReport:
    """What became of the videos.

    Attributes:
        made: How many were prepared now.
        known: How many were prepared before.
        skipped: The others, and what is wrong with them.
    """

    made: int
    known: int
    skipped: dict[str, str]


class VideoPreparer:
    """Prepares one video after the other.

    Args:
        config: How.
        extractor: Finds poses.
        analyzer: Finds faces.
    """

    def __init__(
        self, config: PreparationConfig, extractor: PoseExtractor, analyzer: FaceAnalyzer
    ) -> None:
        self.config = config
        self._extractor = extractor
        self._analyzer = analyzer

    def folder_of(self, video: Path, number: int) -> Path:
        """Where a video's data goes; its shape decides the part.

        Raises:
            MediaError: If it cannot be read.
        """
        info = probe(video)
        shape = math.log(info.height / info.width)

        def difference(part: Part) -> float:
            size = SIZES[part]
            return abs(math.log(size.height / size.width) - shape)

        part = min(SIZES, key=difference)
        return Path(self.config.output) / part / f"{number:05d}"

    def prepare(self, video: Path, folder: Path, monitor: Monitor) -> None:
        """Write a video's folder, whole or not at all.

        Args:
            video: A video, or a folder of pictures.
            folder: From `folder_of`.
            monitor: Sees the frames.

        Raises:
            MediaError: If the video cannot be read or the data not be written.
            NoPoseError: If too few frames show a person.
        """
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            self._prepare(video, partial, SIZES["rec" if folder.parent.name == "rec" else "vec"])
            monitor.raise_if_cancelled()
            partial.rename(folder)
        except OSError as error:
            raise MediaError(f"{folder} cannot be written: {error}. Free some space.") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _prepare(self, video: Path, folder: Path, size: FrameSize) -> None:
        for kind in ("images", "poses", "faces"):
            (folder / kind).mkdir(parents=True)
        embeddings: list[NDArray[np.float32] | None] = []

        def frames() -> Iterator[Picture]:
            """Fitted frames, written and searched for faces as they pass."""
            for index, frame in enumerate(read_frames(video, self.config.max_frames or None)):
                fitted = fit_picture(frame, size, "crop")
                _save(fitted, folder / "images", index)
                faces = self._analyzer.analyze(fitted)
                _save(_mask(faces, size), folder / "faces", index)
                embeddings.append(_largest_embedding(faces))
                yield fitted

        poses = self._extractor.extract(frames(), self.config.extraction)
        self._check(poses, video)
        for index, pose in enumerate(poses):
            _save(draw_pose(pose, size.width, size.height), folder / "poses", index)
        save_pose_file(poses, folder / "poses.json")
        _write_embeddings(embeddings, folder / EMBEDDINGS_FILE)

    def _check(self, poses: PoseSequence, video: Path) -> None:
        seen = sum(any(not person.is_empty for person in pose.people) for pose in poses)
        if seen < self.config.least_seen * len(poses) or not seen:
            raise NoPoseError(
                f"{seen} of {len(poses)} frames of {video} show a person; "
                f"{self.config.least_seen:.0%} must. Cut the video, or lower --least-seen."
            )


def _save(picture: Picture, folder: Path, index: int) -> None:
    Image.fromarray(picture).save(folder / f"frame_{index}.png")


def _mask(faces: list[DetectedFace], size: FrameSize) -> Picture:
    """White boxes on black, as published; but black where there is no face, not white."""
    mask = np.zeros((size.height, size.width), dtype=np.uint8)
    for face in faces:
        left, top, right, bottom = np.maximum(face.box_px, 0).astype(int)
        mask[top : bottom + 1, left : right + 1] = _MASKED
    return mask


def _largest_embedding(faces: list[DetectedFace]) -> NDArray[np.float32] | None:
    if not faces:
        return None
    largest = max(faces, key=lambda face: face.area_px)
    return np.asarray(largest.embedding, dtype=np.float32)


def _write_embeddings(embeddings: list[NDArray[np.float32] | None], path: Path) -> None:
    width = next((len(e) for e in embeddings if e is not None), 512)
    rows = [np.zeros(width, np.float32) if e is None else e for e in embeddings]
    found = torch.tensor([e is not None for e in embeddings])
    write_safetensors(path, {"embeddings": torch.from_numpy(np.stack(rows)), "found": found})


def prepare_videos(
    videos: str | Path, preparer: VideoPreparer, monitor: Monitor | None = None
) -> PreparationReport:
    """Prepare all videos of a folder; goes on where it stopped.

    A video's number is its place among the sorted names, so new videos should come last.

    Args:
        videos: A folder of videos, or of folders of pictures.
        preparer: Prepares each of them.
        monitor: Sees the videos.

    Raises:
        MediaError: If the folder is missing or empty, or no video could be used.
        CancelledError: If the user stopped it; finished videos are kept.
    """
    monitor = monitor or SilentMonitor()
    root = Path(videos)
    names = sorted(p for p in root.iterdir() if p.name[0] != ".") if root.is_dir() else []
    if not names:
        raise MediaError(f"Expected a folder of videos at {root}, found none; give another one.")
    made = known = 0
    skipped: dict[str, str] = {}
    for number, video in enumerate(names, start=1):
        monitor.raise_if_cancelled()
        try:
            folder = preparer.folder_of(video, number)
            if folder.exists():
                known += 1
            else:
                preparer.prepare(video, folder, monitor)
                made += 1
        except CancelledError:
            raise
        except AnimatorError as error:
            skipped[str(video)] = str(error)
        monitor.update(Progress(stage="preparing videos", done=number, total=len(names)))
    if not made + known:
        raise MediaError(
            f"None of the {len(names)} videos in {root} could be used. The first: "
            f"{next(iter(skipped.values()))}"
        )
    return PreparationReport(made=made, known=known, skipped=skipped)
