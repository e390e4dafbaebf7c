"""Finding people: YOLOX through onnxruntime.

The picture is fed as RGB. The published network was trained on BGR, but the reference feeds RGB
and its numbers are what the golden files hold.

Source: StableAnimator 020e7f2, DWPose/dwpose_utils/onnxdet.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .runtime import NetworkRole, OnnxNetwork, opencv

__all__ = ["PersonDetector", "decode_boxes", "letterbox", "non_maximum_suppression"]

STRIDES = (8, 16, 32)
PAD_VALUE = 114
MAX_OVERLAP = 0.45
MIN_SCORE = 0.3
_PERSON_CLASS = 0
_NUM_BOX = 5  # cx, cy, w, h, objectness; the classes follow

_ROLE = NetworkRole(
    title="person detector (YOLOX)",
    file_name="yolox_l.onnx",
    size=(640, 640),
    num_outputs=1,
    outputs="one output [N, cells, 5 + classes] with the cells of strides 8, 16 and 32",
)


class PersonDetector:
    """A YOLOX network whose class 0 is a person.

    Args:
        path: ONNX file, such as the published yolox_l.onnx.
        providers: Execution providers to try; see `runtime.OnnxNetwork`.

    Raises:
        CheckpointError: If the file is missing, damaged or another network.
        DependencyError: If onnxruntime or a working provider is missing.
    """

    def __init__(self, path: str | Path, providers: Sequence[str] | None = None) -> None:
        self.network = OnnxNetwork(path, _ROLE, providers)
        height, width = self.network.size
        if height % STRIDES[-1] or width % STRIDES[-1]:
            raise self.network.wrong_network()
        shape = self.network.output_shapes[0]
        if len(shape) != 3 or shape[1] != len(_cells(height, width)[0]) or shape[2] <= _NUM_BOX:
            raise self.network.wrong_network(f"an output of shape {shape}")

    def prepare(self, image_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        """The network's input for one picture.

        Args:
            image_rgb: [H, W, 3].

        Returns:
            [3, h, w] in 0..255, and network pixels per picture pixel.
        """
        boxed, ratio = letterbox(image_rgb, *self.network.size)
        return boxed.transpose(2, 0, 1).astype(np.float32), ratio

    def detect(
        self, inputs: NDArray[np.float32], ratios: Sequence[float]
    ) -> list[NDArray[np.float32]]:
        """Boxes of the people in prepared pictures.

        Args:
            inputs: [N, 3, h, w] from `prepare`.
            ratios: N ratios from `prepare`.

        Returns:
            Per picture [people, 4]: left, top, right, bottom [px], most certain first.
        """
        (raw,) = self.network.run(inputs, len(inputs))
        return [self._person_boxes(cells, ratio) for cells, ratio in zip(raw, ratios, strict=True)]

    def _person_boxes(self, cells: NDArray[np.float32], ratio: float) -> NDArray[np.float32]:
        scores = cells[:, 4] * cells[:, _NUM_BOX + _PERSON_CLASS]
        # Suppression goes from certain to uncertain, so dropping uncertain boxes first changes
        # nothing; the comparison is in double precision, as in the reference.
        rows = np.flatnonzero(scores.astype(np.float64) > MIN_SCORE)
        decoded = decode_boxes(cells[rows], rows, *self.network.size)
        half = decoded[:, 2:4] / 2
        corners = np.concatenate([decoded[:, :2] - half, decoded[:, :2] + half], axis=1)
        boxes = (corners / ratio).astype(np.float32)
        return boxes[non_maximum_suppression(boxes, scores[rows])]


def letterbox(
    image_rgb: NDArray[np.uint8], height: int, width: int
) -> tuple[NDArray[np.uint8], float]:
    """Shrink or enlarge a picture into the top left corner of a grey one.

    Args:
        image_rgb: [H, W, 3].
        height: Target height [px].
        width: Target width [px].

    Returns:
        [height, width, 3], and target pixels per source pixel.
    """
    source_height, source_width = image_rgb.shape[:2]
    ratio = min(height / source_height, width / source_width)
    inner_width = max(int(source_width * ratio), 1)
    inner_height = max(int(source_height * ratio), 1)
    boxed = np.full((height, width, 3), PAD_VALUE, dtype=np.uint8)
    cv2 = opencv()
    boxed[:inner_height, :inner_width] = cv2.resize(
        image_rgb, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR
    )
    return boxed, ratio


def decode_boxes(
    rows: NDArray[np.float32], cells: NDArray[np.integer], height: int, width: int
) -> NDArray[np.float32]:
    """Turn offsets within grid cells into boxes.

    Args:
        rows: [n, 4 or more]: raw offset x, y and log width, height; further columns are kept.
        cells: [n] cell index of each row, counted over the grids of strides 8, 16 and 32.
        height: Network input height [px].
        width: Network input width [px].

    Returns:
        [n, same]: centre x, y, width and height in network pixels.
    """
    corners, strides = _cells(height, width)
    decoded = rows.copy()
    decoded[:, :2] = (rows[:, :2] + corners[cells]) * strides[cells]
    decoded[:, 2:4] = np.exp(rows[:, 2:4]) * strides[cells]
    return decoded


def non_maximum_suppression(
    boxes: NDArray[np.float32], scores: NDArray[np.float32]
) -> NDArray[np.intp]:
    """Indices of boxes that no better box covers, best first.

    Overlap counts whole pixels, so that a box from 0 to 9 is 10 wide.

    Args:
        boxes: [n, 4]: left, top, right, bottom.
        scores: [n].
    """
    order = np.argsort(scores)[::-1]
    left, top, right, bottom = boxes.T
    areas = (right - left + 1) * (bottom - top + 1)
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        across = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest]) + 1
        down = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest]) + 1
        shared = np.maximum(across, 0.0) * np.maximum(down, 0.0)
        overlap = shared / (areas[best] + areas[rest] - shared)
        order = rest[overlap <= MAX_OVERLAP]
    return np.array(kept, dtype=np.intp)


@lru_cache(maxsize=4)
def _cells(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row [cells, 2], and stride [cells, 1], of every grid cell."""
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = np.indices((height // stride, width // stride))
        corner = np.stack([columns.ravel(), rows.ravel()], axis=1)
        corners.append(corner)
        strides.append(np.full((len(corner), 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)
