"""Which folders are text encoders, and which of their tokenizers is taken."""

import json
import os
import shutil

import pytest
from safetensors.torch import load_file, save_file

from lumina_next.lumina.checkpoints.convert.pack import pack
from lumina_next.tests.support.encoder_folders import (
    EMBEDDING,
    JSON_TOKENIZER,
    NORM,
    PIECES,
    WEIGHTS,
    bytes_of,
    header_of,
    shard_of,
)


@pytest.mark.parametrize(
    "files, key, content",
    [
        ({"tokenizer.json": JSON_TOKENIZER}, "tokenizer_json", JSON_TOKENIZER),
        ({"spiece.model": PIECES}, "spiece_model", PIECES),
        ({"tokenizer.json": JSON_TOKENIZER, "tokenizer.model": PIECES}, "spiece_model", PIECES),
        (
            {"tokenizer.json": JSON_TOKENIZER, "tokenizer.model": b"IQ== 0\nIg== 1\n"},
            "tokenizer_json",
            JSON_TOKENIZER,
        ),
    ],
)
def test_the_tokenizer_that_can_be_read_is_taken(encoder_folder, packed_file, files, key, content):
    (encoder_folder / "tokenizer.model").unlink()
    for name, written in files.items():
        (encoder_folder / name).write_bytes(written)
    pack(encoder_folder, packed_file)
    found = load_file(packed_file)
    assert bytes_of(found[key]) == content
    assert found.keys() == {*WEIGHTS, key}


REFUSED = {
    "no folder": (lambda f: shutil.rmtree(f), "gemma-2b is not a folder"),
    "no config": (lambda f: (f / "config.json").unlink(), r"gemma-2b has no config\.json"),
    "bad config": (lambda f: (f / "config.json").write_text("<html>"), "config.json .* is damaged"),
    "no tokenizer": (lambda f: (f / "tokenizer.model").unlink(), "comes without a tokenizer"),
    "bad tokenizer": (
        lambda f: (f / "tokenizer.model").write_bytes(b"\n<!doctype html><html>"),
        r"tokenizer\.model in gemma-2b cannot be read",
    ),
    "bad tokenizer settings": (
        lambda f: (f / "tokenizer_config.json").write_text("[]"),
        r"tokenizer_config\.json .* is damaged",
    ),
    "no weights": (lambda f: shard_of(f).unlink(), "gemma-2b holds no model"),
    "TensorFlow": (
        lambda f: shard_of(f).rename(f / "tf_model.h5"),
        r"a model for TensorFlow or Keras \(tf_model\.h5\)",
    ),
    "ONNX": (lambda f: shard_of(f).rename(f / "model.onnx"), r"for ONNX \(model\.onnx\)"),
    "cut": (lambda f: os.truncate(shard_of(f), 900), "is cut short"),
    "missing shard": (
        lambda f: shard_of(f).rename(f / "model-00001-of-00002.safetensors"),
        r"lacks model-00002-of-00002\.safetensors",
    ),
    "two models": (
        lambda f: save_file(WEIGHTS, f / "adapter.safetensors"),
        "holds 2 models.*adapter.safetensors",
    ),
    "overlapping": (
        lambda f: overlap(shard_of(f)),
        r"model-00001-of-00001\.safetensors has a damaged header",
    ),
}


def overlap(path):
    """Let the norm's bytes be the end of the embedding's."""
    length, header = header_of(path)
    size = header[NORM]["data_offsets"][1] - header[NORM]["data_offsets"][0]
    end = header[EMBEDDING]["data_offsets"][1]
    header[NORM]["data_offsets"] = [end - size, end]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


@pytest.mark.parametrize("case", REFUSED)
def test_folder_that_is_no_text_encoder_is_refused(encoder_folder, packed_file, case):
    spoil, said = REFUSED[case]
    spoil(encoder_folder)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        pack(encoder_folder, packed_file)
    assert not list(packed_file.parent.glob("packed*"))
