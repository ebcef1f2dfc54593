"""The benchmarks can be imported."""

from lumina_next.tests.support.scripts import scripts_importable  # noqa: F401 - a fixture
