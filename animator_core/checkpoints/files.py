"""Finds the weight files of a model in the published folder layout."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .manifest import COMPONENTS, Component

__all__ = ["ModelFiles", "candidates", "find_component", "find_model_files", "read_config"]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """Where the parts of one model lie.

    Attributes:
        weights: Component name → weight file.
        configs: Component name → config.json, where there is one.
        folder: The models folder.
    """

    weights: Mapping[str, Path]
    configs: Mapping[str, Path]
    folder: Path


def candidates(
    component: Component, folder: Path, stable_video_folder: Path | None = None
) -> list[Path]:
    """Folders in which a component is looked for, in order."""
    if component.in_stable_video and stable_video_folder is not None:
        return [stable_video_folder / component.subfolder]
    return [folder / place / component.subfolder for place in component.places]


def find_component(
    component: Component, folders: Iterable[Path], *, half_precision: bool = False
) -> Path | None:
    """The weight file of a component, or None.

    Args:
        component: What to look for.
        folders: Where to look; the first folder that has a file wins.
        half_precision: Prefer fp16 variants; else they are only taken if there is nothing else.
    """
    # Formats come before variants: a pickle is read only if there is no safetensors file.
    formats = {".safetensors": 0}
    names = sorted(
        component.file_names,
        key=lambda name: (
            formats.get(Path(name).suffix, 1),
            (".fp16." in name) != half_precision,
        ),
    )
    for folder in folders:
        found = [folder / name for name in names if (folder / name).is_file()]
        if len(found) > 1:
            others = ", ".join(path.name for path in found[1:])
            _LOGGER.info("%s: using %s rather than %s", folder, found[0].name, others)
        if found:
            return found[0]
    return None


def find_model_files(
    folder: Path | str,
    *,
    stable_video_folder: Path | str | None = None,
    half_precision: bool = False,
) -> ModelFiles:
    """Find all files of a model.

    Args:
        folder: The models folder, with `Animation/` and `SVD/` in it.
        stable_video_folder: The Stable Video Diffusion folder, if it lies elsewhere.
        half_precision: Prefer the fp16 variants of Stable Video Diffusion's files.

    Raises:
        CheckpointError: If any file is missing; names all of them, and where they can be had.
    """
    folder = Path(folder)
    other = Path(stable_video_folder) if stable_video_folder is not None else None
    if not folder.is_dir():
        raise CheckpointError(
            f"Expected a models folder at {folder}, found none. `download` makes one, "
            "or give the folder that holds Animation/ and SVD/."
        )
    weights: dict[str, Path] = {}
    configs: dict[str, Path] = {}
    missing: list[str] = []
    for component in COMPONENTS:
        places = candidates(component, folder, other)
        found = find_component(component, places, half_precision=half_precision)
        if found is None:
            missing.append(_how_to_get(component, places))
        else:
            weights[component.name] = found
        configs.update(_config_of(component, found, folder, other))
    if missing:
        raise CheckpointError(
            f"{len(missing)} of {len(COMPONENTS)} weight files are missing in {folder}:\n"
            + "\n".join(missing)
            + "\n`python -m animator_core download` fetches them after showing their licences."
        )
    return ModelFiles(weights=weights, configs=configs, folder=folder)


def _config_of(
    component: Component, weights: Path | None, folder: Path, stable_video_folder: Path | None
) -> dict[str, Path]:
    if component.config_subfolder is None:
        return {}
    if weights is not None and component.config_subfolder == component.subfolder:
        places = [weights.parent]
    elif stable_video_folder is not None:
        places = [stable_video_folder / component.config_subfolder]
    else:
        places = [folder / place / component.config_subfolder for place in component.config_places]
    paths = (place / "config.json" for place in places)
    found = next((path for path in paths if path.is_file()), None)
    return {} if found is None else {component.name: found}


def _how_to_get(component: Component, places: list[Path]) -> str:
    names = " or ".join(component.file_names)
    return f"- {component.title}: {names} in {places[0]} (from {component.repository})"


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a config.json.

    Raises:
        CheckpointError: If it is no JSON object.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}. Fetch it again.") from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{path} holds a {type(config).__name__}, but settings in a JSON object were expected. "
            "Fetch it again."
        )
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in config.items()
    }
