"""What the registry, ComfyUI Manager and a start of ComfyUI need of the package."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from comfy_host import ROOT
from packaging_metadata import read_pyproject

HEAVY = ("torch", "numpy", "diffusers", "transformers", "cv2", "onnxruntime", "insightface", "av")
COMFYUI = (
    "comfy",
    "comfy_api",
    "comfy_extras",
    "folder_paths",
    "latent_preview",
    "nodes",
    "server",
)
RECOGNISED = ("example_workflows", "example", "examples", "workflow", "workflows")


@pytest.fixture(scope="module")
def pyproject():
    return read_pyproject()


def _lines(name: str) -> list[str]:
    lines = [line.strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _imported(path: Path, *, top_level: bool = False) -> set[str]:
    """Names of the packages that a file imports, absolutely."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = tree.body if top_level else ast.walk(tree)
    names: set[str] = set()
    for node in found:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names - {"__future__"}


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_requirements_are_the_projects_dependencies(pyproject):
    assert _lines("requirements.txt") == pyproject["project"]["dependencies"]


def test_requirements_have_lower_bounds_only():
    """Twenty other packs share the environment; a pin of ours would break theirs."""
    for line in _lines("requirements.txt"):
        requirement = line.partition(";")[0].strip()
        assert re.fullmatch(r"[A-Za-z0-9_.\-\[\]]+>=[0-9.]+", requirement), line
        assert not requirement.lower().startswith("xformers")


def test_one_version_everywhere(pyproject):
    import animator_core

    assert pyproject["project"]["version"] == animator_core.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", animator_core.__version__)


def test_what_the_registry_asks_of_the_metadata(pyproject):
    project, comfy = pyproject["project"], pyproject["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9._-]{0,98}", project["name"])
    assert "comfyui" not in project["name"].lower()
    assert project["license"] == {"file": "LICENSE"}
    assert (ROOT / "LICENSE").is_file()
    assert project["urls"]["Repository"].startswith("https://")
    assert comfy["PublisherId"]
    assert comfy["DisplayName"]
    assert comfy["requires-comfyui"] == ">=0.3.64"
    assert "web" not in comfy, "WEB_DIRECTORY in __init__.py already says it"


def test_importing_the_core_imports_nothing_heavy():
    assert not _loaded_by("import animator_core") & set(HEAVY)


def test_the_root_imports_nothing():
    assert _imported(ROOT / "__init__.py", top_level=True) == set()
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assert not [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.level]


def test_the_root_offers_one_way_in():
    """A NODE_CLASS_MAPPINGS, even an empty one, would hide comfy_entrypoint."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    defined = {n.name for n in tree.body if isinstance(n, ast.AsyncFunctionDef | ast.FunctionDef)}
    assigned = {ast.unparse(t) for n in tree.body if isinstance(n, ast.Assign) for t in n.targets}
    assert defined == {"comfy_entrypoint"}
    assert assigned == {"WEB_DIRECTORY"}
    assert (ROOT / "web").is_dir()


def test_comfyui_is_imported_in_one_file_of_the_core():
    importers = [p.name for p in _modules("animator_core") if _imported(p) & set(COMFYUI)]
    assert importers == ["comfy_adapter.py"]


def test_nodes_import_the_core_relatively():
    """ComfyUI puts no pack on sys.path, and owns the name `nodes`."""
    for path in _modules("nodes"):
        assert not _imported(path) & {"animator_core", "nodes"}, path.name


@pytest.mark.parametrize("folder", ["animator_core", "nodes"])
def test_nothing_does_what_the_registrys_scanner_flags(folder):
    """Catching pickle.UnpicklingError is fine, reading pickles is not."""
    forbidden = {"eval", "exec", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler"}
    for path in _modules(folder):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        assert not calls & forbidden, path
        assert "subprocess" not in _imported(path), path


def test_comfyignore_keeps_the_workshop_out():
    ignored = set(_lines(".comfyignore"))
    assert {"tests/", "benchmarks/", ".ci/"} <= ignored
    shipped = {"nodes", "animator_core", "workflows", "web", "locales", "LICENSE", "README.md"}
    assert not {entry.rstrip("/") for entry in ignored} & shipped


def test_only_one_folder_of_templates():
    assert [name for name in RECOGNISED if (ROOT / name).exists()] == ["workflows"]
