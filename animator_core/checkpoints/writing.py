"""Writes weights and settings whole or not at all, and nothing over what exists unasked."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..interfaces import Monitor, Progress, SilentMonitor
from ..writing import whole_file

__all__ = ["atomic", "write_json", "write_safetensors"]

_DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT = 8


@contextmanager
def atomic(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Yield a temporary file beside `path`, which takes its name when the block succeeds.

    Args:
        path: The file to write; its folder is made if need be.
        overwrite: Replace the file if it exists.

    Raises:
        CheckpointError: If the file exists, the disk is full, or the folder cannot be written.
    """
    if path.exists() and not overwrite:
        raise CheckpointError(
            f"{path} exists and is not overwritten. Choose another output, or remove it first."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            yield file
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise CheckpointError(
            f"{path} cannot be written: {reason}. No half file was left; free some space or "
            "choose another output."
        ) from error


def _header(state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for name, value in state_dict.items():
        if value.dtype not in _DTYPE_NAMES:
            raise CheckpointError(
                f"{name} has dtype {value.dtype}, which is not written as safetensors; expected "
                f"one of {', '.join(_DTYPE_NAMES.values())}. Convert it first."
            )
        end = offset + value.numel() * value.element_size()
        entries[name] = {
            "dtype": _DTYPE_NAMES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def write_safetensors(
    path: Path,
    state_dict: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    monitor: Monitor | None = None,
) -> None:
    """Write weights as safetensors, one tensor after the other.

    The library's own writer copies all tensors in memory before it writes; this one needs no
    more than the largest tensor, and can be stopped.

    Args:
        path: The file.
        state_dict: The weights, on any device.
        metadata: Text entries for the header.
        overwrite: Replace the file if it exists.
        monitor: Receives the bytes written, and may cancel.

    Raises:
        CheckpointError: If the file exists or cannot be written, or a dtype is unknown.
    """
    monitor = monitor or SilentMonitor()
    # Wide dtypes first, so that every tensor begins at a multiple of its element's size.
    ordered = dict(sorted(state_dict.items(), key=lambda item: (-item[1].element_size(), item[0])))
    total = sum(value.numel() * value.element_size() for value in ordered.values())
    header = _header(ordered, metadata or {})
    done = 0
    with atomic(path, overwrite=overwrite) as file:
        file.write(header)
        for value in ordered.values():
            monitor.raise_if_cancelled()
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            file.write(raw.numpy().data)
            done += raw.numel()
            monitor.update(Progress(stage=f"writing {path.name}", done=done, total=total))


def write_json(path: Path, content: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write settings as JSON.

    Args:
        path: The file.
        content: The settings.
        overwrite: Replace the file if it exists.

    Raises:
        CheckpointError: If the file exists or cannot be written.
    """
    with atomic(path, overwrite=overwrite) as file:
        file.write((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
