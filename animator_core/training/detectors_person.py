"""Training of a small person detector in the layout of YOLOX, on drawn people.

One output [1, cells, 6]: offset in the cell, log size, objectness and the person's class.

Source of the layout: Ge et al., "YOLOX: Exceeding YOLO Series in 2021" (2021), as published in
DWPose's `yolox_l.onnx`; that one has 80 classes, of which only the first is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..pose.detector import MIN_SCORE, PAD_VALUE
from .detector_data import PicturePool, draw_pictures
from .detectors import (
    MOST_THINGS,
    STRIDES,
    AnchorGrid,
    BoxDetectorConfig,
    BoxObjective,
    ConvBlock,
    Pyramid,
    Samples,
    box_batch,
    box_losses,
    draw_samples,
    held_out_samples,
    overlaps,
)
from .onnx_export import save_onnx
from .tasks import TrainingTask

__all__ = [
    "TASK",
    "PersonDetector",
    "PersonDetectorConfig",
    "PersonDetectorObjective",
    "PersonSource",
    "save_person_detector",
]

_GUESS = -4.0  # logit that a fresh network gives every cell
_NUMBERS = 6
_LARGEST = 5.0  # of the logarithm of sizes in strides


@dataclass(frozen=True, kw_only=True)
class PersonDetectorConfig(BoxDetectorConfig):
    """One training run of the person detector; what both have in common is `BoxDetectorConfig`.

    Attributes:
        size: Side of the detector's input [px]; a multiple of 32.
        box_weight: Of the loss of the boxes' overlap.
    """

    padding: ClassVar[int] = PAD_VALUE

    size: int = 160
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
        """See `box_batch`."""
        pool, lot = PicturePool(self.folder), np.random.default_rng(seed)
        return _batch_of(draw_samples(self.config, pool, lot), self.config.grid())


def _batch_of(samples: Samples, grid: AnchorGrid) -> dict[str, Tensor]:
    boxes = [[person.box for person in people[:MOST_THINGS]] for _, people in samples]
    return box_batch(samples, boxes, grid)


class PersonDetectorObjective(BoxObjective):
    """Scores by focal loss, boxes by overlap.

    Args:
        config: The run.
    """

    def __init__(self, config: PersonDetectorConfig) -> None:
        super().__init__(config.grid())
        self.config = config
        torch.manual_seed(config.loop.seed)
        network = PersonDetector(config.widths, config.channels)
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch of `PersonSource`."""
        del generator  # nothing is left to chance here
        boxes, logits = self.predict(batch["pictures"])
        score, overlap = box_losses(batch, logits[..., 0], boxes)
        label = logits[..., 1][batch["owner"] >= 0]
        kind = F.binary_cross_entropy_with_logits(label, torch.ones_like(label), reduction="sum")
        kind = kind / max(len(label), 1)
        return {
            "loss": score + self.config.box_weight * overlap + kind,
            "score": score,
            "overlap": overlap,
            "kind": kind,
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
        strides = self.strides[:, None]
        center = maps[..., :2] * strides + self.anchors
        half = maps[..., 2:].clamp(max=_LARGEST).exp() * strides / 2
        return torch.cat([center - half, center + half], dim=2), logits

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """Recall, false alarms and overlap on people that training never sees."""
        best: list[float] = []
        alarms = pictures = 0
        for samples in held_out_samples(self.config):
            batch = _batch_of(samples, self.config.grid())
            boxes, logits = self.predict(batch["pictures"].to(self.anchors.device))
            sure = (logits.sigmoid().prod(dim=2) > MIN_SCORE).cpu()
            pictures += len(samples)
            for index in range(len(samples)):
                people = batch["boxes"][index]
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


TASK = TrainingTask(
    PersonDetectorConfig,
    PersonDetectorObjective,
    lambda config: PersonSource(draw_pictures(config.data, "train"), config),
)
