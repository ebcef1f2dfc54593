"""Tensors of any layout come out of their files as they look."""

import pytest
import torch

from lumina_next.lumina.checkpoints.convert import streams
from lumina_next.lumina.checkpoints.convert.pack import pack
from lumina_next.tests.support.encoder_folders import WEIGHTS, assert_packed, write_folder


def test_views_of_one_storage_come_out_as_they_look(tmp_path, packed_file, small_pieces):
    base = torch.randn(40, 30)
    views = {"whole": base, "turned": base.T, "rows": base[3:9], "columns": base[:, ::3]}
    views |= {"spread": base[0].expand(20, 30), "parameter": torch.nn.Parameter(base[1])}
    views |= {"one": base[:1, 0], "few": base[:2, 0]}
    folder = write_folder(tmp_path / "views", [views], "bin")
    pack(folder, packed_file)
    assert_packed(packed_file, {name: tensor.detach() for name, tensor in views.items()})
    copies = [piece.untyped_storage().nbytes() for piece in streams.in_pieces(base.T)]
    assert sum(copies) == base.nbytes and max(copies) <= streams.PIECE


def test_old_torch_file_is_packed(tmp_path, packed_file):
    folder = write_folder(tmp_path / "old", [{}], "bin")
    path = next(folder.glob("*.bin"))
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    pack(folder, packed_file)
    assert_packed(packed_file, WEIGHTS)


def test_tensor_that_safetensors_cannot_hold_is_named(tmp_path, packed_file):
    folder = write_folder(tmp_path / "odd", [{"a": torch.ones(2, dtype=torch.complex128)}], "bin")
    with pytest.raises(ValueError, match='"a" in pytorch_model-00001-of-00001.bin is .*complex128'):
        pack(folder, packed_file)
