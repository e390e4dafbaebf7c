"""Learned perceptual image patch similarity (LPIPS 0.1).

The feature network is read from a local file (torchvision's AlexNet or VGG-16, which ImageNet
trained); the small learned weights on top come with torchmetrics. Nothing is downloaded.

Source: Zhang et al. (2018), The Unreasonable Effectiveness of Deep Features as a Perceptual Metric.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoints.state_dict import load_strict, read_state_dict
from ..errors import ShapeError
from .measures import MetricUnavailableError
from .regions import Picture, Region, check_pair, region_mean

__all__ = ["FeatureNet", "Lpips", "find_weights", "load_lpips"]

FeatureNet = Literal["alex", "vgg"]

_FILES: dict[str, tuple[str, str]] = {
    "alex": ("alexnet", "torchvision's AlexNet, such as alexnet-owt-7be5be79.pth"),
    "vgg": ("vgg16", "torchvision's VGG-16, such as vgg16-397923af.pth"),
}
"""How a file's name begins, and what it is."""

_SUFFIXES = (".safetensors", ".pth", ".pt")
_LEAST_SIDE = 32
_TINY = 1e-8
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_VGG_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def _alexnet() -> tuple[nn.Sequential, tuple[int, ...], tuple[int, ...]]:
    """Layers at torchvision's indices, the layers that are compared, and their channels."""
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )
    return layers, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)


def _vgg16() -> tuple[nn.Sequential, tuple[int, ...], tuple[int, ...]]:
    layers: list[nn.Module] = []
    taps: list[int] = []
    before = 3
    for number, block in enumerate(_VGG_BLOCKS):
        if number:
            layers.append(nn.MaxPool2d(2, 2))
        for channels in block:
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        taps.append(len(layers) - 1)
    return nn.Sequential(*layers), tuple(taps), tuple(block[-1] for block in _VGG_BLOCKS)


class Lpips(nn.Module):
    """Distance of deep features.

    Args:
        net: Feature network.
        published_range: Feed 0..1, as the published tables' script does, where -1..1 is expected.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: FeatureNet, *, published_range: bool = False) -> None:
        super().__init__()
        self.features, self._taps, channels = _alexnet() if net == "alex" else _vgg16()
        self.weights = nn.ParameterList([nn.Parameter(torch.zeros(c)) for c in channels])
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)
        self._published_range = published_range
        self.eval().requires_grad_(False)

    def forward(self, frames: Float[Tensor, "n 3 height width"]) -> list[Tensor]:
        """Compared features, each [n, c, h, w] and of length 1 over the channels.

        Args:
            frames: In -1..1.
        """
        x = (frames - self.shift) / self.scale
        found: list[Tensor] = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._taps:
                found.append(x / (x.square().sum(dim=1, keepdim=True) + _TINY).sqrt())
        return found

    @torch.inference_mode()
    def distance(self, generated: Picture, target: Picture, region: Region | None = None) -> float:
        """LPIPS of two pictures.

        Protocol: squared difference of channel-normalised features of five layers, weighted by
        the learned weights, averaged over places and summed over layers.

        Args:
            generated: uint8 RGB [H, W, 3], sides of at least 32 px.
            target: uint8 RGB [H, W, 3].
            region: Where it counts; the layers' maps are then enlarged to the picture (bilinear).

        Returns:
            0 (equal) or more.

        Raises:
            ShapeError: If they cannot be compared, or are too small.
        """
        check_pair(generated, target, region)
        height, width = generated.shape[:2]
        if min(height, width) < _LEAST_SIDE:
            raise ShapeError(
                f"The pictures have {width}x{height} px but LPIPS needs sides of at least "
                f"{_LEAST_SIDE} px; leave it out for pictures this small."
            )
        both = torch.from_numpy(np.stack([generated, target])).to(self.shift.device)
        pixels = both.movedim(-1, 1).float() / 255
        total = 0.0
        for features, weight in zip(
            self(pixels if self._published_range else 2 * pixels - 1), self.weights, strict=True
        ):
            change = (features[0] - features[1]).square()
            local = (change * weight.view(-1, 1, 1)).sum(dim=0)
            if region is not None:
                local = F.interpolate(local[None, None], (height, width), mode="bilinear")[0, 0]
            total += region_mean(local.cpu().numpy(), region)
        return total


def find_weights(folder: Path | None, net: FeatureNet) -> Path:
    """The feature network's file in a folder.

    Raises:
        MetricUnavailableError: If there is none.
    """
    prefix, wanted = _FILES[net]
    found = [
        path
        for path in sorted(folder.iterdir() if folder is not None and folder.is_dir() else ())
        if path.name.lower().startswith(prefix) and path.suffix.lower() in _SUFFIXES
    ]
    if not found:
        place = f"found none in {folder}" if folder else "no folder was named"
        raise MetricUnavailableError(f"needs {wanted}; {place} (--metric-weights)")
    return found[0]


def load_lpips(folder: Path | None, net: FeatureNet, *, published_range: bool = False) -> Lpips:
    """LPIPS over a feature network from a local file.

    Args:
        folder: Where the file lies.
        net: Feature network.
        published_range: See `Lpips`.

    Raises:
        MetricUnavailableError: If the network is not there.
        CheckpointError: If the file is damaged, unsafe, or another network.
    """
    path = find_weights(folder, net)
    lpips = Lpips(net, published_range=published_range)
    weights = read_state_dict(path)
    prefix = "features."
    if any(name.startswith(prefix) for name in weights):  # the classifier is not needed
        weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    load_strict(lpips.features, weights, source=path, dtype=torch.float32)
    for number, weight in enumerate(_learned_weights(net, len(lpips.weights))):
        lpips.weights[number].copy_(weight)
    return lpips


def _learned_weights(net: FeatureNet, layers: int) -> list[Tensor]:
    """Weight per channel of each layer; part of torchmetrics, so nothing to fetch."""
    resource = files("torchmetrics") / "functional/image/lpips_models" / f"{net}.pth"
    with as_file(resource) as path:
        weights = read_state_dict(path)
    return [weights[f"lin{layer}.model.1.weight"].flatten() for layer in range(layers)]
