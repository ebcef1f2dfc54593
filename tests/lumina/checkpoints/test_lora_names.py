"""Names in LoRA files: each trainer's lead to the weights that it changes, others are refused."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import architecture, lora_names
from lumina_next.lumina.checkpoints.key_names import NEXT_DIT_KEYS
from lumina_next.lumina.config import FLAG_DIT_5B, NEXT_DIT_2B_GQA
from lumina_next.tests.support import tiny
from lumina_next.tests.support.loras import ALPHA, DIFFUSERS, STYLES, factors

SHAPES = architecture.shapes(tiny.CONFIG)


def fit(lora, shapes=SHAPES):
    return lora_names.fit(lora, shapes, "style.safetensors")


@pytest.mark.parametrize("style", STYLES)
def test_every_trainers_names_lead_to_the_weights(style):
    fitted = fit(STYLES[style])
    (share,) = fitted.shares
    assert fitted.weights() == {f"{module}.weight" for module in factors()}
    assert share.of_strength == 1 and not fitted.left_out and not fitted.is_split
    for module, (up, down) in factors().items():
        parts = share.parts[f"{module}.weight"]
        assert_close(parts["lora_up.weight"], up)
        assert_close(parts["lora_down.weight"], down)
        assert float(parts["alpha"]) == ALPHA


@pytest.mark.parametrize("config", [NEXT_DIT_2B_GQA, FLAG_DIT_5B], ids=lambda c: c.network)
def test_every_weight_of_both_networks_can_be_named_in_every_way(config):
    shapes = architecture.shapes(config)
    names = lora_names.weight_names(shapes)
    weights = {key for key in shapes if key.endswith(".weight")}
    assert set(names.values()) == weights
    assert {name for name, key in names.items() if name == key[:-7].replace(".", "_")} == {
        key[:-7].replace(".", "_") for key in weights
    }


@pytest.mark.parametrize("module", DIFFUSERS)
def test_names_of_a_weight_are_those_that_become_it(module):
    found = NEXT_DIT_KEYS.names_of(f"{module}.weight")
    assert {f"{name}.weight" for name in DIFFUSERS[module]} <= set(found)
    assert {NEXT_DIT_KEYS(name) for name in found} == {f"{module}.weight"}


def test_older_attention_processors_are_the_attention():
    up, down = torch.ones(32, 2), torch.ones(2, 32)
    name = "layers.1.attn1.processor.to_q_lora"
    fitted = fit({f"{name}.up.weight": up, f"{name}.down.weight": down})
    assert fitted.weights() == {"layers.1.attention.wq.weight"}


def test_two_different_queries_of_diffusers_get_half_each():
    lora = dict(STYLES["diffusers"])
    name = "transformer.layers.0.attn2.to_q.lora_B.weight"
    lora[name] = -lora[name]
    fitted = fit(lora)
    assert fitted.is_split
    query = "layers.0.attention.wq.weight"
    halves = [share for share in fitted.shares if query in share.parts]
    assert [share.of_strength for share in halves] == [0.5, 0.5]
    ups = [share.parts[query]["lora_up.weight"] for share in halves]
    assert_close(ups[0], -ups[1])
    (whole,) = [share for share in fitted.shares if query not in share.parts]
    assert whole.of_strength == 1 and len(whole.parts) == len(factors()) - 1


def test_change_of_one_query_alone_is_told():
    lora = {key: value for key, value in STYLES["diffusers"].items() if ".attn2.to_q" not in key}
    assert fit(lora).is_split


LEFT_OUT = {
    "transformer.layers.9.attn1.to_q.lora_A.weight": torch.ones(2, 32),
    "transformer.layers.9.attn1.to_q.lora_B.weight": torch.ones(32, 2),
    "lora_te_text_model_encoder_layers_0_mlp_fc1.diff": torch.ones(8),
    "transformer.layers.0.feed_forward.linear_1.lora_A.weight": torch.ones(2, 31),
    "transformer.layers.0.feed_forward.linear_1.lora_B.weight": torch.ones(88, 2),
    "transformer.layers.0.attn1.to_v.diff_b": torch.ones(16),  # it has no bias
    "transformer.layers.0.attn1.to_k.scalar": torch.ones(()),  # a part of no known kind
}


def test_what_does_not_fit_is_left_out_and_named():
    fitted = fit(STYLES["diffusers"] | LEFT_OUT)
    assert fitted.weights() == {f"{module}.weight" for module in factors()}
    assert fitted.left_out == [
        "transformer.layers.9.attn1.to_q",
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
        "transformer.layers.0.feed_forward.linear_1",
        "transformer.layers.0.attn1.to_v",
        "transformer.layers.0.attn1.to_k.scalar",
    ]


def low_rank(*modules, rows=8, columns=8):
    parts = {"lora_up.weight": torch.ones(rows, 1), "lora_down.weight": torch.ones(1, columns)}
    return {f"{module}.{name}": part for module in modules for name, part in parts.items()}


OTHERS = {
    "Flux": low_rank("lora_unet_double_blocks_0_img_attn_proj"),
    "Flux or": low_rank("transformer.single_transformer_blocks.0.attn.to_q"),
    "Lumina-Image 2.0": low_rank("diffusion_model.context_refiner.0.attention.qkv"),
    "Stable Diffusion": low_rank(
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
    ),
    "U-Net": low_rank("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"),
    "another diffusion transformer": low_rank("transformer.transformer_blocks.0.attn1.to_q"),
    "a text encoder": low_rank("lora_te1_text_model_encoder_layers_0_mlp_fc1"),
    "another model": low_rank("some.module"),
    "another size.*is 32 x 32": low_rank("lora_unet_layers_0_attention_wq"),
    "another size": low_rank("layers.0.feed_forward.w1", rows=32, columns=88),  # turned round
}


@pytest.mark.parametrize("other", OTHERS)
def test_lora_of_another_model_is_refused_by_its_name(other):
    with pytest.raises(ValueError, match=rf"^style\.safetensors is a LoRA for .*{other}"):
        fit(OTHERS[other])


WQ = "diffusion_model.layers.0.attention.wq"
DAMAGED = {
    "lacks the part": {f"{WQ}.lora_up.weight": torch.ones(32, 2)},
    "lacks the part.*hada_w2_b": {
        f"{WQ}.hada_{name}": torch.ones(32, 32) for name in ("w1_a", "w1_b", "w2_a")
    },
    "lacks the part.*lokr_w2": {f"{WQ}.lokr_w1": torch.ones(4, 4)},
    "not finite": {f"{WQ}.diff": torch.full((32, 32), float("nan"))},
    "is torch.complex64, where": {f"{WQ}.diff": torch.ones(32, 32, dtype=torch.complex64)},
    "is torch.int64, where": {f"{WQ}.diff": torch.ones(32, 32, dtype=torch.long)},
    "is not a LoRA.*no": {f"{WQ}.weight": torch.ones(32, 32)},
    "is not a LoRA: it has 1 weight": {f"{WQ}.alpha": torch.ones(())},
    "is not a LoRA: it has 0 weights": {},
}


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_lora_is_refused(text):
    with pytest.raises(ValueError, match=rf"^style\.safetensors .*{text}"):
        fit(DAMAGED[text])


SETTINGS = {
    "plain": ({"lora_alpha": 8}, 8.0),
    "diffusers' header": ({"transformer.lora_alpha": 8, "transformer.r": 2}, 8.0),
    "rank-stabilized": ({"lora_alpha": 8, "use_rslora": True}, 8 * 2**0.5),
    "by pattern": ({"lora_alpha": 8, "alpha_pattern": {"attention.wq": 5}}, 5.0),
    "none": ({}, None),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_alpha_that_peft_keeps_beside_the_weights_becomes_a_tensor(case):
    settings, expected = SETTINGS[case]
    lora = low_rank(WQ, rows=32, columns=32)
    lora[f"{WQ}.lora_down.weight"] = torch.ones(2, 32)
    found = lora_names.with_peft_alpha(lora, settings, "style.safetensors").get(f"{WQ}.alpha")
    assert (found if expected is None else float(found)) == (expected and pytest.approx(expected))


def test_alpha_of_the_file_goes_before_that_beside_it():
    lora = STYLES["PEFT"]
    found = lora_names.with_peft_alpha(lora, {"lora_alpha": 99}, "style.safetensors")
    assert {float(value) for key, value in found.items() if key.endswith(".alpha")} == {ALPHA}


def test_alpha_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r'"lora_alpha" .*style\.safetensors'):
        lora_names.with_peft_alpha(STYLES["PEFT"], {"lora_alpha": "much"}, "style.safetensors")
