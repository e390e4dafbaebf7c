"""Inflated 3-D Inception (I3D), whose Kinetics-400 logits are the features of the FVD.

Attribute names are those of the published state dicts. Padding is as TensorFlow's "SAME": the odd
row goes to the end.

Source: Carreira and Zisserman (2017), Quo Vadis, Action Recognition?; names of the state dict from
piergiaj/pytorch-i3d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["I3D", "I3DWidths"]

Size = tuple[int, int, int]
_POOLS: dict[str, tuple[Size, Size]] = {
    "Conv3d_1a_7x7": ((1, 3, 3), (1, 2, 2)),
    "Conv3d_2c_3x3": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3c": ((3, 3, 3), (2, 2, 2)),
    "Mixed_4f": ((2, 2, 2), (2, 2, 2)),
}
"""Kernel and stride of the pooling after a layer."""


@dataclass(frozen=True, kw_only=True)
class I3DWidths:
    """Channels.

    Attributes:
        stem: Of the first three convolutions.
        mixed: Of each Inception block: 1x1, 3x3 reduced, 3x3, second 3x3 reduced, second 3x3, pool.
        classes: Logits.
    """

    stem: tuple[int, int, int] = (64, 64, 192)
    mixed: tuple[tuple[str, tuple[int, int, int, int, int, int]], ...] = (
        ("Mixed_3b", (64, 96, 128, 16, 32, 32)),
        ("Mixed_3c", (128, 128, 192, 32, 96, 64)),
        ("Mixed_4b", (192, 96, 208, 16, 48, 64)),
        ("Mixed_4c", (160, 112, 224, 24, 64, 64)),
        ("Mixed_4d", (128, 128, 256, 24, 64, 64)),
        ("Mixed_4e", (112, 144, 288, 32, 64, 64)),
        ("Mixed_4f", (256, 160, 320, 32, 128, 128)),
        ("Mixed_5b", (256, 160, 320, 32, 128, 128)),
        ("Mixed_5c", (384, 192, 384, 48, 128, 128)),
    )
    classes: int = 400


def _pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    padding: list[int] = []
    for size, k, s in zip(reversed(x.shape[-3:]), reversed(kernel), reversed(stride), strict=True):
        missing = max(k - (size % s or s), 0)
        padding += [missing // 2, missing - missing // 2]
    return F.pad(x, padding)


class _Unit(nn.Module):
    """Convolution, norm, ReLU; the logits' one has a bias and neither of the others."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, *, plain: bool = False
    ) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(before, after, kernel, stride=stride, bias=plain)
        self.bn = None if plain else nn.BatchNorm3d(after, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(_pad_same(x, self.conv3d.kernel_size, self.conv3d.stride))
        return x if self.bn is None else F.relu(self.bn(x))


class _Inception(nn.Module):
    def __init__(self, before: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.b0 = _Unit(before, widths[0], 1)
        self.b1a = _Unit(before, widths[1], 1)
        self.b1b = _Unit(widths[1], widths[2], 3)
        self.b2a = _Unit(before, widths[3], 1)
        self.b2b = _Unit(widths[3], widths[4], 3)
        self.b3b = _Unit(before, widths[5], 1)

    def forward(self, x: Tensor) -> Tensor:
        # zeros as padding are right for a maximum here: all values are behind a ReLU
        pooled = F.max_pool3d(_pad_same(x, (3, 3, 3), (1, 1, 1)), 3, 1)
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)]
        return torch.cat(branches, dim=1)


class I3D(nn.Module):
    """Video classifier.

    Args:
        widths: Channels; the published ones if left out.
    """

    def __init__(self, widths: I3DWidths | None = None) -> None:
        super().__init__()
        widths = widths or I3DWidths()
        first, second, third = widths.stem
        self.layers: list[str] = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"]
        self.add_module("Conv3d_1a_7x7", _Unit(3, first, 7, 2))
        self.add_module("Conv3d_2b_1x1", _Unit(first, second, 1))
        self.add_module("Conv3d_2c_3x3", _Unit(second, third, 3))
        before = third
        for name, channels in widths.mixed:
            self.add_module(name, _Inception(before, channels))
            self.layers.append(name)
            before = channels[0] + channels[2] + channels[4] + channels[5]
        self.logits = _Unit(before, widths.classes, 1, plain=True)

    def forward(self, clips: Float[Tensor, "n 3 frames 224 224"]) -> Float[Tensor, "n classes"]:
        """Logits, averaged over time.

        Args:
            clips: In -1..1, at least 9 frames.
        """
        x = clips
        for name in self.layers:
            x = self.get_submodule(name)(x)
            if name in _POOLS:
                kernel, stride = _POOLS[name]
                x = F.max_pool3d(_pad_same(x, kernel, stride), kernel, stride)
        x = self.logits(F.avg_pool3d(x, (2, 7, 7), 1))
        return x.flatten(2).mean(dim=2)
