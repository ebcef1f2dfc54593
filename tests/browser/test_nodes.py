"""The pack's nodes as they are seen: what is refused, what is said, and how a new node looks.

tests/browser/nodes.mjs drives Chromium once for all of these tests, with each of the editor's two
renderers; what it saw is asserted here. Its screenshots lie in pytest's temporary folder.
"""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from lumina_next.demo import GRAPH
from lumina_next.tests.support import tiny
from lumina_next.tools.environment import BROWSER, host_directory

pytestmark = pytest.mark.browser

FOREIGN, OTHER_VAE = "sd_xl_base_1.0.safetensors", "sixteen.safetensors"
SENTENCE = f"{FOREIGN} is not a Lumina-Next model but Stable Diffusion XL. Load it with ComfyUI's "

A_VAE_OF_16_CHANNELS = """
import sys
import comfy.cli_args
comfy.cli_args.args.cpu = True
from comfy.taesd.taesd import TAESD
from safetensors.torch import save_file
save_file(TAESD(latent_channels=16).state_dict(), sys.argv[1])
"""


@pytest.fixture(scope="module")
def both(server, chromium, tmp_path_factory):
    """What nodes.mjs reports."""
    write_files(server)
    tiny.write_gemma(server)
    settings = {
        "url": server.url,
        "chromium": chromium,
        "folder": str(tmp_path_factory.mktemp("nodes")),
        "graph": json.loads(GRAPH.read_text()),
        "foreign": FOREIGN,
        "encoder": "gemma.safetensors",
        "vae": OTHER_VAE,
    }
    command = ["node", "nodes.mjs", json.dumps(settings)]
    run = subprocess.run(command, cwd=BROWSER, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, f"{run.stderr}\nComfyUI's log ends:\n{server.log_tail()}"
    return json.loads(run.stdout)


def write_files(server):
    names = ("input_blocks.0.0.weight", "label_emb.0.0")
    sdxl = {f"model.diffusion_model.{name}": torch.zeros(2, 2) for name in names}
    save_file(sdxl, server.models / "diffusion_models" / FOREIGN)
    # In a process of its own: the tests of the browser do not import ComfyUI.
    command = [sys.executable, "-c", A_VAE_OF_16_CHANNELS, str(server.models / "vae" / OTHER_VAE)]
    subprocess.run(command, cwd=host_directory(), check=True, timeout=120)


@pytest.fixture(params=["classic", "nodes2"])
def seen(both, request):
    return both[request.param]


def test_refused_file_shows_its_whole_sentence_once_without_a_click(seen):
    (refusal,) = seen["refused"]["near"]
    assert refusal["isInside"]
    assert refusal["text"].startswith(SENTENCE) and refusal["text"].endswith(".")
    (overlay,) = seen["refused"]["overlay"]
    assert "Load Lumina-Next Model" in overlay and SENTENCE not in overlay


def test_inputs_are_called_as_they_are_shown(seen):
    (overlay,) = seen["refused"]["overlay"]
    assert "the value for model." in overlay and "model_name" not in overlay


def test_refused_node_outside_the_view_is_brought_into_it(seen):
    (refusal,) = seen["refused"]["far"]
    assert refusal["isInside"] and refusal["text"].startswith(SENTENCE)


def test_refusal_goes_with_another_choice_and_leaves_the_graph_as_it_was(seen):
    assert seen["refused"]["after"] == 0
    assert seen["refused"]["isUnchanged"]


def test_error_of_ours_is_shown_at_the_node_that_fails_by_it(seen):
    (failure,) = seen["failed"]
    assert failure["isInside"]
    assert "features per token" in failure["text"] and "Load Lumina-Next Text" in failure["text"]


def test_error_stays_when_the_editor_changes_the_seed_after_the_run(seen):
    assert seen["stays"] == 1


def test_vae_of_another_kind_is_explained_at_the_decoder(seen):
    channels = seen["said"]["channels"]
    assert channels["isInside"]
    assert "latents with 16 channels" in channels["text"] and "SDXL VAE" in channels["text"]


def test_each_remark_on_a_prompt_has_a_line_of_its_own(seen):
    counts, unknown = seen["said"]["lines"]
    assert counts.startswith("positive: ") and counts.endswith("negative: 1")
    assert unknown.startswith("positive: The demo model does not know: cat. It knows: circle,")


def test_prompt_boxes_are_large_and_keep_their_names_when_filled(seen):
    node = seen["fresh"]["LuminaNextTextEncode"]
    assert len(node["heights"]) == 2 and min(node["heights"]) > 90
    assert {"positive", "negative"} <= set(node["texts"])


def test_new_sampler_is_balanced_and_shows_the_plan(seen):
    node = seen["fresh"]["LuminaNextSampler"]
    assert node["values"]["preset"] == "Balanced"
    assert "Balanced: euler, sigmoid, 20 model calls" in node["texts"]


def test_size_says_what_it_is(seen):
    node = seen["fresh"]["LuminaNextSize"]
    assert node["values"]["size"] == "1024 x 1024"
    assert "1024 x 1024: square, 1.0 megapixels" in node["texts"]


def test_settings_of_dype_are_there_as_soon_as_it_is_chosen(seen):
    assert {"scale", "exponent", "base"} <= set(seen["fresh"]["LuminaNextResolution"]["texts"])


def test_no_label_is_cut_on_a_new_node(seen):
    assert {name: node["cut"] for name, node in seen["fresh"].items() if node["cut"]} == {}


def test_search_finds_every_node_by_the_name_of_the_model(seen):
    for name in ("Load Lumina-Next Model", "Lumina-Next Sampler", "Lumina-Next Size"):
        assert name in seen["found"]


def test_nothing_fails_inside_the_page(both):
    assert both["exceptions"] == []
    assert both["elsewhere"] == []
