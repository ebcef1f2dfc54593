"""Small text encoders in the host's folders."""

import pytest

from lumina_next.tests.support import tiny


@pytest.fixture
def encoders(host):
    return tiny.write_gemma(host)


@pytest.fixture(params=tiny.TEXT_FAMILIES)
def family(request):
    return tiny.TEXT_FAMILIES[request.param]
