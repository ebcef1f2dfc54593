"""A node's table of settings says what its schema says, in words."""

import pytest

from lumina_next.tools.markdown_tables import Words
from lumina_next.tools.settings_tables import settings_of, settings_table, with_room

SHIFT = ["FLOAT", {"tooltip": "Where.", "default": 1e-06, "min": 0.0, "max": 2.5}]
REQUIRED = {
    "model": ["MODEL", {"tooltip": "From there."}],
    "model_name": [["a.safetensors"], {"display_name": "file", "tooltip": "A file."}],
    "seed": ["INT", {"tooltip": "Noise.", "default": 3, "min": 0, "max": 2**64 - 1}],
    "batch": ["BOOLEAN", {"tooltip": "All.", "default": False}],
    "text": ["STRING", {"tooltip": "Words.", "default": "{prompt}"}],
    "order": ["COMBO", {"tooltip": "Which.", "options": ["first", "last"], "default": "last"}],
    "plan": [
        "COMFY_DYNAMICCOMBO_V3",
        {
            "tooltip": "How.\nfast: few.",
            "options": [
                {"key": "fast", "inputs": {}},
                {"key": "slow", "inputs": {"required": {"shift": SHIFT}}},
                {"key": "even", "inputs": {"required": {"shift": SHIFT}}},
            ],
        },
    ],
}
DEFINITION = {"name": "Node", "input": {"required": REQUIRED}}


@pytest.fixture
def rows():
    """Cells of each row, without the header."""
    lines = settings_table(DEFINITION, Words(None)).splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in lines]


def test_every_input_has_a_row_with_limits_default_and_meaning(rows):
    assert rows == [
        ["**model**<br>MODEL", "From there."],
        ["**file**<br>files and folders", "A file."],
        ["**seed**<br>0 to 2^64 - 1<br>default 3", "Noise."],
        ["**batch**<br>on, off<br>default off", "All."],
        ["**text**<br>text<br>default `{prompt}`", "Words."],
        ["**order**<br>`first`, `last`<br>default `last`", "Which."],
        ["**plan**<br>`fast`, `slow`, `even`<br>default `fast`", "How.<br>fast: few."],
        ["**shift** (plan `slow`, `even`)<br>0 to 2.5<br>default 1e-06", "Where."],
    ]


def test_table_in_short_leaves_the_list_of_choices_out():
    made = settings_table(DEFINITION, Words(None), in_short=True)
    assert "| How. |" in made and "few" not in made


def test_many_choices_are_not_written_out():
    sizes = [f"{size} x {size}" for size in range(16, 32)]
    definition = {"name": "Node", "input": {"required": {"size": ["COMBO", {"options": sizes}]}}}
    assert "`16 x 16` ... `31 x 31`" in settings_table(definition, Words(None))


def test_inputs_that_grow_say_how_many():
    inner = {"input": {"required": {"sigmas": ["SIGMAS", {}]}}, "prefix": "sigmas", "max": 8}
    definition = {"input": {"optional": {"s": ["COMFY_AUTOGROW_V3", {"template": inner}]}}}
    assert "| **s**<br>SIGMAS, up to 8 |  |" in settings_table(definition, Words(None))


def test_input_that_several_choices_open_stands_once():
    paths = [setting.path for setting in settings_of(DEFINITION)]
    assert paths.count("plan.shift") == 1


@pytest.mark.parametrize("heading", ["Inputs", "输入"])
def test_page_without_a_table_gets_room_for_it(heading):
    text = with_room(f"# Node\n\n## {heading}\n\n- **a**: b.\n")
    mark = "<!-- made by tools/settings_tables.py: settings -->\n<!-- end -->\n"
    assert text == f"# Node\n\n## {heading}\n\n{mark}\n- **a**: b.\n"
    assert with_room(text) == text
