"""Training of a small person detector in the layout of YOLOX, on drawn people.

One output [1, cells, 6]: offset in the cell, log size, objectness and the person's class.

Source of the layout: Ge et al., "YOLOX: Exceeding YOLO Series in 2021" (2021), as published in
DWPose's `yolox_l.onnx`; that one has 80 classes, of which only the first is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..interfaces import Monitor
from ..pose.detector import MIN_SCORE, PAD_VALUE
from .detector_data import DetectorDataConfig, PicturePool, Scenery, Shown, compose, draw_pictures
from .detectors import (
    NOTHING,
    STRIDES,
    AnchorGrid,
    ConvBlock,
    Pyramid,
    assign,
    focal_loss,
    generalized_iou,
    overlaps,
)
from .loop import LoopConfig, Objective, train
from .onnx_export import save_onnx
from .settings import read_settings

__all__ = [
    "PersonDetector",
    "PersonDetectorConfig",
    "PersonDetectorObjective",
    "PersonSource",
    "save_person_detector",
    "train_person_detector",
]

_MOST_PEOPLE = 8
_GUESS = -4.0  # logit that a fresh network gives every cell
_NUMBERS = 6
_LARGEST = 5.0  # of the logarithm of sizes in strides


@dataclass(frozen=True, kw_only=True)
class PersonDetectorConfig:
    """One training run of the person detector.

    Attributes:
        loop: What every training has in common.
        data: The pictures.
        size: Side of the detector's input [px]; a multiple of 32.
        widths: Channels of the backbone at strides 2, 4, 8, 16 and 32.
        channels: Of the pyramid.
        batch: Pictures of a step.
        box_weight: Of the loss of the boxes' overlap.
    """

    loop: LoopConfig
    data: DetectorDataConfig
    size: int = 160
    widths: tuple[int, ...] = (12, 16, 32, 48, 64)
    channels: int = 32
    batch: int = 16
    box_weight: float = 2.0

    def grid(self) -> AnchorGrid:
        """The cells; sizes overlap, so that no size falls between two."""
        sizes = (((0.0, 45.0),), ((35.0, 85.0),), ((65.0, 1e9),))
        return AnchorGrid(height=self.size, width=self.size, sizes_px=sizes)


class PersonDetector(nn.Module):
    """Boxes and scores of every cell.

    Args:
        widths: Of the backbone.
        channels: Of the pyramid.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        # the published network takes 0..255; this norm brings that to what convolutions like
        self.range = nn.BatchNorm2d(3)
        self.pyramid = Pyramid(widths, channels)
        # one for each stride: their norms see other statistics
        self.towers = nn.ModuleList(ConvBlock(channels, channels) for _ in STRIDES)
        self.boxes = nn.ModuleList(nn.Conv2d(channels, 4, 1) for _ in STRIDES)
        self.scores = nn.ModuleList(nn.Conv2d(channels, _NUMBERS - 4, 1) for _ in STRIDES)
        for head in self.scores:
            nn.init.constant_(head.bias, _GUESS)  # pyright: ignore[reportArgumentType]

    def forward(self, pictures: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes and logits of strides 8, 16 and 32.

        Args:
            pictures: [n, 3, h, w], RGB, 0..255.

        Returns:
            [n, 4, rows, columns] offsets and log sizes, in strides, of each stride; and
            [n, 2, rows, columns] logits of objectness and class.
        """
        features = [
            tower(feature)
            for tower, feature in zip(self.towers, self.pyramid(self.range(pictures)), strict=True)
        ]
        boxes = [head(feature) for head, feature in zip(self.boxes, features, strict=True)]
        scores = [head(feature) for head, feature in zip(self.scores, features, strict=True)]
        return boxes, scores


class _Published(nn.Module):
    """The detector with the published output: rows of cells, scores 0..1."""

    def __init__(self, network: PersonDetector) -> None:
        super().__init__()
        self.network = network
        self.sigmoid = nn.Sigmoid()

    def forward(self, pictures: Tensor) -> Tensor:
        boxes, scores = self.network(pictures)
        cells = [
            torch.cat([box, self.sigmoid(score)], dim=1).flatten(2)
            for box, score in zip(boxes, scores, strict=True)
        ]
        return torch.cat(cells, dim=2).permute(0, 2, 1)


def save_person_detector(network: PersonDetector, path: Path, size: int) -> None:
    """Write a detector in the layout of the published `yolox_l.onnx`, with one class.

    Args:
        network: In eval mode.
        path: The file; an existing one is replaced.
        size: Side of its input [px].
    """
    cells = sum((size // stride) ** 2 for stride in STRIDES)
    save_onnx(
        _Published(network),
        path,
        inputs={"images": (1, 3, size, size)},
        outputs={"output": (1, cells, _NUMBERS)},
    )


@dataclass(frozen=True)
class PersonSource:
    """Draws batches of pictures and where their people are.

    Attributes:
        folder: Of the drawn pictures.
        config: The run.
    """

    folder: Path
    config: PersonDetectorConfig

    def __call__(self, step: int, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """`pictures` uint8 [n, 3, H, W], `owner` int64 [n, cells], `people` [n, 8, 4] in pixels."""
        config, lot = self.config, np.random.default_rng(seed)
        pool = PicturePool(self.folder)
        scenery = Scenery(height=config.size, width=config.size, padding=PAD_VALUE)
        samples = [compose(lot, pool, scenery, config.data) for _ in range(config.batch)]
        return _batch_of(samples, config.grid())


def _batch_of(samples: Sequence[tuple[Any, list[Shown]]], grid: AnchorGrid) -> dict[str, Tensor]:
    people = np.zeros((len(samples), _MOST_PEOPLE, 4), np.float32)
    owner = []
    for index, (_, shown) in enumerate(samples):
        boxes = [person.box for person in shown][:_MOST_PEOPLE]
        people[index, : len(boxes)] = np.reshape(boxes, (-1, 4))
        owner.append(assign(grid, people[index, : len(boxes)].astype(np.float64)))
    pictures = np.stack([picture for picture, _ in samples]).transpose(0, 3, 1, 2)
    return {
        "pictures": torch.from_numpy(np.ascontiguousarray(pictures)),
        "owner": torch.from_numpy(np.stack(owner)),
        "people": torch.from_numpy(people),
    }


def train_person_detector(
    content: dict[str, Any], source: object, monitor: Monitor | None = None
) -> Path:
    """Train as a settings file says; goes on where it stopped.

    Args:
        content: The file's tables, without `task`.
        source: For messages.
        monitor: Sees the steps.

    Returns:
        The output folder, with `DWPose/yolox_l.onnx`.

    Raises:
        ConfigError: If a setting is unknown or not valid.
    """
    config = read_settings(PersonDetectorConfig, content, source=source)
    batches = PersonSource(draw_pictures(config.data, "train"), config)
    return train(PersonDetectorObjective(config), batches, config.loop, monitor=monitor)


class PersonDetectorObjective(Objective):
    """Scores by focal loss, boxes by overlap.

    Args:
        config: The run.
    """

    def __init__(self, config: PersonDetectorConfig) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(config.loop.seed)
        network = PersonDetector(config.widths, config.channels)
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        corners, strides = config.grid().points()
        self.register_buffer("corners", torch.from_numpy(corners).float(), persistent=False)
        self.register_buffer("strides", torch.from_numpy(strides).float(), persistent=False)

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch of `PersonSource`."""
        del generator  # nothing is left to chance here
        boxes, logits = self.predict(batch["pictures"])
        owner = batch["owner"]
        mine = owner >= 0
        count = mine.sum().clamp(min=1)
        asked = owner >= NOTHING
        score = focal_loss(logits[..., 0][asked], mine[asked].to(logits.dtype)) / count
        rows, _ = mine.nonzero(as_tuple=True)
        wanted = batch["people"][rows, owner[mine]]
        overlap = (1 - generalized_iou(boxes[mine], wanted)).sum() / count
        label = logits[..., 1][mine]
        kind = F.binary_cross_entropy_with_logits(label, torch.ones_like(label), reduction="sum")
        return {
            "loss": score + self.config.box_weight * overlap + kind / count,
            "score": score,
            "overlap": overlap,
            "kind": kind / count,
        }

    def predict(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """What the cells say.

        Args:
            pictures: uint8 [n, 3, H, W], RGB.

        Returns:
            Boxes [n, cells, 4]: left, top, right, bottom [px]; and logits [n, cells, 2].
        """
        pixels = pictures.float().contiguous(memory_format=torch.channels_last)
        maps, logits = (
            torch.cat([part.flatten(2) for part in parts], dim=2).transpose(1, 2)
            for parts in self.network(pixels)
        )
        strides: Any = self.strides
        center = maps[..., :2] * strides[:, None] + self.corners
        half = maps[..., 2:].clamp(max=_LARGEST).exp() * strides[:, None] / 2
        return torch.cat([center - half, center + half], dim=2), logits

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """Recall, false alarms and overlap on people that training never sees."""
        config = self.config
        pool = PicturePool(draw_pictures(config.data, "test"))
        lot = np.random.default_rng(config.loop.seed)
        scenery = Scenery(height=config.size, width=config.size, padding=PAD_VALUE)
        best: list[float] = []
        alarms = pictures = 0
        corners: Any = self.corners
        for _ in range(max(len(pool) // (2 * config.batch), 1)):
            samples = [compose(lot, pool, scenery, config.data) for _ in range(config.batch)]
            batch = _batch_of(samples, config.grid())
            boxes, logits = self.predict(batch["pictures"].to(corners.device))
            sure = (logits.sigmoid().prod(dim=2) > MIN_SCORE).cpu()
            pictures += len(samples)
            for index in range(len(samples)):
                people = batch["people"][index]
                shared = overlaps(boxes[index].cpu(), people) * sure[index][:, None]
                alarms += int((sure[index] & (shared.amax(dim=1) < 0.4)).any())
                best += shared.amax(dim=0)[people[:, 2] > people[:, 0]].tolist()
        return {
            "recall": float(np.mean(np.array(best) >= 0.5)) if best else 0.0,
            "overlap": float(np.mean(best)) if best else 0.0,
            "pictures_with_alarms": alarms / pictures,
        }

    def export(self, folder: Path) -> None:
        """Write `DWPose/yolox_l.onnx`."""
        save_person_detector(self.network, folder / "DWPose" / "yolox_l.onnx", self.config.size)
