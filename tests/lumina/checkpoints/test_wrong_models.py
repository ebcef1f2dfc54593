"""Files of other models are named, with what to do."""

import pytest
import torch

from lumina_next.lumina.checkpoints import key_names

WRONG = {
    "layers.0.attention.wq.lora_A.weight": "a LoRA.*Load Lumina-Next LoRA",
    "lora_unet_layers_0_attention_wq.lora_down.weight": "a LoRA",
    "diffusion_model.layers.0.attention.gate.diff": "a LoRA",
    "context_refiner.0.attention.qkv.weight": "Lumina-Image 2.0.*Load Diffusion Model",
    "model.diffusion_model.noise_refiner.1.attention.out.weight": "Z-Image.*Load Diffusion Model",
    "y_embedder.embedding_table.weight": "ImageNet",
    "layers.3.feed_forward.experts.0.w1.weight": "mixture-of-experts",
    "layers.3.feed_forward_time.experts.0.w1.weight": "mixture-of-experts",
    "model.diffusion_model.blocks.0.attention.wk_y.weight": "sound",
    "double_blocks.0.img_attn.qkv.weight": "Flux",
    "single_transformer_blocks.0.attn.to_q.weight": "Flux",
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "Stable Diffusion 3",
    "model.diffusion_model.label_emb.0.0.weight": "Stable Diffusion XL.*Load Checkpoint",
    "model.diffusion_model.input_blocks.0.0.weight": "Stable Diffusion 1.*Load Checkpoint",
    "down_blocks.0.resnets.0.conv1.weight": "Stable Diffusion 1",
    "transformer_blocks.0.attn1.to_q.weight": "diffusers format",
    "model.embed_tokens.weight": "a text encoder.*Load Lumina-Next Text Encoder",
    "model.layers.7.self_attn.q_proj.weight": "a text encoder",
    "encoder.block.0.layer.0.SelfAttention.k.weight": "a text encoder.*Load CLIP",
    "text_model.encoder.layers.0.self_attn.k_proj.weight": "a text encoder",
    "first_stage_model.decoder.conv_in.weight": "a VAE.*Load VAE",
    "decoder.conv_in.weight": "a VAE",
}


@pytest.mark.parametrize("key, said", WRONG.items(), ids=WRONG)
def test_wrong_model_is_named_with_what_to_do(key, said):
    file = {
        "model.diffusion_model.out.2.weight": torch.ones(1),
        key: torch.ones(1),
        "first_stage_model.decoder.conv_in.weight": torch.ones(1),
    }
    with pytest.raises(ValueError, match=rf"^other\.safetensors is not a Lumina-Next.*{said}"):
        key_names.to_native(file, "other.safetensors")


def test_older_relatives_that_share_most_names_are_told_apart(weights):
    """Each is a Next-DiT's weights plus what only that relative has."""
    for key in ("noise_refiner.0.attention.wk.weight", "y_embedder.embedding_table.w"):
        with pytest.raises(ValueError, match="is not a Lumina-Next model but"):
            key_names.to_native(weights | {key: torch.ones(1)})
