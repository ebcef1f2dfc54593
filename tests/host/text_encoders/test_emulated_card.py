"""What the text encoder of the 2B would hold of a card, seen without one: Gemma with two layers.

`tests/support/emulated_card.py` says what is real in it.
"""

import pytest
import torch

from lumina_next.lumina.text_encoders.config import DecoderConfig
from lumina_next.lumina.text_encoders.decoder import Decoder
from lumina_next.tests.support import tiny
from lumina_next.tests.support.emulated_card import CARD, Allocations, emulated_card
from lumina_next.tests.support.zero_files import write_zeros

# Gemma's vocabulary, by which a file without a config.json is known.
GEMMA = DecoderConfig("gemma", 256_000, 1024, 8192, layers=2, heads=4, kv_heads=1, head_dim=256)

# What torch says of weights that are loaded straight into a card without values.
pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")


def load_gemma(folder, dtype):
    """A CLIP of zeros on the card or streamed to it, and the encoder in it."""
    from lumina_next.host.text_encoders.loading import load_text_encoder_file

    path = folder / "gemma.safetensors"
    write_zeros(path, Decoder(GEMMA, device="meta").state_dict(), dtype)
    (folder / "gemma.tokenizer.model").write_bytes(tiny.pieces())
    clip = load_text_encoder_file(str(path), {})
    encoder = clip.cond_stage_model.gemma_2b
    # Not used, and moved by a way that "meta" does not know: by setting a parameter's data.
    encoder.logit_scale = torch.nn.Parameter(encoder.logit_scale.to(CARD), requires_grad=False)
    clip.load_model()
    encoder.set_clip_options({"execution_device": CARD})
    return clip, encoder


TABLE_ROWS = GEMMA.vocab_size * GEMMA.hidden_size


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16])
def test_prompt_widens_the_rows_it_needs(host, tmp_path, monkeypatch, dtype, dynamic):
    with emulated_card(monkeypatch, dynamic=dynamic):
        clip, encoder = load_gemma(tmp_path, dtype)
        encoder([[2, 17, 40]])
        with Allocations() as allocations:
            features, *_ = encoder([[2, 17, 40]])
    assert features.device == CARD and features.shape == (1, 3, GEMMA.hidden_size)
    # A matrix of the feed-forward in float32 is the largest.
    assert allocations.largest == 4 * GEMMA.hidden_size * GEMMA.intermediate_size < TABLE_ROWS


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16])
def test_written_token_widens_a_piece_of_the_head_at_a_time(
    host, tmp_path, monkeypatch, dtype, dynamic
):
    with emulated_card(monkeypatch, dynamic=dynamic):
        clip, encoder = load_gemma(tmp_path, dtype)
        state = torch.empty(1, GEMMA.hidden_size, device=CARD)
        encoder.transformer.model.logits(state)
        with Allocations() as allocations:
            scores = encoder.transformer.model.logits(state)
    assert scores.shape == (1, GEMMA.vocab_size)
    assert allocations.peak < TABLE_ROWS / 8


@pytest.mark.parametrize(
    "flag, dtype",
    [
        ("fp8_e4m3fn", torch.float8_e4m3fn),
        ("fp8_e5m2", torch.float8_e5m2),
        ("fp16", torch.float16),
        ("bf16", torch.bfloat16),
        ("fp32", torch.float32),
    ],
)
def test_text_encoder_is_kept_in_the_dtype_of_the_command_line(
    host, tmp_path, monkeypatch, flag, dtype, dynamic
):
    from comfy.cli_args import args

    monkeypatch.setattr(args, f"{flag}_text_enc", True)
    with emulated_card(monkeypatch, dynamic=dynamic):
        clip, encoder = load_gemma(tmp_path, torch.bfloat16)
        encoder([[2, 17, 40]])
        sizes = clip.patcher.model_size(), clip.patcher.loaded_size()
    table = encoder.transformer.model.embed_tokens
    assert table.weight_comfy_model_dtype == dtype
    assert sizes[1 if dynamic else 0] == pytest.approx(
        dtype.itemsize * sum(t.numel() for t in encoder.transformer.parameters()), rel=0.02
    )
