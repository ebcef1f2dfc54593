"""A folder packed into one file: equal tensor by tensor, in little memory, whole or not at all."""

import json
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lumina_next.lumina.checkpoints.convert import pack as convert_pack
from lumina_next.lumina.checkpoints.convert import streams
from lumina_next.lumina.checkpoints.convert.pack import pack
from lumina_next.tests.support.encoder_folders import (
    DTYPES,
    PIECES,
    WEIGHTS,
    assert_packed,
    bytes_of,
    converted,
    header_of,
    metadata_of,
    write_folder,
)


@st.composite
def tensors(draw):
    """A tensor of any kind: scalar, empty, turned, expanded, every second column."""
    shape = draw(st.lists(st.integers(0, 7), max_size=3))
    dtype = draw(st.sampled_from(DTYPES))
    numbers = torch.randn(*shape, 2, generator=torch.Generator().manual_seed(len(shape)))
    tensor = (40 * numbers).to(dtype)[..., 0] if draw(st.booleans()) else numbers[..., 1].to(dtype)
    return tensor.transpose(0, -1) if shape and draw(st.booleans()) else tensor


@settings(max_examples=30, deadline=None)
@given(
    shards=st.lists(st.lists(tensors(), min_size=1, max_size=4), min_size=1, max_size=3),
    form=st.sampled_from(["safetensors", "bin"]),
    dtype=st.sampled_from(list(convert_pack.DTYPES)),
    piece=st.sampled_from([8, 64, 2**20]),
)
def test_any_folder_is_packed_exactly(shards, form, dtype, piece):
    named = [{f"{i}.{j}": t for j, t in enumerate(shard)} for i, shard in enumerate(shards)]
    stored = named
    if form == "safetensors":
        stored = [{name: t.contiguous().clone() for name, t in shard.items()} for shard in named]
    expected = {name: tensor for shard in named for name, tensor in shard.items()}
    if dtype != "keep":
        expected = {n: converted(t, convert_pack.DTYPES[dtype]) for n, t in expected.items()}
    with tempfile.TemporaryDirectory() as base, pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "PIECE", piece)
        patch.setattr(os, "fsync", lambda _: None)  # a tenth of a second each
        folder = write_folder(Path(base) / "folder", stored, form)
        packed = pack(folder, Path(base) / "packed.safetensors", dtype)
        assert packed.is_new and packed.size == packed.file.stat().st_size
        assert_packed(packed.file, expected)
        length, header = header_of(packed.file)
        assert length % 8 == 0
        for name, tensor in expected.items():
            assert tensor.numel() == 0 or header[name]["data_offsets"][0] % tensor.itemsize == 0


def test_tokenizer_and_config_are_inside(encoder_folder, packed_file):
    said = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": {"content": "<bos>", "lstrip": False},
        "pad_token": "<pad>",
        "chat_template": "long",
    }
    (encoder_folder / "tokenizer_config.json").write_text(json.dumps(said))
    pack(encoder_folder, packed_file)
    assert bytes_of(load_file(packed_file)["spiece_model"]) == PIECES
    metadata = metadata_of(packed_file)
    assert metadata["format"] == "pt"
    assert json.loads(metadata["config"]) == json.loads(
        (encoder_folder / "config.json").read_text()
    )
    said.pop("chat_template")
    assert json.loads(metadata["tokenizer_config"]) == said | {"bos_token": "<bos>"}


def test_text_encoder_of_a_pipeline_is_packed(tmp_path, packed_file):
    pipeline = tmp_path / "pipeline"
    part = write_folder(pipeline / "text_encoder", [WEIGHTS])
    save_file({"other": torch.ones(1)}, pipeline / "model.safetensors")
    (pipeline / "tokenizer").mkdir()
    (part / "tokenizer.model").rename(pipeline / "tokenizer" / "tokenizer.model")
    (pipeline / "tokenizer" / "tokenizer_config.json").write_text('{"add_eos_token": true}')
    pack(pipeline, packed_file)
    assert_packed(packed_file, WEIGHTS)
    assert json.loads(metadata_of(packed_file)["tokenizer_config"]) == {"add_eos_token": True}
