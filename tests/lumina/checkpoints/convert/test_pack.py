"""A folder packed into one file: equal tensor by tensor, in little memory, whole or not at all."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import safetensors
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lumina_next.lumina import __main__
from lumina_next.lumina.checkpoints.convert import pack as convert_pack
from lumina_next.lumina.checkpoints.convert import streams
from lumina_next.lumina.checkpoints.convert.pack import pack
from lumina_next.tools.environment import ROOT

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


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "gemma-2b", [WEIGHTS])


@pytest.fixture
def target(tmp_path):
    return tmp_path / "packed.safetensors"


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(streams, "PIECE", 64)


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


# --- what comes out


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


def test_tokenizer_and_config_are_inside(folder, target):
    said = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": {"content": "<bos>", "lstrip": False},
        "pad_token": "<pad>",
        "chat_template": "long",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    pack(folder, target)
    assert bytes_of(load_file(target)["spiece_model"]) == PIECES
    metadata = metadata_of(target)
    assert metadata["format"] == "pt"
    assert metadata["config"] == (folder / "config.json").read_text()
    said.pop("chat_template")
    assert json.loads(metadata["tokenizer_config"]) == said | {"bos_token": "<bos>"}


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
def test_the_tokenizer_that_can_be_read_is_taken(folder, target, files, key, content):
    (folder / "tokenizer.model").unlink()
    for name, written in files.items():
        (folder / name).write_bytes(written)
    pack(folder, target)
    found = load_file(target)
    assert bytes_of(found[key]) == content
    assert found.keys() == {*WEIGHTS, key}


def test_text_encoder_of_a_pipeline_is_packed(tmp_path, target):
    pipeline = tmp_path / "pipeline"
    part = write_folder(pipeline / "text_encoder", [WEIGHTS])
    save_file({"other": torch.ones(1)}, pipeline / "model.safetensors")
    (pipeline / "tokenizer").mkdir()
    (part / "tokenizer.model").rename(pipeline / "tokenizer" / "tokenizer.model")
    (pipeline / "tokenizer" / "tokenizer_config.json").write_text('{"add_eos_token": true}')
    pack(pipeline, target)
    assert_packed(target, WEIGHTS)
    assert json.loads(metadata_of(target)["tokenizer_config"]) == {"add_eos_token": True}


def test_views_of_one_storage_come_out_as_they_look(tmp_path, target, small_pieces):
    base = torch.randn(40, 30)
    views = {"whole": base, "turned": base.T, "rows": base[3:9], "columns": base[:, ::3]}
    views |= {"spread": base[0].expand(20, 30), "parameter": torch.nn.Parameter(base[1])}
    views |= {"one": base[:1, 0], "few": base[:2, 0]}
    folder = write_folder(tmp_path / "views", [views], "bin")
    pack(folder, target)
    assert_packed(target, {name: tensor.detach() for name, tensor in views.items()})
    copies = [piece.untyped_storage().nbytes() for piece in streams._in_pieces(base.T)]
    assert sum(copies) == base.nbytes and max(copies) <= streams.PIECE


def test_old_torch_file_is_packed(tmp_path, target):
    folder = write_folder(tmp_path / "old", [{}], "bin")
    path = next(folder.glob("*.bin"))
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    pack(folder, target)
    assert_packed(target, WEIGHTS)


# --- the output head, which is often the embedding again


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize(
    "tied, head, is_kept",
    [
        (True, WEIGHTS[EMBEDDING], False),
        (None, WEIGHTS[EMBEDDING], False),
        (False, WEIGHTS[EMBEDDING], True),
        (True, -WEIGHTS[EMBEDDING], True),
        (True, WEIGHTS[EMBEDDING].bfloat16(), True),
        (True, WEIGHTS[EMBEDDING].view(8, 50), True),
    ],
)
def test_head_is_left_out_where_it_is_the_embedding(
    tmp_path, target, small_pieces, form, tied, head, is_kept
):
    config = CONFIG if tied is None else CONFIG | {"tie_word_embeddings": tied}
    shards = [WEIGHTS, {HEAD: head.clone()}]
    pack(write_folder(tmp_path / "tied", shards, form, config), target)
    assert_packed(target, WEIGHTS | {HEAD: head} if is_kept else WEIGHTS)


def test_second_embedding_of_t5_is_left_out(tmp_path, target):
    weights = {"shared.weight": WEIGHTS[EMBEDDING], "encoder.embed_tokens.weight": torch.ones(2)}
    twice = weights | {"encoder.embed_tokens.weight": WEIGHTS[EMBEDDING]}
    config = {"model_type": "t5", "tie_word_embeddings": False}
    pack(write_folder(tmp_path / "t5", [twice], "bin", config), target)
    assert_packed(target, {"shared.weight": WEIGHTS[EMBEDDING]})
    pack(write_folder(tmp_path / "odd", [weights], "bin", config), target, overwrite=True)
    assert_packed(target, weights)


# --- other types


def test_number_too_large_for_float16_is_an_error(tmp_path, target):
    weights = {EMBEDDING: WEIGHTS[EMBEDDING].clone(), NORM: WEIGHTS[NORM] + 1e6}
    weights[EMBEDDING][30, 3] = -70_000
    folder = write_folder(tmp_path / "large", [weights])
    with pytest.raises(ValueError, match=rf'"{EMBEDDING}" holds 7e\+04.*bfloat16'):
        pack(folder, target, "float16")
    assert os.listdir(tmp_path) == ["large"]
    pack(folder, target, "bfloat16")


def test_number_too_large_for_fp8_is_clamped_and_counted(tmp_path, target, small_pieces):
    weights = {EMBEDDING: WEIGHTS[EMBEDDING].clone(), NORM: WEIGHTS[NORM] + 1e6}
    weights[EMBEDDING][30, 3:5] = torch.tensor([-449.0, 1e9])
    packed = pack(write_folder(tmp_path / "large", [weights]), target, "float8_e4m3fn")
    found = load_file(target)
    assert found[EMBEDDING][30, 3:5].float().tolist() == [-448, 448]
    assert_close(found[NORM], weights[NORM], rtol=0, atol=0)
    assert dict(+packed.clamped) == {EMBEDDING: 2}
    assert f"2 numbers of {EMBEDDING} were beyond" in convert_pack.describe(packed)


def test_infinity_stays_infinity_in_float16(tmp_path, target):
    weights = {"mask": torch.tensor([[0.0, -torch.inf, torch.nan]])}
    pack(write_folder(tmp_path / "mask", [weights]), target, "float16")
    assert_packed(target, {"mask": weights["mask"].half()})


def test_quantized_model_keeps_its_types(tmp_path, target):
    config = CONFIG | {"quantization_config": {"quant_method": "gptq"}}
    folder = write_folder(tmp_path / "gptq", [WEIGHTS], config=config)
    with pytest.raises(ValueError, match="gptq is quantized already"):
        pack(folder, target, "float16")
    assert pack(folder, target).is_new


# --- whole or not at all


class Full(BaseException):
    """Like ComfyUI's own for a user's canceling, no Exception."""


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("stop", [1, 2, 5, 28])
def test_stopping_anywhere_leaves_the_disk_as_it_was(folder, target, small_pieces, there, stop):
    if there:
        target.write_bytes(b"the old file")
    calls = []

    def progress(done, total):
        calls.append(done / total)
        if len(calls) == stop:
            raise Full

    with pytest.raises(Full):
        pack(folder, target, overwrite=True, progress=progress)
    assert len(calls) == stop and calls == sorted(calls)
    present = {path.name for path in target.parent.iterdir()}
    assert present == ({folder.name, target.name} if there else {folder.name})
    assert not there or target.read_bytes() == b"the old file"


def test_progress_ends_at_the_whole(folder, target):
    calls = []
    packed = pack(folder, target, progress=lambda *said: calls.append(said))
    assert calls[-1] == (packed.size, packed.size)


def test_disk_that_becomes_full_is_said(folder, target, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"became full, and packed\.safetensors was not written"):
        pack(folder, target)
    assert os.listdir(target.parent) == [folder.name]


def test_too_little_space_is_said_before_writing(folder, target, monkeypatch):
    left = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: left)
    with pytest.raises(OSError, match=r"takes 0\.0 MB, and the disk of .* has 0\.0 MB left"):
        pack(folder, target)
    assert not target.exists()


def test_file_that_is_the_same_is_left_alone(folder, target, small_pieces):
    for dtype in convert_pack.DTYPES:
        assert pack(folder, target, dtype, overwrite=True).is_new
        before = target.stat()
        packed = pack(folder, target, dtype)
        assert not packed.is_new and "was there already" in convert_pack.describe(packed)
        assert target.stat().st_mtime_ns == before.st_mtime_ns
        assert target.stat().st_ino == before.st_ino


def test_other_file_is_replaced_only_if_allowed(folder, target):
    pack(folder, target)
    whole = bytearray(target.read_bytes())
    whole[-1] ^= 1
    target.write_bytes(whole)
    with pytest.raises(FileExistsError, match=r"packed\.safetensors is in .* already"):
        pack(folder, target)
    assert target.read_bytes() == whole
    assert pack(folder, target, overwrite=True).is_new
    assert_packed(target, WEIGHTS)


CHILD = """
import os, runpy, sys, threading
from lumina.checkpoints.convert import pack

