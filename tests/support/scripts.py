"""Scripts run from the repository root and import the pack's layers by plain name."""

import pytest

from lumina_next.tools import environment


@pytest.fixture(autouse=True)
def scripts_importable(monkeypatch):
    monkeypatch.syspath_prepend(environment.ROOT)
