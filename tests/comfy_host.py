"""The pack as ComfyUI loads it, in a real ComfyUI or beside a stand-in.

`COMFYUI_DIR=/path/to/ComfyUI python -m pytest tests/nodes tests/workflows`, with a Python that has
ComfyUI's requirements, the pack's and pytest, runs the same tests inside that ComfyUI, on the CPU.
Without `COMFYUI_DIR` the stand-in in `tests/comfy_stand_in` takes its place.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
STAND_IN = Path(__file__).parent / "comfy_stand_in"
COMFYUI_DIR = os.environ.get("COMFYUI_DIR")

needs_comfyui = pytest.mark.skipif(
    not COMFYUI_DIR, reason="COMFYUI_DIR does not name a ComfyUI checkout"
)


@functools.cache
def start_comfyui() -> None:
    """Make `comfy`, `comfy_api`, `folder_paths` and `latent_preview` importable."""
    if not COMFYUI_DIR:
        sys.path.insert(0, str(STAND_IN))
        return
    sys.path.insert(0, COMFYUI_DIR)
    _silence_comfyui()
    base = tempfile.mkdtemp(prefix="animator-comfyui-")
    command_line, sys.argv = sys.argv, ["main.py", "--cpu", "--base-directory", base]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("comfy.options").enable_args_parsing()
            importlib.import_module("comfy.model_management")
            importlib.import_module("latent_preview")
    finally:
        sys.argv = command_line


def _silence_comfyui() -> None:
    # its own warnings are not this pack's errors
    for module in ("comfy", "comfy_api", "comfy_extras", "comfy_execution", "torchsde", "av"):
        warnings.filterwarnings("ignore", module=rf"{module}(\..*)?")


@dataclass(frozen=True, kw_only=True)
class Pack:
    """The imported pack."""

    root: ModuleType

    def module(self, name: str) -> Any:
        """A module of the pack by its dotted name, such as `nodes.types`."""
        return importlib.import_module(f"{self.root.__name__}.{name}")

    @functools.cached_property
    def nodes(self) -> dict[str, Any]:
        """Node classes by id."""
        extension = asyncio.run(self.root.comfy_entrypoint())
        classes = asyncio.run(extension.get_node_list())
        return {node.GET_SCHEMA().node_id: node for node in classes}

    @property
    def errors(self) -> Any:
        """The pack's error classes; another import has other ones."""
        return self.module("animator_core.errors")


@functools.cache
def load_pack(module_name: str = "stableanimator_pack", folder: Path = ROOT) -> Pack:
    """Import the pack from a folder, under the name that ComfyUI makes of the folder's path."""
    start_comfyui()
    spec = importlib.util.spec_from_file_location(
        module_name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return Pack(root=module)


def is_widget(node_input: Any) -> bool:
    """True for an input that has a widget and not only a socket."""
    io = importlib.import_module("comfy_api.latest").io
    return isinstance(node_input, io.WidgetInput) and not node_input.force_input


def ordered_inputs(schema: Any) -> list[Any]:
    """Inputs in the order of the page: required ones first."""
    return sorted(schema.inputs, key=lambda i: bool(i.optional))


def execute(node: Any, **inputs: Any) -> Any:
    """Run a node as ComfyUI does: without gradients, widgets not given at their defaults."""
    schema = node.GET_SCHEMA()
    hidden = importlib.import_module("comfy_api.latest").io.Hidden
    clone = node.PREPARE_CLASS_CLONE({hidden.unique_id: "7"})
    values = {i.id: i.default for i in schema.inputs if is_widget(i)}
    with torch.inference_mode():
        return clone.EXECUTE_NORMALIZED(**{**values, **inputs})


def one_identity(pack: Pack, face_embedding: torch.Tensor) -> Any:
    """A STABLEANIMATOR_IDENTITY value of one person."""
    person = pack.module("animator_core.people").PersonIdentity(face_embedding=face_embedding)
    return pack.module("nodes.types").Identity(people=(person,))


def standing_person(x: float = 0.5, size: int = 64) -> dict[str, Any]:
    """One POSE_KEYPOINT frame with one person.

    Args:
        x: Middle of the body, as a share of the canvas.
        size: Side of the canvas [px].
    """
    heights = [15, 25, 25, 40, 50, 25, 40, 50, 55, 75, 90, 55, 75, 90, 13, 13, 14, 14]
    sides = [0, 0, -10, -13, -14, 10, 13, 14, -6, -6, -6, 6, 6, 6, -2, 2, -4, 4]
    body = np.stack(
        [x * size + np.array(sides) * size / 100, np.array(heights) * size / 100, np.ones(18)], 1
    )
    person = {"pose_keypoints_2d": body.ravel().tolist(), "face_keypoints_2d": None}
    return {"people": [person], "canvas_width": size, "canvas_height": size}


def walk(frames: int) -> list[dict[str, Any]]:
    """A POSE_KEYPOINT value of a person who crosses the picture."""
    return [standing_person(0.3 + 0.4 * i / max(frames - 1, 1)) for i in range(frames)]
