"""A graph over HTTP draws what diffusers' LuminaPipeline draws: prompt in, latent out.

Both read the same random files, ours through the loader nodes, "CLIP Text Encode" and KSampler
(euler, normal), theirs through transformers' GemmaModel. In diffusers RoPE is scaled by
sqrt(width * height) over the trained side; the sizes here have the trained area, so that it is not.
"""

import copy
import functools

import pytest
import sentencepiece
import torch
from safetensors.torch import save_file

from lumina_next.tests.support import jobs, tiny

STEPS, SEED = 6, 41
PROMPTS = {"short": "a red cat", "long": "a green dog and a red cat sit on the blue mat, 猫"}
SIZES = {"square": (128, 128), "wide": (256, 64)}
PADDED_TO = 8  # tokens, a multiple of it, as LuminaPipeline pads


@functools.cache
def gemma():
    """tiny's text encoder with weights that lose nothing when the host halves their precision."""
    return copy.deepcopy(tiny.gemma()).half().float()


@functools.cache
def pipeline():
    from diffusers import FlowMatchEulerDiscreteScheduler, LuminaNextDiT2DModel, LuminaPipeline

    model = LuminaNextDiT2DModel(**tiny.DIFFUSERS_SIZES)
    model.load_state_dict(tiny.diffusers_weights())
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipe = LuminaPipeline(
        transformer=model.eval(), scheduler=scheduler, vae=None, text_encoder=None, tokenizer=None
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def features(prompts):
    """(features, mask) of prompts, padded on the right together: hidden state last but one."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=tiny.pieces())
    tokens = [processor.encode(prompt, add_bos=True) for prompt in prompts]
    length = -(-max(map(len, tokens)) // PADDED_TO) * PADDED_TO
    ids = torch.tensor([row + [0] * (length - len(row)) for row in tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in tokens])
    out = gemma()(ids, attention_mask=mask, output_hidden_states=True)
    return out.hidden_states[-2], mask


def expected_latent(prompt, width, height, guidance):
    captions, masks = features([prompt, ""])
    noise = torch.randn(1, 4, height // 8, width // 8, generator=torch.manual_seed(SEED))
    return pipeline()(
        prompt_embeds=captions[:1],
        prompt_attention_mask=masks[:1],
        negative_prompt_embeds=captions[1:],
        negative_prompt_attention_mask=masks[1:],
        width=width,
        height=height,
        guidance_scale=guidance,
        num_inference_steps=STEPS,
        latents=noise,
        proportional_attn=False,
        output_type="latent",
        return_dict=False,
    )[0]


@pytest.fixture
def graph(server):
    """The graph of tiny, with the file that diffusers would read as model."""
    tiny.write_models(server)
    tensors = {f"model.{key}": tensor for key, tensor in gemma().state_dict().items()}
    tensors["spiece_model"] = torch.frombuffer(bytearray(tiny.pieces()), dtype=torch.uint8)
    file = server.models / "text_encoders" / "halved.safetensors"
    if not file.exists():
        save_file(tensors, file, tiny.GEMMA_METADATA)
    return tiny.graph(model="diffusers.safetensors", text_encoder=file.name)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", PROMPTS)
def test_latent_is_that_of_the_diffusers_pipeline(server, graph, length, size, guidance):
    prompt, (width, height) = PROMPTS[length], SIZES[size]
    changed = jobs.with_inputs(
        graph,
        prompt={"text": prompt},
        empty={"width": width, "height": height, "batch_size": 1},
        sampler={"seed": SEED, "steps": STEPS, "cfg": guidance},
    )
    found = jobs.saved_latent(server, jobs.run(server, changed)) * tiny.SDXL_SCALE
    tiny.assert_same_picture(found, expected_latent(prompt, width, height, guidance))


def test_prompts_are_of_different_length_and_guidance_matters():
    """What makes the test above able to fail: its cases differ."""
    lengths = [int(features([prompt])[1].sum()) for prompt in PROMPTS.values()]
    assert lengths[1] > 2 * lengths[0]
    weak, strong = (expected_latent(PROMPTS["short"], 128, 128, g) for g in (1.0, 4.0))
    assert (weak - strong).std() > 0.1 * weak.std()
