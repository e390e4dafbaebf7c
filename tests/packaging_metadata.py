"""pyproject.toml, read with what every supported Python has."""

from __future__ import annotations

import sys
from typing import Any

from comfy_host import ROOT


def read_pyproject() -> dict[str, Any]:
    """The whole file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
