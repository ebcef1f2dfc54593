"""The host for tests of prompts, a small model and text encoder in it, and what its nodes show."""

import html
from types import SimpleNamespace

import pytest
import torch

from lumina_next.tests.support import tiny


@pytest.fixture(autouse=True, scope="module")
def comfyui(host):
    """Every test needs ComfyUI's modules."""


@pytest.fixture
def clip(host):
    """In float32: the host would halve such weights, which rounds them."""
    from lumina_next.host.checkpoints import folders
    from lumina_next.host.text_encoders import loading

    tiny.write_gemma(host)
    path = folders.find(folders.TEXT_ENCODERS, "gemma.safetensors")
    return loading.load_text_encoder_file(str(path), {"dtype": torch.float32})


@pytest.fixture
def model(folder):
    from lumina_next.host.model import loading

    return loading.load_model("native.safetensors")


@pytest.fixture
def shown(monkeypatch):
    """What the editor was told to show under the node; the last text is the one that stays."""
    from comfy_execution.utils import CurrentNodeContext
    from server import PromptServer

    from lumina_next.host.notices import LINE_END

    texts = []

    def show(text, node_id):
        texts.append(html.unescape(text.replace(LINE_END, "\n")))

    editor = SimpleNamespace(send_progress_text=show)
    monkeypatch.setattr(PromptServer, "instance", editor, raising=False)
    with CurrentNodeContext(prompt_id="job", node_id="7"):
        yield texts
