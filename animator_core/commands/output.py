"""Checks of output paths before hours are spent, and writing pictures."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from PIL import Image

from ..errors import MediaError
from ..writing import write_bytes

__all__ = ["check_writable", "save_picture"]


def check_writable(path: str | Path) -> None:
    """Raise if a file or folder cannot be made at a path; makes nothing itself.

    Raises:
        MediaError: Naming the folder that is in the way.
    """
    parents = Path(path).absolute().parents
    existing = next(parent for parent in parents if parent.exists())
    if not existing.is_dir():
        raise MediaError(f"{path} cannot be written: {existing} is a file, not a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise MediaError(
            f"{path} cannot be written: the folder {existing} is not writable. Choose another "
            "output or change its permissions."
        )


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all.

    Raises:
        MediaError: If it cannot be written.
    """
    content = BytesIO()
    picture.save(content, format="PNG")
    write_bytes(content.getvalue(), path)
