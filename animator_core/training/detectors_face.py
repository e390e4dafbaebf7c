"""Training of a small face detector in the layout of SCRFD, on drawn people.

Nine outputs: scores, boxes and five points of the strides 8, 16 and 32, two anchors per cell.

Source of the layout: Guo et al., "Sample and Computation Redistribution for Efficient Face
Detection" (2021), as published in insightface's `scrfd_10g_bnkps.onnx`.
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
    owned,
)
from .onnx_export import save_onnx
from .tasks import TrainingTask

__all__ = [
    "TASK",
    "FaceDetector",
    "FaceDetectorConfig",
    "FaceDetectorObjective",
    "FaceSource",
    "save_face_detector",
]

_ANCHORS = 2
_GUESS = -4.0  # logit that a fresh network gives every anchor
_POINT_ERROR = 0.02  # of the face's size, from which the loss of points is linear
_OUTPUTS = (
    ("448", "471", "494"),
    ("451", "474", "497"),
    ("454", "477", "500"),
)  # the published file's names
_WIDTHS = (1, 4, 10)


@dataclass(frozen=True, kw_only=True)
class FaceDetectorConfig(BoxDetectorConfig):
    """One training run of the face detector; what both have in common is `BoxDetectorConfig`.

    Attributes:
        size: Side of the detector's input [px]; a multiple of 32.
        point_weight: Of the loss of the five points.
    """

    padding: ClassVar[int] = 0

    size: int = 256
    point_weight: float = 4.0

    def grid(self) -> AnchorGrid:
        """The anchors; sizes overlap, so that no size falls between two."""
        return AnchorGrid(
            height=self.size,
            width=self.size,
            sizes_px=(
                ((0.0, 34.0), (26.0, 60.0)),
                ((48.0, 96.0), (80.0, 140.0)),
                ((115.0, 190.0), (160.0, 1e9)),
            ),
        )


class FaceDetector(nn.Module):
    """Scores, boxes and points of every anchor.

    Args:
        widths: Of the backbone.
        channels: Of the pyramid.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(widths, channels)
        # one for each stride: their norms see other statistics
        self.towers = nn.ModuleList(ConvBlock(channels, channels) for _ in STRIDES)

        def heads(numbers: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(channels, _ANCHORS * numbers, 1) for _ in STRIDES)

        self.scores, self.boxes, self.points = (heads(width) for width in _WIDTHS)
        for head in self.scores:
            nn.init.constant_(head.bias, _GUESS)  # pyright: ignore[reportArgumentType]
        for head in self.boxes:
            nn.init.constant_(head.bias, 2.0)  # pyright: ignore[reportArgumentType]

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Nine maps.

        Args:
            pictures: [n, 3, h, w], RGB, `(pixels - 127.5) / 128`.

        Returns:
            Logits of scores at strides 8, 16, 32, then distances to the four sides, then offsets
            of the points, both in strides: [n, h / stride, w / stride, 2 x 1, 4 or 10].
        """
        features = [
            tower(feature)
            for tower, feature in zip(self.towers, self.pyramid(pictures), strict=True)
        ]
        return tuple(
            head(feature).permute(0, 2, 3, 1)
            for heads in (self.scores, self.boxes, self.points)
            for head, feature in zip(heads, features, strict=True)
        )


class _Published(nn.Module):
    """The detector with the published outputs: one picture, rows of anchors, scores 0..1."""

    def __init__(self, network: FaceDetector) -> None:
        super().__init__()
        self.network = network
        self.sigmoid = nn.Sigmoid()

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        maps = self.network(pictures)
        rows = [maps[i].reshape(-1, _WIDTHS[i // 3]) for i in range(9)]
        return (*(self.sigmoid(row) for row in rows[:3]), *rows[3:])


def save_face_detector(network: FaceDetector, path: Path, size: int) -> None:
    """Write a detector in the layout of the published `scrfd_10g_bnkps.onnx`.

    Args:
        network: In eval mode.
        path: The file; an existing one is replaced.
        size: Side of its input [px].
    """
    outputs: dict[str, Sequence[int | str]] = {}
    for names, width in zip(_OUTPUTS, _WIDTHS, strict=True):
        for name, stride in zip(names, STRIDES, strict=True):
            outputs[name] = (_ANCHORS * (size // stride) ** 2, width)
    save_onnx(_Published(network), path, inputs={"input.1": (1, 3, size, size)}, outputs=outputs)


@dataclass(frozen=True)
class FaceSource:
    """Draws batches of pictures and where their faces are.

    Attributes:
        folder: Of the drawn pictures.
        config: The run.
    """

    folder: Path
    config: FaceDetectorConfig

    def __call__(self, step: int, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """That of `box_batch`, and `points` [n, 8, 5, 2] in pixels."""
        pool, lot = PicturePool(self.folder), np.random.default_rng(seed)
        return _batch_of(draw_samples(self.config, pool, lot), self.config.grid())


def _batch_of(samples: Samples, grid: AnchorGrid) -> dict[str, Tensor]:
    boxes = []
    points = np.zeros((len(samples), MOST_THINGS, 5, 2), np.float32)
    for index, (_, people) in enumerate(samples):
        seen = [(p.face_box, p.face_points) for p in people if p.face_box is not None]
        boxes.append([box for box, _ in seen[:MOST_THINGS]])
        for number, (_, five) in enumerate(seen[:MOST_THINGS]):
            points[index, number] = five
    return {**box_batch(samples, boxes, grid), "points": torch.from_numpy(points)}


class FaceDetectorObjective(BoxObjective):
    """Scores by focal loss, boxes by overlap, points by distance.

    Args:
        config: The run.
    """

    def __init__(self, config: FaceDetectorConfig) -> None:
        super().__init__(config.grid())
        self.config = config
        torch.manual_seed(config.loop.seed)
        network = FaceDetector(config.widths, config.channels)
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch of `FaceSource`."""
        del generator  # nothing is left to chance here
        logits, boxes, points = self.predict(batch["pictures"])
        score, overlap = box_losses(batch, logits, boxes)
        faces = owned(batch, "boxes")
        size = (faces[:, 2:] - faces[:, :2]).clamp(min=1e-3).prod(dim=1).sqrt()
        error = (points[batch["owner"] >= 0] - owned(batch, "points")) / size[:, None, None]
        distance = F.smooth_l1_loss(error, torch.zeros_like(error), beta=_POINT_ERROR)
        distance = distance if len(error) else score * 0
        return {
            "loss": score + overlap + self.config.point_weight * distance,
            "score": score,
            "overlap": overlap,
            "distance": distance,
        }

    def predict(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the anchors say.

        Args:
            pictures: uint8 [n, 3, H, W], RGB.

        Returns:
            Logits [n, anchors], boxes [n, anchors, 4] and points [n, anchors, 5, 2], in pixels.
        """
        pixels = (pictures.float() - 127.5) / 128
        maps = self.network(pixels.contiguous(memory_format=torch.channels_last))

        def rows(first: int, width: int) -> Tensor:
            parts = maps[first : first + 3]
            return torch.cat([part.reshape(len(pixels), -1, width) for part in parts], dim=1)

        anchors, strides = self.anchors, self.strides[:, None]
        sides = rows(3, 4) * strides
        boxes = torch.cat([anchors - sides[..., :2], anchors + sides[..., 2:]], dim=2)
        offsets = (rows(6, 10) * strides).unflatten(2, (5, 2))
        points = anchors[:, None] + offsets
        return rows(0, 1)[..., 0], boxes, points

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """Recall, false alarms and the points' error on people that training never sees."""
        found, alarms, errors, pictures = [], 0, [], 0
        for samples in held_out_samples(self.config):
            batch = _batch_of(samples, self.config.grid())
            shown = batch["pictures"].to(self.anchors.device)
            logits, boxes, points = (part.cpu() for part in self.predict(shown))
            pictures += len(samples)
            for index in range(len(samples)):
                faces = batch["boxes"][index]
                size = (faces[:, 2:] - faces[:, :2]).prod(dim=1).sqrt()
                shared = overlaps(boxes[index], faces)
                sure = logits[index] > 0
                alarms += int((sure & (shared.amax(dim=1) < 0.4)).any())
                for number in size.nonzero()[:, 0].tolist():
                    good = sure & (shared[:, number] >= 0.5)
                    found.append(bool(good.any()))
                    if found[-1]:
                        best = torch.where(good, logits[index], -torch.inf).argmax()
                        away = points[index, best] - batch["points"][index, number]
                        errors.append(float(away.norm(dim=1).mean() / size[number]))
        return {
            "recall": float(np.mean(found)) if found else 0.0,
            "pictures_with_alarms": alarms / pictures,
            "point_error": float(np.mean(errors)) if errors else 1.0,
        }

    def export(self, folder: Path) -> None:
        """Write `antelopev2/scrfd_10g_bnkps.onnx`."""
        path = folder / "antelopev2" / "scrfd_10g_bnkps.onnx"
        save_face_detector(self.network, path, self.config.size)


TASK = TrainingTask(
    FaceDetectorConfig,
    FaceDetectorObjective,
    lambda config: FaceSource(draw_pictures(config.data, "train"), config),
)
