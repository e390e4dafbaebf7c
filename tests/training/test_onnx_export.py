from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from animator_core.errors import CheckpointError
from animator_core.models.face_recognition import IResNet, build_recogniser
from animator_core.models.face_recognition_onnx import recogniser_state_from_onnx
from animator_core.training.onnx_export import save_onnx
from animator_core.training.recogniser import save_recogniser_onnx


def shaken(network: nn.Module) -> nn.Module:
    """Norms with statistics of their own, as after training."""
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.3)
    return network.eval()


def run(path, picture: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: picture.numpy()})


class Every(nn.Module):
    """Every kind of layer and operation that the exporter knows."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.folded = nn.BatchNorm2d(8)
        self.slope = nn.PReLU(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.rest = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 1, stride=2))
        self.line = nn.Linear(64, 5)
        self.fc = nn.Linear(512, 4)
        self.gate = nn.Sigmoid()

    def forward(self, x):
        a = self.slope(self.folded(self.conv(self.norm(x))))
        b = F.interpolate(self.rest(self.deep(a)), scale_factor=2, mode="nearest")
        joined = torch.cat([a + b, b], dim=1)
        rows = joined.permute(0, 2, 3, 1).reshape(-1, 2, 8)
        lines = self.line((a + b).flatten(2))
        return rows, lines, self.gate(self.fc(torch.flatten(a + b, 1)))


@torch.no_grad()
def test_written_network_computes_what_torch_does(tmp_path):
    torch.manual_seed(0)
    network = shaken(Every())
    path = tmp_path / "every.onnx"
    outputs = {"rows": ("rows", 2, 8), "lines": ("n", 8, 5), "last": ("n", 4)}
    save_onnx(network, path, inputs={"x": ("n", 3, 16, 16)}, outputs=outputs)
    picture = torch.randn(2, 3, 16, 16)
    for found, wanted in zip(run(path, picture), network(picture), strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_unknown_layers_are_refused_by_name(tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.tanh(x)

    with pytest.raises(CheckpointError, match="tanh"):
        save_onnx(Odd(), tmp_path / "x.onnx", inputs={"x": (1, 3)}, outputs={"y": (1, 3)})
    with pytest.raises(CheckpointError, match="GELU"):
        save_onnx(
            nn.Sequential(nn.GELU()), tmp_path / "x.onnx", inputs={"x": (1,)}, outputs={"y": (1,)}
        )
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_recogniser_written_and_read_is_the_same(tmp_path):
    torch.manual_seed(1)
    network = shaken(IResNet((1, 1, 2, 1), (4, 4, 8, 8, 8), 16))
    path = tmp_path / "glintr100.onnx"
    save_recogniser_onnx(network, path)
    faces = torch.rand(2, 3, 112, 112) * 2 - 1
    wanted = network(faces)
    np.testing.assert_allclose(run(path, faces)[0], wanted.numpy(), atol=1e-4)
    again = build_recogniser(recogniser_state_from_onnx(path))
    torch.testing.assert_close(again(faces), wanted, atol=1e-4, rtol=1e-4)
