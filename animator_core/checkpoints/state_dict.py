"""Reads weight files without running code in them, and loads them strictly.

What a file is follows from its first bytes and not from its name, so that an error can say what
was really found: half a download, a web page, a git-lfs pointer.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import CheckpointError
from .file_kind import file_kind
from .networks import describe_keys

__all__ = ["check_keys", "load_strict", "read_metadata", "read_state_dict"]

_WRAPPER_KEYS = ("state_dict",)
"""Entries under which training code stores the weights beside other things."""

_PREFIXES = ("module.",)
"""Prefixes that training code puts before every name (DistributedDataParallel)."""

_LISTED = 10
_OBJECT_IN_MESSAGE = re.compile(r"(?:GLOBAL|[Uu]nsupported (?:global|class):?) `?([\w.]+)")


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Weights of a .safetensors, .pth, .pt or .bin file.

    The tensors are views of the memory-mapped file (except for .pth files older than torch 1.6),
    so reading costs no memory until a tensor is used. Code in a pickle is never run.

    Args:
        path: The weight file.

    Returns:
        Name → tensor on the CPU, in the file's dtype.

    Raises:
        CheckpointError: If the file is missing, empty, cut off, no weight file, or would run code.
    """
    path = Path(path)
    kind = file_kind(path)
    content = _read_safetensors(path) if kind == "safetensors" else _read_pickle(path, kind)
    return _without_prefix(_unwrapped(content, path))


def read_metadata(path: Path) -> dict[str, str]:
    """The text entries in the header of a safetensors file; empty for other files."""
    if file_kind(path) != "safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    size = path.stat().st_size
    reason = str(error).partition("\n")[0].partition(". ")[0]
    return CheckpointError(
        f"{path} is damaged or cut off ({size:,} bytes): {reason}. "
        "Compare its size with the publisher's page and fetch it again."
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _read_pickle(path: Path, kind: str) -> Any:
    try:
        with warnings.catch_warnings():
            # torch warns of pickle protocols and TorchScript before it reads or refuses them
            warnings.simplefilter("ignore", UserWarning)
            # Files from before torch 1.6 are plain pickles, which cannot be mapped into memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
    except pickle.UnpicklingError as error:
        raise _unpicklable(path, error) from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{path} is a TorchScript archive, which is a program and not only weights. "
                "Use the published weights instead."
            ) from error
        raise _damaged(path, error) from error
    except (EOFError, OSError, ValueError, LookupError, AttributeError) as error:
        raise _damaged(path, error) from error


def _unpicklable(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    named = _OBJECT_IN_MESSAGE.search(str(error))
    if named is None:
        reason = str(error).partition("WeightsUnpickler error:")[2].strip() or str(error)
        return CheckpointError(
            f"{path} is damaged or cut off, or holds more than plain weights "
            f"({reason.splitlines()[0]}; {path.stat().st_size:,} bytes). Nothing of it was run. "
            "Fetch it again, or use the publisher's .safetensors file."
        )
    return CheckpointError(
        f"{path} is refused: expected tensors only, found a reference to {named.group(1)}, which "
        "could run code on this computer. Nothing of it was run. Use the publisher's "
        ".safetensors file, or save the network's state_dict() alone."
    )


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    for key in _WRAPPER_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, but named weights were expected. "
            "Save the network's state_dict() instead."
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        found = f"other entries ({_some(others)})" if others else "nothing"
        raise CheckpointError(
            f"{path}: expected names and tensors only, found {found}. It may be a training "
            "state; use the network's own weight file."
        )
    return {str(name): value for name, value in content.items()}


def _without_prefix(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state_dict):
            state_dict = {name[len(prefix) :]: value for name, value in state_dict.items()}
    return state_dict


def _some(names: Collection[str]) -> str:
    """The first names of many, and how many there are."""
    listed = ", ".join(list(names)[:_LISTED])
    more = len(names) - _LISTED
    return f"{listed} and {more} more" if more > 0 else listed


def check_keys(
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    *,
    source: Path | str,
    network: str,
) -> None:
    """Compare names and shapes of weights with those of a network.

    Args:
        expected: The network's own state_dict; meta tensors will do.
        found: The weights.
        source: Where they come from, for messages.
        network: What the network is called, for messages.

    Raises:
        CheckpointError: If a name is missing or too many, or a shape differs. Names them.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    if not (missing or unexpected or shapes):
        return
    problems = (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", shapes),
    )
    listed = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in problems if names)
    raise CheckpointError(
        f"{source} does not fit {network}. {describe_keys(found)} Of its {len(found)} weights and "
        f"the {len(expected)} expected, {listed}. Use the file that belongs to this network."
    )


def load_strict(
    module: nn.Module,
    state_dict: Mapping[str, Tensor],
    *,
    source: Path | str,
    dtype: torch.dtype,
    fp32_prefixes: tuple[str, ...] = (),
) -> None:
    """Load weights into a network: all names, no others, exact shapes.

    The module's parameters are replaced and not copied into, so a module on the meta device needs
    no memory before, and tensors that already have the right dtype stay views of their file.

    Args:
        module: The network.
        state_dict: Its weights.
        source: Where they come from, for messages.
        dtype: Dtype of floating-point weights after loading.
        fp32_prefixes: Weights whose names start with one of these are kept in fp32.

    Raises:
        CheckpointError: If a name is missing or too many, or a shape differs.
    """
    network = f"the network {type(module).__name__}"
    check_keys(module.state_dict(), state_dict, source=source, network=network)

    def cast(name: str, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        return value.to(torch.float32 if name.startswith(fp32_prefixes) else dtype)

    module.load_state_dict(
        {name: cast(name, value) for name, value in state_dict.items()}, strict=True, assign=True
    )
    left = [name for name, value in _all_tensors(module) if value.is_meta]
    if left:
        raise CheckpointError(
            f"{source} left {_some(left)} of {type(module).__name__} without values; "
            "this is a fault of the loader, please report it."
        )


def _all_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]
