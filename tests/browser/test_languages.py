"""The pack in Chinese, in a real browser: both renderers, dark and light, and with texts missing.

tests/browser/languages.mjs drives Chromium once for all of these tests; what it saw is asserted
here. Its screenshots lie in pytest's temporary folder.
"""

import json
import subprocess

import pytest

from lumina_next.tools.comfyui import PACK_NAME
from lumina_next.tools.environment import BROWSER, ROOT

pytestmark = pytest.mark.browser

NODE = "LuminaNextSampler"
CHINESE = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text("utf-8"))[NODE]
INPUTS = CHINESE["inputs"]
PAGE = (ROOT / "web" / "docs" / NODE / "zh.md").read_text("utf-8")
# In the editor's English: an input, one that a choice opens, and the names of the outputs.
LACKING = [["inputs", "denoise"], ["inputs", "preset_steps", "tooltip"], ["outputs"]]
TOOLTIPS = ["cfg", "denoise", "preset", "preset.steps", "preset.schedule", "preset.schedule.shift"]


@pytest.fixture(scope="module")
def both(server, chromium, tmp_path_factory):
    """What languages.mjs reports."""
    settings = {
        "url": server.url,
        "chromium": chromium,
        "folder": str(tmp_path_factory.mktemp("languages")),
        "language": "zh-CN",
        "node": NODE,
        "values": {"preset": "Custom", "preset.schedule": "rational"},
        "tooltips": TOOLTIPS,
        "lacking": LACKING,
    }
    command = ["node", "languages.mjs", json.dumps(settings)]
    run = subprocess.run(command, cwd=BROWSER, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, f"{run.stderr}\nComfyUI's log ends:\n{server.log_tail()}"
    return json.loads(run.stdout)


@pytest.fixture(params=["classic-dark", "vue-light"])
def look(request):
    return request.param


@pytest.fixture
def whole(both, look):
    return both["whole"]["looks"][look]


@pytest.fixture
def lacking(both, look):
    return both["lacking"]["looks"][look]


def key(name):
    """Of an input among the translations."""
    return name.replace(".", "_")


def test_node_and_its_inputs_and_outputs_are_called_in_chinese(whole):
    assert whole["title"] == CHINESE["display_name"]
    for name in ["model", "latent_image", "seed", "preset", "preset.steps", "preset.schedule"]:
        assert whole["labels"][name] == INPUTS[key(name)]["name"] != name
    assert whole["labels"]["denoised"] == CHINESE["outputs"]["1"]["name"]


@pytest.mark.parametrize("name", TOOLTIPS)
def test_tooltip_is_in_chinese(whole, name):
    assert lines(whole["tooltips"][name]) == lines(INPUTS[key(name)]["tooltip"])


def lines(text):
    return [line.strip() for line in text.split("\n") if line.strip()]


def test_help_page_is_the_chinese_one_with_its_picture(whole):
    headings = [line.lstrip("# ") for line in PAGE.splitlines() if line.startswith("#")]
    assert len(headings) > 3
    assert whole["help"]["headings"] == headings
    (width,) = whole["help"]["pictures"]
    assert width > 100


def test_missing_texts_are_shown_in_english_and_the_others_in_chinese(lacking):
    labels, tooltips = lacking["labels"], lacking["tooltips"]
    assert lacking["title"] == CHINESE["display_name"]
    assert labels["denoise"] == "denoise" and labels["denoised"] == "denoised"
    assert labels["preset.steps"] == INPUTS["preset_steps"]["name"]
    assert tooltips["denoise"].startswith("Share of the way")
    assert tooltips["preset.steps"].startswith("Steps from noise to picture.")
    assert tooltips["cfg"] == INPUTS["cfg"]["tooltip"]


@pytest.mark.parametrize("locale", ["whole", "lacking"])
def test_console_stays_clean_of_the_pack(both, locale):
    seen = both[locale]
    assert seen["exceptions"] == [] and seen["elsewhere"] == []
    bad = [
        message
        for message in seen["messages"]
        if message["kind"] in ("error", "warning")
        and (f"/{PACK_NAME}/" in message["from"] or "Lumina" in message["text"])
    ]
    assert bad == []
