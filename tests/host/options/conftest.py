"""A small model for the nodes that change one."""

import pytest


@pytest.fixture
def model(folder):
    from lumina_next.host.model import loading

    return loading.load_model("native.safetensors")
