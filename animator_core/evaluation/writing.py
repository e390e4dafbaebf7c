"""Writing small text files whole."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import MediaError

__all__ = ["write_text"]


def write_text(text: str, path: Path) -> None:
    """Write a file, whole or not at all; missing folders are made.

    Raises:
        MediaError: If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be written: {error}. Choose another output, or free some space."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
