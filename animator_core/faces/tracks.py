"""Face tracks from what the user has: aligned poses, face masks, or boxes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ShapeError
from .crops import FaceBox, FaceRegion, FaceTrack, similarity_to_template

__all__ = [
    "five_points",
    "track_from_boxes",
    "track_from_keypoints",
    "track_from_masks",
    "with_points",
]

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]

_LEFT_EYE, _RIGHT_EYE = slice(36, 42), slice(42, 48)  # as seen, of the 68 landmarks
_NOSE_TIP, _MOUTH_LEFT, _MOUTH_RIGHT = 30, 48, 54
_BODY_NOSE, _BODY_LEFT_EYE, _BODY_RIGHT_EYE = 0, 14, 15  # as seen: the person's right eye is left
_FOREHEAD = 0.25
"""Landmarks end at the brows; the face goes on above them by this share of their height."""
_MIN_LANDMARKS = 20
_TEMPLATE_FACE = (6.0, 4.0, 106.0, 112.0)
"""Left, top, right, bottom of a typical face on the recogniser's template [px of 112]."""


def track_from_keypoints(
    body: Floats,
    face: Floats,
    height: int,
    width: int,
    *,
    minimum_confidence: float = 0.3,
) -> FaceTrack:
    """Follow one person's face through a pose sequence.

    Eyes, nose and mouth come from the face landmarks where these were found, else eyes and nose
    from the body. A frame without two of these points (a back view) has no face, and neither has
    one whose face lies outside the picture.

    Args:
        body: [T, 18, 3] x, y, confidence in pixels of the output frame.
        face: [T, 68, 3] landmarks, likewise.
        height: Output frame height [px].
        width: Output frame width [px].
        minimum_confidence: Points below it count as not found.

    Raises:
        ShapeError: If the arrays do not belong together.
    """
    if body.shape[1:] != (18, 3) or face.shape[1:] != (68, 3) or len(body) != len(face):
        raise ShapeError(
            f"Face tracking takes a body [T, 18, 3] and landmarks [T, 68, 3] but got {body.shape} "
            f"and {face.shape}."
        )
    regions = tuple(
        _region_from_keypoints(_known(b, minimum_confidence), _known(f, minimum_confidence))
        for b, f in zip(body, face, strict=True)
    )
    return FaceTrack(
        regions=tuple(_inside(region, height, width) for region in regions),
        height=height,
        width=width,
    )


def _known(points: Floats, minimum_confidence: float) -> Floats:
    points = np.array(points, dtype=np.float64)
    points[~(points[:, 2] >= minimum_confidence), 2] = 0.0
    return points


def _mean_point(points: Floats) -> Floats:
    found = points[points[:, 2] > 0]
    return found.mean(axis=0) if len(found) * 2 >= len(points) else np.zeros(3)


def five_points(body: Floats, face: Floats) -> Floats:
    """Eyes, nose tip and mouth corners of one face, in the order of `ARCFACE_TEMPLATE`.

    From the landmarks where eyes and nose are among them, else eyes and nose from the body.

    Args:
        body: [18, 3] x, y [px], confidence; 0 where a joint was not found.
        face: [68, 3] landmarks, likewise.

    Returns:
        [5, 3], confidence 0 where unknown.
    """
    landmarks = np.stack(
        [
            _mean_point(face[_LEFT_EYE]),
            _mean_point(face[_RIGHT_EYE]),
            face[_NOSE_TIP],
            face[_MOUTH_LEFT],
            face[_MOUTH_RIGHT],
        ]
    )
    if (landmarks[:3, 2] > 0).all():
        return landmarks
    from_body = np.zeros((5, 3))
    from_body[:3] = body[[_BODY_LEFT_EYE, _BODY_RIGHT_EYE, _BODY_NOSE]]
    return from_body


def _region_from_keypoints(body: Floats, face: Floats) -> FaceRegion | None:
    points = five_points(body, face)
    known = points[points[:, 2] > 0, :2]
    if len(known) < 2 or np.ptp(known, axis=0).max() < 1.0:
        return None
    landmarks = face[face[:, 2] > 0, :2]
    if len(landmarks) >= _MIN_LANDMARKS:
        (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
        top -= _FOREHEAD * (bottom - top)
    else:
        left, top, right, bottom = _box_from_points(points)
    box = FaceBox(
        top=int(np.floor(top)),
        bottom=int(np.ceil(bottom)),
        left=int(np.floor(left)),
        right=int(np.ceil(right)),
    )
    return FaceRegion(box=box, points_px=points)


def _box_from_points(points: Floats) -> tuple[float, float, float, float]:
    matrix = similarity_to_template(points)
    inverse = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))
    left, top, right, bottom = _TEMPLATE_FACE
    corners = np.array([[left, top, 1], [right, top, 1], [left, bottom, 1], [right, bottom, 1]])
    corners = (corners @ inverse.T)[:, :2]
    return (*corners.min(axis=0), *corners.max(axis=0))


