"""What the tests of nodes share."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy_host import Pack, load_pack
from factory import write_published_layout


@dataclass(frozen=True, kw_only=True)
class Folders:
    """ComfyUI's folders, each in a temporary place."""

    inputs: Path
    outputs: Path
    models: Path


def _use(folders: Folders) -> None:
    folder_paths = importlib.import_module("folder_paths")
    for folder in (folders.inputs, folders.outputs, folders.models):
        folder.mkdir(parents=True, exist_ok=True)
    folder_paths.set_input_directory(str(folders.inputs))
    folder_paths.set_output_directory(str(folders.outputs))
    folder_paths.folder_names_and_paths["stableanimator"] = ([str(folders.models)], set())


def _below(path: Path) -> Folders:
    return Folders(inputs=path / "input", outputs=path / "output", models=path / "models")


@pytest.fixture(scope="session")
def pack() -> Pack:
    """The pack, and ComfyUI or its stand-in around it."""
    return load_pack()


@pytest.fixture
def folders(pack: Pack, tmp_path: Path) -> Folders:
    """Empty input, output and model folders."""
    made = _below(tmp_path)
    _use(made)
    return made


@pytest.fixture(scope="session")
def model(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A STABLEANIMATOR_MODEL value, loaded from files in the published layout."""
    made = _below(tmp_path_factory.mktemp("comfyui"))
    write_published_layout(made.models / "small")
    _use(made)
    node = pack.nodes["StableAnimatorLoadModel"]
    return node.execute(checkpoint="small", precision="fp32")[0]


@pytest.fixture
def reference() -> torch.Tensor:
    """An IMAGE value [1, 40, 56, 3]."""
    return torch.rand(1, 40, 56, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def short() -> dict[str, Any]:
    """Widget values for a run of a second."""
    return {"width": 64, "height": 64, "steps": 2, "window_frames": 4, "window_overlap": 1}


@pytest.fixture
def mm(pack: Pack) -> Iterator[Any]:
    """comfy.model_management; a Cancel that a test left behind is taken back."""
    module = importlib.import_module("comfy.model_management")
    yield module
    module.interrupt_current_processing(False)
