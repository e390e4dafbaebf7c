"""What is written about the nodes outside their schemas: help pages and the English locale.

`python tests/node_texts.py` brings the tables of the help pages, the locale file and the pinned
widget order up to date; the prose of a help page is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from comfy_host import ROOT, is_widget, load_pack, ordered_inputs

DOCS = ROOT / "web" / "docs"
LOCALE = ROOT / "locales" / "en" / "nodeDefs.json"
WIDGETS = ROOT / "tests" / "nodes" / "widgets.json"
_LONGEST_RANGE = 10**6  # a seed's range tells a reader nothing


def _value(node_input: Any) -> str:
    kind = str(node_input.io_type)
    if not is_widget(node_input):
        return f"{kind}, optional" if node_input.optional else kind
    text = kind if node_input.default is None else f"{kind}, default `{node_input.default}`"
    low, high = getattr(node_input, "min", None), getattr(node_input, "max", None)
    if low is None or high is None or high > _LONGEST_RANGE:
        return text
    return f"{text}, {low} to {high}"


def _table(title: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"| {title} | Type | Meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {text.replace('|', '/')} |" for name, kind, text in rows]
    return "\n".join(lines)


def tables(schema: Any) -> dict[str, str]:
    """The tables of a help page by heading."""
    found = {}
    inputs = [(i.id, _value(i), i.tooltip or "") for i in ordered_inputs(schema)]
    outputs = [(o.display_name, str(o.io_type), o.tooltip or "") for o in schema.outputs]
    if inputs:
        found["Inputs"] = _table("Input", inputs)
    if outputs:
        found["Outputs"] = _table("Output", outputs)
    return found


def sections(page: str) -> dict[str, str]:
    """A page's second-level sections by heading."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return {
        title.strip(): text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def locale_entry(schema: Any) -> dict[str, Any]:
    """What nodeDefs.json says about a node."""
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {
            i.id: {"name": i.display_name or i.id, "tooltip": i.tooltip} for i in schema.inputs
        },
        "outputs": {
            str(index): {"name": o.display_name, "tooltip": o.tooltip}
            for index, o in enumerate(schema.outputs)
        },
    }


def widget_order(schema: Any) -> list[str]:
    """Ids of the widgets in the order in which saved workflows store their values."""
    return [i.id for i in ordered_inputs(schema) if is_widget(i)]


def _with_tables(page: str, schema: Any) -> str:
    for title, table in tables(schema).items():
        section = re.compile(rf"(^## {title}\n)(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
        page = section.sub(lambda found, table=table: f"{found[1]}\n{table}\n\n", page)
    return page.rstrip() + "\n"


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Rewrite what follows from the schemas."""
    schemas = {node_id: node.GET_SCHEMA() for node_id, node in load_pack().nodes.items()}
    _write_json(LOCALE, {node_id: locale_entry(s) for node_id, s in schemas.items()})
    pinned = json.loads(WIDGETS.read_text(encoding="utf-8"))
    for node_id, schema in schemas.items():
        now, before = widget_order(schema), pinned.get(node_id, [])
        if now[: len(before)] != before:
            raise SystemExit(f"{node_id}: widgets may only be appended; {before} became {now}")
    _write_json(WIDGETS, {node_id: widget_order(s) for node_id, s in schemas.items()})
    for node_id, schema in schemas.items():
        path = DOCS / f"{node_id}.md"
        path.write_text(_with_tables(path.read_text(encoding="utf-8"), schema), encoding="utf-8")


if __name__ == "__main__":
    main()
