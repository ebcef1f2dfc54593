"""The host, for tests of its tokenizers."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def comfyui(host):
    """Every test needs ComfyUI's modules."""
