"""The help pages against the nodes as they are: tables of settings, and pages in Chinese."""

import re

import pytest

from lumina_next.tools import locales, settings_tables
from lumina_next.tools.environment import ROOT
from lumina_next.tools.locales import in_language
from lumina_next.tools.node_texts import output_names

DOCS = ROOT / "web" / "docs"
MARK = "<!-- made by tools/settings_tables.py: settings"


@pytest.fixture(scope="module")
def definitions(host):
    """The nodes as /object_info describes them."""
    from lumina_next.nodes import NODES

    return {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in NODES}


@pytest.fixture(scope="module")
def chinese():
    return locales.load("zh")


def test_tables_of_settings_are_up_to_date(definitions):
    outdated = [str(path) for path, _ in settings_tables.outdated(definitions)]
    assert outdated == [], "run: python -m tools.settings_tables"


def test_every_page_has_a_table_of_settings_and_a_picture(definitions):
    pages = [*DOCS.glob("*.md"), *DOCS.glob("*/zh.md")]
    assert len(pages) == 2 * len(definitions)
    for page in pages:
        text = page.read_text("utf-8")
        assert text.count(MARK) == 1, page
        (picture,) = re.findall(r"!\[.+\]\((.+)\)", text)
        # The editor looks for it in web/docs, also from a page in a folder of its own.
        assert (DOCS / picture).is_file(), page


def test_every_node_has_a_page_in_chinese_under_its_chinese_name(definitions, chinese):
    for node, definition in definitions.items():
        page = (DOCS / node / "zh.md").read_text("utf-8")
        assert page.startswith(f"# {chinese[definition['display_name']]}\n"), node


def test_chinese_pages_have_the_sections_of_the_english_ones(definitions):
    for node in definitions:
        pages = [(DOCS / f"{node}.md"), (DOCS / node / "zh.md")]
        english, chinese = (page.read_text("utf-8") for page in pages)
        for form in (r"^#+ ", r"^```", r"^ *- ", r"^\| ", r"https://[^)]+", r"<!-- made by .+ -->"):
            found = [sorted(re.findall(form, text, re.M)) for text in (english, chinese)]
            assert found[0] == found[1], f"{node}: {form}"


def test_chinese_pages_call_inputs_and_outputs_as_the_editor_does(definitions, chinese):
    for node, definition in definitions.items():
        page = (DOCS / node / "zh.md").read_text("utf-8")
        for setting in settings_tables.settings_of(definition):
            name = setting.settings.get("display_name") or setting.path.split(".")[-1]
            assert f"**{in_language(name, chinese)}**" in page, f"{node}: {name}"
        for name, kind in zip(output_names(definition), definition["output"], strict=True):
            assert f"**{chinese[name] if name else kind}**" in page, f"{node}: {name}"
