"""A model file in fewer bits: what is quantized, what stays, and what is refused."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints.convert.formats import FORMATS
from lumina_next.lumina.checkpoints.convert.quantize import describe, quantize
from lumina_next.lumina.text_encoders.config import DecoderConfig
from lumina_next.lumina.text_encoders.decoder import Decoder
from lumina_next.lumina.text_encoders.t5 import T5Config, expected_shapes
from lumina_next.tests.support import next_dits, zero_files
from lumina_next.tests.support.encoder_folders import PIECES, metadata_of
from lumina_next.tools.environment import ROOT

TOKENIZER = {"spiece_model": torch.frombuffer(bytearray(PIECES), dtype=torch.uint8)}
GEMMA = DecoderConfig("gemma", 64, 32, 64, layers=2, heads=2, kv_heads=1, head_dim=16)
T5 = T5Config(64, d_model=32, d_ff=64, d_kv=16, num_layers=2, num_heads=2, is_gated=True)
KEPT = (
    "attention.gate", "norm", "adaLN_modulation", "x_embedder", "t_embedder", "cap_embedder",
    "final_layer", "eol_token", "embed_tokens", "layernorm", "relative_attention_bias", "shared",
    "spiece_model", "bias",
)  # fmt: skip


def gemma_weights():
    shapes = Decoder(GEMMA, device="meta").state_dict()
    return {f"model.{key}": torch.randn(like.shape) for key, like in shapes.items()} | TOKENIZER


def t5_weights():
    return {key: torch.randn(shape) for key, shape in expected_shapes(T5).items()} | TOKENIZER


MODELS = {
    "next-dit": next_dits.native_weights,
    "flag-dit": lambda: next_dits.native_weights(next_dits.TINY_FLAG_DIT),
    "gemma": gemma_weights,
    "t5": t5_weights,
}
CONFIGS = {"gemma": {"model_type": "gemma"}, "t5": {"model_type": "t5"}}


@pytest.fixture(params=MODELS)
def kind(request):
    return request.param


@pytest.fixture
def source(tmp_path, kind):
    metadata = {"config": json.dumps(CONFIGS.get(kind, {})), "trained_size_px": "128"}
    save_file(MODELS[kind](), tmp_path / f"{kind}.safetensors", metadata)
    return tmp_path / f"{kind}.safetensors"


@pytest.fixture
def next_dit(tmp_path):
    save_file(next_dits.native_weights(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "out.safetensors"


def is_kept(key):
    return any(part in key for part in KEPT)


@pytest.mark.parametrize("name", FORMATS)
def test_matrices_are_quantized_and_the_rest_is_kept(source, file, name):
    quantize(source, file, name)
    before, after = load_file(source), load_file(file)
    expected = {}
    for key, tensor in before.items():
        if is_kept(key) or (name == "nvfp4" and any(side % 16 for side in tensor.shape)):
            expected[key] = tensor
            continue
        layer = key.removesuffix("weight")
        expected |= {layer + part: t for part, t in FORMATS[name].quantized(tensor).items()}
        settings = json.loads(after.pop(layer + "comfy_quant").numpy().tobytes())
        assert settings["format"] == FORMATS[name].host_name
    assert after.keys() == expected.keys()
    for key, tensor in expected.items():
        assert after[key].dtype == tensor.dtype, key
        assert_close(after[key].float(), tensor.float(), rtol=0, atol=0)
    assert len(before) - sum(map(is_kept, before)) > 10


def test_metadata_travel_along(source, file):
    quantize(source, file)
    assert metadata_of(file) == {"format": "pt", **metadata_of(source)}


def test_kept_weights_keep_their_dtype(tmp_path, file):
    half = {key: tensor.bfloat16() for key, tensor in next_dits.native_weights().items()}
    torch.save(half, tmp_path / "half.pth")
    quantize(tmp_path / "half.pth", file)
    assert load_file(file)["layers.0.ffn_norm1.weight"].dtype == torch.bfloat16


def test_folder_of_diffusers_keeps_its_trained_size(tmp_path, file):
    folder = tmp_path / "transformer"
    folder.mkdir()
    save_file(next_dits.native_weights(), folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text('{"sample_size": 64}')
    quantize(folder, file)
    assert metadata_of(file)["trained_size_px"] == "512"


def test_result_is_described(next_dit, file):
    said = describe(quantize(next_dit, file))
    assert said.startswith("out.safetensors was written: 18 matrices quantized, 0.2 MB became 0.1")
    assert "was there already" in describe(quantize(next_dit, file))


# --- what is refused, and leaves nothing


def refuse(source, file, error, match, **given):
    before = sorted(os.listdir(file.parent))
    with pytest.raises(error, match=match):
        quantize(source, file, **given)
    assert sorted(os.listdir(file.parent)) == before


def test_quantized_file_is_refused(next_dit, file, tmp_path):
    quantize(next_dit, file)
    refuse(file, tmp_path / "again.safetensors", ValueError, "out.safetensors is quantized already")


def test_file_of_plain_fp8_is_refused(tmp_path, file):
    small = {key: t.to(torch.float8_e4m3fn) for key, t in next_dits.native_weights().items()}
    save_file(small, tmp_path / "small.safetensors")
    refuse(tmp_path / "small.safetensors", file, ValueError, "is quantized already, see")


def test_other_model_is_refused(tmp_path, file):
    save_file({"decoder.conv_in.weight": torch.ones(2, 2)}, tmp_path / "vae.safetensors")
    refuse(tmp_path / "vae.safetensors", file, ValueError, "is not a Lumina-Next model")


def test_text_encoder_of_another_kind_is_refused(tmp_path, file):
    weights = {"text_model.embeddings.token_embedding.weight": torch.ones(2, 2), **TOKENIZER}
    save_file(weights, tmp_path / "clip.safetensors")
    refuse(tmp_path / "clip.safetensors", file, ValueError, "is a text encoder of a kind that")


def test_text_encoder_without_tokenizer_is_to_be_packed_first(tmp_path, file):
    weights = gemma_weights()
    del weights["spiece_model"]
    save_file(weights, tmp_path / "bare.safetensors")
    refuse(tmp_path / "bare.safetensors", file, ValueError, 'first, by "Lumina-Next Pack Text')


def test_file_that_is_there_is_refused_unless_allowed(next_dit, file):
    file.write_bytes(b"another model")
    refuse(next_dit, file, FileExistsError, "is in .* already, and it is not model.safetensors q")
    assert file.read_bytes() == b"another model"
    assert quantize(next_dit, file, overwrite=True).is_new


def test_too_little_disk_is_said_before_writing(next_dit, file, monkeypatch):
    left = shutil.disk_usage(file.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: left)
    refuse(next_dit, file, OSError, "The file takes 0.1 MB, and the disk of .* has 0.0 MB left")


def test_numbers_that_are_not_finite_are_refused(tmp_path, file):
    weights = next_dits.native_weights()
    weights["layers.1.attention.wq.weight"][3, 4] = torch.nan
    save_file(weights, tmp_path / "broken.safetensors")
    for name in FORMATS:
        refuse(
            tmp_path / "broken.safetensors", file, ValueError,
            r'"layers.1.attention.wq.weight" holds numbers that are not finite', name=name,
        )  # fmt: skip


def test_model_whose_sides_do_not_fit_is_refused(tmp_path, file):
    sizes = next_dits.SIZES | {"dim": 40, "heads": 10, "kv_heads": 5, "ffn_dim": 72}
    save_file(
        next_dits.native_weights(next_dits.NextDiTConfig(**sizes)), tmp_path / "odd.safetensors"
    )
    refuse(tmp_path / "odd.safetensors", file, ValueError, "multiples of 16", name="nvfp4")


def test_stopping_leaves_nothing(next_dit, file):
    class Stopped(BaseException):
        pass

    def stop(done, total):
        raise Stopped

    refuse(next_dit, file, Stopped, "^$", progress=stop)


CHILD = """
import os, sys
from lumina.checkpoints.convert.quantize import quantize

os.fsync = lambda _: None  # seconds for so large a file

def own():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024

peaks = [own()]
quantize(*sys.argv[1:], progress=lambda *_: peaks.append(own()))
print(max(peaks) - peaks[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")
def test_memory_stays_small(tmp_path, file):
    config = next_dits.NextDiTConfig(
        dim=1536, layers=4, heads=24, kv_heads=6, caption_dim=1024, ffn_dim=4096
    )
    size = zero_files.write_next_dit(tmp_path / "large.safetensors", config, torch.float32)
    command = [sys.executable, "-c", CHILD, tmp_path / "large.safetensors", file]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    assert size > 500e6 and int(run.stdout) < 50e6
