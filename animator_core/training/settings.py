"""Training settings: TOML files whose tables are frozen dataclasses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from ..errors import ConfigError

__all__ = ["read_settings", "read_toml"]

_Settings = TypeVar("_Settings")


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ConfigError: If the file is missing or is not TOML.
    """
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The training settings {path} cannot be read: {error}.") from error


def read_settings(kind: type[_Settings], content: dict[str, Any], *, source: object) -> _Settings:
    """Build a dataclass from a TOML table; tables inside become the dataclasses of their fields.

    Args:
        kind: A dataclass; lists become tuples.
        content: The table.
        source: For messages.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is not valid.
    """
    hints = get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    unknown = sorted(content.keys() - known)
    if unknown:
        raise ConfigError(
            f"{source} has {', '.join(unknown)}, which {kind.__name__} does not know; it takes "
            f"{', '.join(sorted(known))}."
        )
    values: dict[str, Any] = {}
    for key, value in content.items():
        nested: Any = _dataclass_of(hints[key])
        if isinstance(value, dict) and nested is not None:
            values[key] = read_settings(nested, value, source=f"{source}, table {key}")
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"The training settings {source} do not fit: {error}.") from error


def _dataclass_of(hint: Any) -> Any:
    """The dataclass that a field holds, also one that may be None; None if it holds another."""
    options = [hint, *get_args(hint)]
    return next((option for option in options if dataclasses.is_dataclass(option)), None)
