"""On a graphics card: the pack's nodes, LoRA, quantized files and writing draw what they should.

Pictures in bfloat16 are compared with those of the same graph in float32 on the same card, or with
the same thing done another way. `test_cuda.py` has memory and precision.
"""

import re

import pytest
import torch
from safetensors.torch import save_file

from lumina_next.tests.support import jobs
from lumina_next.tests.support.large_model import (
    COMPILING_S,
    LOADED,
    MODEL,
    STATIC,
    TEXT_ENCODER,
    error,
    large_graph,
    large_weights,
    lowest,
    report,
    size_mib,
    started,
)

pytestmark = pytest.mark.cuda

LORA = "large-lora.safetensors"
LORA_KEYS = (
    "layers.0.attention.wq.weight",
    "layers.1.attention.gate",
    "layers.3.feed_forward.w2.weight",
    "final_layer.linear.weight",
)


def with_node(kind, **inputs):
    """The large model's graph with a node between loader and sampler."""
    graph = large_graph()
    graph["changed"] = {"class_type": kind, "inputs": {"model": ["model", 0], **inputs}}
    return jobs.with_inputs(graph, sampler={"model": ["changed", 0]})


GRAPHS = {
    "plain": large_graph(),
    "odd size": large_graph(empty={"width": 1000, "height": 712, "batch_size": 2}),
    "above the trained size": with_node(
        "LuminaNextResolution",
        **{"method": "time_aware", "trained_size": 512, "isotropic": False},
        proportional_attention="auto",
    ),
    "context drop": with_node("LuminaNextContextDrop", factor=2, until=1.0, order="first"),
}


@pytest.fixture(scope="module")
def float32(tmp_path_factory):
    """The latents of all GRAPHS in float32, whose attention no kernel shares keys in."""
    with started(tmp_path_factory.mktemp("float32"), STATIC, "--fp32-unet") as card:
        return {name: card.draw(graph) for name, graph in GRAPHS.items()}


@pytest.mark.parametrize("dynamic", [True, False])
def test_every_setting_draws_the_picture_of_float32(float32, tmp_path, dynamic):
    with started(tmp_path, *([] if dynamic else [STATIC])) as card:
        found = {name: card.draw(graph) for name, graph in GRAPHS.items()}
    errors = {name: error(found[name], float32[name]) for name in GRAPHS}
    assert max(errors.values()) < 0.05, errors
    assert error(found["above the trained size"], found["plain"]) > 0.05
    assert error(found["context drop"], found["plain"]) > 0.01


def test_float32_takes_no_memory_for_attention_scores(tmp_path, record_property):
    with started(tmp_path, STATIC, "--fp32-unet") as card:
        before = card.empty()
        with lowest(card.free_mib) as least:
            card.draw(large_graph())
    report(record_property, "peak in float32", before - least[0])
    # Weights and activations are twice as large as in bfloat16; scores would be 8 GB more.
    assert before - least[0] < 3 * size_mib() + 2048


def test_float16_draws_nearly_the_picture_of_float32(float32, tmp_path):
    with started(tmp_path, STATIC, "--fp16-unet") as card:
        assert error(card.draw(large_graph()), float32["plain"]) < 0.05


def write_lora(server):
    """A LoRA of some layers and a gate; the model's weights with it."""
    generator = torch.Generator().manual_seed(4)
    tensors, changed = {}, dict(large_weights())
    for key in LORA_KEYS:
        weight = changed[key].float()
        if weight.ndim < 2:
            difference = 0.3 * torch.randn(weight.shape, generator=generator)
            tensors[f"diffusion_model.{key}.diff"] = difference
        else:
            up = torch.randn(weight.shape[0], 4, generator=generator)
            down = torch.randn(4, weight.shape[1], generator=generator) / weight.shape[1] ** 0.5
            name = f"diffusion_model.{key.removesuffix('.weight')}"
            tensors[f"{name}.lora_B.weight"], tensors[f"{name}.lora_A.weight"] = up, down
            difference = up @ down
        changed[key] = (weight + difference).to(changed[key].dtype)
    save_file(tensors, server.models / "loras" / LORA)
    save_file(changed, server.models / "diffusion_models" / "merged.safetensors")


@pytest.mark.parametrize("dynamic", [True, False])
def test_lora_draws_the_picture_of_the_merged_weights(tmp_path, dynamic):
    with started(tmp_path, *([] if dynamic else [STATIC])) as card:
        write_lora(card.server)
        plain = card.draw(large_graph())
        found = card.draw(with_node("LoraLoaderModelOnly", lora_name=LORA, strength_model=1.0))
        expected = card.draw(large_graph(model={"model_name": "merged.safetensors"}))
        again = card.draw(large_graph(empty={"batch_size": 2}))[:1]  # without it, and not cached
    assert error(found, expected) < 0.03
    assert error(found, plain) > 0.1
    assert error(again, plain) < 0.03


@pytest.mark.parametrize("dynamic", [True, False])
def test_scaled_file_draws_the_picture_of_its_rounding(tmp_path, dynamic):
    scaled = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    restored = dict(large_weights())
    for key, tensor in large_weights().items():
        scaled[key] = tensor
        if key.startswith("layers.") and tensor.ndim == 2:
            scale = tensor.float().abs().max() / 448
            scaled[key] = (tensor.float() / scale).to(torch.float8_e4m3fn)
            scaled[key.replace(".weight", ".scale_weight")] = scale
            restored[key] = (scaled[key].float() * scale).to(tensor.dtype)
    with started(tmp_path, *([] if dynamic else [STATIC])) as card:
        folder = card.server.models / "diffusion_models"
        save_file(scaled, folder / "scaled.safetensors")
        save_file(restored, folder / "restored.safetensors")
        expected = card.draw(large_graph(model={"model_name": "restored.safetensors"}))
        found = card.draw(large_graph(model={"model_name": "scaled.safetensors"}))
    assert error(found, expected) < 0.2  # the card's 8-bit products round activations, too


