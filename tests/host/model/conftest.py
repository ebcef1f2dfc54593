"""Small models in the host's folders."""

import pytest


@pytest.fixture
def load(folder):
    from lumina_next.host.model import loading

    return loading.load_model
