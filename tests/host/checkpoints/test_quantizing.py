"""Files that the node quantizes: ComfyUI reads them, and they draw and encode nearly the same."""

import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints.convert.formats import FORMATS
from lumina_next.tests.support import host_nodes, next_dits, tiny

MODEL, FLAG_DIT = "diffusion_models/native.safetensors", "diffusion_models/flag.safetensors"


def known_formats():
    """Those that the ComfyUI under test reads; the oldest ones have no int8."""
    from comfy.quant_ops import QUANT_ALGOS

    return [name for name, known in FORMATS.items() if known.host_name in QUANT_ALGOS]


@pytest.fixture(params=FORMATS)
def name(request, host):
    if request.param not in known_formats():
        pytest.skip("this ComfyUI does not read it")
    return request.param


@pytest.fixture
def models(folder, host):
    flag_dit = next_dits.native_weights(next_dits.TINY_FLAG_DIT)
    save_file(scaled(flag_dit), folder / "flag.safetensors")
    for family in tiny.TEXT_FAMILIES:
        tiny.write_text_encoder(host, family)
    for file in [*folder.glob("*-*8.safetensors"), *folder.glob("*-nvfp4.safetensors")]:
        file.unlink()
    return folder


def scaled(weights):
    return {key: tensor / max(1, tensor.shape[-1]) ** 0.5 for key, tensor in weights.items()}


def graph(source=MODEL, **inputs):
    given = {"source": source, "format": "fp8", "file_name": "", "overwrite": False}
    return {"quantize": {"class_type": "LuminaNextQuantize", "inputs": given | inputs}}


def loaded(name):
    from lumina_next.host.model.loading import load_model

    return load_model(name)


