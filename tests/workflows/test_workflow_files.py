"""The shipped workflows fit the nodes, and say what a user needs to know."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from comfy_host import ROOT
from workflow_format import NOTES, WORKFLOWS, api_format, core_specs, own_specs, widget_values

RECOGNISED = ("example_workflows", "example", "examples", "workflow", "workflows")
LOADERS = ("StableAnimatorLoadModel",)  # the page downloads no ONNX files
FILE_NODES = ("LoadImage", "LoadVideo", "StableAnimatorLoadPoses")


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def workflow(path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def nodes(workflow) -> list[dict[str, Any]]:
    return [n for n in workflow["nodes"] if n["type"] not in NOTES]


def test_there_are_workflows_in_the_one_folder_that_comfyui_lists():
    assert {"animate_from_poses", "animate_from_skeleton_video"} <= {p.stem for p in WORKFLOWS}
    assert [name for name in RECOGNISED if (ROOT / name).exists()] == ["workflows"]


def test_file_is_in_the_format_of_the_page(workflow):
    assert str(uuid.UUID(workflow["id"])) == workflow["id"]
    assert {"nodes", "links", "last_node_id", "last_link_id", "version"} <= set(workflow)
    ids = [n["id"] for n in workflow["nodes"]]
    links = [link[0] for link in workflow["links"]]
    assert len(ids) == len(set(ids))
    assert len(links) == len(set(links))
    assert workflow["last_node_id"] >= max(ids)
    assert workflow["last_link_id"] >= max(links)


def test_every_node_is_known_and_up_to_date(nodes, specs):
    for node in nodes:
        spec = specs[node["type"]]
        sockets = {s["name"]: s["type"] for s in node["inputs"]}
        assert sockets == {i.name: i.type for i in spec.inputs}, node["type"]
        assert [o["type"] for o in node["outputs"]] == list(spec.outputs), node["type"]
        with_widget = {s["name"] for s in node["inputs"] if "widget" in s}
        assert with_widget == {i.name for i in spec.inputs if i.widgets}, node["type"]


def test_every_link_joins_equal_sockets(workflow, specs):
    by_id = {n["id"]: n for n in workflow["nodes"]}
    for link, source, source_slot, target, target_slot, kind in workflow["links"]:
        output = by_id[source]["outputs"][source_slot]
        socket = by_id[target]["inputs"][target_slot]
        assert link in output["links"]
        assert socket["link"] == link
        assert specs[by_id[source]["type"]].outputs[source_slot] == kind
        assert specs[by_id[target]["type"]].input(socket["name"]).type == kind
    listed = {link[0] for link in workflow["links"]}
    for node in workflow["nodes"]:
        assert {s["link"] for s in node["inputs"]} - {None} <= listed
        assert {i for o in node["outputs"] for i in o["links"] or ()} <= listed


def test_every_required_socket_is_connected(nodes, specs):
    for node in nodes:
        for socket in node["inputs"]:
            spec = specs[node["type"]].input(socket["name"])
            if not spec.widgets and not spec.optional:
                assert socket["link"] is not None, f"{node['type']}.{socket['name']}"


def test_every_widget_value_is_allowed(nodes, specs):
    for node in nodes:
        spec = specs[node["type"]]
        for name, value in widget_values(node, spec).items():
            given, where = spec.input(name), f"{node['type']}.{name}"
            kinds = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}
            assert isinstance(value, kinds.get(given.type, str)), where
            if given.options is not None:
                assert value in given.options, where
            if given.limits is not None:
                assert given.limits[0] <= value <= given.limits[1], where


def test_seeds_are_fixed(nodes, specs):
    for node in nodes:
        assert "randomize" not in node["widgets_values"]


def test_the_api_format_has_every_node_and_link(workflow, nodes, specs):
    prompt = api_format(workflow, specs)
    assert set(prompt) == {str(n["id"]) for n in nodes}
    links = [v for n in prompt.values() for v in n["inputs"].values() if isinstance(v, list)]
    assert len(links) == len(workflow["links"])
    assert all(source in prompt for source, _slot in links)
    for entry in prompt.values():
        required = {i.name for i in specs[entry["class_type"]].inputs if not i.optional}
        assert required <= set(entry["inputs"])


def test_nodes_say_which_pack_they_are_of(nodes, project):
    ours = own_specs()
    for node in nodes:
        properties = node["properties"]
        assert properties["Node name for S&R"] == node["type"]
        if node["type"] in ours:
            found = (properties["cnr_id"], properties["ver"])
            assert found == (project["name"], project["version"]), node["type"]
        else:
            assert node["type"] in core_specs()
            assert properties["cnr_id"] == "comfy-core"


def test_loaders_offer_their_downloads(nodes):
    for node in (n for n in nodes if n["type"] in LOADERS):
        assert node["properties"]["models"]
        for model in node["properties"]["models"]:
            assert set(model) >= {"name", "url", "directory"}
            url = urlparse(model["url"])
            assert url.scheme == "https"
            assert url.path.endswith("/" + model["name"])
            assert model["directory"] == "stableanimator"  # the page knows no subfolders


def test_a_note_explains_the_workflow(workflow):
    notes = [n for n in workflow["nodes"] if n["type"] == "MarkdownNote"]
    assert notes
    text = "\n".join(n["widgets_values"][0] for n in notes)
    for node in workflow["nodes"]:
        if node["type"] in FILE_NODES:
            assert node["widgets_values"][0] in text, "the note says which files to put where"


def test_a_thumbnail_lies_beside_the_workflow(path):
    from PIL import Image

    thumbnail = path.with_suffix(".jpg")
    assert thumbnail.is_file(), f"{thumbnail.name} is missing"
    with Image.open(thumbnail) as picture:
        assert picture.format == "JPEG"
        assert min(picture.size) >= 200


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_values_that_do_not_fit_the_widgets_are_found(specs, change):
    animate = next(p for p in WORKFLOWS if p.stem == "animate_from_poses")
    workflow = json.loads(animate.read_text(encoding="utf-8"))
    node = next(n for n in workflow["nodes"] if n["type"] == "StableAnimatorAnimate")
    values = node["widgets_values"]
    node["widgets_values"] = values[:-1] if change == "missing" else [*values, 1]
    with pytest.raises(ValueError, match="StableAnimatorAnimate"):
        api_format(workflow, specs)
