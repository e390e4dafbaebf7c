"""How much the faces of any video resemble a reference: cosines over time, as numbers and drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import CropMethod
from ..errors import ShapeError
from ..interfaces import Monitor, Progress, SilentMonitor
from .analysis import FaceAnalyzer
from .crops import FaceRegion, FaceTrack, cut_faces

__all__ = ["SimilarityCurve", "draw_curves", "embed_faces", "face_similarity", "track_similarity"]

_COLORS_RGB = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14))
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 30, 34


class Pictures(Protocol):
    """Pictures, uint8 [H, W, 3] RGB, that know how many they are; an array [T, H, W, 3] is some."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """One after the other."""
        ...


@dataclass(frozen=True, kw_only=True)
class SimilarityCurve:
    """Likeness over time.

    Attributes:
        values: Cosine per frame, -1..1; NaN where no face was found.
        name: What to call it in a drawing.
    """

    values: tuple[float, ...]
    name: str = "face similarity"

    @property
    def found(self) -> tuple[float, ...]:
        """The values of the frames that show a face."""
        return tuple(v for v in self.values if math.isfinite(v))

    @property
    def mean(self) -> float:
        """Mean over the frames that show a face; NaN if none does."""
        return sum(self.found) / len(self.found) if self.found else math.nan

    @property
    def minimum(self) -> float:
        """Least value; NaN if no frame shows a face."""
        return min(self.found, default=math.nan)

    @property
    def frames_without_face(self) -> int:
        """How many frames show no face."""
        return len(self.values) - len(self.found)


def face_similarity(
    frames: Pictures,
    reference_embedding: NDArray[np.float32],
    analyzer: FaceAnalyzer,
    monitor: Monitor | None = None,
) -> SimilarityCurve:
    """Compare the faces of any frames with a reference.

    Where a frame shows several faces, the one that is most like the reference counts.

    Args:
        frames: T pictures.
        reference_embedding: [d], from the same analyzer.
        analyzer: Finds and embeds faces.
        monitor: Sees progress and may cancel.

    Raises:
        ShapeError: If the reference was embedded by another network.
    """
    monitor = monitor or SilentMonitor()
    reference = np.asarray(reference_embedding, dtype=np.float64).ravel()
    reference = reference / max(float(np.linalg.norm(reference)), 1e-12)
    values: list[float] = []
    for index, frame in enumerate(frames):
        monitor.raise_if_cancelled()
        faces = analyzer.analyze(frame)
        if faces and faces[0].embedding.shape != reference.shape:
            raise ShapeError(
                f"The reference embedding has {reference.size} numbers but this recogniser makes "
                f"{faces[0].embedding.size}; embed both with the same one."
            )
        values.append(max((float(face.normed @ reference) for face in faces), default=math.nan))
        monitor.update(Progress(stage="measuring faces", done=index + 1, total=len(frames)))
    return SimilarityCurve(values=tuple(values))


@torch.no_grad()
def embed_faces(
    recogniser: nn.Module,
    frames: Float[Tensor, "n 3 height width"],
    regions: Sequence[FaceRegion],
    crop: CropMethod = "auto",
) -> Float[Tensor, "n d"]:
    """Embed faces whose place is known, with the differentiable recogniser.

    For the reference of a refinement: cut out here as the frames' faces are cut out there.

    Args:
        recogniser: Frozen.
        frames: [n, 3, H, W] in [-1, 1].
        regions: One face per frame.
        crop: How faces are cut out.

    Returns:
        [n, d], not normalised, float32 on the CPU.
    """
    weight = next(recogniser.parameters())
    faces = cut_faces(frames, regions, crop)
    return recogniser(faces.to(weight.device, weight.dtype)).float().cpu()


def track_similarity(
    recogniser: nn.Module,
    frames: Float[Tensor, "frames 3 height width"],
    track: FaceTrack,
    reference_embedding: Float[Tensor, " d"],
    crop: CropMethod = "auto",
) -> SimilarityCurve:
    """Likeness of faces whose places are known; needs no detector.

    Args:
        recogniser: Frozen.
        frames: [T, 3, H, W] in [-1, 1].
        track: Where the face is.
        reference_embedding: [d], from the same recogniser.
        crop: How faces are cut out.
    """
    values = [math.nan] * len(track.regions)
    for index, region in enumerate(track.regions):
        if region is not None:
            embedding = embed_faces(recogniser, frames[index : index + 1], [region], crop)
            cosine = torch.cosine_similarity(embedding, reference_embedding.float().cpu()[None])
            values[index] = float(cosine)
    return SimilarityCurve(values=tuple(values))


def draw_curves(
    curves: Sequence[SimilarityCurve],
    *,
    width: int = 640,
    height: int = 320,
    title: str = "cosine to the reference face",
    top: float = 1.0,
) -> NDArray[np.uint8]:
    """Draw curves over frames; gaps are frames without a face.

    Args:
        curves: Of any lengths.
        width: Picture width [px], at least 160.
        height: Picture height [px], at least 120.
        title: What the axis shows.
        top: Upper end of the axis, above 0.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ShapeError: If the picture is too small to draw in.
    """
    from PIL import Image, ImageDraw

    if width < 160 or height < 120:
        raise ShapeError(
            f"A curve is drawn on at least 160x120 px, but {width}x{height} were asked for."
        )
    picture = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    lowest = min((v for c in curves for v in c.found), default=0.0)
    floor = 0.0 if lowest >= 0 else -top
    frames = max((len(c.values) for c in curves), default=1)
    plot = (_LEFT, _TOP, width - _RIGHT, height - _BOTTOM)

    def place(frame: int, value: float) -> tuple[float, float]:
        x = plot[0] + (plot[2] - plot[0]) * (frame / max(frames - 1, 1))
        return x, plot[3] - (plot[3] - plot[1]) * (value - floor) / (top - floor)

    _draw_axes(draw, plot, (floor, top), (title, frames))
    for number, curve in enumerate(curves):
        color = _COLORS_RGB[number % len(_COLORS_RGB)]
        for frame, value in enumerate(curve.values):
            if not math.isfinite(value):
                continue
            x, y = place(frame, value)
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=color)
            after = curve.values[frame + 1] if frame + 1 < len(curve.values) else math.nan
            if math.isfinite(after):
                draw.line([(x, y), place(frame + 1, after)], fill=color, width=2)
        label = f"{curve.name}: mean {curve.mean:.3f}, least {curve.minimum:.3f}"
        if curve.frames_without_face:
            label += f", {curve.frames_without_face} frames without a face"
        draw.text((plot[0] + 6, plot[3] - 14 * (len(curves) - number) - 4), label, fill=color)
    return np.asarray(picture)


def _draw_axes(
    draw: object,
    plot: tuple[int, int, int, int],
    ends: tuple[float, float],
    texts: tuple[str, int],
) -> None:
    from PIL import ImageDraw

    assert isinstance(draw, ImageDraw.ImageDraw)
    left, top, right, bottom = plot
    (low, high), (title, frames) = ends, texts
    grey, ink = (225, 225, 225), (60, 60, 60)
    for tick in range(6):
        share = tick / 5
        y = bottom - (bottom - top) * share
        draw.line([(left, y), (right, y)], fill=grey)
        draw.text((8, y - 6), f"{low + (high - low) * share:.1f}", fill=ink)
    draw.rectangle(plot, outline=ink)
    draw.text((left, 8), title, fill=ink)
    draw.text((left, bottom + 8), "frame 0", fill=ink)
    last = f"frame {frames - 1}"
    draw.text((right - draw.textlength(last), bottom + 8), last, fill=ink)
