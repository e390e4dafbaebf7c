"""Where the face is in each frame, and how it is cut out for the recogniser.

Pixels are counted from the centre of the top left one; boxes include both ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..config import CropMethod
from ..errors import ConfigError, NoFaceError, ShapeError
from ..models.face_recognition import FACE_SIZE

__all__ = [
    "ARCFACE_TEMPLATE",
    "FaceBox",
    "FaceRegion",
    "FaceTrack",
    "crop_boxes",
    "cut_faces",
    "similarity_to_template",
    "support_box",
    "warp_faces",
]

Floats = NDArray[np.float64]

ARCFACE_TEMPLATE: Floats = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
"""Where the recogniser expects eyes, nose tip and mouth corners [px of 112], as seen: left first.

Source: insightface, utils/face_align.py.
"""


@dataclass(frozen=True, kw_only=True)
class FaceBox:
    """A rectangle of whole pixels, both ends included.

    Attributes:
        top: First row [px].
        bottom: Last row [px].
        left: First column [px].
        right: Last column [px].
    """

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left + 1

    def clipped(self, height: int, width: int) -> FaceBox | None:
        """The part inside a picture, or None if there is none."""
        box = FaceBox(
            top=max(self.top, 0),
            bottom=min(self.bottom, height - 1),
            left=max(self.left, 0),
            right=min(self.right, width - 1),
        )
        return box if box.height > 0 and box.width > 0 else None


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceRegion:
    """One face in one frame.

    Attributes:
        box: Its rectangle, inside the frame.
        points_px: [5, 3] x, y, confidence of eyes, nose tip and mouth corners in the order of
            `ARCFACE_TEMPLATE`; confidence 0 where unknown. None where there are no points.
    """

    box: FaceBox
    points_px: Floats | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceTrack:
    """One person's face over time.

    Attributes:
        regions: One entry per frame; None where no face is to be seen.
        height: Frame height [px].
        width: Frame width [px].
    """

    regions: tuple[FaceRegion | None, ...]
    height: int
    width: int

    @property
    def frames_with_face(self) -> int:
        """How many frames show the face."""
        return sum(region is not None for region in self.regions)

    def usable(self, minimum_px: int, method: CropMethod) -> FaceTrack:
        """The track without faces that are too small or cannot be cut out by the method.

        Args:
            minimum_px: Least side of a face's box.
            method: How faces will be cut out.

        Raises:
            NoFaceError: If no face is left.
        """
        kept = tuple(
            region if region is not None and _is_usable(region, minimum_px, method) else None
            for region in self.regions
        )
        if not any(kept):
            raise NoFaceError(
                f"None of the {len(self.regions)} frames shows a face that can be refined: "
                f"{self.frames_with_face} have a face at all, and it must measure at least "
                f"{minimum_px} px"
                + (" and have eye and nose points" if method == "aligned" else "")
                + ". Lower the minimum size, give face masks, or turn face refinement off."
            )
        return FaceTrack(regions=kept, height=self.height, width=self.width)


def _is_usable(region: FaceRegion, minimum_px: int, method: CropMethod) -> bool:
    large = min(region.box.height, region.box.width) >= minimum_px
    return large and (method != "aligned" or region.points_px is not None)


def similarity_to_template(points_px: Floats) -> Floats:
    """The rotation, scale and shift that carry face points to the recogniser's template.

    Least squares over the points that are known, weighted by nothing else, as insightface does
    with all five. In two dimensions it is a regression between complex numbers.

    Args:
        points_px: [5, 3] x, y, confidence, as in `FaceRegion`; or [5, 2], all known.

    Returns:
        [2, 3], from frame pixels to template pixels.

    Raises:
        ShapeError: If fewer than two different points are known.
    """
    known = np.ones(len(points_px), bool) if points_px.shape[1] == 2 else points_px[:, 2] > 0
    source = points_px[known, 0] + 1j * points_px[known, 1]
    target = ARCFACE_TEMPLATE[known, 0] + 1j * ARCFACE_TEMPLATE[known, 1]
    spread = source - source.mean() if len(source) else source
    energy = float((np.abs(spread) ** 2).sum())
    if energy < 1e-6:
        raise ShapeError(
            f"Aligning a face takes at least two different points, but {int(known.sum())} of its "
            "five are known; crop by its box instead."
        )
    turn = (np.conj(spread) * (target - target.mean())).sum() / energy
    shift = target.mean() - turn * source.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _inverse(matrix: Floats) -> Floats:
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1).astype(np.float64)


def warp_faces(
    frames: Float[Tensor, "n 3 height width"], matrices: Sequence[Floats]
) -> Float[Tensor, "n 3 112 112"]:
    """Warp faces onto the recogniser's template; differentiable in the frames.

    Bilinear, black outside the frame, like insightface's `norm_crop`.

    Args:
        frames: [n, 3, H, W] in [-1, 1].
        matrices: n maps [2, 3] from frame pixels to template pixels.
    """
    height, width = frames.shape[-2:]
    line = np.arange(FACE_SIZE, dtype=np.float64)
    template = np.stack([*np.meshgrid(line, line), np.ones((FACE_SIZE, FACE_SIZE))], axis=-1)
    source = np.stack([template @ _inverse(matrix).T for matrix in matrices])  # n 112 112 2
    # half-pixel form: also right for a side of one pixel
    size = np.array([width, height], dtype=np.float64)
    grid = torch.from_numpy((2 * source + 1) / size - 1).to(frames.device, frames.dtype)
    # outside counts as black, which is -1 here and 0 to grid_sample
    return F.grid_sample(frames + 1, grid, padding_mode="zeros", align_corners=False) - 1


def crop_boxes(
    frames: Float[Tensor, "n 3 height width"], boxes: Sequence[FaceBox]
) -> Float[Tensor, "n 3 112 112"]:
    """Cut boxes out and stretch them to the recogniser's size; differentiable in the frames.

    Args:
        frames: [n, 3, H, W].
        boxes: One per frame, inside it.

    Source: StableAnimator 020e7f2, euler_discrete_pro.py:711.
    """
    cut = [
        frames[i : i + 1, :, box.top : box.bottom + 1, box.left : box.right + 1]
        for i, box in enumerate(boxes)
    ]
    size = (FACE_SIZE, FACE_SIZE)
    return torch.cat([F.interpolate(c, size, mode="bilinear", align_corners=False) for c in cut])


def _is_aligned(region: FaceRegion, method: CropMethod) -> bool:
    return method != "box" and region.points_px is not None


def support_box(region: FaceRegion, method: CropMethod, height: int, width: int) -> FaceBox:
    """The pixels that a face's crop reads.

    Args:
        region: The face.
        method: How it is cut out.
        height: Frame height [px].
        width: Frame width [px].

    Raises:
        ShapeError: If the face lies outside the frame.
    """
    box: FaceBox | None = region.box
    if _is_aligned(region, method):
        assert region.points_px is not None
        last = FACE_SIZE - 1.0
        corners = np.array([[0, 0, 1], [last, 0, 1], [0, last, 1], [last, last, 1]])
        corners = corners @ _inverse(similarity_to_template(region.points_px)).T
        left, top = np.floor(corners.min(axis=0)).astype(int)
        right, bottom = np.ceil(corners.max(axis=0)).astype(int)
        box = FaceBox(top=int(top), bottom=int(bottom), left=int(left), right=int(right))
    clipped = box.clipped(height, width)
    if clipped is None:
        raise ShapeError(
            f"A face at rows {box.top}..{box.bottom}, columns {box.left}..{box.right} lies outside "
            f"the frame of {width}x{height} px; leave it out of that frame."
        )
    return clipped


def cut_faces(
    frames: Float[Tensor, "n 3 height width"],
    regions: Sequence[FaceRegion],
    method: CropMethod,
    origin: tuple[int, int] = (0, 0),
) -> Float[Tensor, "n 3 112 112"]:
    """Cut one face out of each frame; differentiable in the frames.

    Args:
        frames: [n, 3, H, W] in [-1, 1]; may be a part of the whole frames.
        regions: n faces, in pixels of the whole frames.
        method: `aligned` warps by points, `box` stretches boxes, `auto` aligns where there are
            points.
        origin: Row and column of the whole frames that `frames` starts at [px].

    Raises:
        ConfigError: If `aligned` is asked for and a face has no points.
    """
    row, column = origin
    faces: list[Tensor] = []
    for index, region in enumerate(regions):
        frame = frames[index : index + 1]
        if _is_aligned(region, method):
            assert region.points_px is not None
            matrix = similarity_to_template(region.points_px)
            matrix[:, 2] += matrix[:, :2] @ np.array([column, row])
            faces.append(warp_faces(frame, [matrix]))
        elif method == "aligned":
            raise ConfigError(
                f"Face {index} has no eye and nose points to align it by; give poses, or set the "
                "crop to 'box' or 'auto'."
            )
        else:
            box = region.box
            moved = FaceBox(
                top=box.top - row,
                bottom=box.bottom - row,
                left=box.left - column,
                right=box.right - column,
            )
            faces.append(crop_boxes(frame, [moved]))
    return torch.cat(faces)
