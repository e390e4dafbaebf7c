"""Help pages and the locale say what the schemas say."""

from __future__ import annotations

import json

from node_texts import DOCS, LOCALE, locale_entry, sections, tables

REMEDY = "run `python tests/node_texts.py`"


def test_every_node_has_a_help_page_and_no_page_is_left_over(pack):
    assert {p.stem for p in DOCS.glob("*.md")} == set(pack.nodes)


def test_help_pages_agree_with_the_schemas(pack):
    for node_id, node in pack.nodes.items():
        schema = node.GET_SCHEMA()
        page = (DOCS / f"{node_id}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {schema.display_name}\n"), node_id
        found = sections(page)
        for title, table in tables(schema).items():
            assert found.get(title) == table, f"{node_id}, {title}: {REMEDY}"


def test_help_pages_help(pack):
    for node_id in pack.nodes:
        page = (DOCS / f"{node_id}.md").read_text(encoding="utf-8")
        introduction = page.partition("\n")[2].partition("## ")[0].strip()
        assert len(introduction) > 80, f"{node_id} does not say what it does"
        found = sections(page)
        assert len(found["Tips"]) > 80, node_id
        assert found["If something goes wrong"].startswith("- **"), node_id


def test_help_pages_fetch_nothing_from_elsewhere():
    for path in DOCS.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text, path.name
        assert "![" not in text, f"{path.name}: pictures must lie in web/docs"


def test_the_locale_agrees_with_the_schemas(pack):
    locale = json.loads(LOCALE.read_text(encoding="utf-8"))
    assert list(locale) == list(pack.nodes), REMEDY
    for node_id, node in pack.nodes.items():
        assert locale[node_id] == locale_entry(node.GET_SCHEMA()), f"{node_id}: {REMEDY}"
