"""A text encoder's folder, and where its packed file goes."""

import pytest

from lumina_next.tests.support.encoder_folders import WEIGHTS, write_folder


@pytest.fixture
def encoder_folder(tmp_path):
    return write_folder(tmp_path / "gemma-2b", [WEIGHTS])


@pytest.fixture
def packed_file(tmp_path):
    return tmp_path / "packed.safetensors"
