"""Small ONNX files in the layout of antelopev2: an ArcFace recogniser and an SCRFD detector.

The recogniser is a real IResNet, written the way the published file was. The detector is not
trained; it finds markers: squares of `MARKER_PX` that are red above and green below, in a picture
that is shown to it at its own size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from animator_core.models.face_recognition import IResNet

STRIDES = (8, 16, 32)
MARKER_PX = 64
POINTS_PX = np.array([[-14.0, -12], [14, -12], [0, 2], [-10, 16], [10, 16]])
"""Where the detector puts the five points, from the centre of a marker."""


def small_recogniser(seed: int = 0, num_features: int = 32) -> IResNet:
    torch.manual_seed(seed)
    net = IResNet((2, 1, 2, 1), (8, 8, 12, 16, 16), num_features).eval()
    with torch.no_grad():
        for name, weight in net.state_dict().items():
            if name.endswith("running_var"):
                weight.uniform_(0.5, 2)
            elif name.endswith("running_mean") or (name.endswith("bias") and weight.ndim == 1):
                weight.normal_(0, 0.2)
            elif weight.ndim == 1 and "prelu" not in name:
                weight.uniform_(0.6, 1.4)
            elif weight.ndim == 1:
                weight.uniform_(0.1, 0.4)
    return net.requires_grad_(False)


class _Graph:
    def __init__(self) -> None:
        self.nodes, self.constants = [], []

    def constant(self, value, name: str) -> str:
        array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes) -> str:
        out = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def save(self, path: Path, picture: list, outputs: dict[str, list]) -> Path:
        inputs = [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, picture)]
        values = [
            helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in outputs.items()
        ]
        graph = helper.make_graph(self.nodes, "faces", inputs, values, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
        return path


def _norm(graph: _Graph, x: str, norm, name: str) -> str:
    names = [
        graph.constant(getattr(norm, part), f"{name}.{part}")
        for part in ("weight", "bias", "running_mean", "running_var")
    ]
    return graph.add("BatchNormalization", x, *names, epsilon=norm.eps)


def _conv(graph: _Graph, x: str, conv, norm, name: str, fold: bool) -> str:
    size, stride = conv.kernel_size[0], conv.stride[0]
    attributes = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [size // 2] * 4}
    if not fold:
        x = graph.add("Conv", x, graph.constant(conv.weight, f"{name}.weight"), **attributes)
        return _norm(graph, x, norm, f"{name}.norm")
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    number = str(len(graph.constants) + 600)  # folded weights lose their names
    weight = graph.constant(conv.weight * scale.view(-1, 1, 1, 1), number)
    bias = graph.constant(norm.bias - norm.running_mean * scale, number + "b")
    return graph.add("Conv", x, weight, bias, **attributes)


def save_recogniser(path: Path, net: IResNet, *, fold: bool = True, dynamic: bool = False) -> Path:
    """Write a recogniser like glintr100.onnx: convolutions with their norms folded in or not."""
    graph = _Graph()

    def prelu(x: str, module, name: str) -> str:
        return graph.add("PRelu", x, graph.constant(module.weight.view(-1, 1, 1), name))

    x = prelu(_conv(graph, "input.1", net.conv1, net.bn1, "conv1", fold), net.prelu, "slope")
    for stage in range(1, 5):
        for i, block in enumerate(net.get_submodule(f"layer{stage}")):
            name = f"layer{stage}.{i}"
            y = _norm(graph, x, block.bn1, f"{name}.bn1")
            y = _conv(graph, y, block.conv1, block.bn2, f"{name}.conv1", fold)
            y = prelu(y, block.prelu, f"{name}.slope")
            y = _conv(graph, y, block.conv2, block.bn3, f"{name}.conv2", fold)
            if block.downsample is not None:
                x = _conv(graph, x, *block.downsample, f"{name}.downsample", fold)
            x = graph.add("Add", y, x)
    x = graph.add("Flatten", _norm(graph, x, net.bn2, "bn2"), axis=1)
    weights = (graph.constant(net.fc.weight, "fc.weight"), graph.constant(net.fc.bias, "fc.bias"))
    x = graph.add("Gemm", x, *weights, alpha=1.0, beta=1.0, transB=1)
    x = _norm(graph, x, net.features, "features")
    return graph.save(
        path, ["n" if dynamic else 1, 3, 112, 112], {x: ["n" if dynamic else 1, net.num_features]}
    )


def save_detector(path: Path) -> Path:
    """Write a detector like scrfd_10g_bnkps.onnx: nine outputs, two anchors per cell."""
    graph, outputs = _Graph(), {}
    scores, boxes, points = [], [], []
    for stride in STRIDES:
        weight = np.zeros((2, 3, MARKER_PX, MARKER_PX), np.float32)
        half = MARKER_PX // 2
        weight[0, 0, :half] = weight[0, 1, half:] = 1  # red above, green below
        weight[0, 1, :half] = weight[0, 0, half:] = weight[0, 2] = -1
        weight /= MARKER_PX**2 / 20
        bias = np.array([-45.0 if stride == 8 else -1e3, -1e3], np.float32)
        kernel = {"kernel_shape": [MARKER_PX] * 2, "strides": [stride] * 2}
        before, after = half, half - stride
        pads = [before, before, after, after]
        x = graph.add(
            "Conv",
            "input.1",
            graph.constant(weight, f"w{stride}"),
            graph.constant(bias, f"b{stride}"),
            pads=pads,
            **kernel,
        )
        scores.append(_rows(graph, graph.add("Sigmoid", x), 1))
        reach = np.tile(np.full(4, half / stride, np.float32), 2)
        offsets = np.tile((POINTS_PX / stride).astype(np.float32).ravel(), 2)
        for values, width, found in ((reach, 4, boxes), (offsets, 10, points)):
            flat = np.zeros((len(values), 2, 1, 1), np.float32)
            constant = graph.add(
                "Conv",
                x,
                graph.constant(flat, f"z{width}_{stride}"),
                graph.constant(values, f"v{width}_{stride}"),
            )
            found.append(_rows(graph, constant, width))
    for group, width in ((scores, 1), (boxes, 4), (points, 10)):
        outputs |= {name: ["cells", width] for name in group}
    return graph.save(path, [1, 3, "height", "width"], outputs)


def _rows(graph: _Graph, x: str, width: int) -> str:
    shape = graph.constant(np.array([-1, width]), f"shape_{x}")
    return graph.add("Reshape", graph.add("Transpose", x, perm=[0, 2, 3, 1]), shape)


def marker_picture(height: int, width: int, centres) -> np.ndarray:
    """RGB picture with markers at (row, column), and textures that tell them apart."""
    picture = np.full((height, width, 3), 90, np.uint8)
    half = MARKER_PX // 2
    for number, (row, column) in enumerate(centres):
        rows = slice(max(row - half, 0), row)
        columns = slice(max(column - half, 0), column + half)
        picture[rows, columns] = (255, 0, 0)
        picture[row : row + half, columns] = (0, 255, 0)
        picture[row + 4 : row + 8, max(column - 20 + 9 * number, 0) : column + 20] = (0, 235, 0)
    return picture
