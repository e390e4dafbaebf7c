"""The stand-in promises nothing that a real ComfyUI does not keep."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from types import ModuleType
from typing import Any

import pytest
from comfy_host import STAND_IN, needs_comfyui

MODULES = (
    "comfy.cli_args",
    "comfy.latent_formats",
    "comfy.model_management",
    "comfy.model_patcher",
    "comfy.ops",
    "comfy.utils",
    "comfy_api.latest.io",
    "comfy_api.latest.ui",
    "folder_paths",
    "latent_preview",
)
SKIPPED = {"comfy_api.latest.io": {"Input", "WidgetInput", "Output", "HiddenHolder"}}

pytestmark = [pytest.mark.comfyui, needs_comfyui]


def _stand_in(name: str) -> ModuleType:
    path = STAND_IN.joinpath(*name.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location("stand_in_" + path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    importlib.import_module("sys").modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def _real(name: str) -> Any:
    if name.startswith("comfy_api.latest."):
        return getattr(importlib.import_module("comfy_api.latest"), name.rpartition(".")[-1])
    return importlib.import_module(name)


def _own(module: ModuleType) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


def _arguments(function: Any) -> set[str]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind not in kinds and not p.name.startswith("_")}


@pytest.mark.parametrize("name", MODULES)
def test_every_name_and_argument_exists(pack, name):
    stand_in, real = _stand_in(name), _real(name)
    for attribute, value in _own(stand_in).items():
        if attribute in SKIPPED.get(name, ()):
            continue
        assert hasattr(real, attribute), f"{name}.{attribute}"
        if isinstance(value, type) and issubclass(value, Exception):
            continue  # they have no signature
        if inspect.isfunction(value) or inspect.isclass(value):
            wanted = _arguments(value)
            assert wanted <= _arguments(getattr(real, attribute)), f"{name}.{attribute}"


@pytest.mark.parametrize("kind", ["Boolean", "Int", "Float", "String", "Combo", "Image", "Latent"])
def test_every_input_argument_exists(pack, kind):
    stand_in = getattr(_stand_in("comfy_api.latest.io"), kind)
    real = getattr(_real("comfy_api.latest.io"), kind)
    assert stand_in.io_type == real.io_type
    arguments = {"id", "display_name", "optional", "tooltip", "lazy"}
    arguments |= set(stand_in.Input.widget_arguments)
    assert arguments <= _arguments(real.Input)
    assert _arguments(stand_in.Output) <= _arguments(real.Output)


def test_schemas_are_the_same_in_both(pack):
    """Inputs, types and outputs of every node, as the stand-in sees them."""
    stand_in = _stand_in("comfy_api.latest.io")
    for node in pack.nodes.values():
        for node_input in node.GET_SCHEMA().inputs:
            kinds = [k for k in vars(stand_in).values() if inspect.isclass(k)]
            known = {k.io_type: k for k in kinds if hasattr(k, "Input")}
            kind = known.get(str(node_input.io_type), stand_in.Custom(str(node_input.io_type)))
            values = {a: getattr(node_input, a) for a in kind.Input.widget_arguments}
            made = kind.Input(node_input.id, tooltip=node_input.tooltip, **values)
            assert made.io_type == node_input.io_type
