"""Small Hugging Face folders of text encoders for the tests of packing, and what came of them."""

import json

import safetensors
import torch
from safetensors.torch import load_file, save_file

CONFIG = {"model_type": "gemma", "head_dim": 256}
PIECES = b"\x0a\x0e\x0a\x05<pad>\x15\x00\x00\x00\x00\x18\x03 a model of SentencePiece"
JSON_TOKENIZER = b'{"version": "1.0", "model": {"type": "BPE"}}\n'
EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
WEIGHTS = {
    EMBEDDING: torch.randn(50, 8, generator=torch.Generator().manual_seed(0)),
    NORM: torch.linspace(0, 2, 8),
}
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
DTYPES += [torch.float8_e5m2, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
DTYPES += [torch.bool]


def write_folder(folder, shards, form="safetensors", config=CONFIG, tokenizer="tokenizer.model"):
    """A folder as Hugging Face lays one out."""
    folder.mkdir(parents=True)
    stem, save = ("model", save_file) if form == "safetensors" else ("pytorch_model", torch.save)
    for number, shard in enumerate(shards, 1):
        save(shard, folder / f"{stem}-{number:05}-of-{len(shards):05}.{form}")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / tokenizer).write_bytes(JSON_TOKENIZER if tokenizer.endswith("json") else PIECES)
    return folder


def metadata_of(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()


def header_of(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return length, json.loads(content[8 : 8 + length])


def assert_packed(path, expected):
    """The file's tensors are `expected` and the tokenizer, to the last bit."""
    found = load_file(path)
    (tokenizer,) = found.keys() & {"spiece_model", "tokenizer_json"}
    found.pop(tokenizer)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        assert bytes_of(found[name]) == bytes_of(tensor), name


def bytes_of(tensor):
    flat = tensor.clone(memory_format=torch.contiguous_format).view(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def converted(tensor, dtype):
    """What packing should make of a tensor, by torch alone."""
    if tensor.ndim < 2 or tensor.dtype not in DTYPES[:4]:
        return tensor
    if dtype is torch.float8_e4m3fn:
        tensor = tensor.clamp(-448, 448)
    return tensor.to(dtype)


def shard_of(folder):
    return next(folder.glob("*.safetensors"))