def velocity(model, config):
    """What the network makes of one latent, in the dtype that the loader chose."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, 16, 12, generator=generator)
    caption = torch.randn(1, 7, config.caption_dim, generator=generator)
    return model.model.apply_model(x, torch.tensor([0.6]), c_crossattn=caption)


def far(found, expected):
    return float((found - expected).norm() / expected.norm())


ERRORS = {"fp8": 0.1, "int8": 0.05, "nvfp4": 0.4}


@pytest.mark.parametrize("source, config", [(MODEL, tiny.CONFIG), (FLAG_DIT, next_dits.SIZES)])
def test_quantized_model_is_loaded_and_draws_nearly_the_same(host, models, name, source, config):
    config = config if source == MODEL else next_dits.TINY_FLAG_DIT
    host.run(graph(source, format=name))
    stem = source.split("/")[1].removesuffix(".safetensors")
    found = velocity(loaded(f"{stem}-{name}.safetensors"), config)
    assert 0 < far(found, velocity(loaded(f"{stem}.safetensors"), config)) < ERRORS[name]


@pytest.mark.parametrize("family", tiny.TEXT_FAMILIES)
def test_quantized_text_encoder_is_loaded_and_encodes_nearly_the_same(host, models, name, family):
    from lumina_next.host.text_encoders.loading import load_text_encoder

    if name == "nvfp4":
        pytest.skip("the tiny ones' sides are no multiples of 16")
    host.run(graph(f"text_encoders/{family}.safetensors", format=name))
    features = [
        host_nodes.encode(load_text_encoder(file), "a red cat")[0]
        for file in (f"{family}-{name}.safetensors", f"{family}.safetensors")
    ]
    assert 0 < far(*features) < 0.1


@pytest.mark.parametrize("shape", [(16, 32), (144, 80)])
def test_tensors_are_those_of_the_hosts_own_quantization(name, shape):
    from comfy.quant_ops import QUANT_ALGOS, get_layout_class

    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    layout = get_layout_class(QUANT_ALGOS[FORMATS[name].host_name]["comfy_tensor_layout"])
    rule = {"fp8": {"scale": "recalculate"}, "int8": {"per_channel": True}, "nvfp4": {}}[name]
    expected = layout.state_dict_tensors(*layout.quantize(matrix, **rule))
    for key, tensor in FORMATS[name].quantized(matrix).items():
        theirs = expected[key.removeprefix("weight")]
        assert theirs.dtype == tensor.dtype and theirs.shape == tensor.shape
        assert_close(tensor.float(), theirs.float(), rtol=0, atol=0)


def test_host_saves_a_quantized_model_as_it_was(host, models):
    host.run(graph())
    saver = {
        "model": {
            "class_type": "LuminaNextModelLoader",
            "inputs": {
                "model_name": "native-fp8.safetensors",
                "weight_dtype": "default",
                "latent_format": "SDXL",
            },
        },
        "save": {
            "class_type": "ModelSave",
            "inputs": {"model": ["model", 0], "filename_prefix": "quantized"},
        },
    }
    host.run(saver)
    (file,) = host.output.glob("quantized_*.safetensors")
    saved, before = load_file(file), load_file(models / "native-fp8.safetensors")
    key = "layers.1.feed_forward.w1.weight"
    prefix = "model.diffusion_model."
    assert torch.equal(saved[prefix + key].float(), before[key].float())
    assert saved[f"{prefix}{key}_scale"] == before[f"{key}_scale"]


def test_models_and_packed_text_encoders_are_offered(host, models):
    from lumina_next.nodes.convert import Quantize

    (models.parent / "text_encoders" / "folder").mkdir(exist_ok=True)
    offered = Quantize.GET_SCHEMA().inputs[0].options
    assert MODEL in offered and "text_encoders/gemma.safetensors" in offered
    assert "text_encoders/folder" not in offered


def test_running_again_writes_nothing(host, models):
    host.run(graph())
    before = (models / "native-fp8.safetensors").stat()
    host.run(graph())
    assert (models / "native-fp8.safetensors").stat().st_ino == before.st_ino


def test_other_file_of_that_name_is_an_error_unless_allowed(host, models):
    file = models / "native-fp8.safetensors"
    file.write_bytes(b"another model")
    with pytest.raises(RuntimeError, match=r"native-fp8\.safetensors is in .* already"):
        host.run(graph())
    assert file.read_bytes() == b"another model"
    host.run(graph(overwrite=True))
    loaded(file.name)


def test_quantized_source_is_refused(host, models):
    host.run(graph())
    with pytest.raises(RuntimeError, match="native-fp8.safetensors is quantized already"):
        host.run(graph("diffusion_models/native-fp8.safetensors", file_name="again"))
    assert not (models / "again.safetensors").exists()


@pytest.mark.parametrize("file_name", ["../model", "/tmp/model", "a/model", "C:model"])
def test_name_that_leads_out_of_the_folder_is_refused(host, models, file_name):
    with pytest.raises(RuntimeError, match="must be a bare file name"):
        host.run(graph(file_name=file_name))


def test_source_by_a_link_must_name_its_folder(host):
    from lumina_next.host.checkpoints import quantizing

    with pytest.raises(ValueError, match='"native.safetensors" must begin with diffusion_models/'):
        quantizing.quantize_model("native.safetensors", "fp8", "", False)


def test_format_that_the_host_does_not_read_is_refused(host, models, monkeypatch):
    from comfy.quant_ops import QUANT_ALGOS

    monkeypatch.delitem(QUANT_ALGOS, "int8_tensorwise", raising=False)
    with pytest.raises(RuntimeError, match=r"does not read int8 weights\. Update ComfyUI, or"):
        host.run(graph(format="int8"))
    assert not (models / "native-int8.safetensors").exists()


def test_canceling_leaves_nothing(host, models, monkeypatch):
    import comfy.model_management as management
    from comfy.utils import ProgressBar

    from lumina_next.nodes.convert import Quantize

    before = sorted(os.listdir(models))

    def cancel(bar, done, total):
        management.interrupt_current_processing()

    monkeypatch.setattr(ProgressBar, "update_absolute", cancel)
    with pytest.raises(management.InterruptProcessingException):
        Quantize.execute(**graph()["quantize"]["inputs"])
    assert sorted(os.listdir(models)) == before


def test_every_input_and_output_is_explained(host):
    from lumina_next.nodes.convert import Quantize

    schema = Quantize.GET_SCHEMA()
    assert schema.description and schema.search_aliases and schema.is_output_node
    assert all(item.tooltip for item in [*schema.inputs, *schema.outputs])


def test_patch_changes_a_quantized_model_as_it_does_the_original(host, models):
    """As a LoRA does."""
    host.run(graph())
    key = "diffusion_model.layers.1.feed_forward.w1.weight"
    shape = tiny.weights()["layers.1.feed_forward.w1.weight"].shape
    change = torch.randn(shape, generator=torch.Generator().manual_seed(4))

    def changed(file):
        import comfy.model_management

        model = loaded(file)
        before = velocity(model, tiny.CONFIG)
        model.add_patches({key: ("diff", (change,))}, 0.3)
        comfy.model_management.load_models_gpu([model])
        return velocity(model, tiny.CONFIG) - before

    found, expected = changed("native-fp8.safetensors"), changed("native.safetensors")
    assert far(found, expected) < 0.2
