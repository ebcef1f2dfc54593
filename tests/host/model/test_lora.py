""" "Load Lumina-Next LoRA": every trainer's file changes the weights as adding by hand does."""

import inspect
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lumina_next.tests.host.test_emulated_card import call, model_of_zeros, use
from lumina_next.tests.support import tiny
from lumina_next.tests.support.emulated_card import emulated_card
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.loras import ALPHA, RANK, STYLES, factors, merged
from lumina_next.tests.support.native_graphs import differs, load, sample
from lumina_next.tests.support.tiny import assert_same_picture

NAME = "style.safetensors"


@pytest.fixture
def model(host):
    tiny.write_models(host)
    return load()


@pytest.fixture
def write(host):
    """write(tensors) puts them into models/loras under NAME."""

    def write(tensors, name=NAME, metadata=None):
        path = host.models / "loras" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
        return name

    return write


@pytest.fixture
def by_hand(host, model):
    """by_hand(weights): the model that these weights are."""

    def write(weights):
        save_file(weights, host.models / "diffusion_models" / "by-hand.safetensors")
        return load("by-hand.safetensors")

    return write


@pytest.fixture
def shown(host, monkeypatch):
    """What the node shows."""
    from lumina_next.host import notices

    texts = []
    monkeypatch.setattr(notices, "_show", texts.append)
    return texts


def with_lora(model, name=NAME, strength=1.0):
    return node("LuminaNextLoraLoader", model=model, lora_name=name, strength=strength)


def refusal(model, name=NAME):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        with_lora(model, name)
    return str(error.value)


def objection(name=NAME):
    """What the node says before anything runs; None if nothing."""
    from lumina_next.nodes.loaders import LoraLoader

    found = LoraLoader.validate_inputs(lora_name=name)
    return None if found is True else found


@pytest.mark.parametrize("style", STYLES)
def test_lora_of_every_trainer_is_the_merge_by_hand(model, write, by_hand, style):
    patched = with_lora(model, write(STYLES[style]), 0.5)
    assert_same_picture(sample(patched), sample(by_hand(merged(0.5))))
    assert differs(sample(patched), sample(model))


def test_given_model_stays_as_it_was(model, write):
    before = sample(model)
    sample(with_lora(model, write(STYLES["kohya"])))
    assert_close(sample(model), before, rtol=0, atol=0)


def test_loras_add_up(model, write, by_hand):
    name = write(STYLES["diffusers"])
    patched = with_lora(with_lora(model, name, 0.5), name, 0.25)
    assert_same_picture(sample(patched), sample(by_hand(merged(0.75))))


def test_loader_of_comfyui_takes_the_released_names_and_kohyas(model, write):
    for style in ("released names", "kohya"):
        name = write(STYLES[style])
        native = node("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=1.0)
        assert_close(sample(with_lora(model, name)), sample(native), rtol=0, atol=0)


def test_two_queries_of_diffusers_become_their_mean(model, write, by_hand, shown):
    lora = dict(STYLES["diffusers"])
    name = "transformer.layers.0.attn2.to_q.lora_B.weight"
    lora[name] = 3 * lora[name]
    up, down = factors()["layers.0.attention.wq"]
    weights = merged(1.0)
    weights["layers.0.attention.wq.weight"] = weights["layers.0.attention.wq.weight"] + (
        ALPHA / RANK * up @ down  # the mean of 1 and 3, less the 1 that is merged
    )
    patched = with_lora(model, write(lora))
    assert_same_picture(sample(patched), sample(by_hand(weights)))
    assert "mean of the two changes" in shown[-1]


def vectors():
    """A change of a gate, a norm, a bias and a matrix, as LyCORIS saves whole differences."""
    generator = torch.Generator().manual_seed(8)
    parts = {
        "layers.1.attention.gate": "diff",
        "layers.1.attention.q_norm": "w_norm",
        "layers.0.attention_norm1": "diff",
        "cap_embedder.1": "diff_b",
        "layers.2.feed_forward.w1": "diff",
    }
    weights, lora = dict(tiny.weights()), {}
    for module, part in parts.items():
        key = module if module.endswith("gate") else module + ".weight"
        key = f"{module}.bias" if part == "diff_b" else key
        change = 0.3 * torch.randn(weights[key].shape, generator=generator)
        weights[key] = weights[key] + change
        lora[f"lora_unet_{module.replace('.', '_')}.{part}"] = change
    return lora, weights


def test_differences_reach_gates_norms_and_biases(model, write, by_hand):
    lora, weights = vectors()
    assert_same_picture(sample(with_lora(model, write(lora))), sample(by_hand(weights)))


def test_alpha_beside_a_peft_file_counts(host, model, write, by_hand):
    lora = {key: tensor for key, tensor in STYLES["PEFT"].items() if not key.endswith(".alpha")}
    name = write(lora, "peft/adapter_model.safetensors")
    plain = with_lora(model, name)
    assert_same_picture(sample(plain), sample(by_hand(merged(1.0, alpha=RANK))))
    settings = host.models / "loras" / "peft" / "adapter_config.json"
    settings.write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}))
    assert_same_picture(sample(with_lora(model, name)), sample(by_hand(merged(1.0))))


