"""A picture of an evaluation: target frames above generated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .clips import ReadConfig, read_pair
from .regions import Picture
from .run import ClipReport

__all__ = ["picture_strip"]

_COLUMNS, _CLIPS = 8, 4
_TILE, _MARGIN, _LINE = 160, 4, 20
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def picture_strip(clips: Sequence[ClipReport], reading: ReadConfig) -> Image.Image:
    """Up to 8 evenly spaced frames of up to 4 clips, each as a target and a generated row.

    Args:
        clips: What was evaluated; the first ones are shown.
        reading: As it was evaluated with.

    Raises:
        MediaError: If a clip can no longer be read.
    """
    rows: list[tuple[str, list[Picture]]] = []
    for clip in clips[:_CLIPS]:
        wanted = set(np.linspace(0, clip.num_frames - 1, _COLUMNS).round().astype(int).tolist())
        kept = [pair for i, pair in enumerate(read_pair(clip.source, reading)) if i in wanted]
        rows.append((f"{clip.source.name}: target", [target for _, target in kept]))
        rows.append((f"{clip.source.name}: generated", [generated for generated, _ in kept]))
    columns = max(len(pictures) for _, pictures in rows)
    heights = [_tile_height(pictures[0]) + _LINE + _MARGIN for _, pictures in rows]
    page = Image.new("RGB", (columns * (_TILE + _MARGIN) + _MARGIN, sum(heights)), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    top = 0
    for (title, pictures), height in zip(rows, heights, strict=True):
        draw.text((_MARGIN, top + 2), title, fill=_INK, font=font)
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(np.ascontiguousarray(picture))
            tile = tile.resize((_TILE, _tile_height(picture)), Image.Resampling.LANCZOS)
            page.paste(tile, (_MARGIN + column * (_TILE + _MARGIN), top + _LINE))
        top += height
    return page


def _tile_height(picture: Picture) -> int:
    return max(round(_TILE * picture.shape[0] / picture.shape[1]), 1)
