"""Where the golden files lie and how to read them.

The folder is that of the environment variable ANIMATOR_GOLDEN_DIR, else tests/golden. Sizes and
configurations are always read from the files, so that another folder with the same prefixes works.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor


def golden_dir() -> Path:
    """The folder of golden files."""
    chosen = os.environ.get("ANIMATOR_GOLDEN_DIR")
    folder = Path(chosen) if chosen else Path(__file__).parent / "golden"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder of golden files at {folder}; set ANIMATOR_GOLDEN_DIR to one."
        )
    return folder


def golden_cases(prefix: str) -> list[str]:
    """Names (without suffix) of the cases that start with a prefix; at least one.

    Raises:
        FileNotFoundError: If there is none, so that no parity test passes by testing nothing.
    """
    cases = sorted(path.stem for path in golden_dir().glob(f"{prefix}*.json"))
    if not cases:
        raise FileNotFoundError(f"{golden_dir()} holds no {prefix}*.json.")
    return cases


def load_case(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON of a case, and its tensors (empty where it has no safetensors file)."""
    folder = golden_dir()
    description = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    tensors = folder / f"{name}.safetensors"
    return description, load_file(tensors) if tensors.exists() else {}
