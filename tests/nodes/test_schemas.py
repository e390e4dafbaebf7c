"""What the page and the registry see of the nodes."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from comfy_host import COMFYUI_DIR, ROOT, is_widget, load_pack
from node_texts import WIDGETS, widget_order

NODE_IDS = (
    "StableAnimatorLoadModel",
    "StableAnimatorAnimate",
    "StableAnimatorDecode",
    "StableAnimatorDrawPoses",
    "StableAnimatorLoadPoses",
    "StableAnimatorSavePoses",
)


def _sources() -> dict[Path, ast.Module]:
    files = sorted((ROOT / "nodes").glob("*.py"))
    return {file: ast.parse(file.read_text(encoding="utf-8")) for file in files}


def _node_classes() -> list[ast.ClassDef]:
    classes = [n for tree in _sources().values() for n in ast.walk(tree)]
    return [
        node
        for node in classes
        if isinstance(node, ast.ClassDef)
        and any(isinstance(f, ast.FunctionDef) and f.name == "define_schema" for f in node.body)
    ]


def _literal_ids(node: ast.ClassDef) -> list[str]:
    keywords = [k for n in ast.walk(node) if isinstance(n, ast.Call) for k in n.keywords]
    values = [k.value for k in keywords if k.arg == "node_id"]
    return [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]


def test_published_node_ids_are_still_there(pack):
    assert set(NODE_IDS) <= set(pack.nodes)


def test_the_registry_can_read_every_node_without_running_it(pack):
    classes = _node_classes()
    for node in classes:
        assert [ast.unparse(base) for base in node.bases] == ["io.ComfyNode"], node.name
        assert len(_literal_ids(node)) == 1, f"{node.name}: node_id must be a string literal"
    assert sorted(i for node in classes for i in _literal_ids(node)) == sorted(pack.nodes)


def test_every_node_explains_itself(pack):
    for node_id, node in pack.nodes.items():
        schema = node.GET_SCHEMA()
        assert node_id.startswith("StableAnimator")
        assert schema.category.split("/")[0] == "StableAnimator"
        assert schema.display_name
        assert schema.description.endswith(".")
        for node_input in schema.inputs:
            assert node_input.tooltip, f"{node_id}.{node_input.id} has no tooltip"
            assert node_input.tooltip.endswith("."), f"{node_id}.{node_input.id}"
        for output in schema.outputs:
            assert output.display_name, f"an output of {node_id} has no name"
            assert output.tooltip, f"{node_id}: the output {output.display_name} has no tooltip"


def test_every_default_is_allowed(pack):
    for node_id, node in pack.nodes.items():
        for node_input in filter(is_widget, node.GET_SCHEMA().inputs):
            value, where = node_input.default, f"{node_id}.{node_input.id}"
            if getattr(node_input, "min", None) is not None:
                assert node_input.min <= value <= node_input.max, where
            options = getattr(node_input, "options", None)
            if options and value is not None:
                assert value in options, where


def test_widgets_are_only_ever_appended(pack):
    """Saved workflows store widget values by position."""
    pinned = json.loads(WIDGETS.read_text(encoding="utf-8"))
    for node_id, node in pack.nodes.items():
        now = widget_order(node.GET_SCHEMA())
        before = pinned.get(node_id, [])
        assert now[: len(before)] == before, f"{node_id}: saved workflows would break"
        assert now == before, f"{node_id}: run `python tests/node_texts.py`"
    assert set(pinned) == set(pack.nodes)


@pytest.mark.parametrize("name", ["/srv/custom_nodes/my-pack_x_v1_x_0", "stable animator"])
def test_the_pack_loads_under_any_folder_name(pack, name):
    other = load_pack(name)
    assert list(other.nodes) == list(pack.nodes)
    assert all(n.__module__.startswith(name) for n in other.nodes.values())


def test_the_entry_point_says_where_an_error_came_from(pack, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, f"{pack.root.__name__}.nodes.extension", None)
    with pytest.raises(ImportError):
        __import__("asyncio").run(pack.root.comfy_entrypoint())
    assert "StableAnimator could not be loaded" in caplog.text
    assert "Traceback" in caplog.text


def test_the_models_folder_joins_what_the_user_configured(pack):
    import folder_paths

    adapter = pack.module("animator_core.comfy_adapter")
    before = dict(folder_paths.folder_names_and_paths)
    try:
        folder_paths.folder_names_and_paths["stableanimator"] = (["/disk2/animator"], {".foo"})
        adapter.register_model_folder()
        adapter.register_model_folder()
        paths, extensions = folder_paths.folder_names_and_paths["stableanimator"]
        default = str(Path(folder_paths.models_dir) / "stableanimator")
        assert paths == ["/disk2/animator", default]
        assert {".foo", ".safetensors"} <= extensions
    finally:
        folder_paths.folder_names_and_paths.clear()
        folder_paths.folder_names_and_paths.update(before)


def test_which_comfyui_is_tested(pack):
    import comfy_api

    stand_in = "comfy_stand_in" in str(comfy_api.__file__ or comfy_api.__path__)
    assert stand_in == (not COMFYUI_DIR)