os.fsync = lambda _: None  # seconds for so large a file

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

folder, first, second = sys.argv[1:]
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
before = peak()
sys.argv = ["lumina", "pack", folder, first, "--dtype", "float8_e4m3fn"]
runpy.run_module("lumina", run_name="__main__")
print(peak() - before)

# As ComfyUI is quit: the main thread ends while another one works.
begun = threading.Event()
def linger(done, total):
    begun.set()
    threading.Event().wait()
arguments = {"args": (folder, second), "kwargs": {"progress": linger}}
threading.Thread(target=pack.pack, daemon=True, **arguments).start()
begun.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it")
def test_memory_stays_small_and_quitting_cleans_up(tmp_path):
    size = 192 * 2**20
    folder = write_folder(tmp_path / "sparse", [{}])
    header = {EMBEDDING: {"dtype": "BF16", "shape": [size // 4, 2], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    with next(folder.glob("*.safetensors")).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    files = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    command = [sys.executable, "-c", CHILD, folder, *files]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    said, growth = run.stdout.splitlines()
    assert "first.safetensors (100.7 MB) was written" in said
    assert int(growth) < size / 3, f"{int(growth):,} bytes"
    assert {path.name for path in tmp_path.iterdir()} == {"sparse", "first.safetensors"}
    files[0].unlink()


# --- what is refused


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


def shard_of(folder):
    return next(folder.glob("*.safetensors"))


def overlap(path):
    """Let the norm's bytes be the end of the embedding's."""
    length, header = header_of(path)
    size = header[NORM]["data_offsets"][1] - header[NORM]["data_offsets"][0]
    end = header[EMBEDDING]["data_offsets"][1]
    header[NORM]["data_offsets"] = [end - size, end]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


@pytest.mark.parametrize("case", REFUSED)
def test_folder_that_is_no_text_encoder_is_refused(folder, target, case):
    spoil, said = REFUSED[case]
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        pack(folder, target)
    assert not list(target.parent.glob("packed*"))


def test_tensor_that_safetensors_cannot_hold_is_named(tmp_path, target):
    folder = write_folder(tmp_path / "odd", [{"a": torch.ones(2).to_sparse()}], "bin")
    with pytest.raises(ValueError, match='"a" in pytorch_model-00001-of-00001.bin is .*sparse'):
        pack(folder, target)


def test_name_in_two_files_is_refused(tmp_path, target):
    folder = write_folder(tmp_path / "twice", [WEIGHTS, {NORM: torch.ones(3)}])
    with pytest.raises(ValueError, match=rf'"{NORM}" is in model-00001.* and in model-00002'):
        pack(folder, target)


@pytest.mark.parametrize(
    "file, said",
    [
        ("packed.bin", r"must end in \.safetensors"),
        ("packed", r"must end in \.safetensors"),
        ("nowhere/packed.safetensors", "There is no folder"),
        ("gemma-2b/packed.safetensors", "would lie in gemma-2b"),
        ("a.safetensors", "is a folder"),
    ],
)
def test_place_that_cannot_be_written_is_refused(folder, tmp_path, file, said):
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises((ValueError, OSError), match=said):
        pack(folder, tmp_path / file)
    assert {path.name for path in tmp_path.iterdir()} == {"gemma-2b", "a.safetensors"}


# --- the command


@pytest.fixture
def main():
    # A shell starts background jobs with SIGINT ignored.
    before = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in before.items()}
    yield lambda *arguments: __main__.main(["pack", *map(str, arguments)])
    for number, handler in before.items():
        signal.signal(number, handler)


def test_command_packs_and_says_so(folder, target, main, capsys):
    main(folder, target, "--dtype", "bfloat16")
    assert_packed(target, {n: converted(t, torch.bfloat16) for n, t in WEIGHTS.items()})
    assert "packed.safetensors (0.0 MB) was written." in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(folder, target)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("packed.safetensors is in ") and "Traceback" not in said
    main(folder, target, "--overwrite")
    assert_packed(target, WEIGHTS)


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without telling it")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_command_leaves_nothing(folder, target, main, monkeypatch, number):
    monkeypatch.setattr(__main__, "show", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as ended:
        main(folder, target)
    assert ended.value.code == 130
    assert os.listdir(target.parent) == [folder.name]
