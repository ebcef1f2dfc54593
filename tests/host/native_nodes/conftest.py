"""Small models for ComfyUI's own nodes to work on."""

import pytest

from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import load


@pytest.fixture
def model(host):
    tiny.write_models(host)
    return load()


@pytest.fixture
def clip(host):
    tiny.write_gemma(host)
    name = "gemma.safetensors"
    return node("LuminaNextTextEncoderLoader", text_encoder_name=name, device="default")
