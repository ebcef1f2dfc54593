"""On a graphics card: where weights lie, in which precision, and that memory comes back.

Each test starts a ComfyUI of its own over HTTP with the options in question, since they hold for a
process. The model is that of `tests/support/large_model.py`. Everything else in tests/host runs on
the CPU, where numbers can be compared to the last digits.
"""

import re

import pytest
import torch
from safetensors.torch import save_file

from lumina_next.tests.support import jobs
from lumina_next.tests.support.folders import make_model_folders
from lumina_next.tests.support.large_model import (
    COMPILING_S,
    DTYPES,
    LOADED,
    MODEL,
    STATIC,
    error,
    large_graph,
    large_weights,
    lowest,
    report,
    size_mib,
    started,
    write_large_text_encoder,
)
from lumina_next.tools.comfyui import Host

pytestmark = pytest.mark.cuda


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The latent of the whole model on the card in bfloat16, that other ways are compared with."""
    with started(tmp_path_factory.mktemp("full"), STATIC) as card:
        return card.draw(large_graph())


def test_weights_lie_on_the_card_in_bfloat16(tmp_path, record_property):
    with started(tmp_path, STATIC) as card:
        before = card.empty()
        with lowest(card.free_mib) as least:
            card.draw(large_graph())
        after = card.free_mib()
        log = card.log()
    patcher, on_card = LOADED.findall(log)[-1]
    assert patcher == "ModelPatcher"
    assert float(on_card) == pytest.approx(size_mib(), rel=0.02)
    assert DTYPES.findall(log)[-1] == ("torch.bfloat16", "None")
    assert "loaded completely" in log
    assert before - after > 0.95 * size_mib()
    report(record_property, "weights", size_mib())
    report(record_property, "peak", before - least[0])
    # 4096 tokens, two captions: a few activations of 16 MiB, not a copy of the weights.
    assert before - least[0] < 2 * size_mib() + 1024


def test_bfloat16_on_the_card_is_close_to_float32_on_the_cpu(tmp_path_factory):
    small = {"empty": {"width": 256, "height": 192, "batch_size": 2}}
    with started(tmp_path_factory.mktemp("card")) as card:
        found = card.draw(large_graph(**small))
    with Host(tmp_path_factory.mktemp("cpu"), arguments=["--cpu"]) as server:
        make_model_folders(server.models)
        write_large_text_encoder(server)
        save_file(large_weights(), server.models / "diffusion_models" / MODEL)
        expected = jobs.saved_latent(server, jobs.run(server, large_graph(**small)))
    assert error(found, expected) < 0.05


def card_gib():
    return torch.cuda.get_device_properties(0).total_memory / 2**30


# Ways to keep less than the whole model on the card, and the patcher that does it.
MODES = {
    "dynamic": ([], "ModelPatcherDynamic"),
    "dynamic, all memory reserved": (["--reserve-vram", "all"], "ModelPatcherDynamic"),
    "static, low memory": ([STATIC, "--lowvram"], "ModelPatcher"),
    "static, no memory": ([STATIC, "--novram"], "ModelPatcher"),
    "static, all memory reserved": ([STATIC, "--reserve-vram", "all"], "ModelPatcher"),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_memory_mode_draws_the_picture_of_the_full_load(
    full, tmp_path, record_property, mode
):
    arguments, patcher = MODES[mode]
    arguments = [str(int(card_gib())) if word == "all" else word for word in arguments]
    with started(tmp_path, *arguments) as card:
        before = card.empty()
        with lowest(card.free_mib) as least:
            found = card.draw(large_graph())
        freed = card.empty()
        log = card.log()
    report(record_property, "peak", before - least[0])
    assert LOADED.findall(log)[-1][0] == patcher
    assert error(found, full) < 0.02
    assert freed > before - 0.1 * size_mib()
    if "no memory" in mode or mode == "static, all memory reserved":
        assert "loaded partially" in log
        assert float(LOADED.findall(log)[-1][1]) < 0.5 * size_mib()


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize(
    "weight_dtype, tolerance",
    [("fp8_e4m3fn", 0.02), ("fp8_e5m2", 0.02), ("fp8_e4m3fn_fast", 0.2)],
)
def test_fp8_weights_are_their_rounding_in_bfloat16(tmp_path, weight_dtype, tolerance, dynamic):
    """Of the three, "fast" also rounds activations, so that it is only roughly the same."""
    kind = torch.float8_e5m2 if "e5m2" in weight_dtype else torch.float8_e4m3fn
    rounded = {key: tensor.to(kind).to(tensor) for key, tensor in large_weights().items()}
    with started(tmp_path, *([] if dynamic else [STATIC])) as card:
        save_file(rounded, card.server.models / "diffusion_models" / "rounded.safetensors")
        expected = card.draw(large_graph(model={"model_name": "rounded.safetensors"}))
        card.empty()
        found = card.draw(large_graph(model={"weight_dtype": weight_dtype}))
        log = card.log()
    assert error(found, expected) < tolerance
    assert DTYPES.findall(log)[-1][0] == str(kind)
    if not dynamic:
        assert float(LOADED.findall(log)[-1][1]) == pytest.approx(size_mib() / 2, rel=0.05)


@pytest.mark.parametrize("dynamic", [True, False])
def test_interrupted_job_and_free_give_the_memory_back(tmp_path, dynamic):
    with started(tmp_path, *([] if dynamic else [STATIC])) as card:
        before, server = card.empty(), card.server
        endless = jobs.queue(server, large_graph(sampler={"steps": 10_000, "seed": 4}))
        jobs.wait_until(lambda: card.free_mib() < before - 0.9 * size_mib())
        jobs.post(server, "/interrupt", {"prompt_id": endless})
        assert jobs.events(jobs.wait(server, endless), "execution_interrupted")
        assert card.empty() > before - 0.1 * size_mib()
        assert card.draw(large_graph()).isfinite().all()


@pytest.mark.parametrize("dynamic", [True, False])
def test_compiled_model_draws_the_same(tmp_path, dynamic):
    pytest.importorskip("triton")
    graph = large_graph()
    graph["compiled"] = {
        "class_type": "TorchCompileModel",
        "inputs": {"model": ["model", 0], "backend": "inductor"},
    }
    with started(tmp_path, *([] if dynamic else [STATIC])) as card:
        expected = card.draw(large_graph())
        graph = jobs.with_inputs(graph, sampler={"model": ["compiled", 0]})
        found = card.draw(graph, timeout=COMPILING_S)
    assert error(found, expected) < 0.05


def test_text_encoder_runs_on_the_card_or_where_it_is_told(tmp_path):
    with started(tmp_path) as card:
        on_card = card.draw(large_graph())
        on_cpu = card.draw(large_graph(text={"device": "cpu"}))
        log = card.log()
    assert re.findall(r"text encoder model load device: (\w+)", log)[-2:] == ["cuda", "cpu"]
    assert error(on_cpu, on_card) < 0.05