def test_alpha_in_diffusers_header_counts(model, write, by_hand):
    lora = {key: t for key, t in STYLES["diffusers"].items() if not key.endswith(".alpha")}
    settings = {"transformer.r": RANK, "transformer.lora_alpha": ALPHA}
    name = write(lora, metadata={"lora_adapter_metadata": json.dumps(settings)})
    assert_same_picture(sample(with_lora(model, name)), sample(by_hand(merged(1.0))))


def test_lora_in_fp8_and_16_bit_models_patches_their_weights(host, write, model):
    name = write(STYLES["diffusers"])
    fp8 = node(
        "LuminaNextModelLoader",
        model_name="native.safetensors", weight_dtype="fp8_e4m3fn", latent_format="SDXL",
    )  # fmt: skip
    assert differs(sample(with_lora(fp8, name)), sample(fp8))


def scaled(weights):
    """The layers' matrices in 8 bits with a scale each, as older converters write them."""
    stored = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for key, weight in weights.items():
        is_scaled = key.startswith("layers.") and weight.ndim == 2
        scale = weight.abs().max() / 448
        stored[key] = (weight / scale).to(torch.float8_e4m3fn) if is_scaled else weight
        if is_scaled:
            stored[key.replace(".weight", ".scale_weight")] = scale
    return stored


def test_lora_on_a_quantized_model_is_the_merge_but_for_rounding(model, write, by_hand):
    name = write(STYLES["diffusers"])
    expected = sample(by_hand(merged(0.5)))
    found = sample(with_lora(by_hand(scaled(tiny.weights())), name, 0.5))
    rounded = sample(by_hand(scaled(merged(0.5))))
    error = (rounded - expected).square().mean()
    assert (found - expected).square().mean() < 4 * error
    assert differs(found, sample(model))


def extracted(host, model, tuned, lora_type):
    """What the host's "Extract and Save Lora" makes of the difference, in models/loras."""
    difference = node("ModelMergeSubtract", model1=tuned, model2=model, multiplier=1.0)
    node(
        "LoraSave", filename_prefix=lora_type, rank=8, lora_type=lora_type, bias_diff=True,
        model_diff=difference,
    )  # fmt: skip
    (saved,) = host.output.glob(f"{lora_type}*.safetensors")
    return saved.rename(host.models / "loras" / f"{lora_type}.safetensors")


def test_extracted_differences_are_the_merge_they_were_extracted_from(host, model, by_hand):
    tuned = by_hand(merged(1.0))
    file = extracted(host, model, tuned, "full_diff")
    found, expected = sample(with_lora(model, file.name)), sample(tuned)
    # The host writes LoRAs in 16 bits.
    assert_close(found, expected, rtol=0, atol=0.01 * float(expected.std()))
    assert differs(expected, sample(model))


def test_extracted_lora_is_the_sum_of_its_products(host, model, by_hand):
    """Not quite the merge: the host cuts the largest hundredth of the numbers it extracts."""
    lora = load_file(extracted(host, model, by_hand(merged(1.0)), "standard"))
    weights = dict(tiny.weights())
    for key, up in lora.items():
        module = key.removeprefix("diffusion_model.").removesuffix(".lora_up.weight")
        if key.endswith(".lora_up.weight"):
            down = lora[key.replace("lora_up", "lora_down")]
            weights[f"{module}.weight"] = weights[f"{module}.weight"] + up.float() @ down.float()
    found = sample(with_lora(model, "standard.safetensors"))
    assert_same_picture(found, sample(by_hand(weights)))
    assert differs(found, sample(model))


def test_saved_model_holds_the_lora(host, model, write):
    patched = with_lora(model, write(STYLES["diffusers"]))
    node("ModelSave", model=patched, filename_prefix="with-lora")
    (saved,) = host.output.glob("with-lora*.safetensors")
    weights = {k.removeprefix("model.diffusion_model."): t for k, t in load_file(saved).items()}
    saved.unlink()
    expected = merged(1.0)
    assert weights.keys() == expected.keys()
    assert_close(weights, {key: expected[key] for key in weights})


# --- what the node says


def test_node_says_what_matched(model, write, shown):
    with_lora(model, write(STYLES["diffusers"]))
    total = len(tiny.weights())
    assert shown == [f"{NAME} changes {len(factors())} of the model's {total} weights."]


def test_node_says_what_is_left_out(model, write, shown):
    other = {"transformer.layers.9.attn1.to_q.diff": torch.ones(32, 32)}
    with_lora(model, write(STYLES["diffusers"] | other))
    assert "1 name in it is not the model's" in shown[-1]
    assert '"transformer.layers.9.attn1.to_q"' in shown[-1]


