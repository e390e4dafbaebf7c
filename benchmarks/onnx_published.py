"""Networks with the layers of the published files and random weights, for timing only.

Source: Ge et al., YOLOX (arXiv 2107.08430), size l; Jiang et al., RTMPose (arXiv 2303.07399),
size l for whole bodies at 384x288.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Batch = int | str


class _Tensor:
    """A named tensor inside the graph: channels, height, width."""

    def __init__(self, name: str, channels: int, height: int, width: int) -> None:
        self.name, self.channels, self.height, self.width = name, channels, height, width


class _Graph:
    """Adds layers with random weights and counts their operations."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.operations = 0
        self._random = np.random.default_rng(seed)

    def add(self, kind: str, inputs: list[str], **options: object) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **options))
        return name

    def constant(self, values: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def weights(self, *shape: int) -> str:
        spread = np.sqrt(2 / np.prod(shape[1:]))
        return self.constant(self._random.standard_normal(shape, np.float32) * np.float32(spread))

    def conv(
        self, x: _Tensor, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> _Tensor:
        """Convolution and SiLU."""
        return self.silu(self.plain_conv(x, channels, kernel, stride, groups))

    def plain_conv(
        self, x: _Tensor, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> _Tensor:
        weights = self.weights(channels, x.channels // groups, kernel, kernel)
        bias = self.constant(np.zeros(channels, np.float32))
        name = self.add(
            "Conv",
            [x.name, weights, bias],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=groups,
        )
        out = _Tensor(name, channels, -(-x.height // stride), -(-x.width // stride))
        per_place = 2 * channels * (x.channels // groups) * kernel**2
        self.operations += per_place * out.height * out.width
        return out

    def silu(self, x: _Tensor) -> _Tensor:
        gate = self.add("Sigmoid", [x.name])
        return _Tensor(self.add("Mul", [x.name, gate]), x.channels, x.height, x.width)

    def join(self, *parts: _Tensor) -> _Tensor:
        name = self.add("Concat", [part.name for part in parts], axis=1)
        first = parts[0]
        return _Tensor(name, sum(part.channels for part in parts), first.height, first.width)

    def sum(self, x: _Tensor, y: _Tensor) -> _Tensor:
        return _Tensor(self.add("Add", [x.name, y.name]), x.channels, x.height, x.width)

    def enlarged(self, x: _Tensor) -> _Tensor:
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        name = self.add("Resize", [x.name, "", scales], mode="nearest")
        return _Tensor(name, x.channels, x.height * 2, x.width * 2)

    def pyramid_pool(self, x: _Tensor) -> _Tensor:
        narrow = self.conv(x, x.channels // 2)
        pooled = [narrow]
        for kernel in (5, 9, 13):
            pads = [kernel // 2] * 4
            name = self.add("MaxPool", [narrow.name], kernel_shape=[kernel] * 2, pads=pads)
            pooled.append(_Tensor(name, narrow.channels, x.height, x.width))
        return self.conv(self.join(*pooled), x.channels)

    def linear(self, x: str, rows: int, inputs: int, outputs: int) -> str:
        self.operations += 2 * rows * inputs * outputs
        weights = self._random.standard_normal((inputs, outputs), np.float32) / np.sqrt(inputs)
        return self.add("MatMul", [x, self.constant(weights.astype(np.float32))])

    def save(self, path: Path, inputs: dict, outputs: dict) -> None:
        def described(values: dict) -> list:
            return [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in values.items()
            ]

        graph = helper.make_graph(
            self.nodes, "random", described(inputs), described(outputs), self.constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        onnx.save(model, str(path))


def save_yolox_l(path: Path, *, batch: Batch) -> int:
    """A YOLOX-l for 640x640; returns its operations per picture."""
    graph = _Graph(seed=0)
    stem = _Tensor(graph.add("SpaceToDepth", ["images"], blocksize=2), 12, 320, 320)
    x = graph.conv(stem, 64, 3)
    levels = []
    for channels, depth in ((128, 3), (256, 9), (512, 9), (1024, 3)):
        x = graph.conv(x, channels, 3, stride=2)
        if channels == 1024:
            x = graph.pyramid_pool(x)
        x = _yolox_stage(graph, x, channels, depth, residual=channels < 1024)
        levels.append(x)
    _, fine, middle, coarse = levels
    coarse_top = graph.conv(coarse, 512)
    joined = graph.join(graph.enlarged(coarse_top), middle)
    middle_top = graph.conv(_yolox_stage(graph, joined, 512, 3, residual=False), 256)
    joined = graph.join(graph.enlarged(middle_top), fine)
    fine_out = _yolox_stage(graph, joined, 256, 3, residual=False)
    joined = graph.join(graph.conv(fine_out, 256, 3, stride=2), middle_top)
    middle_out = _yolox_stage(graph, joined, 512, 3, residual=False)
    joined = graph.join(graph.conv(middle_out, 512, 3, stride=2), coarse_top)
    coarse_out = _yolox_stage(graph, joined, 1024, 3, residual=False)
    cells = [_yolox_head(graph, level) for level in (fine_out, middle_out, coarse_out)]
    joined_cells = graph.add("Concat", cells, axis=2)
    graph.nodes.append(helper.make_node("Transpose", [joined_cells], ["output"], perm=[0, 2, 1]))
    graph.save(path, {"images": [batch, 3, 640, 640]}, {"output": [batch, 8400, 85]})
    return graph.operations


def _yolox_stage(
    graph: _Graph, x: _Tensor, channels: int, depth: int, *, residual: bool
) -> _Tensor:
    inner, bypass = graph.conv(x, channels // 2), graph.conv(x, channels // 2)
    for _ in range(depth):
        refined = graph.conv(graph.conv(inner, channels // 2), channels // 2, 3)
        inner = graph.sum(inner, refined) if residual else refined
    return graph.conv(graph.join(inner, bypass), channels)


def _yolox_head(graph: _Graph, x: _Tensor) -> str:
    stem = graph.conv(x, 256)
    by_class = graph.conv(graph.conv(stem, 256, 3), 256, 3)
    by_place = graph.conv(graph.conv(stem, 256, 3), 256, 3)
    place = graph.plain_conv(by_place, 4).name
    certain = graph.plain_conv(by_place, 1).name
    # scores of 0: nobody is found, and the whole frame goes to the pose network
    nothing = graph.constant(np.array(0.0, np.float32))
    objectness = graph.add("Mul", [graph.add("Sigmoid", [certain]), nothing])
    classes = graph.add("Sigmoid", [graph.plain_conv(by_class, 80).name])
    joined = graph.add("Concat", [place, objectness, classes], axis=1)
    return graph.add("Reshape", [joined, graph.constant(np.array([0, 85, -1]))])


def save_rtmpose_l(path: Path, *, batch: Batch) -> int:
    """An RTMPose-l for 133 joints at 384x288; returns its operations per person."""
    graph = _Graph(seed=1)
    x = graph.conv(_Tensor("input", 3, 384, 288), 32, 3, stride=2)
    x = graph.conv(graph.conv(x, 32, 3), 64, 3)
    for channels, depth in ((128, 3), (256, 6), (512, 6), (1024, 3)):
        x = graph.conv(x, channels, 3, stride=2)
        if channels == 1024:
            x = graph.pyramid_pool(x)
        x = _rtmpose_stage(graph, x, channels, depth)
    _rtmpose_head(graph, x)
    outputs = {"simcc_x": [batch, 133, 576], "simcc_y": [batch, 133, 768]}
    graph.save(path, {"input": [batch, 3, 384, 288]}, outputs)
    return graph.operations


def _rtmpose_stage(graph: _Graph, x: _Tensor, channels: int, depth: int) -> _Tensor:
    half = channels // 2
    inner, bypass = graph.conv(x, half), graph.conv(x, half)
    for _ in range(depth):
        refined = graph.conv(graph.conv(inner, half, 3), half, 5, groups=half)
        refined = graph.conv(refined, half)
        inner = graph.sum(inner, refined) if channels < 1024 else refined
    joined = graph.join(inner, bypass)
    pooled = _Tensor(graph.add("GlobalAveragePool", [joined.name]), channels, 1, 1)
    gate = graph.add("HardSigmoid", [graph.plain_conv(pooled, channels).name])
    weighted = graph.add("Mul", [joined.name, gate])
    return graph.conv(_Tensor(weighted, channels, x.height, x.width), channels)


def _rtmpose_head(graph: _Graph, x: _Tensor) -> None:
    joints, width, gated, keys = 133, 256, 512, 128
    maps = graph.plain_conv(x, joints, 7)
    flat = graph.add("Reshape", [maps.name, graph.constant(np.array([0, joints, -1]))])
    tokens = graph.linear(flat, joints, x.height * x.width, width)
    value = graph.add("Relu", [graph.linear(tokens, joints, width, gated)])
    gate = graph.add("Relu", [graph.linear(tokens, joints, width, gated)])
    key = graph.linear(tokens, joints, width, keys)
    transposed = graph.add("Transpose", [key], perm=[0, 2, 1])
    attention = graph.add("Softmax", [graph.add("MatMul", [key, transposed])], axis=2)
    mixed = graph.add("Mul", [gate, graph.add("MatMul", [attention, value])])
    graph.operations += 2 * joints * joints * (keys + gated)
    tokens = graph.add("Add", [tokens, graph.linear(mixed, joints, gated, width)])
    for name, bins in (("simcc_x", 576), ("simcc_y", 768)):
        logits = graph.linear(tokens, joints, width, bins)
        graph.nodes.append(helper.make_node("Identity", [logits], [name]))
