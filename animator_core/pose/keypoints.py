"""Keypoints of people over time, and the POSE_KEYPOINT interchange format.

One `FramePose` per frame, holding any number of people in pixel coordinates of its canvas.
A joint that was not found has confidence 0 and coordinates 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError, ShapeError
from ..writing import whole_file
from .skeletons import NUM_BODY, NUM_FACE, NUM_HAND

__all__ = [
    "FramePose",
    "PersonPose",
    "PoseSequence",
    "from_pose_keypoint",
    "load_pose_file",
    "map_points",
    "part_array",
    "save_pose_file",
    "scale_to_canvas",
    "to_pose_keypoint",
]

Points = NDArray[np.float64]
"""Shape [joints, 3]: x [px], y [px], confidence (normally 0..1)."""

_PARTS: tuple[tuple[str, str, int], ...] = (
    ("body", "pose_keypoints_2d", NUM_BODY),
    ("face", "face_keypoints_2d", NUM_FACE),
    ("left_hand", "hand_left_keypoints_2d", NUM_HAND),
    ("right_hand", "hand_right_keypoints_2d", NUM_HAND),
)
_NORMALIZED_LIMIT = (
    2.0  # coordinates of a person partly outside a 0..1 canvas still stay below this
)


def _absent(joints: int) -> Points:
    return np.zeros((joints, 3), dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class PersonPose:
    """One person in one frame.

    Attributes:
        body: [18, 3] joints in the order of `skeletons.BODY_JOINTS`.
        face: [68, 3] landmarks.
        left_hand: [21, 3] joints, wrist first.
        right_hand: [21, 3] joints, wrist first.

    Raises:
        ShapeError: If a part has another number of joints.
    """

    body: Points = field(default_factory=lambda: _absent(NUM_BODY))
    face: Points = field(default_factory=lambda: _absent(NUM_FACE))
    left_hand: Points = field(default_factory=lambda: _absent(NUM_HAND))
    right_hand: Points = field(default_factory=lambda: _absent(NUM_HAND))

    def __post_init__(self) -> None:
        for name, _, joints in _PARTS:
            points = np.asarray(getattr(self, name), dtype=np.float64)
            if points.shape != (joints, 3):
                raise ShapeError(
                    f"A person's {name} has shape {points.shape} but ({joints}, 3) is expected: "
                    f"x, y and confidence of {joints} joints."
                )
            object.__setattr__(self, name, points)

    @property
    def is_empty(self) -> bool:
        """True if no joint of any part was found."""
        return not any((getattr(self, name)[:, 2] > 0).any() for name, _, _ in _PARTS)


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePose:
    """All people of one frame.

    Attributes:
        people: People, in any order; empty when nobody was found.
        width: Canvas width [px].
        height: Canvas height [px].
    """

    people: tuple[PersonPose, ...]
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ShapeError(
                f"A pose canvas is {self.width}x{self.height} px; both sides must be at least 1."
            )


PoseSequence = Sequence[FramePose]


def part_array(frames: PoseSequence, part: str, person: int = 0) -> NDArray[np.float64]:
    """One part of one person over time.

    Args:
        frames: T frames.
        part: "body", "face", "left_hand" or "right_hand".
        person: Index into each frame's people; frames without that person give zeros.

    Returns:
        [T, joints, 3]: x [px], y [px], confidence.
    """
    empty = PersonPose()
    people = [f.people[person] if person < len(f.people) else empty for f in frames]
    return np.stack([getattr(p, part) for p in people])


def map_points(
    person: PersonPose, matrix: NDArray[np.float64], shift: NDArray[np.float64]
) -> PersonPose:
    """Apply the affine map `p -> matrix @ p + shift` to the joints that were found.

    Args:
        person: Any person.
        matrix: [2, 2].
        shift: [2], in pixels.
    """

    def moved(points: Points) -> Points:
        out = points.copy()
        found = points[:, 2] > 0
        out[found, :2] = points[found, :2] @ np.asarray(matrix).T + shift
        return out

    return PersonPose(**{name: moved(getattr(person, name)) for name, _, _ in _PARTS})


def scale_to_canvas(frame: FramePose, width: int, height: int) -> FramePose:
    """The same pose stretched to a canvas of another size.

    Args:
        frame: Any frame.
        width: New canvas width [px].
        height: New canvas height [px].
    """
    if (frame.width, frame.height) == (width, height):
        return frame
    matrix = np.diag([width / frame.width, height / frame.height])
    people = tuple(map_points(p, matrix, np.zeros(2)) for p in frame.people)
    return replace(frame, people=people, width=width, height=height)


def _read_points(values: Any, joints: int, where: str) -> Points:
    if values is None:
        return _absent(joints)
    try:
        if len(values) == 0:
            return _absent(joints)
        flat = np.array([math.nan if v is None else float(v) for v in values], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MediaError(f"{where} holds something that is not a number: {error}.") from error
    if flat.size % 3 or flat.size < 3 * joints:
        # longer layouts are known: 70 face landmarks (with pupils), 25 body joints
        raise MediaError(
            f"{where} has {flat.size} numbers; {3 * joints} are expected "
            f"(x, y, confidence of {joints} joints)."
        )
    points = flat.reshape(-1, 3)
    if joints == NUM_BODY and len(points) == 25:
        points = points[
            [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]
        ]  # BODY_25 has a mid hip at 8
    points = points[:joints].copy()
    points[~np.isfinite(points).all(axis=1)] = 0.0
    points[points[:, 2] <= 0] = 0.0
    return points


def _canvas_size(entry: Mapping[str, Any], index: int) -> tuple[int, int]:
    try:
        return max(int(entry["canvas_width"]), 1), max(int(entry["canvas_height"]), 1)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MediaError(
            f"Pose frame {index} has no usable canvas_width and canvas_height; "
            'a POSE_KEYPOINT frame is {"people": [...], "canvas_width": ..., "canvas_height": ...}.'
        ) from error


def _read_people(entry: Mapping[str, Any], index: int) -> list[PersonPose]:
    listed = entry.get("people") or []
    if not isinstance(listed, Sequence) or not all(isinstance(p or {}, Mapping) for p in listed):
        raise MediaError(
            f"Pose frame {index} has 'people' that are no list of mappings with pose_keypoints_2d."
        )
    # None stands for an absent person, who keeps the others' places
    people = [_read_person(p or {}, index) for p in listed]
    while people and people[-1].is_empty:
        people.pop()
    return people


def _read_person(entry: Mapping[str, Any], index: int) -> PersonPose:
    parts = {
        name: _read_points(entry.get(key), joints, f"Frame {index}, {key},")
        for name, key, joints in _PARTS
    }
    return PersonPose(**parts)


def _to_pixels(people: Iterable[PersonPose], width: int, height: int) -> tuple[PersonPose, ...]:
    people = tuple(people)
    largest = max(
        (
            float(np.abs(getattr(p, name)[:, :2]).max(initial=0.0))
            for p in people
            for name, _, _ in _PARTS
        ),
        default=0.0,
    )
    if width > _NORMALIZED_LIMIT and height > _NORMALIZED_LIMIT and largest <= _NORMALIZED_LIMIT:
        matrix = np.diag([float(width), float(height)])
        return tuple(map_points(p, matrix, np.zeros(2)) for p in people)
    return people


def from_pose_keypoint(frames: Any) -> list[FramePose]:
    """Read the POSE_KEYPOINT format of comfyui_controlnet_aux.

    Coordinates may be pixels or 0..1 (decided per frame by their size); parts may be missing
    or None. A single frame may be given without the surrounding list.

    Args:
        frames: List of `{"people": [...], "canvas_width", "canvas_height"}`.

    Raises:
        MediaError: If it is not in that format; the message names frame and part.
    """
    if isinstance(frames, Mapping):
        frames = [frames]
    if not isinstance(frames, Sequence) or isinstance(frames, str | bytes):
        raise MediaError(
            f"Poses must be a list of frames (POSE_KEYPOINT) but are {type(frames).__name__}."
        )
    result: list[FramePose] = []
    for index, entry in enumerate(frames):
        if not isinstance(entry, Mapping):
            raise MediaError(
                f"Pose frame {index} is {type(entry).__name__}; "
                "a mapping with 'people' is expected."
            )
        width, height = _canvas_size(entry, index)
        people = _read_people(entry, index)
        result.append(
            FramePose(people=_to_pixels(people, width, height), width=width, height=height)
        )
    return result


def to_pose_keypoint(frames: PoseSequence) -> list[dict[str, Any]]:
    """Write the POSE_KEYPOINT format, in pixels; the inverse of `from_pose_keypoint`."""
    return [
        {
            "people": [
                {key: getattr(p, name).ravel().tolist() for name, key, _ in _PARTS}
                for p in frame.people
            ],
            "canvas_width": frame.width,
            "canvas_height": frame.height,
        }
        for frame in frames
    ]


def load_pose_file(path: str | Path) -> list[FramePose]:
    """Read a JSON file in POSE_KEYPOINT format.

    Raises:
        MediaError: If the file is missing, is not JSON, or holds something else.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MediaError(f"There is no pose file {path}.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise MediaError(f"{path} cannot be read as JSON poses: {error}.") from error
    return from_pose_keypoint(content)


def save_pose_file(frames: PoseSequence, path: str | Path) -> None:
    """Write a JSON file in POSE_KEYPOINT format, whole or not at all.

    Raises:
        MediaError: If the file cannot be written.
    """
    path = Path(path)
    try:
        with whole_file(path) as file:
            file.write(json.dumps(to_pose_keypoint(frames)).encode())
    except OSError as error:
        raise MediaError(f"The poses cannot be written to {path}: {error}.") from error
