"""What the face and the person detector share: network, places, batches and losses.

Both look for boxes on the grids of strides 8, 16 and 32. A cell of a grid, or each of its anchors,
is responsible for things of a certain size whose centre is near it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ConfigError
from .detector_data import DetectorDataConfig, PicturePool, Scenery, Shown, compose, draw_pictures
from .loop import LoopConfig, Objective

__all__ = [
    "IGNORED",
    "MOST_THINGS",
    "NOTHING",
    "STRIDES",
    "AnchorGrid",
    "Backbone",
    "BoxDetectorConfig",
    "BoxObjective",
    "ConvBlock",
    "Pyramid",
    "Residual",
    "Samples",
    "assign",
    "box_batch",
    "box_losses",
    "draw_samples",
    "focal_loss",
    "generalized_iou",
    "held_out_samples",
    "overlaps",
    "owned",
]

STRIDES = (8, 16, 32)
NOTHING, IGNORED = -1, -2
MOST_THINGS = 8  # of a picture

Floats = NDArray[np.float64]
Samples = list[tuple[NDArray[np.uint8], list[Shown]]]

_IGNORED_REACH = 2.0  # in reaches; cells this near a centre are neither right nor wrong


class ConvBlock(nn.Sequential):
    """Convolution, norm, ReLU.

    Args:
        channels_in: Input channels.
        channels: Output channels.
        stride: Of the convolution.
    """

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )


class Residual(nn.Module):
    """Two convolutions beside a shortcut.

    Args:
        channels: Input and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] → the same."""
        return self.relu(x + self.second(self.first(x)))


class Backbone(nn.Module):
    """Features of strides 8, 16 and 32.

    Args:
        widths: Channels at strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        if len(widths) != 5:
            raise ConfigError(f"widths is {tuple(widths)}; give five, of strides 2, 4, 8, 16, 32.")
        self.stem = nn.Sequential(ConvBlock(3, widths[0], 2), ConvBlock(widths[0], widths[1], 2))
        self.stages = nn.ModuleList(
            nn.Sequential(ConvBlock(before, width, 2), Residual(width))
            for before, width in pairwise(widths[1:])
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """[n, 3, h, w] → features of each of `STRIDES`."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Pyramid(nn.Module):
    """Features of each stride that know of the coarser ones.

    Args:
        widths: Of the backbone.
        channels: Of every result.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.backbone = Backbone(widths)
        self.sideways = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths[2:])
        self.smooth = nn.ModuleList(ConvBlock(channels, channels) for _ in STRIDES)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[n, 3, h, w] → [n, channels, h / stride, w / stride] of each of `STRIDES`."""
        fine, middle, coarse = (
            side(feature) for side, feature in zip(self.sideways, self.backbone(x), strict=True)
        )
        middle = middle + F.interpolate(coarse, scale_factor=2, mode="nearest")
        fine = fine + F.interpolate(middle, scale_factor=2, mode="nearest")
        return [
            smooth(feature)
            for smooth, feature in zip(self.smooth, (fine, middle, coarse), strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class AnchorGrid:
    """Where a detector looks, and for what sizes.

    Attributes:
        height: Of the detector's input [px].
        width: Of the detector's input [px].
        sizes_px: Per stride, per anchor of a cell: least and largest size that it is for.
        offset: Where a cell's point is, from its top left corner, in cells.
        reach: A cell is responsible for centres within this many strides of its middle, or within
            `share` of the thing's size.
        share: See `reach`.
    """

    height: int
    width: int
    sizes_px: tuple[tuple[tuple[float, float], ...], ...]
    offset: float = 0.0
    reach: float = 0.8
    share: float = 0.12

    def __post_init__(self) -> None:
        if self.height % STRIDES[-1] or self.width % STRIDES[-1]:
            raise ConfigError(
                f"A detector's input is {self.width}x{self.height} px, but both sides must be "
                f"multiples of {STRIDES[-1]}."
            )

    def points(self) -> tuple[Floats, Floats]:
        """Points [n, 2] and strides [n] of all anchors: by stride, row, column, anchor."""
        points, strides = [], []
        for stride, sizes in zip(STRIDES, self.sizes_px, strict=True):
            rows, columns = np.indices((self.height // stride, self.width // stride))
            cells = np.stack([columns.ravel(), rows.ravel()], axis=1) + self.offset
            points.append(np.repeat(cells * stride, len(sizes), axis=0))
            strides.append(np.full(len(points[-1]), float(stride)))
        return np.concatenate(points), np.concatenate(strides)

    def ranges(self) -> Floats:
        """Least and largest size [n, 2] of all anchors, in the order of `points`."""
        return np.concatenate(
            [
                np.tile(sizes, ((self.height // stride) * (self.width // stride), 1))
                for stride, sizes in zip(STRIDES, self.sizes_px, strict=True)
            ]
        )


def assign(grid: AnchorGrid, boxes: Floats) -> NDArray[np.int64]:
    """Which thing each anchor is responsible for.

    Args:
        grid: The anchors.
        boxes: [k, 4] left, top, right, bottom [px].

    Returns:
        [n] index of a box, `NOTHING`, or `IGNORED` near boxes that others are responsible for.
    """
    points, strides = grid.points()
    middles = points + (0.5 - grid.offset) * strides[:, None]
    ranges = grid.ranges()
    owner = np.full(len(points), NOTHING, dtype=np.int64)
    best = np.full(len(points), np.inf)
    for index, box in enumerate(boxes):
        size = float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1e-9)))
        distance = np.abs(middles - (box[:2] + box[2:]) / 2).max(axis=1)
        reach = np.maximum(grid.reach * strides, grid.share * size)
        fits = (ranges[:, 0] <= size) & (size < ranges[:, 1])
        taken = fits & (distance <= reach) & (distance < best)
        near = (distance <= _IGNORED_REACH * reach) & (owner == NOTHING)
        # sizes that almost fit are no mistake either
        near &= (ranges[:, 0] <= 1.6 * size) & (size < 1.6 * ranges[:, 1])
        owner[near & ~taken] = IGNORED
        owner[taken], best[taken] = index, distance[taken]
    return owner


@dataclass(frozen=True, kw_only=True)
class BoxDetectorConfig(ABC):
    """One training run of a detector.

    Attributes:
        loop: What every training has in common.
        data: The pictures.
        size: Side of the detector's input [px]; a multiple of 32.
        widths: Channels of the backbone at strides 2, 4, 8, 16 and 32.
        channels: Of the pyramid.
        batch: Pictures of a step.
    """

    padding: ClassVar[int]  # value of the canvas where no picture is

    loop: LoopConfig
    data: DetectorDataConfig
    size: int
    widths: tuple[int, ...] = (12, 16, 32, 48, 64)
    channels: int = 32
    batch: int = 16

    @abstractmethod
    def grid(self) -> AnchorGrid:
        """The anchors; sizes overlap, so that no size falls between two."""


def draw_samples(config: BoxDetectorConfig, pool: PicturePool, lot: np.random.Generator) -> Samples:
    """Pictures [size, size, 3] of one batch, and their people."""
    scenery = Scenery(height=config.size, width=config.size, padding=config.padding)
    return [compose(lot, pool, scenery, config.data) for _ in range(config.batch)]


def held_out_samples(config: BoxDetectorConfig) -> Iterator[Samples]:
    """Batches of people that training never sees, the same ones every time."""
    pool = PicturePool(draw_pictures(config.data, "test"))
    lot = np.random.default_rng(config.loop.seed)
    for _ in range(max(len(pool) // (2 * config.batch), 1)):
        yield draw_samples(config, pool, lot)


def box_batch(
    samples: Samples, boxes: Sequence[Sequence[Floats]], grid: AnchorGrid
) -> dict[str, Tensor]:
    """A batch for an objective.

    Args:
        samples: Pictures and their people.
        boxes: Of each picture, at most `MOST_THINGS`: left, top, right, bottom [px].
        grid: The anchors.

    Returns:
        `pictures` uint8 [n, 3, H, W]; `owner` int64 [n, anchors] from `assign`; `boxes` [n, 8, 4]
        in pixels, zero where there are fewer.
    """
    padded = np.zeros((len(samples), MOST_THINGS, 4), np.float32)
    owner = []
    for index, found in enumerate(boxes):
        padded[index, : len(found)] = np.reshape(found, (-1, 4))
        owner.append(assign(grid, padded[index, : len(found)].astype(np.float64)))
    pictures = np.stack([picture for picture, _ in samples]).transpose(0, 3, 1, 2)
    return {
        "pictures": torch.from_numpy(np.ascontiguousarray(pictures)),
        "owner": torch.from_numpy(np.stack(owner)),
        "boxes": torch.from_numpy(padded),
    }


class BoxObjective(Objective):
    """What an objective knows of its anchors: `anchors` [n, 2] and `strides` [n], in pixels.

    Args:
        grid: The anchors.
    """

    anchors: Tensor
    strides: Tensor

    def __init__(self, grid: AnchorGrid) -> None:
        super().__init__()
        anchors, strides = grid.points()
        self.register_buffer("anchors", torch.from_numpy(anchors).float(), persistent=False)
        self.register_buffer("strides", torch.from_numpy(strides).float(), persistent=False)


def owned(batch: dict[str, Tensor], name: str) -> Tensor:
    """What the responsible anchors are responsible for, in the order of `owner >= 0`.

    Args:
        batch: From `box_batch`.
        name: Of its [n, 8, ...] numbers.
    """
    owner = batch["owner"]
    mine = owner >= 0
    rows, _ = mine.nonzero(as_tuple=True)
    return batch[name][rows, owner[mine]]


def box_losses(
    batch: dict[str, Tensor],
    logits: Float[Tensor, "n anchors"],
    boxes: Float[Tensor, "n anchors 4"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Losses of scores and of boxes' overlap, per responsible anchor.

    Args:
        batch: From `box_batch`.
        logits: Of there being a thing.
        boxes: Left, top, right, bottom [px].
    """
    owner = batch["owner"]
    mine = owner >= 0
    count = mine.sum().clamp(min=1)
    asked = owner >= NOTHING
    score = focal_loss(logits[asked], mine[asked].to(logits.dtype)) / count
    overlap = (1 - generalized_iou(boxes[mine], owned(batch, "boxes"))).sum() / count
    return score, overlap