def _inside(region: FaceRegion | None, height: int, width: int) -> FaceRegion | None:
    if region is None:
        return None
    clipped = region.box.clipped(height, width)
    if clipped is None:
        return None
    shown = clipped.height * clipped.width / (region.box.height * region.box.width)
    if shown < 0.5:  # the recogniser sees half a face as somebody else's
        return None
    return FaceRegion(box=clipped, points_px=region.points_px)


def track_from_boxes(
    boxes: Sequence[tuple[int, int, int, int] | None], height: int, width: int
) -> FaceTrack:
    """Follow a face by boxes that were found elsewhere.

    Args:
        boxes: Per frame (top, bottom, left, right) [px], both ends included, or None for no face.
        height: Frame height [px].
        width: Frame width [px].

    Raises:
        ShapeError: If a box is empty or lies outside the frame altogether; parts outside are cut.
    """
    regions: list[FaceRegion | None] = []
    for index, sides in enumerate(boxes):
        if sides is None:
            regions.append(None)
            continue
        top, bottom, left, right = sides
        box = FaceBox(top=top, bottom=bottom, left=left, right=right).clipped(height, width)
        if box is None or top > bottom or left > right:
            raise ShapeError(
                f"The face box of frame {index} spans rows {top}..{bottom} and columns "
                f"{left}..{right}; it must overlap the frame of {width}x{height} px. Give None "
                "where there is no face."
            )
        regions.append(FaceRegion(box=box))
    return FaceTrack(regions=tuple(regions), height=height, width=width)


def track_from_masks(masks: Shaped[Tensor, "frames height width"], num_frames: int) -> FaceTrack:
    """Follow a face by masks: its box is the rectangle around the white pixels.

    A black mask is a frame without a face. So is one that is white all over: face mask scripts
    write it where they found nothing.

    Args:
        masks: [T, H, W] at output size; above one half (of 1, or of 255 for uint8) is white.
        num_frames: Frames of the animation.

    Raises:
        ShapeError: If it is not one mask per frame.
    """
    if masks.ndim != 3 or masks.shape[0] != num_frames:
        raise ShapeError(
            f"Face masks must be one per frame, [{num_frames}, height, width], but are "
            f"{tuple(masks.shape)}. Give a mask for every frame, or leave them out: faces are then "
            "followed by the poses."
        )
    height, width = masks.shape[1:]
    white = masks > (127 if masks.dtype == torch.uint8 else 0.5)
    regions: list[FaceRegion | None] = []
    for index, mask in enumerate(white.cpu()):
        rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
        if mask.all():
            log.warning("face mask %d is white all over; the frame counts as without a face", index)
        if mask.all() or len(rows) == 0:
            regions.append(None)
            continue
        box = FaceBox(
            top=int(rows[0]), bottom=int(rows[-1]), left=int(columns[0]), right=int(columns[-1])
        )
        regions.append(FaceRegion(box=box))
    return FaceTrack(regions=tuple(regions), height=height, width=width)


def with_points(track: FaceTrack, poses: FaceTrack) -> FaceTrack:
    """A track's boxes together with the points of another track of the same frames.

    Points are taken only where they belong to the boxed face: the nose, or whatever is known,
    lies inside the box.

    Args:
        track: Says where the face is, by masks or boxes.
        poses: Has points, from `track_from_keypoints`.

    Raises:
        ShapeError: If the tracks differ in length or size.
    """
    size = (len(track.regions), track.height, track.width)
    if size != (len(poses.regions), poses.height, poses.width):
        raise ShapeError(
            f"The face masks are {size[0]} frames of {size[2]}x{size[1]} px but the poses are "
            f"{len(poses.regions)} frames of {poses.width}x{poses.height} px; make them equal."
        )
    merged = tuple(
        region if region is None else FaceRegion(box=region.box, points_px=_points_in(region, pose))
        for region, pose in zip(track.regions, poses.regions, strict=True)
    )
    return FaceTrack(regions=merged, height=track.height, width=track.width)


def _points_in(region: FaceRegion, pose: FaceRegion | None) -> Floats | None:
    if pose is None or pose.points_px is None:
        return None
    x, y = pose.points_px[pose.points_px[:, 2] > 0, :2].mean(axis=0)
    box = region.box
    inside = box.left <= x <= box.right and box.top <= y <= box.bottom
    return pose.points_px if inside else None
