"""Workflow files of the page, and the API format that the server runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_host import ROOT, is_widget, load_pack, ordered_inputs

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
CORE_NODES = Path(__file__).parent / "workflows" / "core_nodes.json"
NOTES = ("MarkdownNote", "Note")  # of the page only


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """One input of a node.

    Attributes:
        name: Its id.
        type: Socket type; COMBO for a choice.
        widgets: Values that it takes in `widgets_values`: its own, and those of the buttons that
            the page adds beside it.
        optional: May stay unconnected.
        options: The choices, where they do not depend on the user's files.
        limits: Lowest and highest value.
    """

    name: str
    type: str
    widgets: int = 0
    optional: bool = False
    options: tuple[Any, ...] | None = None
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    """A node's sockets and widgets, in the order of the page."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]

    def input(self, name: str) -> InputSpec:
        return next(i for i in self.inputs if i.name == name)


FILE_CHOICES = {("StableAnimatorLoadPoses", "file")}


def _own_input(node_id: str, given: Any) -> InputSpec:
    extra = bool(getattr(given, "control_after_generate", None) or getattr(given, "upload", None))
    options = getattr(given, "options", None)
    limits = (getattr(given, "min", None), getattr(given, "max", None))
    return InputSpec(
        name=given.id,
        type=str(given.io_type),
        widgets=(1 + extra) if is_widget(given) else 0,
        optional=bool(given.optional),
        options=None if options is None or (node_id, given.id) in FILE_CHOICES else tuple(options),
        limits=None if None in limits else limits,
    )


def own_specs() -> dict[str, NodeSpec]:
    """The pack's nodes by id."""
    specs = {}
    for node_id, node in load_pack().nodes.items():
        schema = node.GET_SCHEMA()
        specs[node_id] = NodeSpec(
            inputs=tuple(_own_input(node_id, i) for i in ordered_inputs(schema)),
            outputs=tuple(str(o.io_type) for o in schema.outputs),
        )
    return specs


def core_specs() -> dict[str, NodeSpec]:
    """ComfyUI's own nodes that the workflows use, from a table that is checked against it."""
    table = json.loads(CORE_NODES.read_text(encoding="utf-8"))
    return {
        name: NodeSpec(
            inputs=tuple(InputSpec(**entry) for entry in node["inputs"]),
            outputs=tuple(node["outputs"]),
        )
        for name, node in table.items()
    }


def widget_values(node: dict[str, Any], spec: NodeSpec) -> dict[str, Any]:
    """A node's widget values by input.

    Raises:
        ValueError: If it has more or fewer values than widgets.
    """
    values = list(node.get("widgets_values", []))
    named = {}
    for given in spec.inputs:
        if given.widgets:
            taken, values = values[: given.widgets], values[given.widgets :]
            if len(taken) < given.widgets:
                raise ValueError(f"node {node['id']} ({node['type']}) has no value of {given.name}")
            named[given.name] = taken[0]
    if values:
        raise ValueError(
            f"node {node['id']} ({node['type']}) has values without a widget: {values}"
        )
    return named


def api_format(workflow: dict[str, Any], specs: dict[str, NodeSpec]) -> dict[str, Any]:
    """What the page sends to the server for a workflow."""
    origins = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        inputs: dict[str, Any] = widget_values(node, specs[node["type"]])
        for socket in node["inputs"]:
            if socket.get("link") is not None:
                inputs[socket["name"]] = origins[socket["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