def quantizing_graph():
    inputs = {"source": f"diffusion_models/{MODEL}", "format": "fp8", "overwrite": False}
    return {
        "quantize": {"class_type": "LuminaNextQuantize", "inputs": {**inputs, "file_name": ""}},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["quantize", 0]}},
    }


@pytest.mark.parametrize("dynamic", [True, False])
def test_quantized_file_draws_nearly_the_same_in_less_memory(tmp_path, dynamic):
    with started(tmp_path, *([] if dynamic else [STATIC])) as card:
        expected = card.draw(large_graph())
        (name,) = jobs.run(card.server, quantizing_graph())["outputs"]["show"]["text"]
        card.empty()
        found = card.draw(large_graph(model={"model_name": name}))
        log = card.log()
    assert error(found, expected) < 0.3
    if not dynamic:
        assert float(LOADED.findall(log)[-1][1]) < 0.6 * size_mib()


@pytest.mark.parametrize("dynamic", [True, False])
def test_tea_cache_skips_steps_above_its_threshold(tmp_path, dynamic):
    def cached(threshold):
        graph = with_node("LuminaNextTeaCache", threshold=threshold, start=1.0, end=0.0)
        return jobs.with_inputs(graph, sampler={"steps": 8})

    with started(tmp_path, *([] if dynamic else [STATIC])) as card:
        expected = card.draw(large_graph(sampler={"steps": 8}))
        whole, quick = card.draw(cached(0.0)), card.draw(cached(3.0))
        log = card.log()
    skipped, calls = map(int, re.findall(r"TeaCache skipped (\d+) of (\d+) model calls", log)[-1])
    assert 0 < skipped < calls
    assert error(whole, expected) < 0.02
    assert error(quick, expected) > 0.001


@pytest.mark.parametrize("dynamic", [True, False])
def test_context_drop_is_compiled_once_for_each_size(tmp_path, monkeypatch, dynamic):
    pytest.importorskip("triton")
    monkeypatch.setenv("TORCH_LOGS", "recompiles")
    graph = GRAPHS["context drop"]
    compiled = {**graph, "compiled": {"class_type": "TorchCompileModel"}}
    compiled["compiled"]["inputs"] = {"model": ["changed", 0], "backend": "inductor"}
    compiled = jobs.with_inputs(compiled, sampler={"model": ["compiled", 0]})
    with started(tmp_path, *([] if dynamic else [STATIC])) as card:
        expected = card.draw(graph)
        found = card.draw(compiled, timeout=COMPILING_S)
        card.draw(jobs.with_inputs(compiled, empty={"height": 768}), timeout=COMPILING_S)
        log = card.log()
    assert error(found, expected) < 0.05
    assert log.count("Recompiling function forward") == 1  # for the other size


@pytest.mark.parametrize("dynamic", [True, False])
def test_text_encoder_in_8_bits_is_honored_and_draws(tmp_path, dynamic):
    arguments = [] if dynamic else [STATIC]
    with started(tmp_path / "full", *arguments) as card:
        expected = card.draw(large_graph())
    with started(tmp_path / "fp8", *arguments, "--fp8_e4m3fn-text-enc") as card:
        found = card.draw(large_graph())
        log = card.log()
    assert re.findall(r"text encoder model load .*dtype: (\S+)", log)[-1] == "torch.float8_e4m3fn"
    assert error(found, expected) < 0.3


def writing_graph(device):
    loader = {"text_encoder_name": TEXT_ENCODER, "device": device}
    writer = {"clip": ["text", 0], "prompt": "a red cat", "max_length": 16, "sampling_mode": "off"}
    return {
        "text": {"class_type": "LuminaNextTextEncoderLoader", "inputs": loader},
        "write": {"class_type": "TextGenerate", "inputs": writer},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["write", 0]}},
    }


def written(card, device):
    history = jobs.run(card.server, writing_graph(device))
    return "".join(history["outputs"]["show"]["text"])


def test_text_is_written_on_the_card(tmp_path):
    with started(tmp_path / "dynamic") as card:
        dynamic, on_cpu = written(card, "default"), written(card, "cpu")
    with started(tmp_path / "static", STATIC) as card:
        static = written(card, "default")
    assert dynamic == static and on_cpu
    # bfloat16 and float32 agree as long as no two tokens are about as likely.
    assert dynamic[:1] == on_cpu[:1]


@pytest.mark.parametrize("dynamic", [True, False])
def test_ten_jobs_leave_as_much_memory_as_one(tmp_path, dynamic, record_property):
    with started(tmp_path, *([] if dynamic else [STATIC])) as card:
        free = []
        for seed in range(10):
            size = 512 + 256 * (seed % 3)  # each size has its own RoPE table
            card.draw(large_graph(sampler={"seed": seed}, empty={"width": size, "height": 768}))
            free.append(card.empty())
    report(record_property, "lost in ten jobs", free[1] - free[-1])
    assert free[-1] > free[1] - 16, f"free after each job, in MiB: {free}"
