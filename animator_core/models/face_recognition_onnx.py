"""The weights of a face recogniser, read from its ONNX graph.

The published `glintr100.onnx` was traced in eval mode: norms that follow a convolution are folded
into it, norms that precede one are still there, and folded weights lost their names. So the graph
is walked from the picture to the embedding, block by block, and every weight gets its name from
its place. Graphs whose norms were not folded are read in the same way.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CheckpointError, DependencyError

__all__ = ["recogniser_state_from_onnx"]

_EPS = 1e-5
_STAGES = 4
_PASS_THROUGH = ("Identity", "Dropout", "Cast")
Array = NDArray[np.float32]


def recogniser_state_from_onnx(path: str | Path) -> dict[str, Tensor]:
    """Weights of an IResNet in ONNX form, under the names of `glintr100_torch.pth`.

    Args:
        path: Such as `antelopev2/glintr100.onnx`.

    Returns:
        A state dict for `build_recogniser`. A norm that was folded into its convolution becomes
        one that only adds the folded bias.

    Raises:
        CheckpointError: If the file is missing, damaged, or holds another network; the message
            says where the graph departs from an IResNet.
        DependencyError: If the onnx package is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise DependencyError(
            "Reading a face recogniser from an ONNX file takes the package onnx; install it with: "
            "pip install onnx"
        ) from error
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"There is no face recogniser at {path}; put antelopev2/glintr100.onnx there."
        )
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's errors have no common base
        raise CheckpointError(
            f"{path} is not a readable ONNX file ({error}); download it again."
        ) from error
    return _Reader(graph, path).read()


