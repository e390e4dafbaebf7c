"""Writes networks as ONNX files without torch's exporters, which change with every release.

A network is traced by `torch.fx`, so its forward pass must have no branches on tensors. The
layers of our recogniser and detectors are known; another one is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..checkpoints.writing import atomic
from ..errors import CheckpointError, DependencyError

__all__ = ["save_onnx"]

_OPSET = 13
_IR_VERSION = 8  # old enough for every onnxruntime that the pack supports

Shape = Sequence[int | str]
"""Sides; a name stands for one that is left open."""


def save_onnx(
    network: nn.Module,
    path: Path,
    *,
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
) -> None:
    """Write a network in eval mode; norms that follow a convolution are folded into it.

    Args:
        network: Takes one picture tensor and returns a tensor or a tuple of tensors.
        path: The file; an existing one is replaced.
        inputs: Name and shape of the picture.
        outputs: Names and shapes of the results, in their order.

    Raises:
        CheckpointError: If the network has a layer that is not known here, or the file cannot be
            written.
        DependencyError: If the package onnx is missing.
    """
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as error:
        raise DependencyError(
            "Writing ONNX files takes the package onnx; install it with: pip install onnx"
        ) from error
    graph = _Graph(network, list(inputs), list(outputs))

    def described(values: Mapping[str, Shape]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in values.items()
        ]

    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "network", described(inputs), described(outputs), graph.constants
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="stableanimator",
    )
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model)
    with atomic(path, overwrite=True) as file:
        file.write(model.SerializeToString())


class _Graph:
    """ONNX nodes and constants of a traced network."""

    def __init__(self, network: nn.Module, inputs: list[str], outputs: list[str]) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._traced = fx.symbolic_trace(network)
        self._modules = dict(self._traced.named_modules())
        self._values: dict[fx.Node, str] = {}
        self._matrices: set[str] = set()  # values of two dimensions
        self._written: set[str] = set()
        self._open = list(inputs)
        for node in self._traced.graph.nodes:
            self._write(node, outputs)

    def _write(self, node: fx.Node, outputs: list[str]) -> None:
        if node.op == "placeholder":
            self._values[node] = self._open.pop(0)
        elif node.op == "output":
            results: Any = node.args[0]
            results = results if isinstance(results, tuple) else (results,)
            for result, name in zip(results, outputs, strict=True):
                self._add("Identity", self._values[result], output=name)
        elif node.op == "call_module":
            self._values[node] = self._layer(node)
        elif node.op == "get_attr":
            value: Any = operator.attrgetter(str(node.target))(self._traced)
            self._values[node] = self._constant(value, str(node.target))
        else:
            self._values[node] = self._function(node)

    def _layer(self, node: fx.Node) -> str:
        name = str(node.target)
        module = self._modules[name]
        source: Any = node.args[0]
        x = self._values[source]
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            before = self._modules.get(str(source.target)) if source.op == "call_module" else None
            if isinstance(before, nn.Conv2d) and len(source.users) == 1:
                return x  # folded
            parts = ("weight", "bias", "running_mean", "running_var")
            constants = [self._constant(getattr(module, p), f"{name}.{p}") for p in parts]
            return self._add("BatchNormalization", x, *constants, epsilon=module.eps)
        if isinstance(module, nn.Conv2d):
            return self._convolution(node, module, name, x)
        if isinstance(module, nn.Linear):
            return self._linear(module, name, x)
        if isinstance(module, nn.PReLU):
            return self._add("PRelu", x, self._constant(module.weight.view(-1, 1, 1), name))
        if isinstance(module, (nn.ReLU, nn.Sigmoid)):
            return self._add("Relu" if isinstance(module, nn.ReLU) else "Sigmoid", x)
        raise _unknown(f"the layer {name} ({type(module).__name__})")

    def _convolution(self, node: fx.Node, conv: nn.Conv2d, name: str, x: str) -> str:
        weight = conv.weight
        bias = torch.zeros_like(weight[:, 0, 0, 0]) if conv.bias is None else conv.bias
        users = list(node.users)
        norm = self._modules.get(str(users[0].target)) if len(users) == 1 else None
        if isinstance(norm, nn.BatchNorm2d) and users[0].op == "call_module":
            assert norm.running_var is not None
            assert norm.running_mean is not None
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight = weight * scale.view(-1, 1, 1, 1)
            bias = norm.bias + (bias - norm.running_mean) * scale
        return self._add(
            "Conv",
            x,
            self._constant(weight, f"{name}.weight"),
            self._constant(bias, f"{name}.bias"),
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            pads=[int(p) for p in conv.padding] * 2,
            group=conv.groups,
        )

    def _linear(self, linear: nn.Linear, name: str, x: str) -> str:
        bias = self._constant(linear.bias, f"{name}.bias")
        if x in self._matrices:
            weight = self._constant(linear.weight, f"{name}.weight")
            return self._add("Gemm", x, weight, bias, alpha=1.0, beta=1.0, transB=1)
        weight = self._constant(linear.weight.t(), f"{name}.weight")
        return self._add("Add", self._add("MatMul", x, weight), bias)

    def _function(self, node: fx.Node) -> str:
        target = node.target
        writers: dict[Any, Callable[[fx.Node], str]] = {
            operator.add: self._sum,
            torch.add: self._sum,
            torch.cat: self._concatenation,
            F.interpolate: self._doubling,
            torch.flatten: self._flattening,
            "flatten": self._flattening,
            "permute": self._transposition,
            "reshape": self._reshaping,
        }
        if target not in writers:
            raise _unknown(f"the operation {target}")
        return writers[target](node)

    def _sum(self, node: fx.Node) -> str:
        return self._add("Add", *(self._values[a] for a in node.args))  # pyright: ignore[reportArgumentType]

    def _concatenation(self, node: fx.Node) -> str:
        parts: Any = node.args[0]
        axis: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        return self._add("Concat", *(self._values[p] for p in parts), axis=axis)

    def _doubling(self, node: fx.Node) -> str:
        source: Any = node.args[0]
        if node.kwargs.get("scale_factor") != 2 or node.kwargs.get("mode") != "nearest":
            raise _unknown(f"the operation {node.target} other than doubling by repetition")
        scales = self._constant(np.array([1, 1, 2, 2], np.float32), f"{node.name}.scales")
        return self._add(
            "Resize",
            self._values[source],
            "",
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def _flattening(self, node: fx.Node) -> str:
        source: Any = node.args[0]
        first: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
        if first == 1:
            flat = self._add("Flatten", self._values[source], axis=1)
            self._matrices.add(flat)
            return flat
        shape = self._constant(np.array([0] * first + [-1]), f"{node.name}.shape")
        return self._add("Reshape", self._values[source], shape)

    def _transposition(self, node: fx.Node) -> str:
        source, *order = node.args
        return self._add("Transpose", self._values[source], perm=list(order))  # pyright: ignore[reportArgumentType]

    def _reshaping(self, node: fx.Node) -> str:
        source, *sides = node.args
        shape = self._constant(np.array(sides, np.int64), f"{node.name}.shape")
        return self._add("Reshape", self._values[source], shape)  # pyright: ignore[reportArgumentType]

    def _constant(self, value: Tensor | np.ndarray[Any, Any] | None, name: str) -> str:
        from onnx import numpy_helper

        if value is None:
            raise _unknown(f"{name}, which is missing")
        if name in self._written:  # a layer that is used more than once
            return name
        self._written.add(name)
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name


def _unknown(what: str) -> CheckpointError:
    return CheckpointError(
        f"This network cannot be written as ONNX: {what} is not one of the kinds that are known "
        "(Conv2d, Linear, batch norms, ReLU, PReLU, Sigmoid, +, cat, permute, reshape, flatten, "
        "interpolate by 2). Add it to training/onnx_export.py."
    )