def focal_loss(logits: Float[Tensor, " n"], targets: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross entropy, weighted by the square of the error, as a sum.

    Args:
        logits: Before the sigmoid.
        targets: 0..1.

    Source: Li et al., "Generalized Focal Loss" (2020), equation 5 with beta 2.
    """
    error = (torch.sigmoid(logits) - targets).abs().detach()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (error.square() * entropy).sum()


def generalized_iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Overlap of boxes, -1..1; below 0 it says how far apart they are.

    Source: Rezatofighi et al., "Generalized Intersection over Union" (2019).
    """

    def area(box: Tensor) -> Tensor:
        return (box[:, 2:] - box[:, :2]).clamp(min=0).prod(dim=1)

    inner = torch.cat([torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])], 1)
    outer = torch.cat([torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])], 1)
    shared = area(inner)
    union = (area(a) + area(b) - shared).clamp(min=1e-6)
    hull = area(outer).clamp(min=1e-6)
    return shared / union - (hull - union) / hull


def overlaps(boxes: Float[Tensor, "n 4"], others: Float[Tensor, "k 4"]) -> Float[Tensor, "n k"]:
    """Intersection over union of every box with every other one."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)

    def area(x: Tensor) -> Tensor:
        return (x[:, 2:] - x[:, :2]).clamp(min=0).prod(dim=1)

    return shared / (area(boxes)[:, None] + area(others) - shared).clamp(min=1e-6)