class _Reader:
    """Walks one graph and collects weights."""

    def __init__(self, graph: Any, path: Path) -> None:
        from onnx import numpy_helper

        self._path = path
        self._graph = graph
        self._constants: dict[str, Array] = {
            t.name: numpy_helper.to_array(t).astype(np.float32, copy=False)
            for t in graph.initializer
            if t.data_type in (1, 10, 11)  # float, float16, double
        }
        self._users: dict[str, list[Any]] = defaultdict(list)
        self._maker: dict[str, Any] = {}
        for node in graph.node:
            if node.op_type == "Constant":
                value = next((a.t for a in node.attribute if a.name == "value"), None)
                if value is not None and value.data_type in (1, 10, 11):
                    self._constants[node.output[0]] = numpy_helper.to_array(value).astype(
                        np.float32, copy=False
                    )
                continue
            if node.op_type == "Identity" and node.input[0] in self._constants:
                self._constants[node.output[0]] = self._constants[node.input[0]]
                continue
            for name in node.input:
                self._users[name].append(node)
            self._maker[node.output[0]] = node
        self.state: dict[str, Tensor] = {}

    def read(self) -> dict[str, Tensor]:
        """The whole network."""
        inputs = [i.name for i in self._graph.input if i.name not in self._constants]
        if len(inputs) != 1:
            raise self._other(f"it has {len(inputs)} inputs instead of one picture")
        place = self._convolution(inputs[0], "conv1", "bn1", stride=1)
        place = self._prelu(place, "prelu")
        stage, index = 0, 0
        while self._starts_block(place):
            if self._shortcut_node(place) is not None:
                stage, index = stage + 1, 0
            if not 1 <= stage <= _STAGES:
                raise self._other(f"it has more than {_STAGES} stages, or none")
            place = self._block(place, f"layer{stage}.{index}")
            index += 1
        if stage != _STAGES:
            raise self._other(f"it has {stage} stages instead of {_STAGES}")
        self._head(place)
        return self.state

    def _block(self, start: str, name: str) -> str:
        place = self._norm(start, f"{name}.bn1")
        place = self._convolution(place, f"{name}.conv1", f"{name}.bn2", stride=1)
        place = self._prelu(place, f"{name}.prelu")
        shortcut = self._shortcut_node(start)
        stride = 1 if shortcut is None else _strides(shortcut)
        place = self._convolution(place, f"{name}.conv2", f"{name}.bn3", stride=stride)
        other = start
        if shortcut is not None:
            names = (f"{name}.downsample.0", f"{name}.downsample.1")
            other = self._convolution(start, *names, stride=stride, size=1)
        add = self._next(place, "Add")
        if set(add.input) != {place, other}:
            raise self._other(f"the sum that ends {name} adds something else than its shortcut")
        return add.output[0]

    def _head(self, place: str) -> None:
        place = self._norm(place, "bn2")
        flat = self._next(place, "Flatten", "Reshape").output[0]
        dense = self._next(flat, "Gemm", "MatMul")
        weight = self._constant(dense.input[1], "fc.weight")
        attributes = {a.name: a for a in dense.attribute}
        transposed = "transB" in attributes and attributes["transB"].i == 1
        self._keep("fc.weight", weight if transposed else weight.T)
        place = dense.output[0]
        bias = self._constant(dense.input[2], "fc.bias") if len(dense.input) > 2 else None
        if dense.op_type == "MatMul":
            add = self._next(place, "Add")
            bias = self._constant(next(i for i in add.input if i != place), "fc.bias")
            place = add.output[0]
        self._keep("fc.bias", np.zeros(len(self.state["fc.weight"])) if bias is None else bias)
        while (around := self._reader(place, "Unsqueeze", "Reshape")) is not None:
            place = around.output[0]
        if self._reader(place, "BatchNormalization") is not None:
            self._norm(place, "features")
        else:
            self._identity_norm("features", np.zeros(len(self.state["fc.weight"])))

    def _convolution(self, place: str, name: str, norm: str, *, stride: int, size: int = 3) -> str:
        node = self._next(place, "Conv", kernel=size)
        weight = self._constant(node.input[1], f"{name}.weight")
        if weight.shape[2:] != (size, size) or _strides(node) != stride:
            raise self._other(
                f"{name} is a {'x'.join(map(str, weight.shape[2:]))} convolution of stride "
                f"{_strides(node)} instead of {size}x{size}, {stride}"
            )
        self._keep(f"{name}.weight", weight)
        place = node.output[0]
        folded = len(node.input) > 2
        if folded:
            self._identity_norm(norm, self._constant(node.input[2], f"{name}.bias"))
            return place
        return self._norm(place, norm)

    def _norm(self, place: str, name: str) -> str:
        node = self._next(place, "BatchNormalization")
        eps = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        parts = ("weight", "bias", "running_mean", "running_var")
        for part, source in zip(parts, node.input[1:5], strict=True):
            value = self._constant(source, f"{name}.{part}")
            self._keep(f"{name}.{part}", value + (eps - _EPS) if part == "running_var" else value)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(0)
        return node.output[0]

    def _identity_norm(self, name: str, bias: NDArray[Any]) -> None:
        ones = np.ones_like(bias)
        self._keep(f"{name}.weight", ones * np.sqrt(1 + _EPS))
        self._keep(f"{name}.bias", bias)
        self._keep(f"{name}.running_mean", ones * 0)
        self._keep(f"{name}.running_var", ones)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(0)

    def _prelu(self, place: str, name: str) -> str:
        node = self._next(place, "PRelu")
        self._keep(f"{name}.weight", self._constant(node.input[1], f"{name}.weight").reshape(-1))
        return node.output[0]

    def _shortcut_node(self, place: str) -> Any | None:
        """The 1x1 convolution beside a block that changes size, or None."""
        return self._reader(place, "Conv")

    def _following(self, place: str) -> list[Any]:
        """Nodes that read a value, looking through nodes that change nothing."""
        found: list[Any] = []
        for node in self._users[place]:
            through = node.op_type in _PASS_THROUGH
            found += self._following(node.output[0]) if through else [node]
        return found

    def _reader(self, place: str, *kinds: str) -> Any | None:
        """The first node of one of these kinds that reads a value, or None."""
        return next((n for n in self._following(place) if n.op_type in kinds), None)

    def _starts_block(self, place: str) -> bool:
        norm = self._reader(place, "BatchNormalization")
        return norm is not None and self._reader(norm.output[0], "Conv") is not None

    def _next(self, place: str, *kinds: str, kernel: int | None = None) -> Any:
        found = self._following(place)
        for node in found:
            if node.op_type in kinds and (kernel is None or self._kernel(node) == kernel):
                return node
        raise self._other(
            f"after {place!r} comes {', '.join(n.op_type for n in found) or 'nothing'} instead of "
            f"{' or '.join(kinds)}"
        )

    def _kernel(self, node: Any) -> int:
        return self._constant(node.input[1], node.name).shape[-1]

    def _constant(self, name: str, what: str) -> Array:
        if name not in self._constants:
            raise self._other(f"{what} is not stored in the file but computed ({name!r})")
        return self._constants[name]

    def _keep(self, name: str, value: NDArray[Any]) -> None:
        self.state[name] = torch.from_numpy(np.array(value, dtype=np.float32))

    def _other(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self._path.name} is not a face recogniser of the IResNet family: {reason}. Use "
            "antelopev2/glintr100.onnx or glintr100_torch.pth."
        )


def _strides(node: Any) -> int:
    return next((int(a.ints[0]) for a in node.attribute if a.name == "strides"), 1)
