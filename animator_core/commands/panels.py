"""Pages of pictures with titles: frames of the demo's videos, and its contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["PANEL_PX", "Picture", "Row", "panel", "row_of_panels", "sheet_of_rows"]

Picture = NDArray[np.uint8]

PANEL_PX = 256
"""Side of one picture on a page."""

_MARGIN = 8
_LINE = 26  # height of a line of text [px]
_PAPER, _TEXT = (250, 248, 244), (52, 46, 50)


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A titled row of a sheet.

    Attributes:
        title: Above it.
        pictures: From left to right, [PANEL_PX, PANEL_PX, 3].
    """

    title: str
    pictures: Sequence[Picture]


def panel(picture: Picture) -> Picture:
    """A picture at the size of a panel."""
    image = Image.fromarray(picture)
    return np.asarray(image.resize((PANEL_PX, PANEL_PX), Image.Resampling.LANCZOS))


def row_of_panels(pictures: Sequence[Picture], titles: Sequence[str], caption: str) -> Picture:
    """Panels side by side, with a title above each and a caption below all.

    Args:
        pictures: Each [PANEL_PX, PANEL_PX, 3].
        titles: One per picture.
        caption: Below them.

    Returns:
        RGB, with even sides, as video encoders ask for.
    """
    page = Image.new("RGB", (_column(len(pictures)), 2 * _LINE + PANEL_PX), _PAPER)
    for index, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        page.paste(Image.fromarray(picture), (_column(index), _LINE))
        _write(page, title, (_column(index) + PANEL_PX / 2, _LINE / 2), "mm")
    _write(page, caption, (page.width / 2, page.height - _LINE / 2), "mm")
    return np.asarray(page)


def sheet_of_rows(rows: Sequence[Row]) -> Image.Image:
    """Rows below each other, each under its title."""
    columns = max(len(row.pictures) for row in rows)
    height = PANEL_PX + _LINE
    page = Image.new("RGB", (_column(columns), len(rows) * height + _MARGIN), _PAPER)
    for line, row in enumerate(rows):
        _write(page, row.title, (_column(0), line * height + _LINE / 2), "lm")
        for index, picture in enumerate(row.pictures):
            page.paste(Image.fromarray(picture), (_column(index), line * height + _LINE))
    return page


def _column(index: int) -> int:
    return _MARGIN + index * (PANEL_PX + _MARGIN)


def _write(page: Image.Image, text: str, place: tuple[float, float], anchor: str) -> None:
    font = ImageFont.load_default(size=15)
    ImageDraw.Draw(page).text(place, text, fill=_TEXT, font=font, anchor=anchor)
