"""A small LoRA for the tiny model under the names that each trainer gives, and merged by hand."""

import functools

import torch

from lumina_next.tests.support import tiny

# Of each changed weight, diffusers' names of its module: both queries of a layer are one here.
DIFFUSERS = {
    "layers.0.attention.wq": ("layers.0.attn1.to_q", "layers.0.attn2.to_q"),
    "layers.0.attention.wk": ("layers.0.attn1.to_k",),
    "layers.1.attention.wk_y": ("layers.1.attn2.to_k",),
    "layers.1.attention.wv_y": ("layers.1.attn2.to_v",),
    "layers.2.attention.wo": ("layers.2.attn2.to_out.0",),
    "layers.2.feed_forward.w2": ("layers.2.feed_forward.linear_2",),
    "layers.2.adaLN_modulation.1": ("layers.2.norm1.linear",),
    "cap_embedder.1": ("time_caption_embed.caption_embedder.1",),
    "final_layer.linear": ("norm_out.linear_2",),
}
MODULES = tuple(DIFFUSERS)
RANK, ALPHA = 2, 3.0


@functools.cache
def factors():
    """Of each module the two factors (up, down) of its change."""
    generator = torch.Generator().manual_seed(4)
    shapes = {module: tiny.weights()[f"{module}.weight"].shape for module in MODULES}
    return {
        module: (
            0.3 * torch.randn(rows, RANK, generator=generator),
            0.3 * torch.randn(RANK, columns, generator=generator),
        )
        for module, (rows, columns) in shapes.items()
    }


def merged(strength, alpha=ALPHA):
    """The tiny model's weights with the LoRA added, by the formula of the paper."""
    weights = dict(tiny.weights())
    for module, (up, down) in factors().items():
        weights[f"{module}.weight"] = weights[f"{module}.weight"] + (
            strength * alpha / RANK * up @ down
        )
    return weights


def named(name, up, down, *, alpha=True, names=lambda module: [module]):
    """The LoRA's tensors. name(module, part) is a tensor's; up and down what the parts are called.

    names: of a module in the file.
    """
    tensors = {}
    for ours, (up_factor, down_factor) in factors().items():
        for module in names(ours):
            tensors[name(module, up)] = up_factor.clone()
            tensors[name(module, down)] = down_factor.clone()
            if alpha:
                tensors[name(module, "alpha")] = torch.tensor(ALPHA)
    return tensors


def after(prefix):
    return lambda module, part: f"{prefix}{module}.{part}"


def underscored(prefix):
    return lambda module, part: f"{prefix}{module.replace('.', '_')}.{part}"


KOHYA = "lora_up.weight", "lora_down.weight"
PEFT = "lora_B.weight", "lora_A.weight"
STYLES = {
    "released names": named(after("diffusion_model."), *KOHYA),
    "bare released names": named(after(""), *PEFT),
    "kohya": named(underscored("lora_unet_"), *KOHYA),
    "LyCORIS": named(underscored("lycoris_"), *KOHYA),
    "PEFT": named(after("base_model.model."), *PEFT),
    "PEFT with its adapter's name": named(
        after("base_model.model."), "lora_B.default.weight", "lora_A.default.weight"
    ),
    "diffusers": named(after("transformer."), *PEFT, names=DIFFUSERS.get),
    "PEFT on diffusers": named(after("base_model.model."), *PEFT, names=DIFFUSERS.get),
    "older diffusers": named(after("transformer."), "lora.up.weight", "lora.down.weight",
                             names=DIFFUSERS.get),
    "kohya on diffusers": named(underscored("lora_unet_"), *KOHYA, names=DIFFUSERS.get),
    "LyCORIS on diffusers": named(underscored("lycoris_"), *KOHYA, names=DIFFUSERS.get),
    "OneTrainer": named(underscored("lora_transformer_"), *KOHYA, names=DIFFUSERS.get),
}  # fmt: skip
