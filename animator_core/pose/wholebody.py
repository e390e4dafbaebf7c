"""Finding 133 joints of a person: RTMPose with SimCC outputs, through onnxruntime.

SimCC classifies x and y apart: each output is a row of bins, several per pixel of the crop.

Source: StableAnimator 020e7f2, DWPose/dwpose_utils/onnxpose.py and wholebody.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .keypoints import PersonPose
from .runtime import NetworkRole, OnnxNetwork, opencv
from .skeletons import NUM_BODY, NUM_FACE, NUM_HAND

__all__ = [
    "NUM_WHOLEBODY",
    "WholebodyNetwork",
    "crop_frame",
    "crop_person",
    "decode_simcc",
    "to_openpose",
    "to_person",
]

NUM_WHOLEBODY = 133
MIN_SHOULDER_CONFIDENCE = 0.3
_BOX_PADDING = 1.25
_MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)[:, None, None]
_STD = np.array([58.395, 57.12, 57.375], dtype=np.float32)[:, None, None]
_LEFT_SHOULDER, _RIGHT_SHOULDER = 5, 6
_NUM_COCO_BODY = 17

# place of each of OpenPose's 18 joints among COCO's 17, which the neck follows as number 17
_OPENPOSE_FROM_COCO = [0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
_NUM_FEET = 6

_ROLE = NetworkRole(
    title="whole-body pose network (RTMPose with SimCC)",
    file_name="dw-ll_ucoco_384.onnx",
    size=(384, 288),
    num_outputs=2,
    outputs=f"outputs simcc_x [N, {NUM_WHOLEBODY}, r W] and simcc_y [N, {NUM_WHOLEBODY}, r H]",
)


class WholebodyNetwork:
    """An RTMPose network for the 133 joints of COCO-WholeBody.

    Args:
        path: ONNX file, such as the published dw-ll_ucoco_384.onnx.
        providers: Execution providers to try; see `runtime.OnnxNetwork`.

    Attributes:
        split_ratio: SimCC bins per pixel of the crop.

    Raises:
        CheckpointError: If the file is missing, damaged or another network.
        DependencyError: If onnxruntime or a working provider is missing.
    """

    def __init__(self, path: str | Path, providers: Sequence[str] | None = None) -> None:
        self.network = OnnxNetwork(path, _ROLE, providers)
        names = self.network.output_names
        # by name where the names are the published ones, so that their order does not matter
        named = set(names) == {"simcc_x", "simcc_y"}
        self._x, self._y = (names.index("simcc_x"), names.index("simcc_y")) if named else (0, 1)
        shapes = self.network.output_shapes
        height, width = self.network.size
        if any(len(shape) != 3 or shape[1] != NUM_WHOLEBODY for shape in shapes):
            raise self.network.wrong_network(f"outputs of shapes {shapes[0]} and {shapes[1]}")
        self.split_ratio = shapes[self._x][2] / width
        if abs(shapes[self._y][2] - height * self.split_ratio) >= 1:
            raise self.network.wrong_network(
                f"{shapes[self._x][2]} and {shapes[self._y][2]} bins for {width}x{height} px"
            )

    def prepare(
        self, image_rgb: NDArray[np.uint8], box: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The network's input for one person.

        Args:
            image_rgb: [H, W, 3].
            box: [4]: left, top, right, bottom [px].

        Returns:
            [3, h, w] crop, normalised, and the crop's frame [2, 2]: centre and size [px].
        """
        height, width = self.network.size
        frame = crop_frame(box, width / height)
        return crop_person(image_rgb, frame, height, width), frame

    def keypoints(
        self, inputs: NDArray[np.float32], frames: NDArray[np.float64], max_batch: int
    ) -> NDArray[np.float64]:
        """Joints of prepared people.

        Args:
            inputs: [N, 3, h, w] from `prepare`.
            frames: [N, 2, 2] from `prepare`.
            max_batch: People per call of the network.

        Returns:
            [N, 133, 3]: x [px], y [px], confidence, in COCO-WholeBody order.
        """
        outputs = self.network.run(inputs, max_batch)
        bins, confidence = decode_simcc(outputs[self._x], outputs[self._y])
        height, width = self.network.size
        relative = bins / self.split_ratio / (width, height)
        centers, sizes = frames[:, 0, None], frames[:, 1, None]
        places = relative * sizes + centers - sizes / 2
        return np.concatenate([places, confidence[..., None]], axis=2)


