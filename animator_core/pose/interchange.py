"""Poses for and from other programs: OpenPose JSON folders, and joints without doubt.

OpenPose's own files hold no canvas size, those of editors and of comfyui_controlnet_aux do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MediaError
from .arrays import join_people, split_people
from .keypoints import (
    FramePose,
    PoseSequence,
    from_pose_keypoint,
    load_pose_file,
    to_pose_keypoint,
)

__all__ = [
    "holds_keypoints",
    "load_openpose_folder",
    "load_poses",
    "save_openpose_folder",
    "settle_confidence",
]

_VERSION = 1.3


def load_openpose_folder(
    folder: str | Path, canvas: tuple[int, int] | None = None
) -> list[FramePose]:
    """Read a folder of OpenPose JSON files, in the order of the numbers in their names.

    Args:
        folder: Where the .json files lie.
        canvas: Width and height [px] of the pictures, for files that do not hold them.

    Raises:
        MediaError: If there are no such files, one cannot be read, or the canvas size is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MediaError(f"A folder of OpenPose JSON files is expected, but {folder} is none.")
    files = sorted(folder.glob("*.json"), key=lambda file: _numbers_as_such(file.name))
    if not files:
        raise MediaError(f"{folder} holds no .json files; OpenPose writes one per frame.")
    return [_read_file(file, canvas) for file in files]


def holds_keypoints(path: str | Path) -> bool:
    """Whether a path names keypoints: a JSON file, or a folder with JSON files in it."""
    path = Path(path)
    return path.suffix.lower() == ".json" or any(path.glob("*.json"))


def load_poses(path: str | Path) -> list[FramePose]:
    """Read a POSE_KEYPOINT file, or a folder of OpenPose files.

    Raises:
        MediaError: If there is none, or it cannot be read.
    """
    return load_openpose_folder(path) if Path(path).is_dir() else load_pose_file(path)


def save_openpose_folder(frames: PoseSequence, folder: str | Path) -> list[Path]:
    """Write one OpenPose JSON file per frame, with the canvas size.

    Args:
        frames: Any frames; absent people are written as zeros so that the others keep their place.
        folder: Where to write; it is made if it does not exist.

    Returns:
        The files, in the frames' order.

    Raises:
        MediaError: If a file cannot be written.
    """
    folder = Path(folder)
    files: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, entry in enumerate(to_pose_keypoint(frames)):
            people = [{"person_id": [-1], **person} for person in entry["people"]]
            file = folder / f"frame_{index:06d}_keypoints.json"
            content = {"version": _VERSION, **entry, "people": people}
            file.write_text(json.dumps(content), encoding="utf-8")
            files.append(file)
    except OSError as error:
        raise MediaError(f"The poses cannot be written to {folder}: {error}.") from error
    return files


def settle_confidence(frames: PoseSequence, min_confidence: float = 0.3) -> list[FramePose]:
    """Make every joint either certain or absent.

    comfyui_controlnet_aux writes confidences of 0 and 1 only, and its nodes treat everything
    below 1 as absent; poses with real confidences would come out empty there.

    Args:
        frames: Any frames.
        min_confidence: Joints that are at least this certain get confidence 1, others are dropped.

    Raises:
        ConfigError: If the threshold does not lie in 0..1.
    """
    if not 0 <= min_confidence <= 1:
        raise ConfigError(f"min_confidence is {min_confidence} but must lie in 0..1.")
    people = join_people(frames)
    certain = (people[..., 2] > 0) & (people[..., 2] >= min_confidence)
    people[..., 2] = certain
    people[~certain] = 0.0
    return split_people(people, frames)


def _numbers_as_such(name: str) -> list[tuple[int, str]]:
    """A sort key that puts frame_10 after frame_9."""
    return [
        (int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", name)
    ]


def _read_file(file: Path, canvas: tuple[int, int] | None) -> FramePose:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise MediaError(f"{file} cannot be read as OpenPose JSON: {error}.") from error
    if isinstance(content, list) and len(content) == 1:
        content = content[0]  # comfyui_controlnet_aux saves a list of one frame
    if not isinstance(content, Mapping) or "people" not in content:
        raise MediaError(f'{file} is not an OpenPose frame; {{"people": [...]}} is expected.')
    entry: dict[str, Any] = dict(content)
    if not (entry.get("canvas_width") and entry.get("canvas_height")):
        if canvas is None:
            raise MediaError(
                f"{file.name} does not say how large the picture was; give the canvas width and "
                "height."
            )
        entry["canvas_width"], entry["canvas_height"] = canvas
    try:
        (frame,) = from_pose_keypoint([entry])
    except MediaError as error:
        raise MediaError(f"{file.name}: {error}") from error
    return frame
