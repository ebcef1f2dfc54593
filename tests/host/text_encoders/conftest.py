"""Small text encoders in the host's folders, and their CLIPs."""

import pytest
import torch

from lumina_next.tests.support import tiny
from lumina_next.tests.support.clips import FAMILIES


@pytest.fixture
def encoders(host):
    for name in FAMILIES:
        folder = tiny.write_text_encoder(host, name)
    return folder


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


@pytest.fixture
def gemma():
    return FAMILIES["gemma"]


@pytest.fixture
def load(encoders):
    """Loads in float32: the host would halve such weights, which rounds them."""
    from lumina_next.host.checkpoints import folders
    from lumina_next.host.text_encoders import loading

    def load(name):
        path = folders.find(folders.TEXT_ENCODERS, name)
        return loading.load_text_encoder_file(str(path), {"dtype": torch.float32})

    return load


@pytest.fixture
def clip(load, family):
    return load(f"{family.name}.safetensors")
