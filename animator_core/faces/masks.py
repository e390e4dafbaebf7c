"""Soft masks around one person's face, head or body, from poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError
from .tracks import track_from_keypoints

__all__ = ["PartBox", "PersonPart", "part_boxes", "soft_masks"]

Floats = NDArray[np.float64]
PersonPart = Literal["face", "head", "body"]

_NECK = 1
_HEAD_JOINTS = (0, 14, 15, 16, 17)  # nose, eyes, ears
_HEAD_GROWTH = 0.25
"""A head reaches beyond the face's box by this share of its sides."""
_HEAD_PER_NECK = 0.9
"""Half a head's side in distances from the neck to the middle of eyes, ears and nose."""
_SHOULDERS, _HIPS = (2, 5), (8, 11)
_HEAD_ABOVE_NECK, _HEAD_REACH = 0.42, 0.28
"""Where a head is above the neck, and half its side, in torso lengths."""
_SHOULDERS_PER_TORSO = 0.7
_LEAST_CONFIDENCE = 0.3


@dataclass(frozen=True, kw_only=True)
class PartBox:
    """A rectangle in continuous pixels; may reach beyond the frame.

    Attributes:
        left: Left edge [px].
        top: Upper edge [px].
        right: Right edge [px].
        bottom: Lower edge [px].
    """

    left: float
    top: float
    right: float
    bottom: float

    def grown(self, share: float) -> PartBox:
        """Larger on every side by a share of the sides."""
        x, y = share * (self.right - self.left), share * (self.bottom - self.top)
        return PartBox(
            left=self.left - x, top=self.top - y, right=self.right + x, bottom=self.bottom + y
        )

    def union(self, other: PartBox) -> PartBox:
        """The smallest box that holds both."""
        return PartBox(
            left=min(self.left, other.left),
            top=min(self.top, other.top),
            right=max(self.right, other.right),
            bottom=max(self.bottom, other.bottom),
        )


def part_boxes(
    body: Floats, face: Floats, part: PersonPart, height: int, width: int
) -> list[PartBox | None]:
    """Where a part of one person is in every frame.

    The face is where `track_from_keypoints` sees one. The head is that and hair around it; turned
    away, it is estimated from neck and ears, and without any joint of the head from neck,
    shoulders and hips. The body is everything that was found, and the head.

    Args:
        body: [T, 18, 3] x, y [px], confidence.
        face: [T, 68, 3] landmarks, likewise.
        part: Which part.
        height: Frame height [px].
        width: Frame width [px].

    Returns:
        One box per frame, or None where the part is not to be seen.

    Raises:
        ConfigError: If there is no such part.
        ShapeError: If the arrays do not belong together.
    """
    if part not in get_args(PersonPart):
        raise ConfigError(f"The part is {part!r}; use 'face', 'head' or 'body'.")
    track = track_from_keypoints(body, face, height, width, minimum_confidence=_LEAST_CONFIDENCE)
    boxes: list[PartBox | None] = []
    for joints, landmarks, region in zip(body, face, track.regions, strict=True):
        face_box, head = None, _head_from_joints(joints)
        if region is not None:
            box = region.box
            face_box = PartBox(
                left=box.left, top=box.top, right=box.right + 1, bottom=box.bottom + 1
            )
            head = face_box.grown(_HEAD_GROWTH)
        if part == "body":
            found = _extent(np.concatenate((joints, landmarks)))
            boxes.append(found if head is None or found is None else found.union(head))
        else:
            boxes.append(face_box if part == "face" else head)
    return boxes


def _known(points: Floats) -> Floats:
    return points[points[:, 2] >= _LEAST_CONFIDENCE, :2]


def _extent(points: Floats) -> PartBox | None:
    known = _known(points)
    if len(known) < 2:
        return None
    (left, top), (right, bottom) = known.min(axis=0), known.max(axis=0)
    return PartBox(left=left, top=top, right=right, bottom=bottom)


def _head_from_joints(joints: Floats) -> PartBox | None:
    if joints[_NECK, 2] < _LEAST_CONFIDENCE:
        return None
    neck, known = joints[_NECK, :2], _known(joints[list(_HEAD_JOINTS)])
    if len(known):
        middle = known.mean(axis=0)
        reach = _HEAD_PER_NECK * float(np.linalg.norm(neck - middle))
    else:
        up = _torso(joints, neck)
        if up is None:
            return None
        middle = neck + _HEAD_ABOVE_NECK * up
        reach = _HEAD_REACH * float(np.linalg.norm(up))
    return PartBox(
        left=middle[0] - reach,
        top=middle[1] - reach,
        right=middle[0] + reach,
        bottom=middle[1] + reach,
    )


def _torso(joints: Floats, neck: Floats) -> Floats | None:
    """From the hips to the neck [px]; upright and as long as the shoulders say without hips."""
    hips, shoulders = _known(joints[list(_HIPS)]), _known(joints[list(_SHOULDERS)])
    if len(hips):
        return neck - hips.mean(axis=0)
    if len(shoulders) == 2:
        width = float(np.linalg.norm(shoulders[1] - shoulders[0]))
        return np.array([0.0, -width / _SHOULDERS_PER_TORSO])
    return None


def soft_masks(
    boxes: Sequence[PartBox | None],
    height: int,
    width: int,
    *,
    feather: float = 0.0,
    scale: float = 1.0,
) -> Float[Tensor, "frames height width"]:
    """Masks that are 1 inside boxes and fall to 0 outside.

    Args:
        boxes: One per frame; None gives a black mask.
        height: Of the masks [px].
        width: Of the masks [px].
        feather: Width of the slope across a box's edge, as a share of its shorter side; 0 gives
            the share of each pixel that the box covers.
        scale: Pixels of the masks per pixel of the boxes.

    Returns:
        [frames, height, width], float32, in 0..1.
    """
    masks = torch.zeros(len(boxes), height, width)
    for mask, box in zip(masks, boxes, strict=True):
        if box is None:
            continue
        shorter = min(box.right - box.left, box.bottom - box.top)
        slope = max(feather * shorter * scale, 1.0)
        rows = _ramp(height, box.top * scale, box.bottom * scale, slope)
        columns = _ramp(width, box.left * scale, box.right * scale, slope)
        torch.outer(rows, columns, out=mask)
    return masks


def _ramp(length: int, start: float, stop: float, slope: float) -> Tensor:
    """1 between start and stop; the slopes lie half inside and half outside."""
    centres = torch.arange(length) + 0.5
    inside = torch.minimum(centres - start, stop - centres)
    return (inside / slope + 0.5).clamp(0, 1)
