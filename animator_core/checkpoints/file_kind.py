"""What a file is, from its first bytes; needs neither torch nor safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..errors import CheckpointError

__all__ = ["FileKind", "file_kind"]

FileKind = Literal["safetensors", "zip", "pickle", "onnx"]

_HEAD_BYTES = 512
_MAX_HEADER_BYTES = 100_000_000
"""The safetensors library's own limit."""

_ZIP_SIGNATURE, _PICKLE_SIGNATURE = b"PK\x03\x04", b"\x80"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")


def file_kind(path: Path) -> FileKind:
    """Kind of a weight file. The name counts for nothing but .onnx, which has no signature.

    Raises:
        CheckpointError: If the file is missing, empty or no weight file; says what it is instead.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise CheckpointError(f"Expected a weight file at {path}, found {found}.")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    _raise_if_stand_in(path, head)
    if path.suffix == ".onnx":
        return "onnx"
    # First, because the header's length may happen to begin like a pickle.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER_BYTES:
        return "safetensors"
    if not head.startswith((_ZIP_SIGNATURE, _PICKLE_SIGNATURE)):
        raise CheckpointError(
            f"{path} is no weight file: it starts with {head[:16]!r}, but a .safetensors, .pth or "
            ".bin file was expected. Fetch it again."
        )
    if path.suffix == ".safetensors":  # torch.load goes by this suffix
        raise CheckpointError(
            f"{path} is named .safetensors but is a pickle. Rename it to "
            f"{path.with_suffix('.pth').name}; then it is read as what it is, or `convert` it."
        )
    return "zip" if head.startswith(_ZIP_SIGNATURE) else "pickle"


def _raise_if_stand_in(path: Path, head: bytes) -> None:
    """Things that broken downloads leave in a weight file's place."""
    if not head:
        raise CheckpointError(f"{path} is empty. Its download did not finish; fetch it again.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a git-lfs pointer, a short text that stands for the real file. "
            "Run `git lfs pull` in the repository it came from, or download the file itself."
        )
    if head.lstrip().lower().startswith(_PAGES):
        raise CheckpointError(
            f"{path} is a web page, not weights: the download was answered by an error or "
            "log-in page. Open its address in a browser, accept the licence if it asks for "
            "that, and fetch the file again."
        )
