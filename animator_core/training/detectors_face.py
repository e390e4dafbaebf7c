"""Training of a small face detector in the layout of SCRFD, on drawn people.

Nine outputs: scores, boxes and five points of the strides 8, 16 and 32, two anchors per cell.

Source of the layout: Guo et al., "Sample and Computation Redistribution for Efficient Face
Detection" (2021), as published in insightface's `scrfd_10g_bnkps.onnx`.
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
    "FaceDetector",
    "FaceDetectorConfig",
    "FaceDetectorObjective",
    "FaceSource",
    "save_face_detector",
    "train_face_detector",
]

_ANCHORS = 2
_MOST_FACES = 8
_GUESS = -4.0  # logit that a fresh network gives every anchor
_POINT_ERROR = 0.02  # of the face's size, from which the loss of points is linear
_OUTPUTS = (
    ("448", "471", "494"),
    ("451", "474", "497"),
    ("454", "477", "500"),
)  # the published file's names
_WIDTHS = (1, 4, 10)


@dataclass(frozen=True, kw_only=True)
class FaceDetectorConfig:
    """One training run of the face detector.

    Attributes:
        loop: What every training has in common.
        data: The pictures.
        size: Side of the detector's input [px]; a multiple of 32.
        widths: Channels of the backbone at strides 2, 4, 8, 16 and 32.
        channels: Of the pyramid.
        batch: Pictures of a step.
        point_weight: Of the loss of the five points.
    """

    loop: LoopConfig
    data: DetectorDataConfig
    size: int = 256
    widths: tuple[int, ...] = (12, 16, 32, 48, 64)
    channels: int = 32
    batch: int = 16
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
        """See `batch_of`."""
        config, lot = self.config, np.random.default_rng(seed)
        pool = PicturePool(self.folder)
        scenery = Scenery(height=config.size, width=config.size, padding=0)
        samples = [compose(lot, pool, scenery, config.data) for _ in range(config.batch)]
        return batch_of(samples, config.grid())


def batch_of(samples: Sequence[tuple[Any, list[Shown]]], grid: AnchorGrid) -> dict[str, Tensor]:
    """A batch for the objective.

    Args:
        samples: Pictures [H, W, 3] and their people.
        grid: The anchors.

    Returns:
        `pictures` uint8 [n, 3, H, W]; `owner` int64 [n, anchors] from `assign`; `faces` [n, 8, 4]
        and `points` [n, 8, 5, 2] in pixels, zero where there are fewer.
    """
    faces = np.zeros((len(samples), _MOST_FACES, 4), np.float32)
    points = np.zeros((len(samples), _MOST_FACES, 5, 2), np.float32)
    owner = []
    for index, (_, people) in enumerate(samples):
        seen = [(p.face_box, p.face_points) for p in people if p.face_box is not None]
        for number, (box, five) in enumerate(seen[:_MOST_FACES]):
            faces[index, number], points[index, number] = box, five
        owner.append(assign(grid, faces[index, : len(seen)].astype(np.float64)))
    pictures = np.stack([picture for picture, _ in samples]).transpose(0, 3, 1, 2)
    return {
        "pictures": torch.from_numpy(np.ascontiguousarray(pictures)),
        "owner": torch.from_numpy(np.stack(owner)),
        "faces": torch.from_numpy(faces),
        "points": torch.from_numpy(points),
    }


def train_face_detector(
    content: dict[str, Any], source: object, monitor: Monitor | None = None
) -> Path:
    """Train as a settings file says; goes on where it stopped.

    Args:
        content: The file's tables, without `task`.
        source: For messages.
        monitor: Sees the steps.

    Returns:
        The output folder, with `antelopev2/scrfd_10g_bnkps.onnx`.

    Raises:
        ConfigError: If a setting is unknown or not valid.
    """
    config = read_settings(FaceDetectorConfig, content, source=source)
    batches = FaceSource(draw_pictures(config.data, "train"), config)
    return train(FaceDetectorObjective(config), batches, config.loop, monitor=monitor)


class FaceDetectorObjective(Objective):
    """Scores by focal loss, boxes by overlap, points by distance.

    Args:
        config: The run.
    """

    def __init__(self, config: FaceDetectorConfig) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(config.loop.seed)
        network = FaceDetector(config.widths, config.channels)
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        anchors, strides = config.grid().points()
        self.register_buffer("anchors", torch.from_numpy(anchors).float(), persistent=False)
        self.register_buffer("strides", torch.from_numpy(strides).float(), persistent=False)

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch of `FaceSource`."""
        del generator  # nothing is left to chance here
        logits, boxes, points = self.predict(batch["pictures"])
        owner = batch["owner"]
        mine = owner >= 0
        count = mine.sum().clamp(min=1)
        asked = owner >= NOTHING
        score = focal_loss(logits[asked], mine[asked].to(logits.dtype)) / count
        rows, _ = mine.nonzero(as_tuple=True)
        faces = batch["faces"][rows, owner[mine]]
        wanted = batch["points"][rows, owner[mine]]
        overlap = (1 - generalized_iou(boxes[mine], faces)).sum() / count
        size = (faces[:, 2:] - faces[:, :2]).clamp(min=1e-3).prod(dim=1).sqrt()
        error = (points[mine] - wanted) / size[:, None, None]
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

        anchors: Any = self.anchors
        strides: Any = self.strides
        sides = rows(3, 4) * strides[:, None]
        boxes = torch.cat([anchors - sides[..., :2], anchors + sides[..., 2:]], dim=2)
        offsets = (rows(6, 10) * strides[:, None]).unflatten(2, (5, 2))
        points = anchors[:, None] + offsets
        return rows(0, 1)[..., 0], boxes, points

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """Recall, false alarms and the points' error on people that training never sees."""
        config = self.config
        pool = PicturePool(draw_pictures(config.data, "test"))
        lot = np.random.default_rng(config.loop.seed)
        scenery = Scenery(height=config.size, width=config.size, padding=0)
        device = next(self.network.parameters()).device
        found, alarms, errors, pictures = [], 0, [], 0
        for _ in range(max(len(pool) // (2 * config.batch), 1)):
            samples = [compose(lot, pool, scenery, config.data) for _ in range(config.batch)]
            batch = batch_of(samples, config.grid())
            shown = batch["pictures"].to(device)
            logits, boxes, points = (part.cpu() for part in self.predict(shown))
            pictures += len(samples)
            for index in range(len(samples)):
                faces = batch["faces"][index]
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
