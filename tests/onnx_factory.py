"""Tiny ONNX networks with the inputs and outputs of the published detector and pose network.

They are not trained; they find markers. A person is a square of colour (255, 0, 0), as large as a
cell of the coarsest grid (32 px in the detector's input), on a background without red. It may lie
across two cells but not across four.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
NUM_CLASSES = 80
NUM_JOINTS = 133
REACH = 24  # crop pixels over which a marker's joints spread

Batch = int | str
Size = tuple[int, int]


def num_cells(size: Size) -> int:
    """Grid cells of a detector with an input of (height, width)."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)


def save_marker_detector(
    path: Path, *, size: Size = (160, 160), batch: Batch = 1, box: Size = (128, 96)
) -> Path:
    """A YOLOX that boxes red cells of the coarsest grid; boxes are (height, width) px in size."""
    nodes, constants, parts = [], [], []
    for stride in STRIDES:
        weights = np.zeros((5 + NUM_CLASSES, 3, 1, 1), np.float32)
        bias = np.zeros(5 + NUM_CLASSES, np.float32)
        bias[:2] = 0.5
        bias[2:4] = np.log(np.array([box[1], box[0]]) / stride)
        if stride == STRIDES[-1]:
            weights[4, :, 0, 0] = np.array([1.0, -0.5, -0.5]) / 255
            bias[5] = 0.95
        constants += [_constant(weights, f"w{stride}"), _constant(bias, f"b{stride}")]
        constants.append(_constant(np.array([0, 5 + NUM_CLASSES, -1]), f"shape{stride}"))
        nodes += [
            helper.make_node(
                "AveragePool",
                ["images"],
                [f"p{stride}"],
                kernel_shape=[stride] * 2,
                strides=[stride] * 2,
            ),
            helper.make_node("Conv", [f"p{stride}", f"w{stride}", f"b{stride}"], [f"c{stride}"]),
            helper.make_node("Reshape", [f"c{stride}", f"shape{stride}"], [f"r{stride}"]),
        ]
        parts.append(f"r{stride}")
    nodes.append(helper.make_node("Concat", parts, ["cells"], axis=2))
    nodes.append(helper.make_node("Transpose", ["cells"], ["output"], perm=[0, 2, 1]))
    inputs = {"images": (batch, 3, *size)}
    outputs = {"output": (batch, num_cells(size), 5 + NUM_CLASSES)}
    return _save(path, nodes, constants, inputs, outputs)


def marker_shifts(split_ratio: int = 2, seed: int = 0) -> NDArray[np.int64]:
    """Where each joint lies relative to the marker's edge, [133, 2] in SimCC bins (x, y)."""
    return np.random.default_rng(seed).integers(0, REACH * split_ratio, (NUM_JOINTS, 2))


def save_marker_pose_network(
    path: Path,
    *,
    size: Size = (96, 72),
    batch: Batch = "N",
    split_ratio: int = 2,
    gain: float = 1.0,
) -> Path:
    """An RTMPose whose joints lie beside the crop's reddest column and row."""
    height, width = size
    shifts = marker_shifts(split_ratio)
    nodes = [
        helper.make_node("Conv", ["input", "redness", "offset"], ["red"]),
    ]
    red = np.array([1.0, -0.5, -0.5], np.float32).reshape(1, 3, 1, 1)
    constants = [
        _constant(red * gain, "redness"),
        _constant(np.array([-0.2], np.float32), "offset"),
    ]
    reach = (REACH + 1) * split_ratio
    for axis, (name, reduced) in enumerate((("simcc_x", 2), ("simcc_y", 3))):
        kernel = np.zeros((1, NUM_JOINTS, 1, reach), np.float32)
        kernel[0, np.arange(NUM_JOINTS), 0, shifts[:, axis]] = 1.0
        flat = np.array([0, 1, 1, -1])
        # of a marker's equal columns the first one wins, whatever the rounding
        ramp = -1e-3 * np.arange(size[1 - axis], dtype=np.float32)
        constants.append(_constant(ramp, f"ramp_{name}"))
        constants += [_constant(kernel, f"kernel_{name}"), _constant(flat, f"flat_{name}")]
        constants.append(_constant(np.array([0, NUM_JOINTS, -1]), f"shape_{name}"))
        nodes += [
            helper.make_node("ReduceMean", ["red"], [f"mean_{name}"], axes=[reduced], keepdims=1),
            helper.make_node("Reshape", [f"mean_{name}", f"flat_{name}"], [f"flat_line_{name}"]),
            helper.make_node("Add", [f"flat_line_{name}", f"ramp_{name}"], [f"line_{name}"]),
            helper.make_node(
                "ConvTranspose",
                [f"line_{name}", f"kernel_{name}"],
                [f"bins_{name}"],
                strides=[1, split_ratio],
                pads=[0, 0, 0, reach - split_ratio],
            ),
            helper.make_node("Reshape", [f"bins_{name}", f"shape_{name}"], [name]),
        ]
    outputs = {
        "simcc_x": (batch, NUM_JOINTS, width * split_ratio),
        "simcc_y": (batch, NUM_JOINTS, height * split_ratio),
    }
    return _save(path, nodes, constants, {"input": (batch, 3, *size)}, outputs)


def save_constant_network(
    path: Path, input_shape: Sequence[Batch], outputs: dict[str, NDArray[np.float32]]
) -> Path:
    """A network that answers every picture with the same arrays."""
    nodes = [helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0)]
    nodes.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    constants = [_constant(np.zeros((), np.float32), "zero")]
    for name, values in outputs.items():
        constants.append(_constant(values.astype(np.float32), f"{name}_values"))
        nodes.append(helper.make_node("Add", [f"{name}_values", "nothing"], [name]))
    shapes = {name: values.shape for name, values in outputs.items()}
    return _save(path, nodes, constants, {"input": tuple(input_shape)}, shapes)


def _constant(values: NDArray, name: str) -> TensorProto:
    return numpy_helper.from_array(values, name)


def _save(
    path: Path,
    nodes: list,
    constants: list,
    inputs: dict[str, Sequence[Batch]],
    outputs: dict[str, Sequence[Batch]],
) -> Path:
    def described(values: dict[str, Sequence[Batch]]) -> list:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in values.items()
        ]

    graph = helper.make_graph(
        nodes, "tiny", described(inputs), described(outputs), initializer=constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8  # old enough for every onnxruntime that the pack supports
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