FLUX = {
    "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(1, 8),
    "transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight": torch.ones(8, 1),
}


def test_lora_of_another_model_is_refused_in_one_sentence(model, write):
    text = refusal(model, write(FLUX))
    assert text.startswith(f"{NAME} is a LoRA for Flux or a relative of it, not for Lumina-Next")
    assert text.endswith("Use a LoRA that was trained on Lumina-Next.")


WITHOUT_EFFECT = 'ComfyUI\'s "Load LoRA" knows none of the names'


def by_comfyui(model, name):
    from comfy_extras import nodes_lt

    if "lora_metadata" not in inspect.getsource(nodes_lt):
        pytest.skip("this ComfyUI's LoRA loader leaves no trace on the MODEL")
    return node("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=1.0)


def test_lora_that_comfyuis_loader_does_not_know_is_told_when_it_runs(model, write, shown):
    patched = by_comfyui(model, write(FLUX, metadata={"format": "pt"}))
    sample(patched)
    assert len(shown) == 1 and shown[0].startswith(WITHOUT_EFFECT)


@pytest.mark.parametrize("style", ["kohya", "released names"])
def test_nothing_is_told_of_a_lora_that_it_knows(model, write, shown, style):
    sample(by_comfyui(model, write(STYLES[style], metadata={"format": "pt"})))
    sample(model)
    assert shown == []


def test_other_model_is_refused(write):
    import comfy.model_base

    other = type("Patcher", (), {"model_options": {}, "get_model_object": None})()
    other.model = object.__new__(comfy.model_base.SDXL)
    torch.nn.Module.__init__(other.model)
    other.model.model_config = type("Config", (), {"unet_config": {}})()
    assert "is not a Lumina-Next model but SDXL" in refusal(other, write(STYLES["kohya"]))


def damaged(host, name, content):
    (host.models / "loras" / name).write_bytes(content)
    return name


DAMAGED = {
    "half.safetensors": (lambda path: path.read_bytes()[:-64], "is cut short"),
    "page.safetensors": (lambda path: b"<!DOCTYPE html><html></html>", "is a web page"),
    "empty.safetensors": (lambda path: b"", "is empty"),
    "noise.pt": (lambda path: b"\x80\x02garbage", "noise.pt"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_file_is_refused_before_anything_runs(host, model, write, name):
    content, text = DAMAGED[name]
    damaged(host, name, content(host.models / "loras" / write(STYLES["kohya"])))
    assert text in objection(name) and name in objection(name)
    assert text in refusal(model, name)


def test_whole_model_is_refused_before_anything_runs(model, write):
    name = write(tiny.weights())
    assert f"{NAME} is not a LoRA" in objection(name)
    assert "Load Lumina-Next Model" in refusal(model, name)


def test_half_of_a_lora_is_refused_before_anything_runs(model, write):
    lora = dict(STYLES["kohya"])
    del lora["lora_unet_layers_0_attention_wq.lora_down.weight"]
    assert "is damaged" in objection(write(lora)) and "lora_down.weight" in objection()
    assert "is damaged" in refusal(model)


def test_numbers_that_are_not_finite_are_refused(model, write):
    key = "lora_unet_layers_0_attention_wq.lora_up.weight"
    write(STYLES["kohya"] | {key: torch.full((32, RANK), float("inf"))})
    assert "not finite" in refusal(model)


def test_missing_file_is_named(model):
    assert '"none.safetensors" is not in models/loras' in refusal(model, "none.safetensors")
    assert "none.safetensors" in objection("none.safetensors")


def test_good_file_is_let_through(write):
    assert objection(write(STYLES["diffusers"])) is None


def test_strength_out_of_range_is_refused(model, write):
    write(STYLES["kohya"])
    with pytest.raises(ValueError, match="strength must be from -10 to 10"):
        with_lora(model, NAME, 11.0)


# --- on a card


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_lora_is_applied_on_the_card(host, tmp_path, monkeypatch, dynamic, write):
    lora = {}
    for attention in ("attn1", "attn2"):
        lora[f"transformer.layers.0.{attention}.to_q.lora_B.weight"] = torch.ones(2304, 4)
        lora[f"transformer.layers.0.{attention}.to_q.lora_A.weight"] = torch.ones(4, 2304)
    lora["transformer.layers.1.gate.diff"] = torch.ones(32)
    write(lora)
    with emulated_card(monkeypatch, dynamic=dynamic):
        patched = with_lora(model_of_zeros(tmp_path))
        assert set(patched.patches) == {
            "diffusion_model.layers.0.attention.wq.weight",
            "diffusion_model.layers.1.attention.gate.weight",
        }
        call(use(patched), 1, 256)
        out, allocations = call(patched, 1, 256)
        assert allocations.live == out.untyped_storage().nbytes()
