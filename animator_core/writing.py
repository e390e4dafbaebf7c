"""Writes files whole or not at all: to a hidden file beside the target, which then takes its name.

`whole_file` is for what can be written to an open file, `PartialFile` for libraries that want a
path and for files that stay open between calls. Both raise plain OSErrors, so that each caller can
say in its own words what could not be written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from .errors import MediaError

__all__ = ["PartialFile", "partial_path", "whole_file", "write_bytes", "write_text"]


def partial_path(target: Path, suffix: str = "") -> Path:
    """An unused hidden path beside a target, where it can be put together.

    Args:
        target: What the result will be called.
        suffix: Ends the name, for libraries that choose the format by it. Without one the name
            ends in .part, which no search for files of the target's kind finds.
    """
    return target.with_name(f".{target.name}.{uuid4().hex[:8]}.part{suffix}")


class PartialFile:
    """A file that is being written beside its target.

    Args:
        target: The file that it becomes; one that is there already is replaced.
        suffix: As for `partial_path`.

    Attributes:
        path: Where to write; nothing is there yet. The folder must exist.
    """

    def __init__(self, target: Path, suffix: str = "") -> None:
        self.path = partial_path(target, suffix)
        self._target = target

    def complete(self) -> None:
        """Give the file, now closed, the target's name.

        Raises:
            OSError: If it has not fully arrived on the disk, or cannot be renamed.
        """
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self._target)

    def discard(self) -> None:
        """Remove the file, unless it was completed."""
        self.path.unlink(missing_ok=True)


@contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """Yield an open file, which becomes the target when the block succeeds.

    Args:
        target: The file to write; its folder must exist, an older file is replaced.

    Raises:
        OSError: If it cannot be written; what was there stays.
    """
    partial = PartialFile(target)
    try:
        with partial.path.open("xb") as file:
            yield file
        partial.complete()
    finally:
        partial.discard()


def write_bytes(content: bytes, path: Path) -> None:
    """Write a small file; missing folders are made, an older file is replaced.

    Raises:
        MediaError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be written: {error}. Choose another output, or free some space."
        ) from error


def write_text(text: str, path: Path) -> None:
    """Write a small UTF-8 file; missing folders are made, an older file is replaced.

    Raises:
        MediaError: If it cannot be written.
    """
    write_bytes(text.encode(), path)