def crop_frame(box: NDArray[np.floating], aspect: float) -> NDArray[np.float64]:
    """Where a person is cut out: the padded box, extended to the network's aspect ratio.

    Args:
        box: [4]: left, top, right, bottom [px].
        aspect: Width over height of the network's input.

    Returns:
        [2, 2]: centre x, y and width, height [px].
    """
    left, top, right, bottom = np.asarray(box, dtype=np.float64)
    center = (left + right) / 2, (top + bottom) / 2
    width, height = (right - left) * _BOX_PADDING, (bottom - top) * _BOX_PADDING
    if width > height * aspect:
        height = width / aspect
    else:
        width = height * aspect
    return np.array([center, (max(width, aspect), max(height, 1.0))])


def crop_person(
    image_rgb: NDArray[np.uint8], frame: NDArray[np.float64], height: int, width: int
) -> NDArray[np.float32]:
    """Cut out a person and normalise it by ImageNet's mean and standard deviation.

    Args:
        image_rgb: [H, W, 3]; what lies outside is black.
        frame: [2, 2] from `crop_frame`.
        height: Crop height [px].
        width: Crop width [px].

    Returns:
        [3, height, width].
    """
    cv2 = opencv()
    (center_x, center_y), (frame_width, _) = frame
    zoom = width / frame_width
    matrix = np.array(
        [[zoom, 0.0, width / 2 - zoom * center_x], [0.0, zoom, height / 2 - zoom * center_y]]
    )
    crop = cv2.warpAffine(image_rgb, matrix, (width, height), flags=cv2.INTER_LINEAR)
    normalized = crop.transpose(2, 0, 1).astype(np.float32)
    normalized -= _MEAN
    normalized /= _STD
    return normalized


def decode_simcc(
    simcc_x: NDArray[np.float32], simcc_y: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best bins and their scores.

    Args:
        simcc_x: [N, joints, bins].
        simcc_y: [N, joints, bins].

    Returns:
        Bins [N, joints, 2] as x, y, which are -1 where the score is not positive; and scores
        [N, joints], the lower one of both axes.
    """
    bins = np.stack([simcc_x.argmax(axis=2), simcc_y.argmax(axis=2)], axis=2).astype(np.float64)
    scores = np.minimum(simcc_x.max(axis=2), simcc_y.max(axis=2)).astype(np.float64)
    bins[scores <= 0] = -1.0
    return bins, scores


def to_openpose(
    keypoints: NDArray[np.float64], min_confidence: float = MIN_SHOULDER_CONFIDENCE
) -> NDArray[np.float64]:
    """COCO-WholeBody joints in OpenPose's order, with a neck between the shoulders.

    Args:
        keypoints: [N, 133, 3]: x, y, confidence.
        min_confidence: The neck has confidence 1 if both shoulders exceed this, else 0.

    Returns:
        [N, 134, 3]: 18 body joints, 6 of the feet, 68 of the face, 21 of the left hand and 21 of
        the right hand.
    """
    shoulders = keypoints[:, [_LEFT_SHOULDER, _RIGHT_SHOULDER]]
    neck = shoulders.mean(axis=1, keepdims=True)
    neck[:, 0, 2] = (shoulders[:, :, 2] > min_confidence).all(axis=1)
    coco = np.concatenate([keypoints[:, :_NUM_COCO_BODY], neck], axis=1)
    return np.concatenate([coco[:, _OPENPOSE_FROM_COCO], keypoints[:, _NUM_COCO_BODY:]], axis=1)


def to_person(
    keypoints: NDArray[np.float64], min_confidence: float, min_part_confidence: float
) -> PersonPose:
    """One person's parts; joints that are too uncertain become absent.

    Args:
        keypoints: [134, 3] from `to_openpose`.
        min_confidence: Body joints must exceed this.
        min_part_confidence: Face and hand joints must exceed this.
    """
    face = NUM_BODY + _NUM_FEET
    left, right = face + NUM_FACE, face + NUM_FACE + NUM_HAND

    def certain(points: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
        return np.where(points[:, 2:] > threshold, points, 0.0)

    return PersonPose(
        body=certain(keypoints[:NUM_BODY], min_confidence),
        face=certain(keypoints[face:left], min_part_confidence),
        left_hand=certain(keypoints[left:right], min_part_confidence),
        right_hand=certain(keypoints[right:], min_part_confidence),
    )
